"""A generator for CPUs and phones: depthwise-separable residual blocks, and little at full resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from monet_cyclegan.networks.init import init_without_norm
from monet_cyclegan.networks.layers import Doubling, check_at_least_one, check_size, make_norm, needs_bias
from monet_cyclegan.networks.resnet import FIRST_CHANGE, FIRST_IMAGE, KEPT

if TYPE_CHECKING:
    from torch import Tensor


class SeparableConv(nn.Module):
    """A 3x3 convolution of each channel alone, then a 1x1 of all: (N, C, H, W) -> (N, C, H, W).

    Nothing lies between the two (Chollet 2017, arXiv:1610.02357 §4.7), so it is a 3x3 convolution of few weights.
    """

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, 3, padding=1, padding_mode="reflect", groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return self.pointwise(self.depthwise(x))


class SeparableBlock(nn.Module):
    """Two separable convolutions added to their input: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, *, norm: str) -> None:
        super().__init__()
        bias = needs_bias(norm)
        self.body = nn.Sequential(
            SeparableConv(channels, bias=bias),
            make_norm(norm, channels),
            nn.ReLU(inplace=True),
            SeparableConv(channels, bias=bias),
            make_norm(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with the block's change added."""
        return x + self.body(x)


class ThinUpsample(nn.Module):
    """Fewer channels, then a resize-convolution: (N, C, H, W) -> (N, C', 2H, 2W).

    A 1x1 convolution makes the same of pixels before they are repeated as after, from a quarter as many. The 3x3 one
    behind it leaves no checkerboards (Odena et al. 2016, doi:10.23915/distill.00003).
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.resize = Doubling()
        self.convolution = nn.Conv2d(out_channels, out_channels, 3, padding=1, padding_mode="reflect", bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Double height and width."""
        return self.convolution(self.resize(self.pointwise(x)))


class CompactGenerator(nn.Module):
    """The residual generator at a thirtieth of its work, from 9 blocks and 64 channels at full resolution.

    Separable residual blocks, since most of the work is theirs (Li et al. 2020, arXiv:2003.08936 §3.2). The first
    convolution halves the resolution and the last ones have few channels: on a CPU, maps at full resolution cost more
    time than their multiply-adds tell. Kernels of stride 2 are of an even size, whose middle is that of the pixels that
    resizing makes of one: nothing is shifted on the way, and mirrored kernels translate mirrored images.

    Args:
        num_residual_blocks: blocks at a quarter of the resolution, at least 1.
        base_channels: channels at full resolution; twice and eight times as many at a half and a quarter.
        norm: "none", or "instance", which takes no image_skip.
        image_skip: whether the network only learns what to change of the image, as `ResNetGenerator` explains.
        in_channels: channels of the input image.
        out_channels: channels of the output image.

    Raises:
        ValueError: for an unknown name or a number out of range.
    """

    size_multiple: int = 4

    def __init__(
        self,
        num_residual_blocks: int = 6,
        base_channels: int = 16,
        norm: str = "none",
        image_skip: bool = True,
        in_channels: int = 3,
        out_channels: int = 3,
    ) -> None:
        super().__init__()
        if image_skip and norm == "instance":  # which would enlarge the change of whatever has little of it
            raise ValueError("image_skip takes norm 'none', not 'instance': add image_skip=false")
        if image_skip and in_channels != out_channels:
            raise ValueError(f"image_skip takes as many channels in as out, not {in_channels} and {out_channels}")
        check_at_least_one(num_residual_blocks=num_residual_blocks)
        full, half, quarter = base_channels, 2 * base_channels, 8 * base_channels
        bias = needs_bias(norm)
        self.encoder = nn.Sequential(
            nn.Conv2d(
                in_channels, half, 4, stride=2, padding=1, padding_mode="reflect", bias=bias
            ),  # (N, 2C, H/2, W/2)
            make_norm(norm, half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, quarter, 2, stride=2, bias=bias),  # (N, 8C, H/4, W/4)
            make_norm(norm, quarter),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(*(SeparableBlock(quarter, norm=norm) for _ in range(num_residual_blocks)))
        self.decoder = nn.Sequential(
            ThinUpsample(quarter, half, bias=bias),  # (N, 2C, H/2, W/2)
            make_norm(norm, half),
            nn.ReLU(inplace=True),
            ThinUpsample(half, full, bias=bias),  # (N, C, H, W)
            make_norm(norm, full),
            nn.ReLU(inplace=True),
            nn.Conv2d(full, out_channels, 3, padding=1, padding_mode="reflect"),  # (N, 3, H, W)
        )
        self.image_skip = image_skip
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Let maps keep their size from layer to layer; with a norm, the size of weights hardly matters."""
        init_without_norm(self)
        for module in self.modules():  # of two convolutions with nothing between, only one is followed by a ReLU
            if isinstance(module, SeparableConv):
                module.depthwise.weight.mul_(2**-0.5)
            elif isinstance(module, ThinUpsample):
                module.pointwise.weight.mul_(2**-0.5)
        blocks: Any = self.blocks
        for block in blocks:  # whose sum is to be as large as their input (arXiv:1901.09321 §3)
            block.body[3].pointwise.weight.mul_((2 * len(blocks)) ** -0.5)
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
