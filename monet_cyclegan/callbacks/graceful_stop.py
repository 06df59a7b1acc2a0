"""Ctrl-C, or a cluster's SIGTERM, ends a run between two batches, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Callback

from monet_cyclegan.errors import Interrupted
from monet_cyclegan.processes import any_says_so

if TYPE_CHECKING:
    from types import FrameType

    from lightning import LightningModule, Trainer

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulStop(Callback):
    """Save ``path`` and raise `Interrupted` at the first batch's end after a signal; a second Ctrl-C ends at once.

    A signal may arrive between the generators' step and the discriminators': only its flag is set then. During
    validation the run goes on to the end of it, because a half-done validation would be resumed as if it were whole.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._received: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, which Python allows in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in _SIGNALS}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back, to Lightning, which then gives them back itself; after an exception it does all."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop here if asked to, except after an epoch's last batch: its end saves more."""
        if any_says_so(trainer, self._received is not None, batch_idx) and not trainer.is_last_batch:
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop here if asked to."""
        if trainer.strategy.reduce_boolean_decision(self._received is not None, all=False):
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)  # each process takes part in saving
        command = f"python train.py ckpt_path={self.path}"
        raise Interrupted(self._received or "a signal to another process", command)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number).name
        message = f"\n{self._received}: saving {self.path} and stopping; press Ctrl-C again to stop at once\n"
        os.write(2, message.encode())  # print fails where the signal has arrived in the middle of another print
