"""Augmentation of what a discriminator sees, so that few paintings last longer; generators learn through it.

Every image (N, C, H, W) in [-1, 1] draws for itself, from torch's global generator, which a training step seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

SHIFT = 1 / 8  # of the side, at most
HOLE = 1 / 2  # side of the hole, of the image's


def color(images: Tensor) -> Tensor:
    """Change brightness, saturation and contrast (Zhao et al. 2020, arXiv:2006.10738 §3.3)."""
    images = images + (_draws(images) - 0.5)  # 1 is half of the range
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (2 * _draws(images)) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (0.5 + _draws(images)) + mean


def translation(images: Tensor) -> Tensor:
    """Move by up to an eighth of the side, in whole pixels; zeros come in."""
    height, width = images.shape[2:]
    down, right = (_whole(images, round(SHIFT * side)) for side in (height, width))
    rows = torch.arange(height, device=images.device).view(1, -1, 1) + down
    columns = torch.arange(width, device=images.device).view(1, 1, -1) + right
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)  # (N, H, W)
    moved = images.flatten(2).gather(2, index.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1))
    return moved.view_as(images) * inside.unsqueeze(1)


def cutout(images: Tensor) -> Tensor:
    """Set a square of half the side to zero; a part of it may lie outside."""
    holes = []
    for side in images.shape[2:]:
        middle = torch.rand(len(images), 1, device=images.device) * side
        holes.append((torch.arange(side, device=images.device) + 0.5 - middle).abs() < HOLE * side / 2)
    down, right = holes
    return images * ~(down.unsqueeze(2) & right.unsqueeze(1)).unsqueeze(1)


POLICIES: dict[str, Callable[[Tensor], Tensor]] = {"color": color, "translation": translation, "cutout": cutout}


class DiffAugment(nn.Module):
    """The policies in their order, on each image with a probability (Zhao et al. 2020, arXiv:2006.10738 eq. 4 and 5).

    With a ``target`` the probability adapts (Karras et al. 2020, arXiv:2006.06676 §3.1): it grows while the share of
    real logits on the real side less that on the other, E[sign(D)], is above the target, and falls below.

    Args:
        policies: names out of "color", "translation", "cutout".
        probability: that an image is augmented; with a target the first one.
        target: of E[sign(D)] on real images, the paper's being 0.6; None keeps the probability.
        images_to_one: real images in which the probability could go from 0 to 1; the paper's are 500,000.

    Raises:
        ValueError: an unknown policy, or a number out of range.
    """

    probability: Tensor

    def __init__(
        self,
        policies: Sequence[str] = ("color", "translation", "cutout"),
        probability: float = 1.0,
        target: float | None = None,
        images_to_one: int = 500_000,
    ) -> None:
        super().__init__()
        unknown = [policy for policy in policies if policy not in POLICIES]
        if unknown or not policies:
            raise ValueError(f"policies={list(policies)}: choose some of {', '.join(POLICIES)}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be from 0 to 1, got {probability}")
        if target is not None and not -1 < target < 1:
            raise ValueError(f"target must be between -1 and 1, got {target}")
        if images_to_one < 1:
            raise ValueError(f"images_to_one must be at least 1, got {images_to_one}")
        self.policies = tuple(policies)
        self.target = target
        self.images_to_one = images_to_one
        self.register_buffer("probability", torch.tensor(float(probability)))

    def forward(self, images: Tensor) -> Tensor:
        """Augment: (N, C, H, W) -> (N, C, H, W)."""
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < self.probability
        augmented = images
        for policy in self.policies:
            augmented = POLICIES[policy](augmented)
        return torch.where(chosen, augmented, images)

    @torch.no_grad()
    def adapt(self, sign: Tensor, count: int) -> None:
        """Move the probability after a step of the discriminator.

        Args:
            sign: E[sign(D)] on the real images that this process saw.
            count: real images that the step saw, in all processes.
        """
        if self.target is None:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sign)
            sign = sign / torch.distributed.get_world_size()
        step = (sign - self.target).sign() * (count / self.images_to_one)
        self.probability.add_(step.to(self.probability)).clamp_(0, 1)


@torch.no_grad()
def mean_sign(real_logits: Sequence[Tensor], boundary: float) -> Tensor:
    """E[sign(D)] on real images, from -1 to 1, ``boundary`` being the logit between real and fake."""
    return torch.stack([(logits.float() - boundary).sign().mean() for logits in real_logits]).mean()


def _draws(images: Tensor) -> Tensor:
    """A number in [0, 1) for each image, (N, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype)


def _whole(images: Tensor, most: int) -> Tensor:
    """A whole number from -most to most for each image, (N, 1, 1)."""
    return torch.randint(-most, most + 1, (len(images), 1, 1), device=images.device)
