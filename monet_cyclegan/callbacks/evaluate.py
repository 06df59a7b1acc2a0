"""Metrics on the held-out images; they live here because a metric's networks don't belong into a model's checkpoint."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback

from monet_cyclegan.images import to_uint8
from monet_cyclegan.metrics.extraction import cached_extract
from monet_cyclegan.metrics.feature_metrics import FeatureMetric
from monet_cyclegan.metrics.jpeg import QUALITY, jpeg_round_trip
from monet_cyclegan.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from lightning import LightningModule, Trainer
    from torch import Tensor
    from torchmetrics import Metric

    from monet_cyclegan.metrics.features import FeatureExtractor

DOMAINS = ("a", "b")


class Evaluate(Callback):
    """Measure translations against real images, in both directions.

    Logs ``val/<score>`` for A to B, which selects the best checkpoint, and ``val/<score>_<name of A>`` for B to A. Real
    images are all of the target domain, as the competition has it, held-out and training ones; their features are
    computed once and kept on disk. Generated ones pass through JPEG before their features are taken.

    Args:
        metrics: makes each metric, by name; it gets ``update(images_uint8, real=bool)``. A `FeatureMetric` is made with
            ``features`` and gets all features from one pass, and its ``scores()`` are logged under their own names.
            None leaves one out.
        features: the network of the feature metrics; without one these are left out.
        jpeg_quality: of the generated images, None for no compression.
        num_real: at most so many real images of a domain, a fixed choice; None for all.
        cache_dir: where the real images' features are kept.
    """

    def __init__(
        self,
        metrics: Mapping[str, Callable[..., Metric] | None],
        features: FeatureExtractor | None = None,
        jpeg_quality: int | None = QUALITY,
        num_real: int | None = None,
        cache_dir: Path | str = ".cache",
    ):
        features = features or None  # an empty group of settings means none, too
        makers = {name: (make, _is_feature_metric(make)) for name, make in metrics.items() if make is not None}
        self.makers = {
            name: partial(make, features=features) if by_features else make
            for name, (make, by_features) in makers.items()
            if features is not None or not by_features
        }
        self.features = features
        self.jpeg_quality = jpeg_quality
        self.num_real = num_real
        self.cache_dir = cache_dir
        self._real_rows: dict[str, Tensor] = {}  # of this process's share, by domain
        self._metrics: dict[str, dict[str, Metric]] = {}  # by the domain that is translated to
        self._batches = 0

    @property
    def label(self) -> str:
        """What to say beside a score: on which features it is, and whether it can be compared."""
        if self.features is None:
            return ""
        comparable = "" if self.features.is_standard else ", not comparable with Kaggle's"
        return f"on {self.features.title} features{comparable}"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the real images' features before the first step, so that what is wrong with them shows at once."""
        if self.features is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if trainer.is_global_zero:
                print(f"scores are {self.label}")
            for domain in DOMAINS:
                self._rows_of_real(trainer, pl_module, domain)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from metrics that have seen the real images."""
        self._metrics = {domain: self._start(trainer, pl_module, domain) for domain in DOMAINS}
        self._batches = 0

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Add the real and translated images of one batch."""
        self._batches += 1
        for role, images in outputs.items():
            kind, domain = role.split("_")  # real_a, fake_b, ...
            self._add(self._metrics[domain], to_uint8(images), real=kind == "real")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and log everything; a validation that was resumed in its middle isn't one."""
        name_a = trainer.datamodule.names["a"]  # type: ignore[attr-defined]
        if self._batches == sum(trainer.num_val_batches):
            for domain, suffix in (("b", ""), ("a", f"_{name_a}")):
                for name, score in _scores(self._metrics[domain]).items():
                    value = score.to(pl_module.device, torch.float32)
                    pl_module.log(f"val/{name}{suffix}", value, prog_bar=name in self.makers and not suffix)
        self._metrics = {}

    @torch.no_grad()
    def score_all(self, trainer: Trainer, pl_module: LightningModule, num_images: int | None) -> dict[str, float]:
        """Score translations of all images of A, or of ``num_images`` of them, held-out ones first: {"mifid": ...}."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        metrics = self._start(trainer, pl_module, "b")
        if any(not isinstance(metric, FeatureMetric) for metric in metrics.values()):
            for real in self._loaded(trainer, pl_module, "b", datamodule.all_images("b", self.num_real)):
                self._add(metrics, real, real=True)
        generator, _ = pl_module.evaluation_generators  # type: ignore[misc]
        was_training = generator.training
        generator.eval()
        source = datamodule.all_images("a", num_images)
        batches = self._loaded(trainer, pl_module, "a", source)
        for photos in track(batches, -(-len(source) // trainer.world_size), "translating photos"):
            real = datamodule.on_after_batch_transfer({"a": photos}, 0)["a"]
            with trainer.precision_plugin.forward_context():
                fake = generator(real)
            self._add(metrics, to_uint8(fake), real=False)
        generator.train(was_training)
        return {name: float(score) for name, score in _scores(metrics).items()}

    def _start(self, trainer: Trainer, pl_module: LightningModule, domain: str) -> dict[str, Metric]:
        metrics = {name: make().to(pl_module.device) for name, make in self.makers.items()}
        if self.features is not None:
            rows = self._rows_of_real(trainer, pl_module, domain).to(pl_module.device)
            for metric in metrics.values():
                if isinstance(metric, FeatureMetric):
                    metric.update(rows, real=True)
        return metrics

    def _add(self, metrics: Mapping[str, Metric], images: Tensor, real: bool) -> None:
        by_features = [metric for metric in metrics.values() if isinstance(metric, FeatureMetric)]
        if by_features and not real and self.features is not None:
            rows = self.features(jpeg_round_trip(images, self.jpeg_quality) if self.jpeg_quality else images)
            for feature_metric in by_features:
                feature_metric.update(rows, real=False)
        for metric in metrics.values():
            if not isinstance(metric, FeatureMetric):
                metric.update(images, real=real)

    def _rows_of_real(self, trainer: Trainer, pl_module: LightningModule, domain: str) -> Tensor:
        """Features of this process's share of the real images of a domain (N, D)."""
        assert self.features is not None
        self.features.to(pl_module.device)
        if domain not in self._real_rows:
            datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
            few = 2 * trainer.world_size  # where only one batch is tried, the rest wouldn't take minutes
            source = datamodule.all_images(domain, few if trainer.fast_dev_run else self.num_real)  # type: ignore[attr-defined]
            label = f"features of real images of {datamodule.names[domain]}"
            self._real_rows[domain] = cached_extract(
                lambda: (batch[domain] for batch in datamodule.images(domain, source)),
                self.features,
                self.cache_dir,
                -(-len(source) // trainer.world_size),
                label,
            )
        return self._real_rows[domain]

    def _loaded(self, trainer: Trainer, pl_module: LightningModule, domain: str, source: Any) -> Iterator[Tensor]:
        """Batches uint8 (n, 3, H, W) of this process's share, on the device."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        return (batch[domain].to(pl_module.device) for batch in datamodule.images(domain, source))


def _is_feature_metric(make: Any) -> bool:
    made = getattr(make, "func", make)  # of a partial
    return isinstance(made, type) and issubclass(made, FeatureMetric)


def _scores(metrics: Mapping[str, Metric]) -> dict[str, Tensor]:
    scores: dict[str, Tensor] = {}
    for name, metric in metrics.items():
        scores |= metric.scores() if isinstance(metric, FeatureMetric) else {name: metric.compute()}
    return scores
