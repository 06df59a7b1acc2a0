"""What the networks are built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


def make_norm(norm: str, channels: int, eps: float = 1e-5) -> nn.Module:
    """The normalisation called ``norm``: "instance" (arXiv:1607.08022, without learned scale and shift) or "none".

    ``eps`` is the floor of the variance: a large one keeps what has hardly any contrast, such as a night sky, from
    being blown up into motifs.

    Raises:
        ValueError: for any other name, or a floor that isn't positive.
    """
    if not eps > 0:
        raise ValueError(f"norm_eps must be above 0, got {eps}")
    if norm == "instance":
        return nn.InstanceNorm2d(channels, eps=eps, affine=False, track_running_stats=False)
    if norm == "none":
        return nn.Identity()
    raise ValueError(f"unknown norm {norm!r}: choose 'instance' or 'none'")


def needs_bias(norm: str) -> bool:
    """Whether a convolution right before this norm needs a bias: instance norm subtracts it again."""
    return norm == "none"


def make_upsample(kind: str, in_channels: int, out_channels: int, *, bias: bool, kernel_size: int = 3) -> nn.Module:
    """A layer that doubles height and width: (N, in_channels, H, W) -> (N, out_channels, 2H, 2W).

    Args:
        kind: "transposed", a transposed convolution of stride 2 as in CycleGAN; or "resize", nearest-neighbour resizing
            and a 3x3 convolution, which leaves no checkerboards (Odena et al. 2016, doi:10.23915/distill.00003).
        in_channels: channels of the input.
        out_channels: channels of the output.
        bias: whether the convolution has a bias.
        kernel_size: 3 or 4, of the transposed convolution.

    Raises:
        ValueError: for any other kind.
    """
    if kind == "transposed":
        # Height out is 2 * (H - 1) - 2 * padding + kernel_size + output_padding, which is to be 2 * H.
        output_padding = 4 - kernel_size
        return nn.ConvTranspose2d(
            in_channels, out_channels, kernel_size, stride=2, padding=1, output_padding=output_padding, bias=bias
        )
    if kind == "resize":
        return nn.Sequential(
            Doubling(),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect", bias=bias),
        )
    raise ValueError(f"unknown upsampling {kind!r}: choose 'transposed' or 'resize'")


class Doubling(nn.Upsample):
    """Nearest-neighbour resizing to double height and width: (N, C, H, W) -> (N, C, 2H, 2W).

    Compiled for the CPU in bfloat16, PyTorch 2.15's own gives gradients of NaN for single images of some sizes
    (compare github.com/pytorch/pytorch/pull/171520). By views it is the same, but slower where nothing is compiled.
    """

    def __init__(self) -> None:
        super().__init__(scale_factor=2, mode="nearest")

    def forward(self, images: Tensor) -> Tensor:
        """Each pixel four times."""
        if not (torch.compiler.is_compiling() and torch.is_grad_enabled()):
            return super().forward(images)
        count, channels, height, width = images.shape
        spread = images[:, :, :, None, :, None].expand(count, channels, height, 2, width, 2)
        return spread.reshape(count, channels, 2 * height, 2 * width)


def check_at_least_one(**numbers: int) -> None:
    """Refuse a network without some of what it is made of.

    Raises:
        ValueError: "name must be at least 1, got number", for the first such one.
    """
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")


def check_size(images: Tensor, *, minimum: int, multiple: int = 1) -> None:
    """Refuse images that a network can't take.

    Raises:
        ValueError: unless height and width are multiples of ``multiple`` and at least ``minimum`` pixels.
    """
    height, width = images.shape[-2:]
    if height % multiple or width % multiple:
        raise ValueError(f"images of {height}x{width} pixels: height and width must be multiples of {multiple}")
    if height < minimum or width < minimum:
        raise ValueError(f"images of {height}x{width} pixels: height and width must be at least {minimum}")
