"""TFRecord files as strangers make them: wrong lengths and checksums, cut off, with odd Examples, and good ones."""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import TYPE_CHECKING

import file_doors as doors
from cases import Case
from made_archives import Member, raw
from made_pictures import bomb_png, encoded, flipped, png, squeezed

from monet_cyclegan.data.tfrecord import masked_crc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(name: bytes, value: bytes) -> bytes:
    return field(1, field(1, name) + field(2, field(1, field(1, value))))


def example(*more: bytes, image: bytes | None = None, name: bytes = b"") -> bytes:
    """An Example of an image, its name and more entries."""
    return field(
        1,
        entry(b"image", encoded("PNG") if image is None else image)
        + (entry(b"image_name", name) if name else b"")
        + b"".join(more),
    )


def record(data: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<Q", len(data) if length is None else length)
    return head + struct.pack("<L", masked_crc(head)) + data + struct.pack("<L", masked_crc(data))


GOOD = record(example(name=b"good"))


def named(*names: bytes) -> bytes:
    return b"".join(record(example(name=name)) for name in names)


def number(name: bytes, value: int) -> bytes:
    return field(1, field(1, name) + field(2, field(3, field(1, varint(value)))))


def deep(levels: int) -> bytes:
    data = b"x"
    for _ in range(levels):
        data = field(1, data)
    return data


_READ: dict[str, Callable[[], bytes]] = {
    "of two images": lambda: GOOD + record(example(image=encoded("JPEG"))),
    "of names that lead up": lambda: named(b"../x", b"/etc/x", b"..\\x", b"C:x", b".x"),
    "of names that break lines": lambda: named(b"a\nb", b"a\r\x1b[31m", b"a\0b"),
    "of names of 10,000 characters": lambda: named(b"n" * 10_000, b"n" * 9_999),
    "of names that come twice": lambda: named(b"x", b"x", b"x"),
    "of names that are others' places": lambda: named(b"x.tfrec:1", b"x.tfrec:1", b"x"),
    "of names that are no text": lambda: named(b"\xff\xfe", b"\xed\xa0\x80"),
    "with numbers and unknown fields": lambda: record(
        example(number(b"width", 2**63), field(15, b"x")) + varint(9 << 3) + varint(7) + varint(10 << 3 | 1) + bytes(8)
    ),
    "with a key of 100 kB": lambda: record(example(entry(b"k" * 100_000, b"x"))),
    "with an image twice": lambda: record(example(entry(b"image", b"no image"))),
    "with an entry of many keys": lambda: record(example(field(1, field(1, b"") * 100_000 + field(2, b"") * 100_000))),
    "nested deeply": lambda: record(example(field(9, deep(300)))),
}

_REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "of nothing": (lambda: b"", "hold no record"),
    "of zeros": (lambda: bytes(1000), "record 0 at byte 0 has a wrong checksum of its length"),
    "that is gzip": (lambda: gzip.compress(GOOD), "wrong checksum of its length: .*not an uncompressed TFRecord"),
    "that is zlib": (lambda: zlib.compress(GOOD), "not an uncompressed TFRecord"),
    "that is a picture": (lambda: encoded("PNG"), "not an uncompressed TFRecord"),
    "that is text": (lambda: b"no records, only text\n", "not an uncompressed TFRecord"),
    **{
        f"with a length of {name}": (lambda length=length: GOOD + record(b"x", length), says)
        for name, length, says in (
            ("0", 0, "has 0 bytes"),
            ("2^63", 2**63, "is cut off: it ends at byte"),
            ("2^64-1", 2**64 - 1, "is cut off: it ends at byte"),
            ("two more", 3, "is cut off"),
            ("one less", 0, "has 0 bytes"),
        )
    },
    **{
        f"cut off after {count} bytes of its second record": (
            lambda count=count: GOOD + GOOD[:count],
            "record 1 at byte .* is cut off",
        )
        for count in (1, 8, 11, 12, 40, len(GOOD) - 4, len(GOOD) - 1)
    },
    "with a wrong checksum of a length": (
        lambda: GOOD + flipped(GOOD, 9),
        "record 1 at byte .*wrong checksum of its length",
    ),
    "with a damaged length": (lambda: GOOD + flipped(GOOD, 3), "record 1 at byte .*wrong checksum of its length"),
    "with a wrong checksum of its data": (
        lambda: GOOD + flipped(GOOD, -1),
        "record 1 at byte .*wrong checksum of its data",
    ),
    "with damaged data": (lambda: GOOD + flipped(GOOD, 60), "record 1 at byte .*wrong checksum of its data"),
    "with bytes behind its end": (lambda: GOOD + b"\n", "record 1 at byte .* is cut off within its header"),
    "of no Examples": (lambda: record(b"no protobuf"), "is not a tf.train.Example"),
    "with a number without an end": (
        lambda: record(b"\x0a" + b"\xff" * 20),
        r"not a tf.train.Example \(an integer has no end",
    ),
    "with a group": (lambda: record(b"\x0b" + b"\x0c"), "wire type 3"),
    "with a wire type that isn't there": (lambda: record(example() + b"\x0f"), "wire type 7"),
    "with a field longer than all": (lambda: record(b"\x0a\xff\xff\xff\xff\x0f"), "longer than its message"),
    "with a field of 2^63 bytes": (lambda: record(b"\x0a" + varint(2**63)), "longer than its message"),
    "with a number cut off": (lambda: record(example() + b"\x49\0"), "longer than its message"),
    "without an image": (
        lambda: record(field(1, entry(b"picture", b"x"))),
        r"no bytes feature 'image', only \['picture'\]",
    ),
    "with an image that is a number": (lambda: record(field(1, number(b"image", 7))), "no bytes feature 'image'"),
    "with an empty Example": (lambda: record(field(1, b"")), "no bytes feature 'image', only"),
    "with keys that break lines": (
        lambda: record(field(1, entry(b"a\n\x1b[2J" * 9999, b"x"))),
        "no bytes feature 'image'",
    ),
    "with a key that is no text": (lambda: record(field(1, entry(b"\xff", b"x"))), "not a tf.train.Example"),
    "with an empty image": (lambda: record(example(image=b"")), "record 0: not a "),
    "with an image that is a bomb": (lambda: record(example(image=bomb_png(50_000, 20_000))), "record 0: larger than"),
    "with an image whose profile is a bomb": (
        lambda: record(
            example(image=png(struct.pack(">L", len(squeezed(100)) + 3) + b"iCCPx\0\0" + squeezed(100) + bytes(4)))
        ),
        "record 0: ",
    ),
    "with an image that is damaged": (lambda: record(example(image=encoded("PNG")[:60])), "record 0: damaged"),
    "with an image that is text": (lambda: record(example(image=b"text")), "record 0: not a "),
}


