"""TFRecord files of tf.train.Example, as Kaggle hands out images, read with checksums and without TensorFlow.

A file is a row of records, each `length (u64) | crc of length (u32) | data | crc of data (u32)`, little-endian.
"""

from __future__ import annotations

import struct
from typing import IO, NamedTuple

import google_crc32c

from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.bounded import MAX_BYTES
from monet_cyclegan.untrusted.protobuf import BYTES, fields, walk

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


class Record(NamedTuple):
    """Where a record's data lie in its file, in bytes."""

    offset: int
    length: int


class Example(NamedTuple):
    """The bytes features that Kaggle's image records hold; the name is None if it isn't there or isn't text."""

    image: bytes
    image_name: str | None


def masked_crc(data: bytes) -> int:
    """Checksum of the TFRecord format: CRC32C rotated right by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def index_records(file: IO[bytes], size: int, name: str) -> list[Record]:
    """Find all records of a file of `size` bytes, reading only their lengths, whose checksums are verified.

    Raises:
        UserError: names the file, record and offset of a wrong checksum, or of a record cut off or of an odd length.
    """
    records: list[Record] = []
    position = 0
    while position < size:
        place = _place(name, len(records), position)
        file.seek(position)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise UserError(f"{place} is cut off within its header: fetch the file again")
        length, checksum = _HEADER.unpack(header)
        if masked_crc(header[:8]) != checksum:
            raise UserError(
                f"{place} has a wrong checksum of its length: damaged, or not an uncompressed TFRecord file"
            )
        offset = position + _HEADER.size
        position = offset + length + _FOOTER.size
        if position > size:
            raise UserError(f"{place} is cut off: it ends at byte {position}, the file at {size}; fetch the file again")
        if not 0 < length <= MAX_BYTES:
            raise UserError(f"{place} has {length:,} bytes, as no picture's has")
        records.append(Record(offset, length))
    return records


def read_example(file: IO[bytes], records: list[Record], number: int, name: str) -> Example:
    """Read record `number`, verify its checksum and parse its features.

    Raises:
        UserError: names the file, record and offset if the data are damaged or hold no feature `image`.
    """
    offset, length = records[number]
    place = _place(name, number, offset - _HEADER.size)
    file.seek(offset)
    data = file.read(length)
    footer = file.read(_FOOTER.size)
    if len(footer) < _FOOTER.size:
        raise UserError(f"{place} is cut off: the file became shorter since it was opened")
    if (masked_crc(data),) != _FOOTER.unpack(footer):
        raise UserError(f"{place} has a wrong checksum of its data: fetch the file again")
    try:
        features = parse_example(data)
    except ValueError as error:
        raise UserError(f"{place} is not a tf.train.Example ({error})") from error
    if "image" not in features:
        raise UserError(f"{place} has no bytes feature 'image', only {sorted(features)[:20]}")
    return Example(features["image"], _text(features.get("image_name", b"")))


def parse_example(data: bytes) -> dict[str, bytes]:
    """Parse a serialized tf.train.Example to the first value of each of its bytes features.

    Raises:
        ValueError: if it isn't one.
    """
    # Example {Features features = 1}; Features {map<string, Feature> feature = 1};
    # Feature {oneof: BytesList bytes_list = 1, ...}; BytesList {repeated bytes value = 1}
    values: dict[str, bytes] = {}
    for features in fields(data, 1):
        for entry in fields(features, 1):
            key, value = _parse_entry(entry)
            if value is not None:
                values.setdefault(key.decode(), value)  # UnicodeDecodeError is a ValueError
    return values


def _parse_entry(entry: bytes) -> tuple[bytes, bytes | None]:
    """A feature's key, and the first of its values that are bytes; each part of an entry is walked once."""
    key, first = b"", None
    for field in walk(entry):
        if (field.number, field.wire_type) == (1, BYTES):
            key = field.data
        elif (field.number, field.wire_type) == (2, BYTES):
            for bytes_list in fields(field.data, 1):
                for value in fields(bytes_list, 1):
                    first = value if first is None else first
    return key, first


def _text(value: bytes) -> str | None:
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        return None


def _place(name: str, number: int, offset: int) -> str:
    return f"{name}: record {number} at byte {offset}"
