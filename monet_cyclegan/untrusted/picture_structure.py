"""What picture files are made of, walked before a decoder sees them: some structures keep one busy for hours.

Each walk reads as Pillow does, also where a file is damaged; how long and how large it may get is known beforehand.
"""

from __future__ import annotations

import re
import struct

from PIL.JpegImagePlugin import MARKER

MOST_FRAMES = 1000  # that are counted
_MOST_SCANS = 100  # of a progressive JPEG, each of which goes through all of the picture; there are about 10
_MOST_SEGMENTS = 5000  # of a JPEG's header; a colour profile takes up to 255, a depth map some hundred
_MOST_EXIF = 64  # segments, which Pillow joins one by one
_MOST_CHUNKS = 200_000  # of a PNG
_MOST_BLOCKS = 300_000  # of a GIF, 255 bytes each
_MOST_COPIED = 2_000_000_000  # bytes, in joining the blocks of a GIF's comments
_MOST_ENTRIES = 4096  # of a TIFF's or EXIF's directories
_MOST_NUMBERS = 2_000_000  # in them: tiles of 16x16 pixels, of which each has an offset and a length
_MOST_DIRECTORIES = 8

_WITH_LENGTH = frozenset(marker & 0xFF for marker, (_, _, reader) in MARKER.items() if reader is not None)
_SCAN, _END_OF_JPEG, _APP1 = 0xDA, 0xD9, 0xE1
_AFTER_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_EXIF = b"Exif\0\0"
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # bytes of a value
_TEXTS = {1, 2, 6, 7}  # kinds whose values stay together
_INNER = {0x8769, 0x8825, 0xA005}  # tags of directories: camera, place, compatibility


def check_structure(data: bytes) -> int:
    """Count the frames of a GIF or TIFF, up to MOST_FRAMES + 1; 0 for other formats, whose headers have the number.

    Raises:
        ValueError: reading it would take a time or memory that has nothing to do with its size.
    """
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"\x89PNG"):
        _check_png(data)
    elif data.startswith(b"GIF8"):
        return _count_gif_frames(data)
    elif data.startswith((b"II", b"MM")):
        check_directories(data)
        return _count_tiff_frames(data)
    return 0


def check_directories(data: bytes) -> None:
    """Refuse a TIFF, or EXIF data, whose tags share their bytes: a few of them can claim as much memory as there is.

    Raises:
        ValueError: they do, or there are too many.
    """
    pending, seen, claimed, numbers, entries = [_first_directory(data)], set[int](), 0, 0, 0
    while pending:
        offset = pending.pop()
        if offset in seen or not 0 < offset < len(data):
            continue
        seen.add(offset)
        found = _entries(data, offset)
        entries += len(found)
        for tag, kind, count, value in found:
            size = _UNITS.get(kind, 0) * count
            if tag in _INNER:
                pending.append(value)
            if value + size <= len(data):  # what ends beyond the file is never read
                claimed += size
                numbers += 0 if kind in _TEXTS else count
        if entries > _MOST_ENTRIES or len(seen) > _MOST_DIRECTORIES:
            raise ValueError(f"more than {_MOST_ENTRIES:,} tags")
    if claimed > 2 * len(data) + 65536 or numbers > _MOST_NUMBERS:
        raise ValueError(f"its tags claim {claimed:,} bytes of {len(data):,}")


def _first_directory(data: bytes) -> int:
    offset = _unpack(data, "Q", 8) if _is_big(data) else _unpack(data, "L", 4)
    return offset or 0


