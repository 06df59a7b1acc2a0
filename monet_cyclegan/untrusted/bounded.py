"""Files that strangers made, opened without waiting and read within bounds."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO, Literal

from monet_cyclegan.errors import UserError

MAX_BYTES = 1_300_000_000  # of a picture's file: 200 megapixels of three colours with 16 bits, and what belongs to them

_NOT_THERE = {errno.ENOENT, errno.ENOTDIR}
# Opening a named pipe would wait for whoever writes into it, and a terminal would become ours. Windows has neither.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading; OSError if it can't be, or is a pipe, a device or the like."""
    file = path.open("rb") if not _AT_ONCE else open(path, "rb", opener=_open_at_once)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a file with contents of its own, but a pipe or a device")
    return file


def read_file(path: Path) -> bytes:
    """Read a file whole; OSError if it can't be, or has more than MAX_BYTES."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"{size:,} bytes are more than a picture has")
        return file.read(size)  # and no more of one that grows, or of those in /proc that have no end


def kind(path: Path) -> Literal["file", "folder", "other", "nothing"]:
    """What lies under a name.

    Raises:
        UserError: it can't be found out, as for a name that is too long or a folder that is locked.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno in _NOT_THERE:
            return "nothing"
        raise UserError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in its name
        raise UserError(f"{path}: {error}") from error
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def is_file(path: Path) -> bool:
    """Whether an ordinary file lies there, or a link to one; False, too, where it can't be looked at."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, a folder that is shut, a NUL
        return False


def home_expanded(path: str | Path) -> Path:
    """The path with ~ and ~name replaced; UserError if nobody knows where that is."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: whose home that is can't be found out") from error


def _open_at_once(name: str, flags: int) -> int:
    return os.open(name, flags | _AT_ONCE)
