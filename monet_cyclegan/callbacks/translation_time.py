"""How long the translation of one picture takes, as an objective beside its quality."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch
from lightning import Callback

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class TranslationTime(Callback):
    """Log ``val/seconds_per_image``, A to B, at the size of the training squares, batch 1.

    The median of ``repeats`` after one that doesn't count.
    """

    def __init__(self, repeats: int = 10):
        if repeats < 1:
            raise ValueError(f"repeats={repeats} measures nothing: give 1 or more")
        self.repeats = repeats

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure."""
        generator, _ = pl_module.evaluation_generators  # type: ignore[misc]
        size = trainer.datamodule.eval_size  # type: ignore[attr-defined]
        image = torch.zeros(1, 3, size, size, device=pl_module.device)
        seconds = []
        for _ in range(self.repeats + 1):
            start = time.perf_counter()
            with trainer.precision_plugin.forward_context():
                generator(image)
            if image.is_cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        pl_module.log("val/seconds_per_image", statistics.median(seconds[1:]), sync_dist=True)
