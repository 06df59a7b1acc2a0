"""Picture files as strangers hand them over: bombs, cut off, of other formats, with odd insides, and good ones."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import file_doors as doors
from cases import Case
from made_pictures import (
    JPEG_START,
    big_tiff,
    bmp,
    bomb_png,
    chunk,
    cmyk_profile,
    comment,
    directory,
    encoded,
    exif,
    flipped,
    frame,
    gif,
    jpeg,
    jpeg_sized,
    many_scans,
    overlapping,
    png,
    raw_exif_text,
    segment,
    squeezed,
    srgb,
    stacked_strips,
    tiff,
    webp_canvas,
)
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAMAGED, FORMATS, TOO_LARGE = (
    r"^\S+: damaged or unsupported image \(.+\)$",
    r"^\S+: not a BMP, GIF",
    "larger than 200 mega",
)

WRITTEN = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
FOREIGN = {
    "text": b"no picture\n",
    "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/></svg>",
    "a zip": b"PK\x03\x04" + bytes(100),
    "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HLLHH", 3, 6, 8, 8, 3) + bytes(200),
    "ICO": b"\0\0\1\0\1\0" + bytes(16) + encoded("PNG"),
    "PPM": b"P6 8 6 255\n" + bytes(144),
    "TGA": bytes([0, 0, 2]) + bytes(9) + struct.pack("<HHBB", 8, 6, 24, 0) + bytes(144),
    "FITS": b"SIMPLE  =                    T".ljust(2880),
    "a pickle": b"\x80\x04cos\nsystem\n(X\x04\0\0\0truetR.",
    "a shell script": b"#!/bin/sh\nexit 1\n",
    "JPEG 2000": encoded("JPEG2000"),
    "one byte": b"\xff",
    "zeros": bytes(10_000),
    "nothing": b"",
}

_READ: dict[str, Callable[[], bytes]] = {
    **{f"1x1 {kind}": lambda kind=kind: encoded(kind, size=(1, 1)) for kind in WRITTEN},
    "1x20000 PNG": lambda: encoded("PNG", size=(1, 20000)),
    "20000x1 JPEG": lambda: encoded("JPEG", size=(20000, 1)),
    "16383x1 WebP": lambda: encoded("WEBP", size=(16383, 1)),
    **{f"PNG of mode {mode}": lambda mode=mode: encoded("PNG", mode) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")},
    "PNG of 2 bits": lambda: png(depth=2, colour=0),
    "PNG of 16 bits and transparency": lambda: png(depth=16, colour=6),
    "PNG with a palette of partly transparent colours": lambda: png(
        chunk(b"PLTE", bytes(range(48))), chunk(b"tRNS", bytes(range(16))), colour=3
    ),
    "PNG whose pixels go on after the picture": lambda: png(pixels=squeezed(100)),
    "PNG with a wrong checksum of its pixels, which have one of their own": lambda: flipped(png(), -13),
    "PNG with bytes behind its end": lambda: encoded("PNG") + bytes(100_000),
    "PNG with an empty profile": lambda: png(chunk(b"iCCP", b"x\0\0" + zlib.compress(b""))),
    "PNG with a profile that isn't compressed": lambda: png(chunk(b"iCCP", b"x\0\0garbage")),
    "PNG with text of 900 kB": lambda: png(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 900_000))),
    "PNG with absurd resolution": lambda: png(chunk(b"pHYs", struct.pack(">LLB", 2**32 - 1, 0, 1))),
    "PNG with EXIF data that claim much": lambda: png(chunk(b"eXIf", overlapping(4000, 500_000))),
    "PNG with EXIF data as text that claim much": lambda: png(raw_exif_text(overlapping(4000, 200_000))),
    "PNG animated, that claims a billion frames": lambda: png(chunk(b"acTL", struct.pack(">LL", 10**9, 0))),
    **{f"JPEG of mode {mode}": lambda mode=mode: encoded("JPEG", mode) for mode in ("L", "CMYK")},
    "JPEG of CMYK without Adobe's marker": lambda: encoded("JPEG", "CMYK").replace(b"Adobe", b"Other"),
    "JPEG of YCCK": lambda: encoded("JPEG", "CMYK").replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2"),
    "JPEG progressive": lambda: encoded("JPEG", progressive=True, size=(64, 64)),
    "JPEG with a film behind it": lambda: encoded("JPEG") + b"\xff\xda\0\x02" * 5000,
    "JPEG with damaged EXIF data": lambda: jpeg(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")),
    "JPEG with EXIF data of one byte": lambda: jpeg(segment(0xE1, b"Exif\0\0I")),
    "JPEG with EXIF directories in a circle": lambda: jpeg(segment(0xE1, exif((0x8769, 4, 1, 8), (0x8825, 4, 1, 8)))),
    "JPEG with EXIF values of wrong kinds": lambda: jpeg(
        segment(0xE1, exif((271, 12, 1, 26), (274, 2, 4, 0x41414141), (282, 5, 1, 0)))
    ),
    "JPEG with a text of 50 kB in its EXIF data": lambda: jpeg(
        segment(0xE1, exif((270, 2, 50_000, 26), more=b"x" * 50_000))
    ),
    "JPEG with control characters in its EXIF data": lambda: jpeg(segment(0xE1, exif((271, 2, 4, 0x0A1B0A1B)))),
    "JPEG with damaged XMP": lambda: jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta" + b"<" * 60_000)),
    "JPEG with a damaged profile": lambda: jpeg(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(100))),
    "JPEG with a profile in parts of which most are missing": lambda: jpeg(
        segment(0xE2, b"ICC_PROFILE\0\1\xff" + srgb())
    ),
    "JPEG with a profile of other colours": lambda: encoded("JPEG", icc_profile=cmyk_profile()),
    "JPEG with a profile of sRGB": lambda: encoded("JPEG", icc_profile=srgb()),
    "JPEG with a resolution of 0": lambda: encoded("JPEG", dpi=(0, 0)),
    "JPEG with a resolution of 65535": lambda: encoded("JPEG", dpi=(65535, 1)),
    "JPEG with segments of no length": lambda: jpeg(b"\xff\xe1\0\0" * 9),
    "JPEG with a bare marker before its segments": lambda: jpeg(b"\xff\xff\xff\xff"),
    "JPEG with Photoshop's blocks, damaged": lambda: jpeg(
        segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff\xff\xff\xff")
    ),
    "JPEG that claims a hundred pictures": lambda: jpeg(
        segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + directory([(45057, 4, 1, 100)]))
    ),
    **{
        f"TIFF compressed by {name}": lambda name=name: encoded("TIFF", compression=name)
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    },
    **{
        f"TIFF of mode {mode}": lambda mode=mode: encoded("TIFF", mode)
        for mode in ("1", "L", "CMYK", "RGBA", "I;16", "P")
    },
    "TIFF of 1 bit by fax": lambda: encoded("TIFF", "1", compression="group4"),
    "TIFF of YCbCr": lambda: encoded("TIFF", "YCbCr", compression="jpeg"),
    "TIFF of LAB": lambda: tiff(photometric=8, samples=3, counts=144) + bytes(99),
    "TIFF whose directory comes again after itself": lambda: tiff(after=8),
    "TIFF whose camera data are its own directory": lambda: tiff([(0x8769, 4, 1, 8)]),
    "TIFF with a resolution of 0/0": lambda: tiff([(282, 5, 1, 1048), (283, 5, 1, 1048), (296, 3, 1, 2)]),
    "TIFF with unknown tags": lambda: tiff([(65000, 99, 7, 7), (65001, 2, 2**32 - 1, 5)]),
    "BigTIFF": lambda: encoded("TIFF", big_tiff=True),
    **{f"BMP of mode {mode}": lambda mode=mode: encoded("BMP", mode) for mode in ("1", "L", "P", "RGBA")},
    "BMP upside down": lambda: bmp(height=-6),
    "BMP of 16 bits": lambda: bmp(bits=16),
    "BMP compressed": lambda: bmp(bits=8, compression=1, pixels=b"\x08\x01\0\0" * 6 + b"\0\1"),
    "BMP with a resolution that is negative": lambda: bmp()[:38] + struct.pack("<ll", -1, -1) + bmp()[46:],
    "GIF with a transparent colour": lambda: encoded("GIF", "P", transparency=0),
    "GIF of two frames": lambda: gif(frame(), frame()),
    "GIF of 40,000 frames": lambda: gif(frame() * 40_000),
    "GIF without an end": lambda: gif(frame())[:-1],
    "GIF whose screen is empty": lambda: gif(frame(), width=0, height=0),
    "GIF with a comment of 100 kB": lambda: gif(comment(100_000, 250), frame()),
    "GIF with a long comment after its first frame": lambda: gif(frame(), comment(1_000_000, 1), frame()),
    "WebP without loss": lambda: encoded("WEBP", lossless=True),
    "WebP with transparency": lambda: encoded("WEBP", "RGBA"),
    "WebP animated": lambda: encoded("WEBP", save_all=True, append_images=[Image.new("RGB", (24, 18))]),
    "WebP with EXIF data that claim much": lambda: encoded("WEBP", exif=b"Exif\0\0" + overlapping(4000, 300_000)),
}

_REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    **{f"{name} as .jpg": (lambda data=data: data, FORMATS) for name, data in FOREIGN.items()},
    **{
        f"{kind} of its first 12 bytes": (lambda kind=kind: encoded(kind)[:12], r"^\S+: (not a|damaged)")
        for kind in WRITTEN
    },
    **{
        f"{kind} cut off in its middle": (
            lambda kind=kind: (lambda d: d[: len(d) * 2 // 3])(encoded(kind, size=(99, 99))),
            DAMAGED,
        )
        for kind in WRITTEN
    },
    "PNG of 1e9 pixels": (lambda: bomb_png(50_000, 20_000), TOO_LARGE),
    "PNG of 4e18 pixels": (lambda: bomb_png(2**31 - 1, 2**31 - 1), TOO_LARGE),
    "PNG a row above the most": (lambda: bomb_png(20_000, 10_001), TOO_LARGE),
    "PNG of the most, without pixels": (lambda: bomb_png(20_000, 10_000), DAMAGED),
    "PNG of 0x6": (lambda: png(width=0), r"^\S+: (not a|damaged)"),
    "PNG of 8x0": (lambda: png(height=0), r"^\S+: (not a|damaged)"),
    "PNG without a header": (
        lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", zlib.compress(bytes(99))),
        r"^\S+: (not a|damaged)",
    ),
    "PNG of 3 bits": (lambda: png(depth=3), r"^\S+: (not a|damaged)"),
    "PNG of colours of type 5": (lambda: png(colour=5, pixels=b""), r"^\S+: (not a|damaged)"),
    "PNG with a wrong checksum of its header": (lambda: flipped(png(), 30), r"^\S+: (not a|damaged)"),
    "PNG with a wrong checksum within its pixels": (lambda: flipped(png(), -17), DAMAGED),
    "PNG with damaged pixels": (lambda: png(pixels=b"\x78\x9cgarbage"), DAMAGED),
    "PNG with a chunk of 2 GB": (
        lambda: png()[:33] + struct.pack(">L", 2**31 - 1) + b"tEXtx",
        r"^\S+: (not a|damaged)",
    ),
    "PNG with a profile of 100 MB": (lambda: png(chunk(b"iCCP", b"x\0\0" + squeezed(100))), "too large"),
    "PNG with compressed text of 100 MB": (lambda: png(chunk(b"zTXt", b"x\0\0" + squeezed(100))), "too large"),
    "PNG with international text of 100 MB": (lambda: png(chunk(b"iTXt", b"x\0\1\0\0\0" + squeezed(100))), "too large"),
    "PNG with 100 texts of a megabyte": (lambda: png(chunk(b"zTXt", b"x\0\0" + squeezed(1)) * 100), "MEMORY"),
    "PNG of 300,000 chunks": (lambda: png(chunk(b"abCd") * 300_000), "chunks"),
    "JPEG of 4e9 pixels": (lambda: jpeg_sized(65_500, 65_500), TOO_LARGE),
    "JPEG of 0x0": (lambda: jpeg_sized(0, 0), r"^\S+: (not a|damaged)"),
    "JPEG of 12 bits": (lambda: jpeg_sized(8, 6, precision=12), r"^\S+: (not a|damaged)"),
    "JPEG of 6,000 segments": (lambda: jpeg(segment(0xFE, b"") * 6_000), "segments"),
    "JPEG of 6,000 stuffed markers": (lambda: jpeg(b"x\xff\0" * 6_000), "segments"),
    "JPEG with 100 blocks of EXIF data": (lambda: jpeg(segment(0xE1, exif()) * 100), "100 blocks of EXIF"),
    "JPEG with EXIF data that claim much": (
        lambda: jpeg(
            *(
                segment(0xE1, b"Exif\0\0" + overlapping(4000, 240_000)[at : at + 60_002])
                for at in range(0, 240_008, 60_002)
            )
        ),
        "tags claim",
    ),
    "JPEG progressive with 3,000 scans": (lambda: many_scans(3_000), "scans"),
    "JPEG without a picture": (lambda: JPEG_START + segment(0xFE, b"x") + b"\xff\xd9", r"^\S+: (not a|damaged)"),
    "GIF of 4e9 pixels": (lambda: gif(frame(), width=65_535, height=65_535), TOO_LARGE),
    "GIF whose frame is larger than its screen": (lambda: gif(frame(65_535, 65_535)), TOO_LARGE),
    "GIF without a frame": (lambda: gif(), r"^\S+: (not a|damaged)"),
    "GIF of 0x0": (lambda: gif(frame(0, 0), width=0, height=0), r"^\S+: (not a|damaged)"),
    "GIF with codes of 200 bits": (lambda: gif(frame(code=200)), DAMAGED),
    "GIF with a comment of a megabyte, byte by byte": (lambda: gif(comment(1_000_000, 1), frame()), "comment"),
    "GIF with 200,000 comments": (lambda: gif(comment(1, 1) * 200_000, frame()), "comment"),
    "TIFF of 4e18 pixels": (lambda: tiff(width=2**31 - 1, height=2**31 - 1), TOO_LARGE),
    "TIFF of 8x0": (lambda: tiff(height=0), r"^\S+: (not a|damaged)"),
    "TIFF of 64 bits": (lambda: tiff(bits=64), r"^\S+: (not a|damaged)"),
    "TIFF of 4e9 samples": (lambda: tiff(samples=2**32 - 1), r"^\S+: (not a|damaged)"),
    "TIFF compressed by something unknown": (lambda: tiff(compression=4711), r"^\S+: (not a|damaged)"),
    "TIFF whose pixels lie beyond its end": (lambda: tiff(offsets=10**6), DAMAGED),
    "TIFF whose directory lies beyond its end": (
        lambda: b"II*\0\xff\xff\xff\x7f" + bytes(99),
        r"^\S+: (not a|damaged)",
    ),
    "TIFF of 60,000 tags": (lambda: b"II*\0\x08\0\0\0" + directory([(tag, 3, 1, 1) for tag in range(60_000)]), "tags"),
    "TIFF whose tags share their bytes": (lambda: tiff([(40000 + k, 7, 2000, 8) for k in range(70)]), "tags claim"),
    "TIFF with 3 million strips": (lambda: tiff([(40000, 4, 3_000_000, 0)]) + bytes(12_000_000), "tags claim"),
    "TIFF with strips upon each other": (lambda: stacked_strips(100_000), "upon each other"),
    "TIFF of 4 million rows of which 6 are there": (lambda: tiff(height=4_000_000), "parts of it are missing"),
    "TIFF of floats": (lambda: encoded("TIFF", "F"), "32 bits"),
    "TIFF of 32 bits": (lambda: encoded("TIFF", "I"), "32 bits"),
    "BigTIFF of 2^60 tags": (lambda: big_tiff(2**60), r"^\S+: (not a|damaged)"),
    "BMP of 4e18 pixels": (lambda: bmp(2**31 - 1, 2**31 - 1, pixels=b""), TOO_LARGE),
    "BMP of 0x0": (lambda: bmp(0, 0), r"^\S+: (not a|damaged)"),
    "BMP of a negative width": (lambda: bmp(width=-8), TOO_LARGE),
    "BMP of 5 bits": (lambda: bmp(bits=5), r"^\S+: (not a|damaged)"),
    "BMP with a palette of 2^31 colours": (lambda: bmp(bits=8, colours=2**31), r"^\S+: (not a|damaged)"),
    "BMP compressed, one row of 2e8 pixels": (lambda: bmp(2 * 10**8, 1, 8, 1, b"\0\2\0\xff"), "compressed BMP"),
    "BMP compressed, of 1e8 pixels": (lambda: bmp(10_000, 10_000, 8, 1, b"\1\1\0\0" * 10_000), "compressed BMP"),
    "BMP with a JPEG inside": (lambda: bmp(compression=4), r"^\S+: (not a|damaged)"),
    "WebP of 2.7e8 pixels": (lambda: webp_canvas(16_384, 16_384), "^\\S+: "),
    "WebP that claims 4 GB": (
        lambda: encoded("WEBP")[:4] + b"\xff\xff\xff\xff" + encoded("WEBP")[8:],
        r"^\S+: (not a|damaged)",
    ),
    "WebP with damaged pixels": (lambda: encoded("WEBP")[:20] + bytes(60), r"^\S+: (not a|damaged)"),
    "HEIC of nothing": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r"^\S+: (not a|damaged)"),
}


def _write(build: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "x.jpg").write_bytes(build())
        return folder / "x.jpg"

    return make


DOOR = "a picture's bytes"
CASES = [
    *(Case(name, DOOR, _write(build), doors.decode, "read") for name, build in _READ.items()),
    *(Case(name, DOOR, _write(build), doors.decode, "refused", says) for name, (build, says) in _REFUSED.items()),
    Case(
        "PNG of 25 megapixels",
        DOOR,
        _write(lambda: png(width=5_000, height=5_000, depth=1, colour=0)),
        doors.decode,
        "read",
        "",
        400,
    ),
    Case(
        "PNG of 1e9 pixels",
        "a picture's size",
        _write(lambda: bomb_png(50_000, 20_000)),
        doors.size,
        "refused",
        TOO_LARGE,
    ),
    Case("PNG of 179 megapixels", "a picture's size", _write(lambda: bomb_png(14_000, 12_800)), doors.size, "read"),
    Case(
        "GIF with an endless comment",
        "a picture's size",
        _write(lambda: gif(comment(1_000_000, 1), frame())),
        doors.size,
        "refused",
        "comment",
    ),
]
