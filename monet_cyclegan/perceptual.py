"""Distances of images in the features of a frozen network: of two images' content, and of their textures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from monet_cyclegan.networks.shift_tolerant_vgg import CONVOLUTIONS, ShiftTolerantVGG, load_weights

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-10  # least length of a feature vector, so that one of zeros has a gradient; likewise of a Gram matrix


class PerceptualDistance(nn.Module):
    """LPIPS of two batches of images, 0 for the same ones (Zhang et al. 2018, arXiv:1801.03924 eq. 1).

    Feature vectors of length 1 are compared, so that the learned weights of the channels say all of what counts. Of
    photos of 64 pixels, another one is 0.6 away, the same one four times blurred 0.5, with a warm tint or in grey 0.25,
    darkened to 60 % 0.13, a pixel moved 0.01. The weights come with the package stlpips-pytorch, without a download.

    Attributes:
        min_size: least height and width of an image, in pixels.

    Raises:
        UserError: if that package is missing.
    """

    min_size = ShiftTolerantVGG.min_size

    def __init__(self) -> None:
        super().__init__()
        state = load_weights()
        self.network = ShiftTolerantVGG(state)
        for stage in range(len(CONVOLUTIONS)):
            self.register_buffer(f"importance{stage}", state[f"lin{stage}.model.1.weight"], persistent=False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Compare (N, 3, H, W) in [-1, 1] with another: the mean over the batch, with a gradient for ``fake`` alone.

        In float32 whatever the training's precision is: bfloat16 changes small distances by 2 %, turns the gradient
        by 9°, and costs a CPU more time, since the frozen weights would be rounded anew at each step.
        """
        with torch.autocast(fake.device.type, enabled=False):
            with torch.no_grad():
                targets = [_directions(features) for features in self.network(real.float())]
            distances = []
            for stage, (features, target) in enumerate(zip(self.network(fake.float()), targets, strict=True)):
                difference = (_directions(features) - target).square()
                distances.append((getattr(self, f"importance{stage}") * difference).sum(dim=1).mean())
            return torch.stack(distances).sum()


class StyleDistance(nn.Module):
    """How far textures and colours are apart, wherever they lie in the images (Gatys et al. 2016, arXiv:1508.06576).

    Which features of a frozen VGG16 come together, and how often, is a Gram matrix at each of its stages. Those of the
    translations are compared with the mean of the real images': squared distances, relative to both matrices' squares,
    so from 0 for the same to 1 for such that have nothing in common. Relative to the real ones' alone, one flat
    painting among the others makes the loss a hundred times as large.

    Args:
        num_stages: of VGG16's five, from the finest on; coarser ones see objects rather than strokes.

    Attributes:
        min_size: least height and width of an image, in pixels.

    Raises:
        ValueError: for stages that there aren't.
        UserError: if the package stlpips-pytorch is missing.
    """

    min_size = ShiftTolerantVGG.min_size

    def __init__(self, num_stages: int = 4) -> None:
        super().__init__()
        if not 1 <= num_stages <= len(CONVOLUTIONS):
            raise ValueError(f"num_stages must be 1 to {len(CONVOLUTIONS)}, got {num_stages}")
        self.network = ShiftTolerantVGG(load_weights(), num_stages)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Compare (N, 3, H, W) in [-1, 1] with (M, 3, H', W'): the mean over ``fake``, with a gradient for it alone.

        In float32 whatever the training's precision is, as sums of squares over all pixels need it.
        """
        with torch.autocast(fake.device.type, enabled=False):
            with torch.no_grad():
                targets = [_gram(features).mean(dim=0, keepdim=True) for features in self.network(real.float())]
            distances = []
            for features, target in zip(self.network(fake.float()), targets, strict=True):
                gram = _gram(features)
                squares = gram.square().sum(dim=(1, 2)) + target.square().sum()
                distances.append(((gram - target).square().sum(dim=(1, 2)) / squares.clamp(min=EPSILON)).mean())
            return torch.stack(distances).mean()


def _gram(features: Tensor) -> Tensor:
    """Mean products of each two channels over all pixels: (N, C, H, W) -> (N, C, C)."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def _directions(features: Tensor) -> Tensor:
    return F.normalize(features, dim=1, eps=EPSILON)
