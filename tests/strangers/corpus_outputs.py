"""Where results go and what lies there already, caches that somebody changed, and arguments of the command line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import file_doors as doors
import numpy as np
from cases import Case
from made_folders import (
    THINGS,
    alone,
    blocked_output,
    clashing,
    inner_folder,
    into,
    link_to,
    linked_output,
    odd_names,
    photo_folder,
    pipe,
    zip_beside,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _cache(change: Callable[[Path, Path], object]) -> Callable[[Path], Path]:
    """A cache on disk, of which a stranger changes pixels and shapes."""

    def make(folder: Path) -> Path:
        photos = photo_folder(folder)
        doors.train_disk(photos)
        (shapes,) = (photos / ".cache").glob("*.shapes.npy")
        (pixels,) = (photos / ".cache").glob("*.uint8")
        change(shapes, pixels)
        return photos

    return make


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)


_CACHES: dict[str, Callable[[Path, Path], object]] = {
    "as it was": lambda shapes, pixels: None,
    "with pixels cut off": lambda shapes, pixels: os.truncate(pixels, 7),
    "without pixels": lambda shapes, pixels: os.truncate(pixels, 0),
    "with shapes cut off": lambda shapes, pixels: os.truncate(shapes, 100),
    "with shapes that are text": lambda shapes, pixels: shapes.write_text("text"),
    "with shapes that run something": lambda shapes, pixels: np.save(
        shapes, np.array([_Evil()], dtype=object), allow_pickle=True
    ),
    "with shapes of other numbers": lambda shapes, pixels: np.save(shapes, np.full((2, 2), 2**62)),
    "with shapes below zero": lambda shapes, pixels: np.save(shapes, np.array([[-16, -16], [16, 16]])),
    "with too few shapes": lambda shapes, pixels: np.save(shapes, np.full((1, 2), 16)),
    "with shapes of floats": lambda shapes, pixels: np.save(shapes, np.full((2, 2), 16.0)),
    "with shapes that claim terabytes": lambda shapes, pixels: shapes.write_bytes(
        shapes.read_bytes().replace(b"(2, 2)", b"(2000000000000, 2)")[:128]
    ),
    "without shapes": lambda shapes, pixels: shapes.unlink(),
}


def _arguments(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "arguments").write_text(text, encoding="utf-8", errors="surrogateescape")
        return folder / "arguments"

    return make


_LINES: dict[str, tuple[str, str]] = {
    "without an equals sign": ("count", "look like key=value"),
    "of 100,000 characters": ("x" * 100_000, "look like key=value"),
    "with a key of 100,000 characters": ("x" * 100_000 + "=1", "unknown key"),
    "with control characters": ("\x1b[2J\t=1", "unknown key"),
    "with bytes that are no text": ("\udcff=1", "unknown key"),
    "with a number of 10,000 digits": ("count=" + "9" * 10_000, "count needs a whole number"),
    "with a number that is none": ("count=1e9", "count needs a whole number"),
    "with neither true nor false": ("swap=maybe", "swap needs true or false"),
    "of nothing": ("", "look like key=value"),
}


def _replaces_link(path: Path) -> list[str]:
    """A link in the output is replaced, and not followed."""
    (path.parent / "painted" / "1.png").unlink()
    (path.parent / "painted" / "1.png").symlink_to(path.parent / "elsewhere.png")
    lines = doors.predict_into(path, path.parent / "painted")
    assert not (path.parent / "elsewhere.png").exists()
    return lines


OUTPUT, CACHE = "predict.py output=", "data.cache=disk"
CASES = [
    Case("of clashing names", OUTPUT, clashing, doors.predict, "refused", "would both become"),
    Case(
        "with a folder in its place", OUTPUT, blocked_output(inner_folder), doors.predict, "skipped", "can't be written"
    ),
    Case("with a pipe in its place", OUTPUT, blocked_output(pipe), doors.predict, "read"),
    Case(
        "with a link out of it in its place",
        OUTPUT,
        blocked_output(link_to("/nowhere/x.png")),
        _replaces_link,
        "read",
    ),
    Case("with a link to the input in its place", OUTPUT, linked_output, doors.predict, "refused", "would overwrite"),
    Case("that is its input's folder", OUTPUT, photo_folder, into("photos"), "refused", "would overwrite"),
    Case("that is its input's archive", OUTPUT, zip_beside, into("x.zip"), "refused", "would overwrite"),
    Case("that is a file", OUTPUT, photo_folder, into("photos/1.png"), "refused", "is a file"),
    Case("of 10,000 characters", OUTPUT, photo_folder, into("n" * 10_000), "refused", "too long"),
    Case("that is a zip, of odd names", OUTPUT, odd_names, into("x.zip"), "read"),
    Case("below a file", OUTPUT, photo_folder, into("photos/1.png/y"), "skipped", "can't be written"),
    *(Case(name, CACHE, _cache(change), doors.train_disk, "read") for name, change in _CACHES.items()),
    Case(
        "with a folder in place of pixels",
        CACHE,
        _cache(lambda shapes, pixels: (pixels.unlink(), pixels.mkdir())),
        doors.train_disk,
        "refused",
        "can't be written",
    ),
    *(Case(name, "an output's mark", alone(thing), doors.mark, "read") for name, (thing, _) in THINGS.items()),
    *(
        Case(name, "key=value", _arguments(line), doors.command_line, "refused", says)
        for name, (line, says) in _LINES.items()
    ),
    Case(
        "of all kinds",
        "key=value",
        _arguments("output=a=b\ncount=-7\nshare=nan\nswap=TRUE\noutput=\udcff"),
        doors.command_line,
        "read",
    ),
]
