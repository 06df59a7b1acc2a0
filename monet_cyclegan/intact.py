"""Which of a run's checkpoints can be gone on with: one that is whole, or the one before it; and the latest run's."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.archive_limits import walk

if TYPE_CHECKING:
    from pathlib import Path

LAST, BEFORE = "last.ckpt", "last_before.ckpt"


def before(path: Path) -> Path | None:
    """Where the checkpoint before ``last.ckpt`` lies; None for other names, of which none is kept."""
    return path.with_name(BEFORE) if path.name == LAST else None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's file, all of which is compared with the checksums in it; None if nothing is."""
    try:
        with path.open("rb") as file:
            walk(file, file.seek(0, os.SEEK_END))  # first, since a small archive may unpack to a huge one
        with ZipFile(path) as archive:
            bad = archive.testzip()
    except (OSError, BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError, ValueError):
        return "it is only a part of a checkpoint, or none" if path.stat().st_size else "it is empty"
    return f"its {bad} is not what was written" if bad else None


def intact(path: Path) -> Path:
    """The checkpoint to go on with: ``path``, or the one before it where that is damaged, which a line says.

    Raises:
        UserError: it is damaged, and there is no other.
    """
    found = damage(path)
    if found is None:
        return path
    earlier = before(path)
    if earlier is None or not earlier.is_file() or damage(earlier):
        raise UserError(f"{path} can't be gone on with: {found}")
    print(f"{path} can't be gone on with: {found}; going on with the one before it, {earlier}")
    return earlier


def latest(folder: Path, run: str = "*") -> Path | None:
    """The newest ``last.ckpt`` of the runs in a folder, such as outputs/unet_monet, or of one; None without any."""
    found = [*folder.glob(f"{run}/checkpoints/{LAST}"), *folder.glob(f"{run}/checkpoints/{BEFORE}")]
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return newest.with_name(LAST) if newest and newest.with_name(LAST).exists() else newest
