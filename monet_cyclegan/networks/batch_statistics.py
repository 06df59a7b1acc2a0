"""A discriminator that normalises what it sees of an image by the statistics of others of the same kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from monet_cyclegan.networks.init import init_weights
from monet_cyclegan.networks.layers import check_at_least_one, check_size, make_norm
from monet_cyclegan.networks.patchgan import add_spectral_norm, strided_layers

if TYPE_CHECKING:
    from torch import Tensor

    from monet_cyclegan.feature_memory import Remembered

_EPS = 1e-5  # the floor of the variance, that of torch's batch norm
_MOST_REMEMBERED = 1024


class BatchStatisticsGAN(nn.Module):
    """A PatchGAN whose last layer is a head behind batch norm (the batch head of UVCGANv2, arXiv:2303.16280).

    Batch norm shows the head how an image differs from others of its kind, so it can tell when all fakes look alike.
    A batch of one image has no others, so statistics of earlier images are joined with its own. Of these, mean and
    variance of each feature are all that is needed, so nothing else is remembered, and the size of crops may change.

    Real and fake images must not be judged by each other's statistics, which would give the answer away: in one pass
    they are two groups. What all images of a kind share is not seen, just as instance norm hides what is the same in
    all of an image. That is why no instance norm stands right before the head: it would leave nothing to compare.

    A logit sees the norm's statistics and a patch of 18, 38, 78 or 158 pixels for one to four layers.

    Args:
        num_layers: convolutions of stride 2, at least 1; one of stride 1 and the head follow.
        base_channels: channels of the first layer; each further one has twice as many,
        max_channels: but never more than these.
        head_channels: channels between the two convolutions of the head.
        norm: "instance" or "none", after the convolutions of stride 2 but the first.
        spectral_norm: whether every convolution is spectrally normalised; the batch norm isn't.
        in_channels: channels of the images.
        num_heads: outputs, which share all but the last layer; see `monet_cyclegan.losses.TwoObjectives`.
        memory_size: earlier images of a kind whose statistics are joined, 0 to 1024; 0 for those of the batch alone.

    Attributes:
        min_size: the least height and width of images, in pixels.
        num_features: channels that the statistics are of.
        memory_size: as given; whoever trains this keeps that many, see `monet_cyclegan.feature_memory`.

    Raises:
        ValueError: for an unknown norm, fewer than one layer or head, or a memory out of range.
    """

    def __init__(
        self,
        num_layers: int = 3,
        base_channels: int = 64,
        max_channels: int = 512,
        head_channels: int = 128,
        norm: str = "instance",
        spectral_norm: bool = False,
        in_channels: int = 3,
        num_heads: int = 1,
        memory_size: int = 4,
    ) -> None:
        super().__init__()
        check_at_least_one(num_layers=num_layers, num_heads=num_heads)
        if not 0 <= memory_size <= _MOST_REMEMBERED:
            raise ValueError(f"memory_size must be from 0 to {_MOST_REMEMBERED}, got {memory_size}")
        make_norm(norm, base_channels)  # refuses an unknown one, which a single layer wouldn't use
        self.memory_size = memory_size
        # Features of 2x2 positions: of a single one there would be no variance.
        self.min_size = 3 * 2**num_layers
        layers, channels = strided_layers(num_layers, base_channels, max_channels, norm, "none", in_channels)
        self.num_features = channels
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Conv2d(channels, head_channels, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(head_channels, num_heads, 3, padding=1),
        )
        init_weights(self)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor, remembered: Remembered | None = None, groups: int = 1) -> list[Tensor]:
        """Judge images: (N, 3, H, W) in [-1, 1] -> patch logits (N, 1, h, w) for each head; see `judge`."""
        return self.judge(images, remembered, groups)[0]

    def judge(
        self, images: Tensor, remembered: Remembered | None = None, groups: int = 1
    ) -> tuple[list[Tensor], Tensor]:
        """The same, and what may be remembered of the images: moments (N, 2, C), detached.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            remembered: statistics of earlier images, for all groups or for each.
            groups: equal parts of the batch, each judged by its own statistics: 1 for real or for fake images, 2 for
                real ones and then as many fake ones, N if no image's logits may depend on another's pixels, as
                penalties on the gradient of each image need it.

        Raises:
            ValueError: for images smaller than ``min_size``.
        """
        check_size(images, minimum=self.min_size)
        features = self.body(images)  # (N, C, h, w)
        own = moments(features)
        mean, variance = joined_moments(own, remembered, groups)  # (groups, C)
        scale = (variance + _EPS).rsqrt()
        centred = features.unflatten(0, (groups, -1)) - mean[:, None, :, None, None]  # (groups, N / groups, C, h, w)
        normalised = (centred * scale[:, None, :, None, None]).flatten(0, 1)
        logits = self.head(normalised.to(features.dtype))  # (N, num_heads, h, w)
        return list(logits.split(1, dim=1)), own.detach()


def moments(features: Tensor) -> Tensor:
    """Mean and variance (divided by their number) over the positions: (N, C, h, w) -> (N, 2, C), at least float32."""
    precise = features.to(torch.promote_types(features.dtype, torch.float32))
    variance, mean = torch.var_mean(precise, dim=(2, 3), correction=0)
    return torch.stack([mean, variance], dim=1)


def joined_moments(own: Tensor, remembered: Remembered | None, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (groups, C) over the images of each group, remembered ones among them, and their positions.

    All images count alike.

    Args:
        own: moments (N, 2, C) of the images.
        remembered: those of earlier ones, for all groups or for each.
        groups: parts of the batch.
    """
    parts = own.unflatten(0, (groups, -1))  # (groups, images, 2, C)
    weight = parts.new_ones(parts.shape[:2])
    if remembered is not None:
        earlier = remembered.moments.to(own.dtype)
        parts = torch.cat([parts, earlier.expand(groups, *earlier.shape[-3:])], dim=1)
        weight = torch.cat([weight, remembered.weight.to(own.dtype).expand(groups, -1)], dim=1)
    share = (weight / weight.sum(dim=1, keepdim=True))[:, :, None]  # of each image
    means, variances = parts.unbind(dim=2)
    mean = (share * means).sum(dim=1)
    # Within the images and between them: no difference of large numbers, as the mean of squares would need.
    variance = (share * (variances + (means - mean[:, None]).square())).sum(dim=1)
    return mean, variance
