"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
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
        raise UserError(f"{path}: can't be written ({error})") from error
    finally:
        with suppress(OSError):  # not there, mostly
            unfinished.unlink()
