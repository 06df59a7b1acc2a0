"""A discriminator on the features of a frozen network, which learns from few paintings what takes others long."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from monet_cyclegan.networks.init import init_weights
from monet_cyclegan.networks.layers import check_at_least_one
from monet_cyclegan.networks.patchgan import add_spectral_norm
from monet_cyclegan.networks.shift_tolerant_vgg import CHANNELS, ShiftTolerantVGG, load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SCALES = (0.09, 0.07, 0.09, 0.8, 23.0)  # root mean square of each stage's features, of photos and paintings alike


class RandomProjection(nn.Module):
    """Features of several stages, mixed at random across channels, then from the coarsest stage to the finest.

    What is mixed can't be told apart again, so that a discriminator has to look at all of it (Sauer et al. 2021,
    arXiv:2111.01007). The mixing is drawn once, never trained, and saved.

    Args:
        channels: of each stage's features, the finest first.
        out_channels: of each stage's mixture.
    """

    def __init__(self, channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.num_stages = len(channels)
        for stage, count in enumerate(channels):
            # Deviations that leave mixtures as large as the features.
            self.register_buffer(f"across{stage}", torch.randn(out_channels, count, 1, 1) / math.sqrt(count))
            if stage + 1 < self.num_stages:
                deviation = 1 / math.sqrt(9 * out_channels)
                self.register_buffer(f"down{stage}", deviation * torch.randn(out_channels, out_channels, 3, 3))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Mix features (N, C, h, w) of each stage -> (N, ``out_channels``, h, w) of each."""
        mixed: list[Tensor] = []
        coarser: Tensor | None = None
        for stage in reversed(range(self.num_stages)):
            here = F.conv2d(maps[stage], getattr(self, f"across{stage}"))
            if coarser is not None:
                up = F.interpolate(coarser, size=here.shape[2:], mode="bilinear", align_corners=False)
                here = (here + F.conv2d(up, getattr(self, f"down{stage}"), padding=1)) / math.sqrt(2)
            mixed.insert(0, here)
            coarser = here
        return mixed


class ProjectedGAN(nn.Module):
    """Small heads judge random mixtures of a frozen VGG16's features (Sauer et al. 2021, arXiv:2111.01007).

    The network has seen a million pictures, so that only the heads have to be learned from the paintings. It isn't the
    one that scores are computed with. Its weights come with the package stlpips-pytorch, and are not saved.

    Args:
        num_stages: of VGG16's five, from the first on after ``skipped_stages``, each half as large as the one before.
        skipped_stages: the finest ones, which cost most.
        base_channels: of the mixtures and of each head.
        spectral_norm: whether every convolution of the heads is spectrally normalised.
        num_heads: outputs of each stage, see `monet_cyclegan.losses.TwoObjectives`.

    Attributes:
        min_size: the least height and width of images, in pixels.

    Raises:
        ValueError: for stages that there aren't, or fewer than one channel or head.
        UserError: if the package is missing.
    """

    min_size = ShiftTolerantVGG.min_size

    def __init__(
        self,
        num_stages: int = 3,
        skipped_stages: int = 1,
        base_channels: int = 64,
        spectral_norm: bool = True,
        num_heads: int = 1,
    ) -> None:
        super().__init__()
        check_at_least_one(num_stages=num_stages, base_channels=base_channels, num_heads=num_heads)
        if not 0 <= skipped_stages <= len(CHANNELS) - num_stages:
            raise ValueError(f"skipped_stages must be 0 to {len(CHANNELS) - num_stages}, got {skipped_stages}")
        self.skipped_stages = skipped_stages
        used = CHANNELS[skipped_stages : skipped_stages + num_stages]
        self.network = ShiftTolerantVGG(load_weights(), num_stages=skipped_stages + num_stages)
        self.projection = RandomProjection(used, base_channels)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(base_channels, base_channels, 3, padding=1),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(base_channels, num_heads, 3, padding=1),
            )
            for _ in used
        )
        init_weights(self.heads)
        if spectral_norm:
            add_spectral_norm(self.heads)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Judge images: (N, 3, H, W) in [-1, 1] -> logits (N, 1, h, w) of each stage and head, finest first.

        Raises:
            ValueError: for images smaller than ``min_size``.
        """
        # A CPU would round the frozen weights anew at each pass, and takes longer in bfloat16.
        exact = torch.autocast("cpu", enabled=False) if images.device.type == "cpu" else nullcontext()
        with exact:
            maps = self.network(images)[self.skipped_stages :]
            scaled = [features / scale for features, scale in zip(maps, SCALES[self.skipped_stages :], strict=False)]
            mixtures = self.projection(scaled)
        logits: list[Tensor] = []
        for head, mixture in zip(self.heads, mixtures, strict=True):
            logits += head(mixture).split(1, dim=1)
        return logits
