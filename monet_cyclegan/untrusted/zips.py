"""Zip archives that strangers made: listed and read within bounds, whatever their headers claim."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.bounded import MAX_BYTES, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_MEMBERS = 200_000  # zipfile keeps 700 bytes of each
MAX_LISTING = 32_000_000  # bytes of the central directory, which has a hundred of each

_MOST_DEFLATE = 1032  # bytes that one byte can inflate to
_BOMB_BYTES, _BOMB_RATIO = 64_000_000, 200  # pictures that large don't get that much smaller
_MEMBER = b"PK\x01\x02"
_UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error)
_DAMAGED = (*_UNREADABLE, ValueError, RuntimeError, struct.error)  # what zipfile stumbles over in headers


def check_zip(path: Path) -> None:
    """Refuse an archive that can't be read without harm, see `list_zip`."""
    try:
        with open_file(path) as file:
            list_zip(file, str(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def list_zip(file: IO[bytes], name: str) -> zipfile.ZipFile:
    """Read the list of an archive's members, which is for as long as its file is open.

    Raises:
        UserError: no archive, an encrypted one, too long a list, members that overlap or lead out of it.
    """
    bounded = _Bounded(file)
    try:
        archive = zipfile.ZipFile(bounded)
    except _DAMAGED as error:
        raise UserError(f"{name}: neither a folder nor a whole zip archive ({error})") from error
    bounded.listed = True
    infos = archive.infolist()
    if any(info.header_offset < 0 for info in infos):
        raise UserError(f"{name}: neither a folder nor a whole zip archive (its beginning is missing)")
    if any(info.flag_bits & 1 for info in infos):
        raise UserError(f"{name}: is encrypted, unpack it with its password and give the folder")
    # Members that share their bytes are how a small archive holds more than any disk; nobody else makes such.
    if sum(info.compress_size for info in infos) > bounded.size:
        raise UserError(f"{name}: its files claim more bytes than it has, or overlap: not opened")
    leading_out = next((info.filename for info in infos if _leads_out(info.filename)), None)
    if leading_out is not None:
        raise UserError(f"{name}: not opened, since a name in it leads to other folders: {leading_out[:200]!r}")
    return archive


def find_member(archive: zipfile.ZipFile, name: str, where: str) -> zipfile.ZipInfo:
    """What the list says of a member; UserError, which calls it ``where``, if there is none of this name."""
    try:
        return archive.getinfo(name)
    except KeyError as error:
        raise UserError(f"{where}: no such file in the archive") from error


@contextmanager
def open_member(archive: zipfile.ZipFile, name: str, where: str) -> Iterator[IO[bytes]]:
    """Open a member; UserError, which calls it ``where``, if it can't be opened or read."""
    try:
        file = archive.open(_checked(archive, name, where))
    except _DAMAGED as error:
        raise UserError(f"{where}: {error}") from error
    try:
        with file:
            yield file
    except _UNREADABLE as error:
        raise UserError(f"{where}: {error}") from error


def read_member(archive: zipfile.ZipFile, name: str, where: str, most: int = MAX_BYTES) -> bytes:
    """Read a member whole, see `open_member`; UserError also for one of more than ``most`` bytes."""
    with open_member(archive, name, where) as file:
        info = archive.getinfo(name)
        if info.file_size > most:
            raise UserError(f"{where}: unpacks to {info.file_size:,} bytes, more than a picture has")
        if info.file_size > max(_BOMB_BYTES, _BOMB_RATIO * info.compress_size):
            raise UserError(f"{where}: {info.compress_size:,} bytes unpack to {info.file_size:,}, as no picture's do")
        data = file.read(info.file_size + 1)  # a number, since without one zipfile inflates whatever there is
    if len(data) != info.file_size:
        raise UserError(f"{where}: unpacks to {len(data):,} bytes, not to {info.file_size:,} as the archive says")
    return data


def _checked(archive: zipfile.ZipFile, name: str, where: str) -> zipfile.ZipInfo:
    """A member that can be read in bounded steps."""
    info = find_member(archive, name, where)
    if stat.S_ISLNK(info.external_attr >> 16):
        raise UserError(f"{where}: a symbolic link, which isn't followed in archives")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others inflate in steps without bounds
        method = zipfile.compressor_names.get(info.compress_type, info.compress_type)  # type: ignore[attr-defined]
        raise UserError(f"{where}: compressed by {method}, which isn't opened: pack it as usual, or give the folder")
    growth = 1 if info.compress_type == zipfile.ZIP_STORED else _MOST_DEFLATE
    if info.file_size > growth * info.compress_size:
        raise UserError(f"{where}: {info.compress_size:,} bytes can't be {info.file_size:,} unpacked: damaged")
    return info


def _leads_out(name: str) -> bool:
    """Whether a system would put a file of this name elsewhere than below where it is unpacked."""
    return name.startswith("/") or "\\" in name or name[1:2] == ":" or (".." in name and ".." in name.split("/"))


class _Bounded(io.BufferedIOBase):
    """An archive's file that doesn't give zipfile a list of too many members."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = file.seek(0, io.SEEK_END)
        self.listed = False

    def read(self, size: int | None = -1) -> bytes:
        if self.listed:
            return self.file.read(size if size is not None else -1)
        if size is not None and size > MAX_LISTING:
            raise zipfile.BadZipFile(f"{size:,} bytes of names are too many: unpack it and give the folder")
        data = self.file.read(size if size is not None else -1)
        count = data.count(_MEMBER)
        if count > MAX_MEMBERS:
            raise zipfile.BadZipFile(f"{count:,} files are too many: unpack it and give the folder")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True
