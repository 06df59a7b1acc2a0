"""Weights & Biases beside its curves: the run's id in checkpoints, before and after by epoch, the best model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Callback

from monet_cyclegan.errors import Pruned
from monet_cyclegan.images import to_uint8

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer
    from lightning.pytorch.loggers import WandbLogger
    from torch import Tensor

KEY = "wandb_run_id"


class WandbRun(Callback):
    """Does nothing unless one of the loggers is a ``WandbLogger``.

    Args:
        best: checkpoint that is uploaded as an artifact when training ends or is stopped.
        num_images: held-out photos in the table of before and after, the same in each epoch.
    """

    def __init__(self, best: Path | str, num_images: int = 4):
        self.best = Path(best)
        self.num_images = num_images
        self._table: Any = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the run's id, so that a resumed run continues its curves."""
        logger = _wandb_logger(trainer)
        if logger is not None:
            checkpoint[KEY] = logger.experiment.id

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add this epoch's pictures to the table."""
        logger = _wandb_logger(trainer)
        if logger is None:
            return
        import wandb

        names = trainer.datamodule.names  # type: ignore[attr-defined]
        images = pl_module.showcase_held_out(self.num_images)  # type: ignore[operator]
        if self._table is None:
            self._table = wandb.Table(columns=["epoch", "image", names["a"], names["b"]], log_mode="INCREMENTAL")
        for index, (before, after) in enumerate(zip(images["real_a"], images["fake_b"], strict=True)):
            self._table.add_data(trainer.current_epoch + 1, index, _picture(before), _picture(after))
        logger.experiment.log({"before and after": self._table})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Upload the best checkpoint."""
        self._upload(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Upload what is best so far; mark a pruned trial, whose checkpoint nobody needs."""
        logger = _wandb_logger(trainer)
        if isinstance(exception, Pruned) and logger is not None:
            run = logger.experiment
            run.tags = (*(run.tags or ()), "pruned")
            run.summary["trial/pruned"] = str(exception)
        else:
            self._upload(trainer)

    def _upload(self, trainer: Trainer) -> None:
        logger = _wandb_logger(trainer)
        if logger is None or not self.best.is_file():
            return
        import wandb

        artifact = wandb.Artifact(f"best-{logger.experiment.id}", type="model")
        artifact.add_file(str(self.best))
        logger.experiment.log_artifact(artifact, aliases=["best"])


def _picture(image: Tensor) -> Any:
    import wandb

    return wandb.Image(to_uint8(image).permute(1, 2, 0).cpu().numpy())


def _wandb_logger(trainer: Trainer) -> WandbLogger | None:
    # By name, so that wandb isn't imported where it isn't used.
    loggers = [logger for logger in trainer.loggers if type(logger).__name__ == "WandbLogger"]
    return loggers[0] if loggers and trainer.is_global_zero else None  # type: ignore[return-value]