def _entries(data: bytes, offset: int) -> list[tuple[int, int, int, int]]:
    """Tag, kind, count and value, or place of the values, of each entry of a directory."""
    big = _is_big(data)
    layout = struct.Struct(_order(data) + ("HHQQ" if big else "HHLL"))
    start = offset + (8 if big else 2)
    count = min(_unpack(data, "Q" if big else "H", offset) or 0, (len(data) - start) // layout.size, _MOST_ENTRIES + 1)
    return list(layout.iter_unpack(data[start : start + max(count, 0) * layout.size]))


def _count_tiff_frames(data: bytes) -> int:
    big, seen = _is_big(data), set[int]()
    head, entry, number = (8, 20, "Q") if big else (2, 12, "L")
    offset = _first_directory(data)
    while offset and offset not in seen and len(seen) <= MOST_FRAMES:
        entries = _unpack(data, "Q" if big else "H", offset)
        if entries is None:
            break
        seen.add(offset)
        offset = _unpack(data, number, offset + head + entries * entry) or 0
    return len(seen)


def _order(data: bytes) -> str:
    return "<" if data.startswith(b"II") else ">"


def _is_big(data: bytes) -> bool:
    return data[2:3] == b"\x2b"  # as Pillow tells it


def _unpack(data: bytes, kind: str, offset: int) -> int | None:
    """A number at an offset; None beyond the end."""
    layout = struct.Struct(_order(data) + kind)
    return layout.unpack_from(data, offset)[0] if 0 <= offset <= len(data) - layout.size else None


def _check_jpeg(data: bytes) -> None:
    position, segments, exif = 2, 0, list[bytes]()
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 4 > len(data) or data[position + 1] == _SCAN:
            break
        marker = data[position + 1]
        segments += 1
        if segments > _MOST_SEGMENTS:
            raise ValueError(f"more than {_MOST_SEGMENTS:,} segments")
        if marker not in _WITH_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        end = position + 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
        if marker == _APP1 and data.startswith(_EXIF, position + 4):
            exif.append(data[position + 10 : end])
        position = end
    if len(exif) > _MOST_EXIF:
        raise ValueError(f"{len(exif):,} blocks of EXIF data")
    if exif:
        check_directories(b"".join(exif))
    # Nearly always there are fewer, even by chance in other bytes, so that no scan is looked at.
    if position >= 0 and data.count(b"\xff\xda") > _MOST_SCANS:
        _check_scans(data, position)


def _check_scans(data: bytes, position: int) -> None:
    scans = 0
    while (found := _AFTER_SCAN.search(data, position)) and found[1][0] != _END_OF_JPEG:
        scans += found[1][0] == _SCAN
        if scans > _MOST_SCANS:
            raise ValueError(f"more than {_MOST_SCANS} scans")
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")


def _check_png(data: bytes) -> None:
    position, chunks = 8, 0
    while position + 12 <= len(data):
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        chunks += 1
    if chunks > _MOST_CHUNKS:
        raise ValueError(f"{chunks:,} chunks")


def _count_gif_frames(data: bytes) -> int:
    """Walk blocks; Pillow joins those of comments one by one, which takes the square of their number."""
    walk = _GifWalk(data)
    try:
        return walk.frames()
    except IndexError:  # cut off
        return walk.found


class _GifWalk:
    """A position in a GIF, the frames found before it, and what reading up to it costs."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 13
        self.found = self.blocks = self.comments = self.copied = 0

    def frames(self) -> int:
        self.position += self._palette_bytes(10)
        while self.found <= MOST_FRAMES and self.blocks <= _MOST_BLOCKS:
            kind = self.data[self.position]
            self.position += 1
            if kind == 0x3B:
                break
            if kind == 0x21:
                self._extension()
            elif kind == 0x2C:
                self.found += 1
                self.position += 9 + self._palette_bytes(self.position + 8) + 1
                while self._block():
                    pass
            else:
                self.blocks += 1
        return self.found

    def _palette_bytes(self, flags_at: int) -> int:
        flags = self.data[flags_at]
        return 3 << (flags & 7) + 1 if flags & 128 else 0

    def _extension(self) -> None:
        label = self.data[self.position]
        self.position += 1
        block = self._block()
        if label == 0xFE:
            while block:
                self._comment(block)
                block = self._block()
            return
        if label == 0xFF and not self.found and self.data.startswith(b"NETSCAPE2.0", self.position - block):
            self._block()
        while self._block():
            pass

    def _block(self) -> int:
        """Step over a block; returns its length, which is 0 for the last."""
        length = self.data[self.position]
        self.position += 1 + length
        self.blocks += 1
        return length

    def _comment(self, length: int) -> None:
        self.comments += length
        self.copied += self.comments
        if not self.found and self.copied > _MOST_COPIED:  # of the first frame; others aren't read
            raise ValueError("too long a comment")
