"""Zip archives that hold their entries as they are, such as torch's: walked before anything in them is read.

Two programs can see different files in one archive, if it is made for that. What passes here has one reading only: the
directory lies right before the end, entries don't overlap, and their own headers have the names of the directory.
"""

from __future__ import annotations

import struct
from typing import IO, NamedTuple
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

MOST_ENTRIES = 20_000
MOST_DIRECTORY = 2 << 20  # bytes; each entry takes about 60
_END = struct.Struct("<4s4H2LH")  # end of central directory
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_LOCAL = struct.Struct("<4s5H3L2H")
_ZIP64_EXTRA = 1


class Entry(NamedTuple):
    """Where an entry's bytes lie."""

    name: str
    start: int
    size: int


def walk(file: IO[bytes], size: int) -> list[Entry]:
    """All entries of an archive of ``size`` bytes, in the order in which they lie in it.

    Raises:
        ValueError: it is none, it is made to be read in two ways, or to become large.
    """
    directory = _directory_start(file, size)
    try:
        with ZipFile(file) as archive:
            found = archive.infolist()
    except (BadZipFile, NotImplementedError, struct.error, ValueError, OSError, RuntimeError) as error:
        raise ValueError(f"it is a damaged archive ({error})") from error
    if len(found) > MOST_ENTRIES:
        raise ValueError(f"it has {len(found)} entries, more than {MOST_ENTRIES}")
    entries, free = [], 0
    for info in sorted(found, key=lambda info: info.header_offset):
        entry = _entry(file, info)
        if info.header_offset < free or entry.start + entry.size > directory:
            raise ValueError(f"its entry {entry.name} overlaps another")
        free = entry.start + entry.size
        entries.append(entry)
    names = {entry.name.lower() for entry in entries}
    if len(names) < len(entries):
        raise ValueError("it has two entries of one name")
    return entries


def _directory_start(file: IO[bytes], size: int) -> int:
    """Where the directory begins, once it is known to be short, and all there is before the end."""
    if size < _END.size:
        raise ValueError("it is too short for an archive")
    end = size - _END.size
    signature, disk, first_disk, _, count, length, start, comment = _END.unpack(_read(file, end, _END.size))
    if signature != b"PK\5\6" or comment or disk or first_disk:
        raise ValueError("it doesn't end as an archive does")
    if end >= _LOCATOR64.size + _END64.size:
        locator = _LOCATOR64.unpack(_read(file, end - _LOCATOR64.size, _LOCATOR64.size))
        if locator[0] == b"PK\6\7":
            end -= _LOCATOR64.size + _END64.size
            large = _END64.unpack(_read(file, end, _END64.size))
            if locator[2] != end or large[0] != b"PK\6\6":
                raise ValueError("it doesn't end as a large archive does")
            short = (count, length, start)
            count, length, start = large[7:]
            if any(told not in (real, most) for told, real, most in zip(short, large[7:], _OVERFLOW, strict=True)):
                raise ValueError("it has two ends that don't agree")
    if count > MOST_ENTRIES or length > MOST_DIRECTORY:
        raise ValueError(f"it has {count} entries, more than {MOST_ENTRIES}, or long ones")
    if start + length != end:
        raise ValueError("its directory isn't where it says")
    return start


_OVERFLOW = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)  # what the short end says where the number is in the large one


def _entry(file: IO[bytes], info: ZipInfo) -> Entry:
    """What the directory says of an entry, compared with the header right before its bytes."""
    name = info.filename
    if info.orig_filename != name or not name.isprintable() or len(name) > 500:
        raise ValueError(f"it has an entry with the name {info.orig_filename[:100]!r}")
    if info.compress_type != ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise ValueError(f"its entry {name} is compressed or encrypted")
    if not _plain_extra(info.extra):
        raise ValueError(f"its entry {name} is described in two ways")
    header = _read(file, info.header_offset, _LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        raise ValueError(f"its entry {name} isn't where it says")
    method, name_length, extra_length = (_LOCAL.unpack(header)[place] for place in (3, 9, 10))
    encoded = name.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
    if method != ZIP_STORED or _read(file, info.header_offset + _LOCAL.size, name_length) != encoded:
        raise ValueError(f"its entry {name} has two names")
    return Entry(name, info.header_offset + _LOCAL.size + name_length + extra_length, info.file_size)


def _plain_extra(extra: bytes) -> bool:
    """Whether there is nothing but, at most, one field with sizes that need 64 bits."""
    if not extra:
        return True
    if len(extra) < 4:
        return False
    kind, length = struct.unpack_from("<HH", extra)
    return kind == _ZIP64_EXTRA and len(extra) == 4 + length


def _read(file: IO[bytes], position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
