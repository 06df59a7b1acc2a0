"""The residual generator of CycleGAN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from monet_cyclegan.networks.init import init_weights, init_without_norm
from monet_cyclegan.networks.layers import check_at_least_one, check_size, make_norm, make_upsample, needs_bias

if TYPE_CHECKING:
    from torch import Tensor


KEPT = 0.98  # of an image's range, where its skip ends: tanh reaches the whole only at infinity
# What the last convolution makes at first, of what it would: hardly a change of an image that is added; else what tanh
# bends little.
FIRST_CHANGE, FIRST_IMAGE = 0.01, 0.2


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions added to their input: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, *, norm: str, norm_eps: float, dropout: float) -> None:
        super().__init__()
        bias = needs_bias(norm)
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=bias),
            make_norm(norm, channels, norm_eps),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=bias),
            make_norm(norm, channels, norm_eps),
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
        image_skip: whether the network only learns what to change of the image, tanh(atanh(image) + change), so that
            training starts with the identity (Kim et al. 2016, arXiv:1511.04587 §3.2). It takes norm "none": instance
            norm would enlarge the change of whatever has little of it.
        norm_eps: floor of the variance of instance norm.
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
        image_skip: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if image_skip and norm != "none":
            raise ValueError(f"image_skip takes norm 'none', not {norm!r}")
        if image_skip and in_channels != out_channels:
            raise ValueError(f"image_skip takes as many channels in as out, not {in_channels} and {out_channels}")
        check_at_least_one(num_residual_blocks=num_residual_blocks)
        full, half, quarter = base_channels, 2 * base_channels, 4 * base_channels
        bias = needs_bias(norm)
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, full, 7, padding=3, padding_mode="reflect", bias=bias),  # (N, C, H, W)
            make_norm(norm, full, norm_eps),
            nn.ReLU(inplace=True),
            nn.Conv2d(full, half, 3, stride=2, padding=1, bias=bias),  # (N, 2C, H/2, W/2)
            make_norm(norm, half, norm_eps),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, quarter, 3, stride=2, padding=1, bias=bias),  # (N, 4C, H/4, W/4)
            make_norm(norm, quarter, norm_eps),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(
            *(ResidualBlock(quarter, norm=norm, norm_eps=norm_eps, dropout=dropout) for _ in range(num_residual_blocks))
        )
        self.decoder = nn.Sequential(
            make_upsample(upsampling, quarter, half, bias=bias),  # (N, 2C, H/2, W/2)
            make_norm(norm, half, norm_eps),
            nn.ReLU(inplace=True),
            make_upsample(upsampling, half, full, bias=bias),  # (N, C, H, W)
            make_norm(norm, full, norm_eps),
            nn.ReLU(inplace=True),
            nn.Conv2d(full, out_channels, 7, padding=3, padding_mode="reflect"),  # (N, 3, H, W)
        )
        self.image_skip = image_skip
        self._start(norm)

    @torch.no_grad()
    def _start(self, norm: str) -> None:
        if norm != "none":
            init_weights(self)
            return
        init_without_norm(self)
        blocks: Any = self.blocks
        for block in blocks:  # whose sum is to be as large as one of them (arXiv:1901.09321 §3)
            block.body[4].weight.mul_(len(blocks) ** -0.5)
        last: Any = self.decoder[-1]
        last.weight.mul_(FIRST_CHANGE if self.image_skip else FIRST_IMAGE)

    def forward(self, images: Tensor) -> Tensor:
        """Translate images: (N, 3, H, W) in [-1, 1] -> (N, 3, H, W) in [-1, 1].

        Raises:
            ValueError: unless H and W are multiples of ``size_multiple``, and at least 8.
        """
        # The blocks reflect a border of one pixel, so a quarter of the image has to be two pixels wide.
        check_size(images, multiple=self.size_multiple, minimum=2 * self.size_multiple)
        change = self.decoder(self.blocks(self.encoder(images)))
        return torch.tanh(change + torch.atanh(KEPT * images) if self.image_skip else change)
