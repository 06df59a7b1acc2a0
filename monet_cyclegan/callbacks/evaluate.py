"""Metrics on the held-out images; they live here because a metric's networks don't belong into a model's checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning import Callback

from monet_cyclegan.images import to_uint8

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning import LightningModule, Trainer
    from torchmetrics import Metric


class Evaluate(Callback):
    """Measure translations of held-out images against real ones, in both directions.

    Logs ``val/<metric>`` for A to B, which selects the best checkpoint, and ``val/<metric>_<name of A>`` for B to A.

    Args:
        metrics: makes each metric, by name; it gets ``update(images_uint8, real=bool)``.
    """

    def __init__(self, metrics: Mapping[str, Callable[[], Metric]]):
        self.metrics = dict(metrics)
        self._a_to_b: dict[str, Metric] = {}
        self._b_to_a: dict[str, Metric] = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from empty metrics on the model's device."""
        self._a_to_b = {name: make().to(pl_module.device) for name, make in self.metrics.items()}
        self._b_to_a = {name: make().to(pl_module.device) for name, make in self.metrics.items()}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Add the real and translated images of one batch."""
        for role, images in outputs.items():
            kind, domain = role.split("_")  # real_a, fake_b, ...
            metrics = self._a_to_b if domain == "b" else self._b_to_a
            for metric in metrics.values():
                metric.update(to_uint8(images), real=kind == "real")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and log everything."""
        name_a = trainer.datamodule.names["a"]  # type: ignore[attr-defined]
        for name, metric in self._a_to_b.items():
            pl_module.log(f"val/{name}", metric.compute(), prog_bar=True, sync_dist=True)
        for name, metric in self._b_to_a.items():
            pl_module.log(f"val/{name}_{name_a}", metric.compute(), sync_dist=True)
        self._a_to_b, self._b_to_a = {}, {}
