"""Seeds and doors of the parsers of data: TFRecord files, Examples, and zip archives."""

from __future__ import annotations

import io
import struct
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import corpus_archives
import corpus_records

from monet_cyclegan.data.files import Archive
from monet_cyclegan.data.tfrecord import index_records, masked_crc, parse_example, read_example
from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LONGEST_SEED = 2048


def seeds_records() -> list[bytes]:
    """Files with a record or two, good and bad."""
    return _built(corpus_records.BUILDS)


def feed_records(data: bytes) -> None:
    """Find all records and read each; then again with right checksums, which no search would find."""
    _read_all(data)
    _read_all(_mended(data))


def _read_all(data: bytes) -> None:
    file = io.BytesIO(data)
    with suppress(UserError):
        records = index_records(file, len(data), "x.tfrec")
        assert sum(record.length + 16 for record in records) == len(data)
        for number in range(len(records)):
            read_example(file, records, number, "x.tfrec")


def _mended(data: bytes) -> bytes:
    """The same records with the checksums that they should have; a length has 16 bits, so that it may be right."""
    mended, position = b"", 0
    while position + 16 <= len(data):
        (length,) = struct.unpack_from("<H", data, position)
        head, body = struct.pack("<Q", length), data[position + 12 : position + 12 + length]
        mended += head + struct.pack("<L", masked_crc(head)) + body + struct.pack("<L", masked_crc(body))
        position += 16 + length
    return mended


def seeds_example() -> list[bytes]:
    """The data of records."""
    return [data[12:-4] for data in seeds_records() if len(data) > 16]


def feed_example(data: bytes) -> None:
    """Parse one, which yields no more than it has."""
    with suppress(ValueError):
        values = parse_example(data)
        assert sum(map(len, values.values())) <= len(data)


def seeds_zip() -> list[bytes]:
    """Archives of small files, good and bad."""
    return _built(corpus_archives.BUILDS)


def feed_zip(data: bytes) -> None:
    """List an archive, and read all of its members."""
    path = _place()
    path.write_bytes(data)
    try:
        archive = Archive(path)
        archive.entries()
        names = archive.names()
    except UserError:
        return
    for name in names:
        assert ".." not in name.split("/")
        with suppress(UserError):
            assert len(archive.read(name)) == archive.size(name)
        assert archive.stamp(name)


@cache
def _place() -> Path:
    """Where archives are put, since they are opened by name; in memory, where a system has such a folder."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzz_zip_", dir=memory if memory.is_dir() else None)) / "x.zip"


def _built(builds: Iterable[Callable[[], bytes]]) -> list[bytes]:
    return [data for build in builds if len(data := build()) <= _LONGEST_SEED]
