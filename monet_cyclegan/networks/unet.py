"""The U-Net generator of pix2pix, with residual connections and reflected borders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from monet_cyclegan.networks.init import init_weights
from monet_cyclegan.networks.layers import Doubling, check_size, make_norm, make_upsample, needs_bias

if TYPE_CHECKING:
    from torch import Tensor


class DownBlock(nn.Module):
    """Halve the resolution: (N, in_channels, H, W) -> (N, out_channels, H/2, W/2)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: str, norm_eps: float, residual: bool, activate: bool
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LeakyReLU(0.2) if activate else nn.Identity(),
            nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, padding_mode="reflect", bias=needs_bias(norm)),
            make_norm(norm, out_channels, norm_eps),
        )
        self.shortcut = (
            nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(in_channels, out_channels, 1, bias=False)) if residual else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the map at half the resolution."""
        return self.body(x) if self.shortcut is None else self.body(x) + self.shortcut(x)


class UpBlock(nn.Module):
    """Double the resolution: (N, in_channels, H, W) -> (N, out_channels, 2H, 2W)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: str,
        norm_eps: float,
        residual: bool,
        upsampling: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            make_upsample(upsampling, in_channels, out_channels, bias=needs_bias(norm), kernel_size=4),
            make_norm(norm, out_channels, norm_eps),
            nn.Dropout(dropout),
        )
        # Resizing after the 1x1 convolution gives the same as before it, for a quarter of the work.
        self.shortcut = (
            nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), Doubling()) if residual else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the map at twice the resolution."""
        return self.body(x) if self.shortcut is None else self.body(x) + self.shortcut(x)


class UNetGenerator(nn.Module):
    """U-Net of 4x4 convolutions with stride 2 (pix2pix, arXiv:1611.07004 §6.1.1; Ronneberger 2015, arXiv:1505.04597).

    Each level halves the map, and on the way back its result is concatenated with what went in. With ``residual``, each
    block is also bridged by a shortcut: average pooling down, nearest-neighbour resizing up, and a 1x1 convolution.
    The bottleneck level has no norm: instance norm turns a 1x1 map, and one resized from it, into zeros.

    Args:
        num_levels: halvings, at least 2. With 8, images of 256x256 meet in a single pixel.
        base_channels: channels of the first level; each further one has twice as many,
        max_channels: but never more than these.
        norm: "instance" or "none".
        residual: whether blocks have shortcuts.
        dropout: probability, in the three deepest levels of the decoder.
        upsampling: "transposed" as in the paper, or "resize" against checkerboards.
        in_channels: channels of the input image.
        out_channels: channels of the output image.
        norm_eps: floor of the variance of instance norm.

    Attributes:
        size_multiple: 2**num_levels; height and width have to be multiples of it.

    Raises:
        ValueError: for an unknown name or a number out of range.
    """

    def __init__(
        self,
        num_levels: int = 8,
        base_channels: int = 64,
        max_channels: int = 512,
        norm: str = "instance",
        residual: bool = True,
        dropout: float = 0.0,
        upsampling: str = "transposed",
        in_channels: int = 3,
        out_channels: int = 3,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if num_levels < 2:
            raise ValueError(f"num_levels must be at least 2, got {num_levels}")
        self.size_multiple = 2**num_levels
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        channels = [min(base_channels * 2**level, max_channels) for level in range(num_levels)]
        deepest = num_levels - 1
        for level, inner in enumerate(channels):
            level_norm = "none" if level in (0, deepest) else norm
            self.down.append(
                DownBlock(
                    channels[level - 1] if level > 0 else in_channels,
                    inner,
                    norm=level_norm,
                    norm_eps=norm_eps,
                    residual=residual,
                    activate=level > 0,
                )
            )
            self.up.append(
                UpBlock(
                    inner if level == deepest else 2 * inner,
                    channels[level - 1] if level > 0 else out_channels,
                    norm=level_norm,
                    norm_eps=norm_eps,
                    residual=residual,
                    upsampling=upsampling,
                    dropout=dropout if level > max(0, deepest - 3) else 0.0,
                )
            )
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Translate images: (N, 3, H, W) in [-1, 1] -> (N, 3, H, W) in [-1, 1].

        Raises:
            ValueError: unless H and W are multiples of ``size_multiple``.
        """
        check_size(images, multiple=self.size_multiple, minimum=self.size_multiple)
        maps = [images]
        for down in self.down:
            maps.append(down(maps[-1]))  # maps[level]: (N, C, H / 2**level, W / 2**level)
        x = maps[-1]
        for level in range(len(self.up) - 1, 0, -1):
            x = torch.cat([self.up[level](x), maps[level]], dim=1)  # (N, 2C, H / 2**level, W / 2**level)
        return torch.tanh(self.up[0](x))  # (N, 3, H, W)
