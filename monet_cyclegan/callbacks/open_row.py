"""The row of the log that a checkpoint in the middle of an epoch comes before, so that no resumed curve has a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning import Callback

from monet_cyclegan import CHECKPOINT_KEY as KEY

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class OpenRow(Callback):
    """Put a batch's scalars into a checkpoint that is saved at its end, and log them first where that is gone on with.

    Lightning hands them to the loggers only after all callbacks have seen the end of the batch. It stands before the
    callbacks that save.
    """

    def __init__(self) -> None:
        self._open = False
        self._left: dict[str, Any] | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find what was left to be logged."""
        self._left = checkpoint.get(KEY, {}).get("open_row")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log it; a logger that has it already gets the same again, at the same step."""
        if self._left is not None:
            for logger in trainer.loggers:
                logger.log_metrics(dict(self._left["metrics"]), step=int(self._left["step"]))
            self._left = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """From now on the row is open."""
        self._open = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """It was logged."""
        self._open = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It was logged."""
        self._open = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It was logged."""
        self._open = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add an open row, if this batch has one."""
        batches = int(pl_module.batches_done)  # type: ignore[arg-type]
        if self._open and batches % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            # What Lightning is about to log; it has no public name for it.
            scalars = {name: float(value) for name, value in trainer._logger_connector.metrics["log"].items()}
            if scalars:
                metrics = {**scalars, "epoch": trainer.current_epoch}
                checkpoint.setdefault(KEY, {})["open_row"] = {"step": batches - 1, "metrics": metrics}
