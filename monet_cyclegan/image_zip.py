"""Archives of pictures, whole or not there, and what the competition would say to one."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING
from urllib.parse import quote

from monet_cyclegan.errors import UserError
from monet_cyclegan.pictures import encode_jpeg, read_size
from monet_cyclegan.untrusted.bounded import open_file
from monet_cyclegan.untrusted.zips import list_zip, read_member
from monet_cyclegan.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np

SIDE = 256
COUNTS = range(7000, 10001)  # how many the competition takes
QUALITY = 75  # that of its own files, with which the translations are compared


def write_image_zip(path: Path, images: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write named images (H, W, 3) uint8 as the competition's JPEGs; returns how many, see `zip_files`."""
    return _write(path, ((f"{name}.jpg", encode_jpeg(image, QUALITY)) for name, image in images))


def zip_files(path: Path, folder: Path, files: Iterable[Path]) -> int:
    """Write files under their names in a folder, beside the target first; returns how many.

    Raises:
        UserError: the archive can't be written, or a file can't be read.
    """
    return _write(path, ((file.relative_to(folder).as_posix(), file.read_bytes()) for file in files))


def _write(path: Path, entries: Iterable[tuple[str, bytes]]) -> int:
    count = 0
    with whole_file(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries:  # stored, since pictures don't get smaller
            archive.writestr(_portable(name), data)
            count += 1
    return count


def _portable(name: str) -> str:
    """A name that leads to no other folder on any system, can be shown and is text: what isn't becomes %0A."""
    return "".join(c if c.isprintable() and c not in "\\:" else quote(c, errors="surrogateescape") for c in name)


def verdict(path: Path) -> str:
    """What the competition would say to an archive, in one line."""
    refused = "; ".join(problems(path))
    return f"the competition would refuse it: {refused}" if refused else "as the competition wants it"


def problems(path: Path) -> list[str]:
    """What the competition would refuse in an archive, read back from the disk; empty if it is fine.

    Raises:
        UserError: there is no archive, or one that can't be read without harm.
    """
    try:
        with open_file(path) as file:
            return _problems(list_zip(file, str(path)))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _problems(archive: zipfile.ZipFile) -> list[str]:
    found = []
    names = archive.namelist()
    if len(names) not in COUNTS:
        found.append(f"{len(names):,} images, where the competition takes {COUNTS[0]:,} to {COUNTS[-1]:,}")
    if len({*names}) != len(names):
        found.append(f"{len(names) - len({*names})} names come twice")
    # The first says enough: whoever looks into it finds the others.
    wrong = next(filter(None, (_problem(archive, name) for name in names)), None)
    return [*found, wrong] if wrong else found


def _problem(archive: zipfile.ZipFile, name: str) -> str:
    """Why a picture would be refused, or "" if it is fine."""
    try:
        size = read_size(read_member(archive, name, name), name)
    except UserError as error:
        return str(error)
    return "" if size == (SIDE, SIDE) else f"{name} has {size[0]}x{size[1]} pixels, not {SIDE}x{SIDE}"
