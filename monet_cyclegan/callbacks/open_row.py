"""What of the log a checkpoint in the middle of an epoch has to carry, so that no resumed curve has a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning import Callback

from monet_cyclegan import CHECKPOINT_KEY as KEY

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class OpenRow(Callback):
    """Put a batch's scalars into a checkpoint that is saved at its end, and log them first where that is gone on with.

    Lightning hands them to the loggers only after all callbacks have seen the end of the batch. Within an epoch it also
    repeats what some batches alone log, such as a lazy penalty. This callback stands before those that save.
    """

    def __init__(self) -> None:
        self._open = False
        self._left: dict[str, Any] | None = None
        self._repeated: dict[str, float] = {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find what was left to be logged, and what is to be repeated."""
        self._left = checkpoint.get(KEY, {}).get("open_row")
        self._repeated = dict(checkpoint.get(KEY, {}).get("repeated", {}))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log it; a logger that has it already gets the same again, at the same step."""
        if self._left is not None:
            for logger in trainer.loggers:
                logger.log_metrics(dict(self._left["metrics"]), step=int(self._left["step"]))
            self._left = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """From now on the row is open."""
        self._open = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """It was logged; the first one that a resumed run sees finds what its epoch had logged before."""
        self._open = False
        if self._repeated and batch_idx > 0:
            pl_module.log_dict(self._repeated)  # under this hook, so that a training step's own values win
        self._repeated = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It was logged."""
        self._open = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It was logged."""
        self._open = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what the epoch has logged so far, and an open row, if this batch has one."""
        if not self._open:
            return
        # What Lightning is about to log; it has no public name for it.
        scalars = {name: float(value) for name, value in trainer._logger_connector.metrics["log"].items()}
        ours = checkpoint.setdefault(KEY, {})
        ours["repeated"] = scalars
        batches = int(pl_module.batches_done)  # type: ignore[arg-type]
        if scalars and batches % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            ours["open_row"] = {"step": batches - 1, "metrics": {**scalars, "epoch": trainer.current_epoch}}
