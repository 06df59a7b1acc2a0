"""What the competition wants, within the time that it gives: images.zip, written when training ends."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback

from monet_cyclegan.image_zip import SIDE, verdict, write_image_zip
from monet_cyclegan.images import to_uint8
from monet_cyclegan.processes import any_says_so
from monet_cyclegan.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from lightning import LightningModule, Trainer
    from torch import Tensor

_TIMED_IMAGES = 32
_MARGIN = 1.5  # a zip also takes loading, encoding and writing
_SPARE_S = 60.0


class Submission(Callback):
    """Translate all photos by the best checkpoint's averaged generator into ``path``, once training has ended.

    Time is counted from when the run was set up. A step that would leave too little of ``budget_minutes`` for the
    archive is the last one: how long that takes is measured at the start of training. The schedule of the learning
    rate ends with trainer.max_time, which therefore belongs before that moment; if it doesn't, a line says so.

    Args:
        path: the archive.
        best: the checkpoint whose generator translates; without such a file the one in training.
        budget_minutes: wall-clock time for all of the run, None for no limit.
        reserved_minutes: of these what scoring the best checkpoints again takes.
    """

    def __init__(
        self, path: Path | str, best: Path | str, budget_minutes: float | None = None, reserved_minutes: float = 0.0
    ):
        self.path, self.best = Path(path), Path(best)
        self.deadline = None if budget_minutes is None else time.monotonic() + 60 * budget_minutes
        self.reserved_s = 60 * reserved_minutes
        self.needed_s = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure how long the translation of all photos will take."""
        if self.deadline is None:
            return
        source = trainer.datamodule.all_images("a")  # type: ignore[attr-defined]
        start = time.monotonic()
        done = sum(len(images) for images in self._translations(trainer, pl_module, _TIMED_IMAGES))
        self.needed_s = _MARGIN * (time.monotonic() - start) * len(source) / max(done, 1) + _SPARE_S + self.reserved_s
        left_s = self.deadline - time.monotonic() - self.needed_s
        if trainer.is_global_zero:
            print(
                f"{self.path.name} will take about {(self.needed_s - self.reserved_s) / 60:.1f} minutes, and scoring "
                f"{self.reserved_s / 60:.0f}: training has {max(left_s, 0) / 60:.0f} minutes",
                flush=True,
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End training while there is time for the archive."""
        late = self.deadline is not None and time.monotonic() > self.deadline - self.needed_s
        if any_says_so(trainer, late, batch_idx) and not trainer.should_stop:
            print(f"no more time to train: trainer.max_time should have ended it; now {self.path.name}", flush=True)
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the archive, check it, and say what the competition would."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            with pl_module.as_saved(self.best) if self.best.is_file() else nullcontext():  # type: ignore[operator]
                count = write_image_zip(self.path, self._named(trainer, pl_module))
            print(f"{count:,} images in {self.path}, {verdict(self.path)}", flush=True)
        trainer.strategy.barrier("submission")

    def _named(self, trainer: Trainer, pl_module: LightningModule) -> Iterator[tuple[str, np.ndarray]]:
        total = len(trainer.datamodule.all_images("a"))  # type: ignore[attr-defined]
        index = 0
        for images in track(self._translations(trainer, pl_module, None), total, self.path.name):
            for image in images.permute(0, 2, 3, 1).cpu().numpy():
                yield f"{index:05d}", image
                index += 1

    @torch.no_grad()
    def _translations(self, trainer: Trainer, pl_module: LightningModule, limit: int | None) -> Iterator[Tensor]:
        """Batches of translated photos (n, 3, 256, 256) uint8, all of them on this process."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        generator, _ = pl_module.evaluation_generators  # type: ignore[misc]
        was_training = generator.training
        generator.eval()
        loader = datamodule.images("a", datamodule.all_images("a", limit), size=SIDE, shared=False)
        for batch in loader:
            real = datamodule.on_after_batch_transfer({"a": batch["a"].to(pl_module.device)}, 0)["a"]
            with trainer.precision_plugin.forward_context():
                yield to_uint8(generator(real))
        generator.train(was_training)
