"""A data set in the memory of the device, cut and flipped there, so that a step never waits for a loader.

The loader hands out plans, four numbers an image; the pixels are looked up where they lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from monet_cyclegan.data.pairs import UnpairedDataset
from monet_cyclegan.data.transforms import enlarge
from monet_cyclegan.errors import UserError
from monet_cyclegan.randomness import derive_seed, generator

if TYPE_CHECKING:
    from torch import Tensor

    from monet_cyclegan.data.sources import Source


class Plan(NamedTuple):
    """Which square of which image is shown, and whether it is mirrored."""

    image: int
    top: int
    left: int
    flipped: int


class PlannedDataset(UnpairedDataset):
    """The same images and partners as `UnpairedDataset`, but items {"a": (4,), "b": (4,)} int64, a `Plan` each.

    Args:
        source_a: images of A, whose short sides may be below ``load_size``: they are shown enlarged.
        source_b: images of B, likewise.
        load_size: short side in pixels of what is cut from.
        crop_size: side in pixels of the squares.
        flip: probability of a mirror image.
        seed: see `UnpairedDataset`.
    """

    def __init__(self, source_a: Source, source_b: Source, load_size: int, crop_size: int, flip: float, seed: int):
        super().__init__(source_a, source_b, None, seed)
        self.images = tuple(_enlarged(source, load_size) for source in self.sources)
        self.crop_size, self.flip = crop_size, flip

    def _draw(self, domain: int, epoch: int, position: int) -> Tensor:
        index = self.index(domain, epoch, position)
        height, width = self.images[domain].shapes[index]
        draw = generator(derive_seed(self.seed, domain, epoch, position))
        top = draw.integers(height - self.crop_size, endpoint=True)
        left = draw.integers(width - self.crop_size, endpoint=True)
        return torch.tensor(Plan(index, int(top), int(left), int(draw.random() < self.flip)))


class FlatImages(NamedTuple):
    """Images of any shapes one after the other: pixels (sum of H * W * 3,) uint8, shapes (N, 2)."""

    pixels: np.ndarray
    shapes: np.ndarray


def _enlarged(source: Source, short_side: int) -> FlatImages:
    first = enlarge(source.load(0), short_side)
    images = FlatImages(np.empty(len(source) * first.size, np.uint8), np.empty((len(source), 2), np.int64))
    pixels, used = images.pixels, 0
    for index in range(len(source)):
        image = enlarge(source.load(index), short_side)
        if used + image.size > len(pixels):  # images of several shapes: grow as a list does
            pixels = np.concatenate([pixels, np.empty(max(len(pixels) // 2, image.size), np.uint8)])
        pixels[used : used + image.size] = image.ravel()
        images.shapes[index] = image.shape[:2]
        used += image.size
    return FlatImages(pixels[:used], images.shapes)


class DeviceImages:
    """A domain's images on a device.

    Raises:
        UserError: they don't fit in its memory.
    """

    def __init__(self, images: FlatImages, device: torch.device):
        size = images.shapes.prod(axis=1) * 3
        try:
            self.pixels = torch.from_numpy(images.pixels).to(device)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"data.cache=device needs {size.sum() / 1e9:.1f} GB for a domain, more than {device} has left: "
                "use data.cache=ram"
            ) from error
        self.starts = torch.from_numpy(np.cumsum(size) - size).to(device)
        self.widths = torch.from_numpy(images.shapes[:, 1].copy()).to(device)

    def cut(self, plans: Tensor, size: int) -> Tensor:
        """The squares that plans (N, 4) ask for: (N, 3, S, S) uint8."""
        image, top, left, flipped = plans.unbind(1)
        steps = torch.arange(size, device=plans.device)
        rows = top[:, None] + steps  # (N, S)
        columns = left[:, None] + torch.where(flipped[:, None] == 1, size - 1 - steps, steps)  # (N, S)
        pixel = rows[:, :, None] * self.widths[image][:, None, None] + columns[:, None, :]  # (N, S, S)
        first = self.starts[image][:, None, None] + 3 * pixel
        channels = torch.arange(3, device=plans.device)[:, None, None]
        return self.pixels[first[:, None] + channels]  # (N, 3, S, S)
