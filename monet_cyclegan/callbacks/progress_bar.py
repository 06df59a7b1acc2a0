"""Progress with both losses and images per second: a rich bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


LOSSES = ("train/gen", "train/disc")


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar, plus the images trained on per second, both domains and all devices counted.

    Losses are read once a second: to read them makes a GPU's queue run empty. So they aren't logged with
    ``prog_bar=True``, which Lightning reads after each batch, shown or not.

    Args:
        line_every_s: seconds between two lines where the output is no terminal.
    """

    def __init__(self, line_every_s: float = 15.0):
        super().__init__(leave=True)
        self.line_every_s = line_every_s
        self.is_terminal = Console().is_terminal
        self._images = 0
        self._since = time.monotonic()
        self._images_per_s = 0.0
        self._losses: dict[str, float] = {}
        if not self.is_terminal:
            self.disable()  # of the bar, whose frames would fill a file

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting; time spent on validation doesn't count."""
        super().on_train_epoch_start(trainer, pl_module)
        self._images, self._since = 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch and, outside of a terminal, print a line if it's time."""
        self._images += sum(len(images) for images in batch.values()) * trainer.world_size
        elapsed = time.monotonic() - self._since
        if elapsed >= (1.0 if self.is_terminal else self.line_every_s) or trainer.is_last_batch:
            self._images_per_s = self._images / max(elapsed, 1e-9)
            self._images, self._since = 0, time.monotonic()
            logged = trainer.callback_metrics
            self._losses = {name: float(logged[name]) for name in LOSSES if name in logged}
            if not self.is_terminal and trainer.is_global_zero:
                print(self._line(trainer, pl_module, batch_idx), flush=True)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _get_train_description(self, current_epoch: int) -> str:
        """Count epochs from 1, as the folders' and files' names do."""
        max_epochs = self.trainer.max_epochs
        return f"epoch {current_epoch + 1}" + ("" if max_epochs in (None, -1) else f"/{max_epochs}")

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Losses by their short names, metrics, and images per second."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {"images/s": round(self._images_per_s, 1), **self._losses, **metrics}

    def _line(self, trainer: Trainer, pl_module: LightningModule, batch_idx: int) -> str:
        metrics = "  ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.get_metrics(trainer, pl_module).items()
        )
        batches = f"{batch_idx + 1}/{trainer.num_training_batches}"
        return f"{self._get_train_description(trainer.current_epoch)}  batch {batches}  {metrics}"
