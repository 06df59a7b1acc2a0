"""Zip archives, made byte by byte where no program would."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

from made_pictures import encoded, squeezed

GOOD = "good.png"


def archive(
    *members: tuple[str | zipfile.ZipInfo, bytes], comment: bytes = b"", method: int = zipfile.ZIP_STORED
) -> bytes:
    """An archive of a good picture and more."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as whole:
        for name, data in [(GOOD, encoded("PNG")), ("good2.png", encoded("PNG", "L")), *members]:
            whole.writestr(name, data)
        whole.comment = comment
    return file.getvalue()


class Member:
    """A member whose headers say whatever they are told."""

    def __init__(self, name: str = "x.png", data: bytes = b"", **told: Any) -> None:
        self.name, self.data = name.encode("utf-8", "surrogateescape"), data
        plain = data or encoded("PNG")
        self.data = plain
        self.told = {"method": 0, "crc": zlib.crc32(plain), "size": len(plain), "packed": len(plain), "flags": 0x800}
        self.told |= {
            "version": 20,
            "attributes": 0,
            "offset": None,
            "local_size": None,
            "local_name": None,
            "extra": b"",
        } | told

    def local(self) -> bytes:
        told = self.told
        name = self.name if told["local_name"] is None else told["local_name"]
        size = told["size"] if told["local_size"] is None else told["local_size"]
        numbers = (told["method"], 0, 0, told["crc"], told["packed"] & 0xFFFFFFFF, size & 0xFFFFFFFF, len(name), 0)
        return (
            b"PK\3\4"
            + struct.pack("<HH", told["version"], told["flags"])
            + struct.pack("<HHHLLLHH", *numbers)
            + name
            + self.data
        )

    def central(self, offset: int) -> bytes:
        told = self.told
        offset = offset if told["offset"] is None else told["offset"]
        return (
            b"PK\1\2"
            + struct.pack(
                "<BBHHHHHLLL",
                20,
                3,
                told["version"],
                told["flags"],
                told["method"],
                0,
                0,
                told["crc"],
                told["packed"],
                told["size"],
            )
            + struct.pack("<HHHHHLL", len(self.name), len(told["extra"]), 0, 0, 0, told["attributes"], offset)
            + self.name
            + told["extra"]
        )


def raw(*members: Member, count: int | None = None, listing: int | None = None, start: int | None = None) -> bytes:
    """An archive of these and a good picture, whose end says what it is told."""
    body, directory = b"", b""
    everything = [Member(GOOD), *members]
    for member in everything:
        directory += member.central(len(body))
        body += member.local()
    count = len(everything) if count is None else count
    listing = len(directory) if listing is None else listing
    end = struct.pack(
        "<HHHHLLH", 0, 0, count & 0xFFFF, count & 0xFFFF, listing, len(body) if start is None else start, 0
    )
    return body + directory + b"PK\5\6" + end


def lying_zip64(entries: int, listing: int) -> bytes:
    """An archive with a second end, for large ones, that says something else."""
    whole = raw()
    body, end = whole[:-22], whole[-22:]
    place = len(body)
    start = struct.unpack_from("<L", end, 16)[0]
    large = b"PK\6\6" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, entries, entries, listing, start)
    return body + large + b"PK\6\7" + struct.pack("<LQL", 0, place, 1) + end


def deflated(megabytes: int) -> bytes:
    """Zeros, without zlib's own header and end."""
    return squeezed(megabytes)[2:-4]


def bomb(name: str = "bomb.png", megabytes: int = 200, **told: Any) -> Member:
    data = deflated(megabytes)
    crc = zlib.crc32(bytes(10**6))
    return Member(name, data, **({"method": 8, "size": megabytes * 10**6, "crc": crc} | told))


def overlapping(count: int) -> bytes:
    """42.zip's successor: one member's bytes, listed under many names."""
    kernel = bomb("kernel.png", 20)
    place = len(Member(GOOD).local())
    others = [Member(f"{number}.png", b"x", **(kernel.told | {"offset": place})) for number in range(count)]
    body = Member(GOOD).local() + kernel.local()
    directory = Member(GOOD).central(0) + kernel.central(place) + b"".join(other.central(place) for other in others)
    return body + directory + b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 0xFFFF, 0xFFFF, len(directory), len(body), 0)


def crowded(count: int) -> bytes:
    """A list of members without bytes, each as short as can be."""
    entry = b"PK\1\2" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"x"
    return (
        entry * count
        + b"PK\5\6"
        + struct.pack("<HHHHLLH", 0, 0, count & 0xFFFF, count & 0xFFFF, len(entry) * count, 0, 0)
    )


def link(name: str, target: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info, target


def damaged(place: int) -> bytes:
    """An archive with a byte of the picture x.png changed."""
    whole = bytearray(raw(Member("x.png")))
    whole[len(Member(GOOD).local()) + 35 + place] ^= 0xFF
    return bytes(whole)


def nested(depth: int) -> bytes:
    data = b"x"
    for _ in range(depth):
        data = archive(("deeper.zip", data))
    return data


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as whole:
        for name, data in members.items():
            whole.writestr(name, data)
    return file.getvalue()
