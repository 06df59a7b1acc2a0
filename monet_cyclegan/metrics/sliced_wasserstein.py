"""Sliced Wasserstein distance between the patches of two sets of images (Karras et al. 2018, arXiv:1710.10196, §5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from monet_cyclegan.errors import UserError
from monet_cyclegan.randomness import generator

if TYPE_CHECKING:
    from torch import Tensor

PATCH = 7
SMALLEST_LEVEL = 16
DIRECTIONS_AT_ONCE = 128
FLAT = 1e-2  # grey levels: below this standard deviation a channel has no contrast to be measured in


class SlicedWassersteinDistance(Metric):
    """How far the patches of fake images lie from those of real ones, at each scale of a Laplacian pyramid, times 1000.

    It needs no pretrained network: fine scales tell of brush strokes, coarse ones of composition and colour. The paper
    normalises each set's channels by that set's own mean and deviation, which hides a shift of colours. Here both are
    normalised by the real set's, so that colours count, and values can't be compared with the paper's.

    Args:
        patches_per_image: patches of 7x7 pixels drawn from each level of each image.
        num_directions: random projections over which the one-dimensional distances are averaged.
        max_images: images of each set that are looked at in each process, the first ones; an image of 256x256 pixels
            takes 0.4 MB.
        seed: fixes patches and directions, which depend on nothing else: not on batches, nor on torch's generators.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(
        self,
        patches_per_image: int = 128,
        num_directions: int = 512,
        max_images: int = 1000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.patches_per_image = patches_per_image
        self.num_directions = num_directions
        self.max_images = max_images
        self.seed = seed
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("fake", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, real: bool) -> None:
        """Take the patches of (N, 3, H, W) uint8 images, at least 16 pixels wide and high."""
        if images.dtype != torch.uint8 or min(images.shape[-2:]) < SMALLEST_LEVEL:
            shape = tuple(images.shape)
            raise ValueError(f"needs uint8 images of {SMALLEST_LEVEL} pixels or more, not {images.dtype} of {shape}")
        held = self.real if real else self.fake
        seen = sum(len(patches) for patches in held)
        images = images[: max(0, self.max_images - seen)]
        if len(images):
            held.append(self._patches(images, first=seen))

    def compute(self) -> Tensor:
        """Average the distance over levels.

        Raises:
            UserError: if a set has no image.
        """
        # A list of batches, or one tensor after the processes' states were joined.
        sizes = [len(dim_zero_cat(held)) if len(held) else 0 for held in (self.real, self.fake)]
        if min(sizes) < 1:
            raise UserError(
                f"the sliced Wasserstein distance needs images of both sets, not {sizes[0]} real and {sizes[1]} fake"
            )
        real, fake = dim_zero_cat(self.real), dim_zero_cat(self.fake)
        if real.shape[1] != fake.shape[1]:
            raise UserError("the sliced Wasserstein distance needs real and fake images of the same size")
        return 1000 * distance_per_level(real, fake, self._directions(real)).mean()

    def _patches(self, images: Tensor, first: int) -> Tensor:
        pyramid = laplacian_pyramid(images.float())
        shape = (len(pyramid), 2, self.patches_per_image)
        draws = np.stack([generator(self.seed, first + index).random(shape) for index in range(len(images))])
        where = torch.from_numpy(draws)  # (N, L, 2, P) in [0, 1)
        return torch.stack([take_patches(level, where[:, i]) for i, level in enumerate(pyramid)], dim=1)

    def _directions(self, like: Tensor) -> Tensor:
        drawn = generator(self.seed).standard_normal((3 * PATCH**2, self.num_directions))
        return F.normalize(torch.from_numpy(drawn).float(), dim=0).to(like)  # (D, K)


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Split (N, C, H, W) into details, each level half the size of the one before, and a rest of 16 pixels or more."""
    levels: list[Tensor] = []
    while True:
        smaller = _blur(images)[..., ::2, ::2]
        if min(smaller.shape[-2:]) < SMALLEST_LEVEL:
            return [*levels, images]
        levels.append(images - _enlarge(smaller, images))
        images = smaller


def take_patches(images: Tensor, where: Tensor) -> Tensor:
    """Cut 7x7 patches out of (N, C, H, W) at places (N, 2, P) in [0, 1): (N, P, C, 7, 7)."""
    windows = images.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # (N, C, H - 6, W - 6, 7, 7)
    places = (where * where.new_tensor(windows.shape[2:4])[:, None]).long()
    rows, columns = places.to(images.device).unbind(1)  # (N, P) each
    image = torch.arange(len(images), device=images.device)[:, None]
    return windows[image, :, rows, columns]


def distance_per_level(real: Tensor, fake: Tensor, directions: Tensor) -> Tensor:
    """Compare patches (N, L, P, C, 7, 7) of real images with those of fake ones, in units of the real ones' deviation.

    Args:
        real: patches of the real images.
        fake: patches of as many levels, of any number of images.
        directions: (C * 49, K) unit vectors in columns.
    """
    distances = []
    for level in range(real.shape[1]):
        reals, fakes = real[:, level], fake[:, level]  # (N, P, C, 7, 7)
        deviation, mean = torch.std_mean(reals, dim=(0, 1, 3, 4), keepdim=True)
        scale = deviation.clamp(min=FLAT)
        real_points = ((reals - mean) / scale).flatten(2).flatten(0, 1)  # (N * P, C * 49)
        fake_points = ((fakes - mean) / scale).flatten(2).flatten(0, 1)
        distances.append(sliced_wasserstein(real_points, fake_points, directions))
    return torch.stack(distances)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """Average the Wasserstein-1 distance of point sets (N, D) and (M, D) over projections on directions (D, K)."""
    count = min(len(a), len(b))
    sums = [
        (_quantiles(a @ some, count) - _quantiles(b @ some, count)).abs().mean(0).sum()
        for some in directions.split(DIRECTIONS_AT_ONCE, dim=1)
    ]
    return torch.stack(sums).sum() / directions.shape[1]


def _quantiles(values: Tensor, count: int) -> Tensor:
    """Sort the columns of (N, K) and read them off at `count` <= N evenly spaced ranks, also between neighbours."""
    ordered = values.sort(dim=0).values
    if len(ordered) == count:
        return ordered
    # Ranks on the CPU, since MPS has no float64.
    ranks = (torch.arange(count, dtype=torch.float64) + 0.5) * len(ordered) / count - 0.5
    below = ranks.long()
    share = (ranks - below).float()[:, None].to(values)
    below = below.to(values.device)
    return ordered[below].lerp(ordered[(below + 1).clamp(max=len(ordered) - 1)], share)


def _blur(images: Tensor) -> Tensor:
    # Sums of shifted images rather than a convolution, which TF32 and autocast would round.
    for dim, padding in ((-1, (2, 2, 0, 0)), (-2, (0, 0, 2, 2))):
        size = images.shape[dim]
        padded = F.pad(images, padding, mode="reflect")
        shifted = [padded.narrow(dim, offset, size) for offset in range(5)]
        images = (shifted[0] + 4 * shifted[1] + 6 * shifted[2] + 4 * shifted[3] + shifted[4]) / 16
    return images


def _enlarge(images: Tensor, like: Tensor) -> Tensor:
    enlarged = torch.zeros_like(like)
    enlarged[..., ::2, ::2] = images
    return 4 * _blur(enlarged)