def _write(build: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "data").mkdir()
        (folder / "data" / "x.tfrec").write_bytes(build())
        return folder / "data"

    return make


def _zipped(member: Callable[[], Member]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        whole = raw(member()).replace(b"good.png", b"good.txt")
        (folder / "x.zip").write_bytes(whole)
        return folder / "x.zip"

    return make


def _sparse(folder: Path) -> Path:
    """A record of 5 GB in a file that takes no place."""
    (folder / "data").mkdir()
    head = struct.pack("<Q", 5 * 10**9)
    with (folder / "data" / "x.tfrec").open("wb") as file:
        file.write(head + struct.pack("<L", masked_crc(head)))
        file.truncate(6 * 10**9)
    return folder / "data"


DOOR, ZIPPED = "training on TFRecords", "training on TFRecords in a zip"
CASES = [
    *(Case(name, DOOR, _write(build), doors.train, "read") for name, build in _READ.items()),
    *(Case(name, DOOR, _write(build), doors.train, "refused", says) for name, (build, says) in _REFUSED.items()),
    Case("with a record of 5 GB", DOOR, _sparse, doors.train, "refused", "5,000,000,000 bytes, as no picture"),
    Case("of two images", ZIPPED, _zipped(lambda: Member("x.tfrec", GOOD + GOOD)), doors.train, "read"),
    Case(
        "that claims 4 GB",
        ZIPPED,
        _zipped(lambda: Member("x.tfrec", GOOD, size=2**32 - 2)),
        doors.train,
        "refused",
        "can't be",
    ),
    Case(
        "that claims a record of 4 GB",
        ZIPPED,
        _zipped(lambda: Member("x.tfrec", record(b"x", 2**32), method=0)),
        doors.train,
        "refused",
        "cut off",
    ),
    Case(
        "with a wrong checksum",
        ZIPPED,
        _zipped(lambda: Member("x.tfrec", GOOD, crc=7)),
        doors.train,
        "refused",
        r"x\.tfrec: Bad CRC",
    ),
    Case(
        "with damaged images",
        "the data report",
        _write(lambda: GOOD + record(example(image=b"text"))),
        doors.explore,
        "skipped",
        "record 1: not a ",
    ),
    Case(
        "with damaged data",
        "the data report",
        _write(lambda: GOOD + flipped(GOOD, -1)),
        doors.explore,
        "skipped",
        "record 1 at byte .*checksum",
    ),
    Case(
        "with a damaged image",
        "evaluate.py fake=",
        _write(lambda: GOOD * 2 + record(example(image=b"x"))),
        doors.evaluate,
        "skipped",
        "record 2",
    ),
]
BUILDS = [*_READ.values(), *(build for build, _ in _REFUSED.values())]
