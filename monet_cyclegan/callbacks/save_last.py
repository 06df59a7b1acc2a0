"""The latest state of a run, from which it can be resumed."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lightning import Callback

from monet_cyclegan.processes import any_says_so

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


@runtime_checkable
class KnowsWhetherGood(Protocol):
    """A callback that can tell whether the latest steps could be taken."""

    def state_is_good(self) -> bool:
        """Whether a run should go on from the current state."""


class SaveLast(Callback):
    """Save ``path`` after each nth epoch and, within a long one, every so many minutes.

    A state from which no step could be taken waits until one can: the checkpoint there is shall stay a good one.
    Lightning's ModelCheckpoint can't do the second here: with manual optimisation it ignores ``train_time_interval``.
    """

    def __init__(self, path: Path | str, every_n_epochs: int = 1, every_n_minutes: float = 10.0):
        self.path = Path(path)
        self.every_n_epochs = every_n_epochs
        self.every_n_minutes = every_n_minutes
        self._saved_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save in the middle of an epoch; not after its last batch, which validation follows."""
        due = time.monotonic() - self._saved_at >= 60 * self.every_n_minutes
        if any_says_so(trainer, due, batch_idx) and not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after an epoch, and after the last one in any case."""
        ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if ends or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if all(callback.state_is_good() for callback in callbacks if isinstance(callback, KnowsWhetherGood)):
            trainer.save_checkpoint(self.path)
            self._saved_at = time.monotonic()
        else:
            self._saved_at = -math.inf  # so it is due at the next batch
