"""The resolved config, beside the run and inside every checkpoint, which is then enough to rebuild a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Callback

from monet_cyclegan import CHECKPOINT_FORMAT as FORMAT
from monet_cyclegan import CHECKPOINT_KEY as KEY
from monet_cyclegan import __version__
from monet_cyclegan.whole_file import told_if_not, whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning import LightningModule, Trainer


class SaveConfig(Callback):
    """Put config and version into checkpoints as plain dicts, lists and strings, which weights_only loading accepts.

    Args:
        config: the resolved config.
        overrides: what the user changed on the command line, so that a resumed run starts from the same.
        yaml: the same config as text.
        folder: where ``config.yaml`` goes.
    """

    def __init__(self, config: dict[str, Any], overrides: Sequence[str], yaml: str, folder: Path | str):
        self.config = config
        self.overrides = list(overrides)
        self.yaml = yaml
        self.folder = Path(folder)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``config.yaml``."""
        if trainer.is_global_zero:
            path = self.folder / "config.yaml"
            with told_if_not(path), whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
                file.write(self.yaml)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Mark the checkpoint as ours."""
        mark = {"format": FORMAT, "version": __version__, "config": self.config, "overrides": self.overrides}
        checkpoint.setdefault(KEY, {}).update(mark)
