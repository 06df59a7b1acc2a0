"""A discriminator that normalises what it sees of an image by the statistics of others of the same kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from monet_cyclegan.networks.init import init_weights
from monet_cyclegan.networks.layers import check_size, make_norm
from monet_cyclegan.networks.patchgan import add_spectral_norm, check_counts, strided_layers

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

    Real and fake images must not be judged in one pass, nor by each other's statistics: these would give the answer
    away. What all images of a kind share is not seen, as instance norm doesn't see what is the same in all of an image;
    hence the last layer before the head has no instance norm, which would leave nothing to compare.

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
        check_counts(num_layers, num_heads)
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

    def forward(self, images: Tensor, remembered: Remembered | None = None, *, together: bool = True) -> list[Tensor]:
        """Judge images of one kind: (N, 3, H, W) in [-1, 1] -> patch logits (N, 1, h, w) for each head; see `judge`."""
        return self.judge(images, remembered, together=together)[0]

    def judge(
        self, images: Tensor, remembered: Remembered | None = None, *, together: bool = True
    ) -> tuple[list[Tensor], Tensor]:
        """The same, and what may be remembered of the images: moments (N, 2, C), detached.

        Args:
            images: (N, 3, H, W) in [-1, 1], all real or all fake.
            remembered: statistics of earlier images of their kind.
            together: whether the images of the batch are joined. If not, each one's logits depend on no other one's
                pixels, as penalties on the gradient of each image need it.

        Raises:
            ValueError: for images smaller than ``min_size``.
        """
        check_size(images, minimum=self.min_size)
        features = self.body(images)  # (N, C, h, w)
        own = moments(features)
        mean, variance = joined_moments(own, remembered, together=together)
        scale = (variance + _EPS).rsqrt()
        normalised = (features - mean[:, :, None, None]) * scale[:, :, None, None]
        logits = self.head(normalised.to(features.dtype))  # (N, num_heads, h, w)
        return list(logits.split(1, dim=1)), own.detach()


def moments(features: Tensor) -> Tensor:
    """Mean and variance (divided by their number) over the positions: (N, C, h, w) -> (N, 2, C), at least float32."""
    precise = features.to(torch.promote_types(features.dtype, torch.float32))
    variance, mean = torch.var_mean(precise, dim=(2, 3), correction=0)
    return torch.stack([mean, variance], dim=1)


def joined_moments(own: Tensor, remembered: Remembered | None, *, together: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance over images and positions, of images that count alike: those of all, and remembered ones.

    Args:
        own: moments (N, 2, C) of the images.
        remembered: those of earlier ones.
        together: whether the N images are joined with each other, or each with the remembered ones alone.

    Returns:
        Mean and variance, (1, C) if together, else (N, C).
    """
    groups = own[None] if together else own[:, None]  # (1, N, 2, C) or (N, 1, 2, C)
    weight = own.new_ones(groups.shape[1])
    if remembered is not None:
        earlier = remembered.moments.to(own.dtype)
        groups = torch.cat([groups, earlier.expand(len(groups), *earlier.shape)], dim=1)
        weight = torch.cat([weight, remembered.weight.to(own.dtype)])
    share = (weight / weight.sum())[:, None]  # of each image
    means, variances = groups.unbind(dim=2)
    mean = (share * means).sum(dim=1)
    # Within the images and between them: no difference of large numbers, as the mean of squares would need.
    variance = (share * (variances + (means - mean[:, None]).square())).sum(dim=1)
    return mean, variance
