"""Checkpoints that a crash, a full disk or a second Ctrl-C can't leave half written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO, XLACheckpointIO
from lightning_utilities.core.apply_func import apply_to_collection

from monet_cyclegan.intact import before, damage
from monet_cyclegan.whole_file import second_name, unfinished_name


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs, reads back, then replaces it: what lies under the name is whole, old or new.

    Of ``last.ckpt`` the one before is kept, for disks that lose what they have said to have written. Lightning's own
    goes through memory and the system's temporary folder, copies from there, and never syncs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unsaved: dict[Path, str] = {}  # checkpoints that couldn't be written the last time, and why

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint to a local ``path``; if that fails, say so and remember it, and let the run go on.

        Nothing is raised for a full or broken disk: other processes would wait for this one for ever, and the next
        time there may be room again. What lay there before is untouched.
        """
        target = Path(path)
        try:
            self._save(checkpoint, target)
        except OSError as error:
            self.unsaved[target] = error.strerror or str(error)
            print(f"{target} can't be written ({self.unsaved[target]}); training goes on", flush=True)
        else:
            self.unsaved.pop(target, None)

    def _save(self, checkpoint: dict[str, Any], target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = unfinished_name(target)
        try:
            with unfinished.open("wb") as file:
                _write(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            found = damage(unfinished)
            if found:
                raise OSError(f"written, but {found}")
            _keep_before(target)
            unfinished.replace(target)
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
        _sync_folder(target.parent)


class DurableXLACheckpointIO(DurableCheckpointIO, XLACheckpointIO):
    """The same for an XLA device: tensors are brought to the CPU first. Lightning takes no other kind there."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint to a local ``path``."""
        on_cpu = apply_to_collection(checkpoint, torch.Tensor, lambda tensor: tensor.cpu())
        super().save_checkpoint(on_cpu, path, storage_options)


def _write(checkpoint: dict[str, Any], file: Any) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # torch's word for a full disk, which stands behind it
        cause = error.__cause__ or error.__context__
        raise (cause if isinstance(cause, OSError) else error) from None


def _keep_before(target: Path) -> None:
    """Give what lies under a name, if it is kept at all, a second one, which it has at every moment from now on."""
    kept = before(target)
    if kept is None or not target.exists():
        return
    with suppress(OSError):  # a file system without hard links keeps no more than one
        second_name(target, kept)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; not every system can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
