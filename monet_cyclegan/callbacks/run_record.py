"""What a checkpoint cost and how it scored, inside of it, for whoever its weights are handed on to."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from lightning import Callback

from monet_cyclegan import CHECKPOINT_KEY as KEY
from monet_cyclegan.device_name import device_name

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class RunRecord(Callback):
    """Put seconds, devices, numbers of images and the scores of these very weights into checkpoints.

    It stands before the callbacks that save, since they save what was recorded up to then.

    Args:
        scored_on: what the scores are scores on, such as "on EfficientNet-Lite0 features".
    """

    def __init__(self, scored_on: str = ""):
        self.scored_on = scored_on
        self._seconds_before = 0.0  # of the runs that this one goes on with
        self._devices: list[str] = []
        self._started = time.monotonic()
        self._scored_at: int | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        record = checkpoint.get(KEY, {}).get("record", {})
        self._seconds_before = float(record.get("seconds", 0.0))
        self._devices = [str(name) for name in record.get("devices", [])]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and note the device."""
        self._started = time.monotonic()
        name = device_name(str(trainer.strategy.root_device))
        name = name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"
        self._devices = [*dict.fromkeys([*self._devices, name])]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which weights the scores are of."""
        self._scored_at = int(pl_module.batches_done)  # type: ignore[arg-type]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Hand it on."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        batches = int(pl_module.batches_done)  # type: ignore[arg-type]
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        record = {
            "seconds": round(self._seconds_before + time.monotonic() - self._started, 1),
            "devices": self._devices,
            "batches": batches,
            "pairs": batches * datamodule.batch_size * trainer.world_size,
            "crop_size": datamodule.crop_size,
            "trained_on": _counts(datamodule, datamodule.train_sources),
            "held_out": _counts(datamodule, datamodule.val_sources),
            "scores": {name: value for name, value in scores.items() if math.isfinite(value)}
            if self._scored_at == batches
            else {},
            "scored_on": self.scored_on,
            "scored_images": datamodule.count_validated("a"),
            "split_seed": datamodule.split_seed,
        }
        checkpoint.setdefault(KEY, {})["record"] = record


def _counts(datamodule: Any, sources: Any) -> dict[str, int]:
    """Images by their domains' names."""
    return {name: len(source) for name, source in zip(datamodule.names.values(), sources or (), strict=False)}
