"""Decode-once caches: all images of a source as one flat uint8 buffer, in memory or in a memory-mapped file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.console import Console
from rich.progress import track

from monet_cyclegan.data.sources import DerivedSource, Source
from monet_cyclegan.data.transforms import shrink
from monet_cyclegan.errors import UserError
from monet_cyclegan.pictures import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Iterator

CacheMode = Literal["device", "ram", "disk", "none"]

_FORMAT = 1  # raised when the layout of the files or the way of shrinking changes
_KEPT = 4  # a data set has two domains, each with training and held-out images

_in_memory: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # the last used, for the next run of a sweep


def cached(source: Source, mode: CacheMode, short_side: int, folder: Path | str) -> Source:
    """Give ``source`` with every image shrunk to ``short_side`` and, unless ``mode`` is "none", decoded only once.

    "ram" decodes everything now, once for all runs of a process, "disk" once for all runs under ``folder``. The pixels
    are the same in all modes; of "device", from which `monet_cyclegan.data.device_cache` goes on, too.

    Raises:
        UserError: an unknown mode, an image that can't be read, or a cache that can't be written.
    """
    if mode == "none":
        return ShrunkSource(source, short_side)
    if mode in ("ram", "device"):
        return CachedSource(source, *_from_memory(source, short_side))
    if mode == "disk":
        return CachedSource(source, *_from_disk(source, short_side, Path(folder)))
    raise UserError(f"data.cache={mode} is not a cache; choose device, ram, disk or none")


class ShrunkSource(DerivedSource):
    """A source whose images are shrunk to a short side as they are loaded."""

    def __init__(self, source: Source, short_side: int):
        super().__init__(source)
        self.short_side = short_side

    def load(self, index: int) -> np.ndarray:
        """Load and shrink one image (H, W, 3) uint8."""
        return shrink(self.source.load(index), self.short_side)

    def fingerprint(self) -> str:
        """Fingerprint of the source underneath, with the size."""
        return f"{super().fingerprint()}-{self.short_side}"


class CachedSource(DerivedSource):
    """A source whose pixels lie decoded in one flat buffer."""

    def __init__(self, source: Source, pixels: np.ndarray, shapes: np.ndarray):
        super().__init__(source)
        self.pixels = pixels  # (sum of H * W * 3,) uint8
        self.pixels.flags.writeable = False  # a transform that works in place must not change later epochs
        self.shapes = shapes  # (N, 2) int64: heights and widths
        self.offsets = np.concatenate([[0], np.cumsum(shapes.prod(axis=1) * 3)])

    def load(self, index: int) -> np.ndarray:
        """View one image (H, W, 3) uint8 in the buffer."""
        start, end = self.offsets[index], self.offsets[index + 1]
        return self.pixels[start:end].reshape(*self.shapes[index], 3)

    def __getstate__(self) -> dict[str, Any]:
        # Workers that are spawned map the file again; pickling a mapped array would copy all of it to each.
        mapped = isinstance(self.pixels, np.memmap)
        return {**self.__dict__, "pixels": self.pixels.filename if mapped else self.pixels}  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any]) -> None:
        pixels = state["pixels"]
        self.__dict__.update(state, pixels=pixels if isinstance(pixels, np.ndarray) else _map(pixels))


def _decoded(source: Source, short_side: int) -> Iterator[np.ndarray]:
    """Decode every image in order, several at a time, behind a progress bar."""
    title = f"decoding {source.location}"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = pool.map(lambda index: shrink(source.load(index), short_side), range(len(source)))
        yield from track(images, title, len(source), transient=True, disable=not Console().is_terminal)


def _from_memory(source: Source, short_side: int) -> tuple[np.ndarray, np.ndarray]:
    key = f"{source.fingerprint()}-{short_side}"
    found = _in_memory.pop(key, None)
    while len(_in_memory) >= _KEPT:  # before others are decoded, so that not more than these are held
        del _in_memory[next(iter(_in_memory))]
    _in_memory[key] = found or _decode_all(source, short_side)
    return _in_memory[key]


def _decode_all(source: Source, short_side: int) -> tuple[np.ndarray, np.ndarray]:
    images = list(_decoded(source, short_side))
    shapes = np.array([image.shape[:2] for image in images], dtype=np.int64)
    pixels = np.empty(int(shapes.prod(axis=1).sum()) * 3, dtype=np.uint8)
    start = 0
    images.reverse()  # popped one by one, so that the images and their copy aren't both held whole
    while images:
        image = images.pop()
        pixels[start : start + image.size] = image.ravel()
        start += image.size
    return pixels, shapes


def _from_disk(source: Source, short_side: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    key = f"{source.fingerprint()}-{short_side}-v{_FORMAT}"
    pixels_file, shapes_file = folder / f"{key}.uint8", folder / f"{key}.shapes.npy"
    shapes = _read_shapes(shapes_file, pixels_file, len(source))
    if shapes is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shapes = _write_disk(source, short_side, pixels_file, shapes_file)
        except OSError as error:
            raise UserError(f"data.cache_dir={folder}: can't be written ({error})") from error
    return _map(pixels_file), shapes


def _read_shapes(shapes_file: Path, pixels_file: Path, count: int) -> np.ndarray | None:
    """The shapes (N, 2) of a cache that is whole: they are written last, and tell how many pixels there are."""
    if not (shapes_file.is_file() and pixels_file.is_file()):
        return None
    try:
        shapes = np.array(np.load(shapes_file, mmap_mode="r"))  # mapped, it has no more bytes than its file
    except (OSError, ValueError, EOFError):
        return None
    if shapes.dtype != np.int64 or shapes.shape != (count, 2) or not ((shapes > 0) & (shapes <= MAX_PIXELS)).all():
        return None
    return shapes if pixels_file.stat().st_size == int(shapes.prod(axis=1).sum()) * 3 else None


def _map(pixels_file: Path) -> np.ndarray:
    return np.memmap(pixels_file, dtype=np.uint8, mode="r")


def _write_disk(source: Source, short_side: int, pixels_file: Path, shapes_file: Path) -> np.ndarray:
    sizes = []
    unfinished = pixels_file.with_suffix(f".{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            for image in _decoded(source, short_side):
                file.write(np.ascontiguousarray(image).tobytes())
                sizes.append(image.shape[:2])
        unfinished.replace(pixels_file)
    finally:
        unfinished.unlink(missing_ok=True)
    temporary = shapes_file.with_suffix(f".{os.getpid()}.npy")
    shapes = np.array(sizes, dtype=np.int64)
    np.save(temporary, shapes)
    temporary.replace(shapes_file)
    return shapes
