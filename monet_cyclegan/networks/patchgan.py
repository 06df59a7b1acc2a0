"""Discriminators that judge each patch of an image on its own: higher logits mean more real."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.utils import parametrizations

from monet_cyclegan.networks.init import init_weights
from monet_cyclegan.networks.layers import check_at_least_one, check_size, make_norm, needs_bias

if TYPE_CHECKING:
    from torch import Tensor


def add_spectral_norm(module: nn.Module) -> None:
    """Divide the weight of every convolution by its spectral norm (Miyato et al. 2018, arXiv:1802.05957)."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.Conv2d):
            parametrizations.spectral_norm(layer)


def strided_layers(
    num_layers: int, base_channels: int, max_channels: int, norm: str, last_norm: str, in_channels: int
) -> tuple[list[nn.Module], int]:
    """A PatchGAN's layers but its last convolution, and their channels: (N, in_channels, H, W) -> (N, channels, h, w).

    ``num_layers`` convolutions of stride 2 and one of stride 1, so h is H / 2**num_layers - 1. ``norm`` follows all but
    the first and the last, ``last_norm`` the last.
    """
    channels = [min(base_channels * 2**i, max_channels) for i in range(num_layers + 1)]
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, channels[0], 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
    ]
    for i in range(1, num_layers + 1):
        stride, kind = (2, norm) if i < num_layers else (1, last_norm)
        layers += [
            nn.Conv2d(channels[i - 1], channels[i], 4, stride=stride, padding=1, bias=needs_bias(kind)),
            make_norm(kind, channels[i]),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    return layers, channels[-1]


class PatchGAN(nn.Module):
    """The discriminator of pix2pix and CycleGAN (arXiv:1611.07004 §6.1.2, arXiv:1703.10593 §7.2).

    One to four layers see patches of 16, 34, 70 and 142 pixels; the papers' has three.

    Args:
        num_layers: convolutions of stride 2, at least 1; two of stride 1 follow.
        base_channels: channels of the first layer; each further one has twice as many,
        max_channels: but never more than these.
        norm: "instance" or "none", after all convolutions but the first and the last.
        spectral_norm: whether every convolution is spectrally normalised.
        in_channels: channels of the images.
        num_heads: outputs, which share all but the last layer; see `monet_cyclegan.losses.TwoObjectives`.

    Attributes:
        min_size: the least height and width of images, in pixels.

    Raises:
        ValueError: for an unknown norm, or fewer than one layer or head.
    """

    def __init__(
        self,
        num_layers: int = 3,
        base_channels: int = 64,
        max_channels: int = 512,
        norm: str = "instance",
        spectral_norm: bool = False,
        in_channels: int = 3,
        num_heads: int = 1,
    ) -> None:
        super().__init__()
        check_at_least_one(num_layers=num_layers, num_heads=num_heads)
        # Each layer of stride 2 halves, rounding down; each of the last two then takes off one pixel.
        self.min_size = 3 * 2**num_layers
        layers, channels = strided_layers(num_layers, base_channels, max_channels, norm, norm, in_channels)
        layers.append(nn.Conv2d(channels, num_heads, 4, padding=1))
        self.body = nn.Sequential(*layers)
        init_weights(self)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Judge images: (N, 3, H, W) in [-1, 1] -> a tensor of patch logits (N, 1, h, w) for each head.

        Raises:
            ValueError: for images smaller than ``min_size``.
        """
        check_size(images, minimum=self.min_size)
        return list(self.body(images).split(1, dim=1))


class PixelGAN(nn.Module):
    """The 1x1 PatchGAN, which judges each pixel's colour (pix2pix, arXiv:1611.07004 §6.1.2).

    Args:
        base_channels: channels of the first layer; the second has twice as many.
        norm: "instance" or "none", after the second convolution.
        spectral_norm: whether every convolution is spectrally normalised.
        in_channels: channels of the images.

    Raises:
        ValueError: for an unknown norm.
    """

    def __init__(
        self, base_channels: int = 64, norm: str = "instance", spectral_norm: bool = False, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, base_channels, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(base_channels, 2 * base_channels, 1, bias=needs_bias(norm)),
            make_norm(norm, 2 * base_channels),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * base_channels, 1, 1),
        )
        init_weights(self)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Judge images: (N, 3, H, W) in [-1, 1] -> one tensor of pixel logits (N, 1, H, W)."""
        return [self.body(images)]


class MultiScaleGAN(nn.Module):
    """PatchGANs with weights of their own on a pyramid of halved images (pix2pixHD, arXiv:1711.11585 §3.2).

    Args:
        num_scales: images in the pyramid, at least 1.
        num_layers: see `PatchGAN`, as for all that follow.
        base_channels: channels of the first layer.
        max_channels: the most channels of any layer.
        norm: "instance" or "none".
        spectral_norm: whether every convolution is spectrally normalised.
        in_channels: channels of the images.
        num_heads: outputs of each scale.

    Attributes:
        min_size: the least height and width of images, in pixels.

    Raises:
        ValueError: for an unknown norm, or fewer than one scale, layer or head.
    """

    def __init__(
        self,
        num_scales: int = 2,
        num_layers: int = 3,
        base_channels: int = 64,
        max_channels: int = 512,
        norm: str = "instance",
        spectral_norm: bool = False,
        in_channels: int = 3,
        num_heads: int = 1,
    ) -> None:
        super().__init__()
        check_at_least_one(num_scales=num_scales)
        scales = [
            PatchGAN(num_layers, base_channels, max_channels, norm, spectral_norm, in_channels, num_heads)
            for _ in range(num_scales)
        ]
        # Halving rounds up here, so one pixel more than half is enough.
        self.min_size = (scales[0].min_size - 1) * 2 ** (num_scales - 1) + 1
        self.scales = nn.ModuleList(scales)
        self.halve = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Judge images: (N, 3, H, W) in [-1, 1] -> patch logits (N, 1, h, w) of each scale and head, finest first.

        Raises:
            ValueError: for images smaller than ``min_size``.
        """
        check_size(images, minimum=self.min_size)
        logits = []
        for scale, discriminator in enumerate(self.scales):
            if scale > 0:
                images = self.halve(images)  # (N, 3, H/2, W/2)
            logits += discriminator(images)
        return logits
