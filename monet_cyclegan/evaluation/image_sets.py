"""The images that are to be scored: which can be read, and what they go through before a network sees them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from monet_cyclegan.data.files import open_files
from monet_cyclegan.data.pairs import to_tensor
from monet_cyclegan.data.sources import EncodedSource, Source, TFRecordSource, open_source
from monet_cyclegan.data.split import Subset
from monet_cyclegan.data.survey import printable
from monet_cyclegan.data.transforms import eval_transform
from monet_cyclegan.errors import UserError
from monet_cyclegan.metrics.jpeg import jpeg_round_trip
from monet_cyclegan.progress import track
from monet_cyclegan.randomness import generator
from monet_cyclegan.untrusted.picture_opening import open_picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

_JPEG = b"\xff\xd8\xff"
FEWEST = 2  # a covariance needs two


@dataclass(frozen=True)
class ImageSet:
    """The readable images of a place, in the order of their paths, which is torch-fidelity's, too."""

    key: str  # fake, real or source: the setting that named them
    source: Source
    whole: bool  # nothing was left out, by a limit or because it can't be read
    suffixes: frozenset[str]
    sizes: frozenset[tuple[int, ...]]  # (height, width)
    is_jpeg: tuple[bool, ...]  # whether the image's file is compressed as the competition's are, or otherwise, by JPEG
    is_plain: bool  # any reader sees the same pixels: no alpha, no rotation by EXIF, 8 bits
    skipped: tuple[str, ...]  # reasons, each with its file's name

    def __len__(self) -> int:
        return len(self.source)

    def paths(self) -> list[str]:
        """Where the images lie, in their order."""
        assert isinstance(self.source, Subset)
        return [_path(self.source.source, int(index)) for index in self.source.indices]


@dataclass(frozen=True)
class Preparation:
    """What happens to an image before it is scored.

    Args:
        size: side in pixels of the square that it is brought to (short side, centre); None leaves it as it is.
        jpeg: whether it is compressed: True, False, or "auto" for all but a JPEG file that keeps its size.
    """

    size: int | None
    jpeg: bool | str

    def __call__(self, image: np.ndarray, is_jpeg: bool) -> Tensor:
        """Prepare an image (H, W, 3) uint8: (3, S, S)."""
        if self.size is not None and image.shape[:2] != (self.size, self.size):
            image = eval_transform(self.size)(image, 0)
            is_jpeg = False  # any more
        prepared = to_tensor(image)
        compress = not is_jpeg if self.jpeg == "auto" else self.jpeg
        return jpeg_round_trip(prepared[None])[0] if compress else prepared

    def leaves_alone(self, images: ImageSet) -> bool:
        """Whether all images of a set are scored as they lie in their files."""
        compresses = self.jpeg is True or (self.jpeg == "auto" and not all(images.is_jpeg))
        return self.keeps_sizes(images) and not compresses

    def keeps_sizes(self, images: ImageSet) -> bool:
        """Whether no image of a set is resized."""
        return self.size is None or images.sizes <= {(self.size, self.size)}


def open_image_set(key: str, path: str, limit: int | None = None, seed: int = 0) -> ImageSet:
    """Find the images in a folder or .zip, all or a fixed choice of ``limit``, and read each once.

    Raises:
        UserError: no such place, or fewer than two images in it that can be read.
    """
    try:
        files = open_files(path)
        source = open_source(files)
    except UserError as error:
        raise UserError(f"{key}={path}: {error}") from error
    images = survey(key, source, limit, seed)
    others = len(files.names()) - len(source)
    if others > 0 and not isinstance(source, TFRecordSource):
        return replace(images, skipped=(f"{path}: files that are no images: {others}", *images.skipped))
    return images


def survey(key: str, source: Source, limit: int | None = None, seed: int = 0) -> ImageSet:
    """Read all images of a source once, in threads, and keep the readable ones, ordered by path.

    Raises:
        UserError: fewer than two are readable.
    """
    chosen = range(len(source)) if limit is None else generator(seed).permutation(len(source))[:limit].tolist()
    order = sorted(chosen, key=lambda index: _path(source, index))

    def look(index: int) -> _Look | str:
        try:
            image = source.load(index)
            encoded = source.read(index) if isinstance(source, EncodedSource) else b""
        except UserError as error:
            return printable(str(error))
        return _Look(image.shape[:2], encoded.startswith(_JPEG), _is_plain(encoded, image))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = [
            look
            for looked in track(_grouped(pool.map(look, order), 64), len(order), f"reading {key}")
            for look in looked
        ]
    good = [(index, look) for index, look in zip(order, looks, strict=True) if not isinstance(look, str)]
    if len(good) < FEWEST:
        raise UserError(
            f"{key}={source.location} holds {len(good)} readable image{'' if len(good) == 1 else 's'}: "
            f"scores need {FEWEST} or more"
        )
    indices = [index for index, _ in good]
    return ImageSet(
        key,
        Subset(source, indices),
        len(good) == len(source),
        frozenset(PurePosixPath(_path(source, index)).suffix.lower() for index in indices),
        frozenset(look.size for _, look in good),
        tuple(look.is_jpeg for _, look in good),
        all(look.is_plain for _, look in good),
        tuple(look for look in looks if isinstance(look, str)),
    )


def matching(images: ImageSet, others: ImageSet) -> ImageSet:
    """Those images of a set that are named like the ones of another, in the other's order.

    Raises:
        UserError: one of the other's names isn't there.
    """
    places = {images.source.name(index): index for index in range(len(images))}
    names = [others.source.name(index) for index in range(len(others))]
    missing = [name for name in names if name not in places]
    if missing:
        raise UserError(
            f"{images.key}={images.source.location} has no picture named {missing[0]}, which {others.key} has"
            + (f", nor {len(missing) - 1} more" if len(missing) > 1 else "")
        )
    indices = [places[name] for name in names]
    is_jpeg = tuple(images.is_jpeg[index] for index in indices)
    return replace(images, source=Subset(images.source, indices), is_jpeg=is_jpeg)


def prepared_batches(
    images: ImageSet, preparation: Preparation, batch_size: int, indices: Sequence[int] | None = None
) -> Iterator[Tensor]:
    """Read a set, or some of it, as uint8 batches (n, 3, H, W) in order; other sizes start other batches."""

    def prepare(index: int) -> Tensor:
        return preparation(images.source.load(index), images.is_jpeg[index])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        batch: list[Tensor] = []
        for group in _grouped(range(len(images)) if indices is None else indices, 4 * batch_size):  # waits in memory
            for image in pool.map(prepare, group):
                if batch and (len(batch) == batch_size or batch[0].shape != image.shape):
                    yield torch.stack(batch)
                    batch = []
                batch.append(image)
        if batch:
            yield torch.stack(batch)


class _Look(NamedTuple):
    size: tuple[int, ...]  # (height, width)
    is_jpeg: bool
    is_plain: bool


def _is_plain(encoded: bytes, image: np.ndarray) -> bool:
    """Whether Pillow alone, without the care that we take, decodes a file to the same image."""
    if not encoded:
        return False
    with open_picture(encoded, "") as (opened, _):
        return np.array_equal(np.asarray(opened.convert("RGB")), image)


def _path(source: Source, index: int) -> str:
    return source.where(index) if isinstance(source, EncodedSource) else source.name(index)


def _grouped(items: Iterable, count: int) -> Iterator[list]:
    iterator = iter(items)
    while group := list(islice(iterator, count)):
        yield group
