"""Files and folders that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def whole_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a hidden name beside ``path`` to write to, which takes its place in the end; of what fails nothing is left.

    Args:
        path: the file; missing folders are made.
        sync: whether to wait until it is on the disk, so that it also outlives a power cut.

    Raises:
        UserError: "path: can't be written (why)", for any OSError on the way.
    """
    unfinished = path.parent / f".{secrets.token_hex(8)}.tmp"  # as long names as are allowed can be written
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        if sync:
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # not there, mostly
            unfinished.unlink()


def unfinished_name(path: Path) -> Path:
    """A hidden name beside ``path``, by which the next process knows what a killed one has left of it: that is removed.

    For files of which one process at a time is the only writer.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.unfinished"):
        left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.unfinished")


def second_name(source: Path, path: Path, *, may_copy: bool = False) -> None:
    """Let ``path`` be a hard link to ``source``, whatever had that name before; it has it at every moment from then on.

    Args:
        source: the file.
        path: its other name.
        may_copy: whether to copy it where the file system has no hard links.

    Raises:
        OSError: it can't be linked.
    """
    unfinished = unfinished_name(path)
    if path.exists() and path.samefile(source):  # renaming one name of a file to another of it would do nothing
        return
    try:
        with suppress(FileExistsError):
            os.link(source, path)
            return
        os.link(source, unfinished)
    except OSError:
        if not may_copy:
            raise
        shutil.copy2(source, unfinished)
    unfinished.replace(path)


@contextmanager
def told_if_not(path: Path) -> Iterator[None]:
    """Print a line instead of raising where a file can't be written that isn't worth ending a run for."""
    try:
        yield
    except (OSError, UserError) as error:
        print(f"{path} can't be written ({getattr(error, 'strerror', None) or error}); going on without it", flush=True)


@contextmanager
def whole_folder(path: Path, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Give a hidden folder beside ``path`` to fill, which takes its place in the end; of what fails nothing is left.

    Args:
        path: the folder; missing ones above it are made.
        is_ours: whether a folder that is there was made the same way, and may be replaced; an empty one may be anyhow.

    Raises:
        UserError: there is something else, or "path: can't be written (why)" for any OSError on the way.
    """
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or is_ours(path))):
        raise UserError(f"{path} holds something else already: give another place, or remove it")
    unfinished, old = (path.parent / f".{secrets.token_hex(8)}.tmp" for _ in range(2))
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        if path.exists():
            path.replace(old)
        unfinished.replace(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.replace(path)
        raise UserError(f"{path}: can't be written ({error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
