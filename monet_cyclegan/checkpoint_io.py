"""Checkpoints that a crash, a full disk or a second Ctrl-C can't leave half written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO, XLACheckpointIO
from lightning_utilities.core.apply_func import apply_to_collection


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs, then replaces it: what lies under the name is always whole, old or new.

    Lightning's own goes through memory and the system's temporary folder, copies from there, and never syncs.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint to a local ``path``."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
        try:
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        _sync_folder(target.parent)


class DurableXLACheckpointIO(DurableCheckpointIO, XLACheckpointIO):
    """The same for an XLA device: tensors are brought to the CPU first. Lightning takes no other kind there."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint to a local ``path``."""
        on_cpu = apply_to_collection(checkpoint, torch.Tensor, lambda tensor: tensor.cpu())
        super().save_checkpoint(on_cpu, path, storage_options)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; not every system can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
