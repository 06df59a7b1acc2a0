"""Picture files, made byte by byte where no program would."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

from PIL import Image, ImageCms

JPEG_START, GIF_START = b"\xff\xd8", b"GIF89a"


def encoded(image_format: str, mode: str = "RGB", size: tuple[int, int] = (24, 18), **options: Any) -> bytes:
    """A picture, as Pillow writes it."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB" if mode in ("YCbCr", "LAB") else mode).save(
        file, image_format, **options
    )
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"", crc: int | None = None) -> bytes:
    return (
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data) if crc is None else crc)
    )


def png(
    *chunks: bytes, width: int = 8, height: int = 6, depth: int = 8, colour: int = 2, pixels: bytes | None = None
) -> bytes:
    """A PNG with chunks before its pixels."""
    row = b"\0" + bytes(-(-width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1) // 8) if pixels is None else 0)
    data = zlib.compress(row * height) if pixels is None else pixels
    header = chunk(b"IHDR", struct.pack(">2L5B", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND")


def bomb_png(width: int, height: int) -> bytes:
    """A header alone says it."""
    return png(width=width, height=height, pixels=b"")


@cache
def squeezed(megabytes: int) -> bytes:
    """Zeros, a thousandth as long."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(10**6)) for _ in range(megabytes)) + packer.flush()


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg(*segments: bytes, data: bytes | None = None, **options: Any) -> bytes:
    """A JPEG with segments in its header."""
    whole = encoded("JPEG", **options) if data is None else data
    return whole[:2] + b"".join(segments) + whole[2:]


def jpeg_sized(width: int, height: int, precision: int = 8) -> bytes:
    """A JPEG that claims another size."""
    data = encoded("JPEG")
    place = data.index(b"\xff\xc0") + 4
    return data[:place] + struct.pack(">BHH", precision, height, width) + data[place + 5 :]


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded("JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


Entry = tuple[int, int, int, int]  # tag, kind, count, value or place


def directory(entries: list[Entry], after: int = 0, order: str = "<") -> bytes:
    packed = b"".join(struct.pack(order + "HHLL", *entry) for entry in entries)
    return struct.pack(order + "H", len(entries)) + packed + struct.pack(order + "L", after)


def tiff(entries: list[Entry] | None = None, more: bytes = b"", after: int = 0, **changed: int) -> bytes:
    """A TIFF: its first directory at 8, then ``more``; 8x6 grey pixels at 1000."""
    tags = {"width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "offsets": 273}
    tags |= {"samples": 277, "rows": 278, "counts": 279}
    values = {"width": 8, "height": 6, "bits": 8, "compression": 1, "photometric": 1, "offsets": 1000, "samples": 1}
    values |= {"rows": 6, "counts": 48} | changed
    basic = [(tags[name], 4, 1, value) for name, value in values.items()]
    data = b"II*\0" + struct.pack("<L", 8) + directory(sorted(basic + (entries or [])), after) + more
    return data.ljust(1000, b"\0") + bytes(range(48)) + bytes(1000)


def stacked_strips(count: int) -> bytes:
    """Halves of a picture over and over at the same place: each would be decoded."""
    start = 2048
    offsets = struct.pack("<2L", start, start + 24) * (count // 2)
    entries = [(256, 4, 1, 8), (257, 4, 1, 6), (258, 4, 1, 8), (259, 4, 1, 1), (262, 4, 1, 1), (277, 4, 1, 1)]
    entries += [(273, 4, count, 3000), (278, 4, 1, 3), (279, 4, count, 3000)]
    head = b"II*\0" + struct.pack("<L", 8) + directory(sorted(entries))
    return head.ljust(3000, b"\0") + offsets


def overlapping(entries: int, length: int, order: str = "<") -> bytes:
    """EXIF data whose tags all claim the same bytes."""
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "L", 8)
    table = [(40000 + index, 7, length, 8) for index in range(entries)]
    return (start + directory(table, order=order)).ljust(8 + length, b"\0")


def exif(*entries: Entry, more: bytes = b"") -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<L", 8) + directory(list(entries)) + more


def big_tiff(count: int) -> bytes:
    """A BigTIFF directory that claims ``count`` entries."""
    return b"II\x2b\0\x08\0\0\0" + struct.pack("<QQ", 16, count) + bytes(2000)


def gif(*blocks: bytes, width: int = 8, height: int = 6) -> bytes:
    """A GIF with a grey palette of two colours."""
    return GIF_START + struct.pack("<2H3B", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + b"".join(blocks) + b";"


def frame(width: int = 8, height: int = 6, code: int | None = None) -> bytes:
    whole = encoded("GIF", "L", (8, 6))
    start = whole.index(b",\0\0\0\0")
    return b"," + struct.pack("<4HBB", 0, 0, width, height, 0, code or whole[start + 10]) + whole[start + 11 : -1]


def comment(length: int, block: int) -> bytes:
    return b"!\xfe" + (bytes([block]) + b"x" * block) * (length // block) + b"\0"


def bmp(
    width: int = 8, height: int = 6, bits: int = 24, compression: int = 0, pixels: bytes | None = None, colours: int = 0
) -> bytes:
    palette = bytes(4 * 256) if bits <= 8 else b""
    start = 54 + len(palette)
    head = b"BM" + struct.pack("<LLL", 0, 0, start)
    head += struct.pack("<LllHHLLllLL", 40, width, height, 1, bits, compression, 0, 2835, 2835, colours, 0)
    return head + palette + (bytes(abs(width * height) * bits // 8 + 64) if pixels is None else pixels)


def webp_canvas(width: int, height: int) -> bytes:
    """An animation's header, with a frame that is smaller."""
    data = bytearray(encoded("WEBP", save_all=True, append_images=[Image.new("RGB", (24, 18))]))
    place = data.index(b"VP8X") + 12
    data[place : place + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def cmyk_profile() -> bytes:
    """sRGB's profile that says it is of CMYK."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[16:20] = b"CMYK"
    return bytes(data)


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def raw_exif_text(data: bytes) -> bytes:
    """EXIF data as ImageMagick puts them into a PNG."""
    text = b"\nexif\n" + str(len(data)).encode().rjust(8) + b"\n" + data.hex().encode()
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


def flipped(data: bytes, place: int) -> bytes:
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
