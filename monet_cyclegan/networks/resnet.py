"""The residual generator of CycleGAN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from monet_cyclegan.networks.init import init_weights
from monet_cyclegan.networks.layers import check_size, make_norm, make_upsample, needs_bias

if TYPE_CHECKING:
    from torch import Tensor


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions added to their input: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, *, norm: str, dropout: float) -> None:
        super().__init__()
        bias = needs_bias(norm)
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=bias),
            make_norm(norm, channels),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=bias),
            make_norm(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with the block's change added."""
        return x + self.body(x)


class ResNetGenerator(nn.Module):
    """Encoder, residual blocks and decoder (CycleGAN, arXiv:1703.10593 §7.2; Johnson et al. 2016, arXiv:1603.08155).

    With the defaults this is the paper's network for 256x256 images; for 128x128 it takes 6 blocks.

    Args:
        num_residual_blocks: blocks at a quarter of the resolution, at least 1.
        base_channels: channels at full resolution; twice and four times as many at a half and a quarter.
        norm: "instance" or "none".
        upsampling: "transposed" as in the paper, or "resize" against checkerboards.
        dropout: probability, between the two convolutions of each block.
        in_channels: channels of the input image.
        out_channels: channels of the output image.

    Raises:
        ValueError: for an unknown name or a number out of range.
    """

    size_multiple: int = 4

    def __init__(
        self,
        num_residual_blocks: int = 9,
        base_channels: int = 64,
        norm: str = "instance",
        upsampling: str = "transposed",
        dropout: float = 0.0,
        in_channels: int = 3,
        out_channels: int = 3,
    ) -> None:
        super().__init__()
        if num_residual_blocks < 1:
            raise ValueError(f"num_residual_blocks must be at least 1, got {num_residual_blocks}")
        full, half, quarter = base_channels, 2 * base_channels, 4 * base_channels
        bias = needs_bias(norm)
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, full, 7, padding=3, padding_mode="reflect", bias=bias),  # (N, C, H, W)
            make_norm(norm, full),
            nn.ReLU(inplace=True),
            nn.Conv2d(full, half, 3, stride=2, padding=1, bias=bias),  # (N, 2C, H/2, W/2)
            make_norm(norm, half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, quarter, 3, stride=2, padding=1, bias=bias),  # (N, 4C, H/4, W/4)
            make_norm(norm, quarter),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(
            *(ResidualBlock(quarter, norm=norm, dropout=dropout) for _ in range(num_residual_blocks))
        )
        self.decoder = nn.Sequential(
            make_upsample(upsampling, quarter, half, bias=bias),  # (N, 2C, H/2, W/2)
            make_norm(norm, half),
            nn.ReLU(inplace=True),
            make_upsample(upsampling, half, full, bias=bias),  # (N, C, H, W)
            make_norm(norm, full),
            nn.ReLU(inplace=True),
            nn.Conv2d(full, out_channels, 7, padding=3, padding_mode="reflect"),  # (N, 3, H, W)
            nn.Tanh(),
        )
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Translate images: (N, 3, H, W) in [-1, 1] -> (N, 3, H, W) in [-1, 1].

        Raises:
            ValueError: unless H and W are multiples of ``size_multiple``, and at least 8.
        """
        # The blocks reflect a border of one pixel, so a quarter of the image has to be two pixels wide.
        check_size(images, multiple=self.size_multiple, minimum=2 * self.size_multiple)
        return self.decoder(self.blocks(self.encoder(images)))
