"""From the bytes that somebody sends to a translation, within limits; the last ones are kept for other looks."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.translator import Translator, ran_out_of_memory
from monet_cyclegan.pictures import (
    HEIC_SUFFIXES,
    READABLE_SUFFIXES,
    Picture,
    decode_picture,
    read_size,
    write_picture,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from torch import nn

    from monet_cyclegan.inference.controls import Look


class Painted(NamedTuple):
    """What the network made of a picture.

    Attributes:
        picture: the upload, decoded.
        pixels: what came out of the network, (H, W, 3) uint8 at the working size.
        seconds: that it took.
    """

    picture: Picture
    pixels: np.ndarray
    seconds: float

    def finished(self, look: Look) -> Picture:
        """The translation in the upload's own size, with all that belonged to it."""
        return self.picture._replace(pixels=look.finished(self.picture.pixels, self.pixels))

    @property
    def nbytes(self) -> int:
        """Memory that this takes."""
        alpha = 0 if self.picture.alpha is None else self.picture.alpha.nbytes
        return self.picture.pixels.nbytes + self.pixels.nbytes + alpha


class Recent:
    """The last translations, so many bytes of them and each for so long.

    Args:
        limit_bytes: of all together; a larger one isn't kept at all.
        seconds: since it was last asked for.
        clock: tells the time in seconds.
    """

    def __init__(self, limit_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_bytes = limit_bytes
        self.seconds = seconds
        self.clock = clock
        self._kept: OrderedDict[tuple[str, ...], tuple[float, Painted]] = OrderedDict()  # the oldest first
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...]) -> Painted | None:
        """What was kept under a key, which is then the youngest."""
        self.forget()
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept[key] = (self.clock(), found[1])
            self._kept.move_to_end(key)
            return found[1]

    def put(self, key: tuple[str, ...], painted: Painted) -> None:
        """Keep one, and let go of the oldest that there is no room for."""
        if painted.nbytes > self.limit_bytes:
            return
        with self._lock:
            self._kept[key] = (self.clock(), painted)
            self._kept.move_to_end(key)
            while sum(kept.nbytes for _, kept in self._kept.values()) > self.limit_bytes:
                self._kept.popitem(last=False)

    def forget(self) -> None:
        """Let go of what was kept for too long."""
        with self._lock:
            oldest = self.clock() - self.seconds
            for key in [key for key, (asked, _) in self._kept.items() if asked < oldest]:
                del self._kept[key]

    def __len__(self) -> int:
        return len(self._kept)


class Painter:
    """Translates uploads, one at a time.

    Args:
        build: makes the generator of a direction, which is asked for when it is first used.
        device: where it runs.
        precision: see `Translator`.
        tile: see `Translator`.
        max_megapixels: of an upload; its header tells before anything is decoded.
        recent: where translations are kept.
        stopping: when set, ends what is under way as soon as that can be.
    """

    def __init__(
        self,
        build: Callable[[str], nn.Module],
        device: torch.device,
        precision: str,
        tile: str,
        max_megapixels: int,
        recent: Recent,
        stopping: threading.Event,
    ) -> None:
        self.build = build
        self.device = device
        self.precision = precision
        self.tile = tile
        self.max_megapixels = max_megapixels
        self.recent = recent
        self.stopping = stopping
        self._translators: dict[str, Translator] = {}
        self._one_at_a_time = threading.Lock()

    def paint(
        self, data: bytes, name: str, direction: str, look: Look, progress: Callable[[float], None] = lambda part: None
    ) -> Painted:
        """Run the network on a file, unless that was done lately.

        Args:
            data: the file.
            name: what errors call it.
            direction: one of the model's.
            look: of which the working size matters here.
            progress: is told which part of a large picture is done, from 0 to 1.

        Raises:
            UserError: "name: why" for what can't be translated.
        """
        key = (hashlib.blake2b(data).hexdigest(), direction, str(look.working_size))
        kept = self.recent.get(key)
        if kept is not None:
            return kept
        with self._one_at_a_time:
            kept = self.recent.get(key)  # the same may have waited in front
            if kept is None:
                kept = self._painted(data, name, direction, look, progress)
                self.recent.put(key, kept)
        return kept

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self._one_at_a_time.locked()

    def _painted(
        self, data: bytes, name: str, direction: str, look: Look, progress: Callable[[float], None]
    ) -> Painted:
        check_size(data, name, self.max_megapixels)
        picture = decode_picture(data, name)
        if direction not in self._translators:
            self._translators[direction] = Translator(self.build(direction), self.device, self.precision, self.tile)
        translator = self._translators[direction]
        translator.progress = lambda part: self._go_on(part, progress)
        started = time.monotonic()
        try:
            pixels = translator(look.shown(picture.pixels))
        except UserError as problem:
            raise UserError(f"{name}: {problem}") from problem
        except RuntimeError as problem:
            if not ran_out_of_memory(problem):
                raise
            height, width = picture.pixels.shape[:2]
            line = f"{name}: {width}x{height} pixels don't fit in memory, choose a smaller working size"
            raise UserError(line) from problem
        return Painted(picture, pixels, time.monotonic() - started)

    def _go_on(self, part: float, progress: Callable[[float], None]) -> None:
        if self.stopping.is_set():
            raise UserError("the page is being closed")
        progress(part)


def check_size(data: bytes, name: str, max_megapixels: int) -> tuple[int, int]:
    """The width and height that a file's header states.

    Raises:
        UserError: no picture, or one with too many pixels.
    """
    if Path(name).suffix.lower() in HEIC_SUFFIXES:
        raise UserError(f"{name}: HEIC isn't opened here, save it as JPEG or PNG")
    width, height = read_size(data, name)
    if width * height > max_megapixels * 10**6:
        raise UserError(
            f"{name}: {width}x{height} are {width * height / 1e6:,.0f} megapixels, at most {max_megapixels}"
        )
    return width, height


def translated_name(name: str, direction: str) -> str:
    """What a translation is called: holiday.jpg becomes holiday_monet.jpg, and a GIF a PNG."""
    path = Path(name)
    suffix = path.suffix.lower()
    kept = path.suffix if suffix in READABLE_SUFFIXES and suffix != ".gif" else ".png"
    return f"{path.stem}_{direction.rpartition('_to_')[2]}{kept}"


def write_translation(path: Path, painted: Painted, look: Look) -> tuple[Picture, tuple[str, ...]]:
    """Write the full size as predict.py does; returns it, and what was lost on the way."""
    finished = painted.finished(look)
    return finished, (*finished.notes, *write_picture(path, finished))
