"""Grids of the same held-out images as training goes on: translated, or restored where that is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Callback

from monet_cyclegan.images import image_grid, write_image
from monet_cyclegan.whole_file import told_if_not

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer
    from lightning.pytorch.loggers import Logger
    from torch import Tensor


class LogImages(Callback):
    """Write a grid for each direction to ``folder``, and to every logger that takes pictures, after every nth epoch.

    Args:
        folder: where the PNG files go.
        num_images: held-out images of each domain shown, always the same.
        every_n_epochs: how often.
        every_n_batches: also so often within an epoch; None for at its end only.
    """

    def __init__(
        self, folder: Path | str, num_images: int = 4, every_n_epochs: int = 1, every_n_batches: int | None = None
    ):
        self.folder = Path(folder)
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs
        self.every_n_batches = every_n_batches

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show pictures in the middle of an epoch."""
        if self.every_n_batches and (batch_idx + 1) % self.every_n_batches == 0 and not trainer.is_last_batch:
            self.show(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show pictures after an epoch."""
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self.show(trainer, pl_module)

    def show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the model show the fixed images, and hand the grids out."""
        if not trainer.is_global_zero:
            return
        images = pl_module.showcase_held_out(self.num_images)  # type: ignore[operator]
        names = trainer.datamodule.names  # type: ignore[attr-defined]
        batches: Any = pl_module.batches_done
        for title, columns in _grids(images, names).items():
            grid = image_grid(columns)
            path = self.folder / f"{title}_epoch{trainer.current_epoch + 1:04d}_batch{batches:07d}.png"
            with told_if_not(path):
                write_image(path, grid)
            for logger in trainer.loggers:
                _log_picture(logger, f"samples/{title}", grid, batches)


def _grids(images: dict[str, Tensor], names: dict[str, str]) -> dict[str, dict[str, Tensor]]:
    """Columns by title, of each direction, or of each domain where masked images are restored."""
    if "masked_a" in images:
        return {
            f"{name}_restored": {
                f"{name}, masked": images[f"masked_{domain}"],
                "restored": images[f"restored_{domain}"],
                name: images[f"real_{domain}"],
            }
            for domain, name in names.items()
        }
    return {
        f"{names[source]}_to_{names[target]}": {
            names[source]: images[f"real_{source}"],
            f"as {names[target]}": images[f"fake_{target}"],
            f"{names[source]} again": images[f"rec_{source}"],
            "identity": images[f"idt_{source}"],
        }
        for source, target in (("a", "b"), ("b", "a"))
    }


def _log_picture(logger: Logger, key: str, picture: Any, step: int) -> None:
    # By name, so that neither package is imported where its logger isn't used.
    if type(logger).__name__ == "WandbLogger":
        logger.log_image(key, [picture], step=step)  # type: ignore[attr-defined]
    elif type(logger).__name__ == "TensorBoardLogger":
        logger.experiment.add_image(key, picture, step, dataformats="HWC")  # type: ignore[attr-defined]
