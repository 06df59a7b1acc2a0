"""Subsets of a source, and the split into training and validation images."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from monet_cyclegan.data.sources import DerivedSource, Source
from monet_cyclegan.errors import UserError
from monet_cyclegan.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Sequence


class Joined(Source):
    """The images of one source and then those of another."""

    def __init__(self, first: Source, second: Source):
        self.parts = (first, second)
        self.location = first.location

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def name(self, index: int) -> str:
        """Name of the image, with its part's number in front: a data set's own test images may be named alike."""
        part, place = self._find(index)
        return f"{part}/{self.parts[part].name(place)}"

    def load(self, index: int) -> np.ndarray:
        """Load one image (H, W, 3) uint8."""
        part, place = self._find(index)
        return self.parts[part].load(place)

    def fingerprint(self) -> str:
        """Fingerprints of both."""
        return "-".join(part.fingerprint() for part in self.parts)

    def _find(self, index: int) -> tuple[int, int]:
        first = len(self.parts[0])
        return (0, index) if index < first else (1, index - first)


class Subset(DerivedSource):
    """Some images of a source, in the order given."""

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray):
        super().__init__(source)
        self.indices = np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """Name of the image in the source underneath."""
        return self.source.name(int(self.indices[index]))

    def load(self, index: int) -> np.ndarray:
        """Load one image (H, W, 3) uint8."""
        return self.source.load(int(self.indices[index]))

    def fingerprint(self) -> str:
        """Fingerprint of the source underneath, with the indices."""
        return f"{super().fingerprint()}-{hashlib.sha256(self.indices.tobytes()).hexdigest()[:16]}"


def limited(source: Source, limit: int | None, seed: int) -> Source:
    """At most ``limit`` images of a source, a fixed random choice; None takes all.

    Raises:
        UserError: a limit below 1.
    """
    if limit is None or limit >= len(source):
        return source
    if limit < 1:
        raise UserError(f"data.limit={limit} leaves no image; give a number of images from 1, or null for all")
    return Subset(source, np.sort(generator(seed).permutation(len(source))[:limit]))


def split(source: Source, validation: int | float, seed: int, key: str) -> tuple[Source, Source]:
    """Split a source into training and validation images, the same for the same ``seed``.

    ``validation`` counts images, or is their share where it lies below 1; at least one image is held out.

    Raises:
        UserError: nothing would be left for training; ``key`` names the setting to change.
    """
    total = len(source)
    held_out = max(1, round(total * validation)) if validation < 1 else int(validation)
    if validation <= 0 or held_out >= total:
        if total < 2:
            raise UserError(f"{source.location} holds {total} image: give two or more, of which {key} holds one out")
        raise UserError(
            f"{key}={validation} can't be held out of the {total} images in {source.location}: "
            f"give a number of images from 1 to {total - 1}, or a share such as 0.1"
        )
    order = generator(seed).permutation(total)
    return Subset(source, np.sort(order[held_out:])), Subset(source, np.sort(order[:held_out]))
