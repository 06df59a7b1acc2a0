"""What the images of each domain are like: sizes, modes, colours, duplicates, and files that can't be read."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from monet_cyclegan.errors import UserError
from monet_cyclegan.images import decode_image
from monet_cyclegan.pictures import READABLE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from monet_cyclegan.data.sources import EncodedSource

_FORMATS = sorted({Image.registered_extensions()[suffix] for suffix in READABLE_SUFFIXES})


class ImageFacts(NamedTuple):
    """What one encoded image says: `digest` is of its bytes, `histogram` (3, 256) counts the values of R, G and B."""

    file_bytes: int
    digest: bytes
    mode: str
    width: int
    height: int
    histogram: np.ndarray


@dataclass
class DomainFacts:
    """What the images of a domain have in common; indices are those of its source."""

    key: str  # A, B, A held out or B held out
    source: EncodedSource
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # images by (width, height)
    modes: Counter[str] = field(default_factory=Counter)
    file_bytes: list[int] = field(default_factory=list)
    histogram: np.ndarray = field(default_factory=lambda: np.zeros((3, 256), dtype=np.int64))
    digests: dict[int, bytes] = field(default_factory=dict)  # of the readable images
    unreadable: dict[int, str] = field(default_factory=dict)  # the reasons

    @property
    def title(self) -> str:
        """Key and folder."""
        return f"{self.key}: {printable(Path(self.source.location).name)}"

    @property
    def mean(self) -> np.ndarray:
        """Mean of each channel over all pixels, (3,) in [0, 255]."""
        return self._moment(1)

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of each channel over all pixels, (3,)."""
        return np.sqrt(np.maximum(self._moment(2) - self._moment(1) ** 2, 0))

    def _moment(self, order: int) -> np.ndarray:
        return self.histogram @ np.arange(256) ** order / np.maximum(self.histogram.sum(axis=1), 1)


class Copy(NamedTuple):
    """One of several byte-identical images."""

    domain: str
    name: str


def survey(key: str, source: EncodedSource, advance: Callable[[], object] = lambda: None) -> DomainFacts:
    """Read every image of a domain once, in threads; `advance` is called after each."""

    def examine_or_explain(index: int) -> ImageFacts | UserError:
        try:
            return examine(source.read(index), source.where(index))
        except UserError as error:
            return error

    facts = DomainFacts(key, source)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, found in enumerate(pool.map(examine_or_explain, range(len(source)))):
            if isinstance(found, UserError):
                facts.unreadable[index] = printable(str(found))
            else:
                facts.sizes[found.width, found.height] += 1
                facts.modes[found.mode] += 1
                facts.file_bytes.append(found.file_bytes)
                facts.histogram += found.histogram
                facts.digests[index] = found.digest
            advance()
    return facts


def examine(data: bytes, name: str) -> ImageFacts:
    """Take the facts of one encoded image; UserError if it can't be read."""
    image = decode_image(data, name)
    height, width, _ = image.shape
    with Image.open(io.BytesIO(data), formats=_FORMATS) as header:
        mode = header.mode  # of the file; decoded it is RGB, whatever it was
    histogram = np.array(Image.fromarray(image).histogram()).reshape(3, 256)
    return ImageFacts(len(data), hashlib.sha256(data).digest(), mode, width, height, histogram)


def find_duplicates(domains: Sequence[DomainFacts]) -> list[list[Copy]]:
    """Group byte-identical images, within and across domains."""
    groups: defaultdict[bytes, list[Copy]] = defaultdict(list)
    for facts in domains:
        for index, digest in facts.digests.items():
            groups[digest].append(Copy(facts.key, printable(facts.source.name(index))))
    return [group for group in groups.values() if len(group) > 1]


def count_duplicates(domain: str, groups: Sequence[Sequence[Copy]]) -> tuple[int, int]:
    """Count the images that a domain has twice, less one of each, and those that another domain has too."""
    within = across = 0
    for group in groups:
        own = sum(copy.domain == domain for copy in group)
        within += max(own - 1, 0)
        across += own if own < len(group) else 0
    return within, across


def printable(text: str) -> str:
    """Escape what neither a terminal nor a page can show; names come from strangers."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
