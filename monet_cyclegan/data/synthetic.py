"""A data set that the project draws itself: made-up landscapes as photos, and the same landscapes painted.

It needs no download, never ends, and, unlike any real collection, holds the true painting of every photo. As a program
it writes such pictures: `python -m monet_cyclegan.data.synthetic output=pictures count=6 size=128`.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.data.brush import paint
from monet_cyclegan.data.landscape import draw
from monet_cyclegan.data.scenes import imagine
from monet_cyclegan.data.sources import Domains, Source
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import write_image
from monet_cyclegan.randomness import derive_seed, generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monet_cyclegan.data.canvas import Canvas

RENDERER_VERSION = 1
"""Goes up with every change that changes pixels: it is part of the fingerprint."""

SIZES = (16, 1024)
_DOMAINS = {"photo": "a", "painting": "b"}
_DEFAULTS = {"output": "", "count": 6, "size": 128, "seed": 0, "domain": "photo"}


class Split(IntEnum):
    """What scenes are for; no scene is in two splits."""

    TRAIN_A = 0
    TRAIN_B = 1
    VAL = 2
    SHOW = 3  # the program's pictures


def render_photo(seed: int, size: int) -> np.ndarray:
    """The scene of a seed as a photo, (size, size, 3) uint8."""
    return _expose(draw(imagine(seed), seed, size), seed)


def render_painting(seed: int, size: int) -> np.ndarray:
    """The scene of a seed as a painting, (size, size, 3) uint8."""
    return _to_bytes(paint(draw(imagine(seed), seed, size), seed))


def render_pair(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo and its true painting, both (size, size, 3) uint8; a pure function of its arguments."""
    canvas = draw(imagine(seed), seed, size)
    return _expose(canvas, seed), _to_bytes(paint(canvas, seed))


@dataclass(frozen=True)
class SyntheticSource(Source):
    """`count` scenes of one split, as photos (domain "a") or paintings ("b"), drawn anew whenever one is loaded.

    Raises:
        UserError: for another domain, or a count, size or seed that is out of range.
    """

    domain: str
    count: int
    size: int
    seed: int
    split: Split

    def __post_init__(self) -> None:
        if self.domain not in ("a", "b"):
            raise UserError(f"domain must be 'a' (photos) or 'b' (paintings), not {self.domain!r}")
        if self.count < 1:
            raise UserError(f"count must be at least 1, not {self.count}")
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise UserError(f"size must be from {SIZES[0]} to {SIZES[1]} pixels, not {self.size}")
        if not 0 <= self.seed < 2**64:
            raise UserError(f"seed must be from 0 to 2^64 - 1, not {self.seed}")

    @property
    def location(self) -> str:  # type: ignore[override]
        """What is drawn, for messages."""
        return (
            f"synthetic {'photos' if self.domain == 'a' else 'paintings'} (seed {self.seed}, {self.split.name.lower()})"
        )

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        """Name a scene by its number."""
        return f"{'photo' if self.domain == 'a' else 'painting'}_{self._checked(index):03d}"

    def scene_seed(self, index: int) -> int:
        """The seed of a scene for `render_pair`."""
        return derive_seed(self.seed, int(self.split), self._checked(index))

    def load(self, index: int) -> np.ndarray:
        """Draw a scene, (size, size, 3) uint8."""
        render = render_photo if self.domain == "a" else render_painting
        return render(self.scene_seed(index), self.size)

    def fingerprint(self) -> str:
        """Hash all that the pixels depend on."""
        parts = (RENDERER_VERSION, self.domain, self.count, self.size, self.seed, int(self.split))
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return index


def synthetic_domains(count_a: int, count_b: int, size: int, seed: int, val_count: int) -> Domains:
    """Unpaired training scenes, and held-out ones where `val_b[i]` is the true painting of `val_a[i]`."""
    return Domains(
        train_a=SyntheticSource("a", count_a, size, seed, Split.TRAIN_A),
        train_b=SyntheticSource("b", count_b, size, seed, Split.TRAIN_B),
        val_a=SyntheticSource("a", val_count, size, seed, Split.VAL) if val_count else None,
        val_b=SyntheticSource("b", val_count, size, seed, Split.VAL) if val_count else None,
    )


def write_pictures(output: Path, count: int, size: int, seed: int, domain: str) -> None:
    """Write scenes that no training set holds, as PNG files; `domain` is photo, painting or both."""
    if domain not in (*_DOMAINS, "both"):
        raise UserError(f"domain must be one of {', '.join(_DOMAINS)}, both, not {domain!r}")
    chosen = _DOMAINS.values() if domain == "both" else [_DOMAINS[domain]]
    for source in [SyntheticSource(letter, count, size, seed, Split.SHOW) for letter in chosen]:
        for index in range(len(source)):
            write_image(output / f"{source.name(index)}.png", source.load(index))


@exit_with_one_line()
def main(argv: Sequence[str]) -> None:
    """Write pictures as the arguments say, and print where they are."""
    values = parse_key_values(argv, _DEFAULTS)
    if not values["output"]:
        raise UserError("output is missing: give the folder to write to as output=FOLDER")
    output = Path(values.pop("output")).expanduser()
    write_pictures(output, **values)
    print(output)


def _expose(canvas: Canvas, seed: int) -> np.ndarray:
    """Add what a camera adds: darker corners and the noise of its sensor."""
    off_axis = (canvas.x - 0.5) ** 2 + (canvas.y - 0.5) ** 2
    noise = generator(seed, 4).standard_normal((canvas.size, canvas.size, 1), np.float32)
    return _to_bytes(canvas.colour * (1 - 0.22 * off_axis)[..., None] + 0.008 * noise)


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


if __name__ == "__main__":
    main(sys.argv[1:])
