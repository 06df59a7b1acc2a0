"""Gradient penalties, which keep a discriminator smooth.

A penalty looks at the gradient of D(x) with respect to an image x, where D(x) is the mean over the patches of each
scale, then over scales. The norm of ∇D(x) is over all of an image, (C, H, W).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


class GradientPenalty(ABC):
    """A penalty applied at every n-th step only, then n times as strong (Karras et al. 2020, arXiv:1912.04958 app. B).

    Args:
        weight: strength, 0 or more; 0 turns the penalty off.
        every_n_steps: 1 for always.

    Attributes:
        kinds: of images that its points are made of.

    Raises:
        ValueError: for a number out of range.
    """

    kinds: tuple[str, ...] = ("real", "fake")

    def __init__(self, weight: float, every_n_steps: int) -> None:
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"weight of a gradient penalty must be 0 or more, got {weight}")
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.weight = weight
        self.every_n_steps = every_n_steps

    @abstractmethod
    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """The images (N, C, H, W) at which the gradient is taken."""

    @abstractmethod
    def term(self, gradients: Tensor) -> Tensor:
        """The penalty (N,) on gradients (N, C * H * W), without weight."""

    def due(self, step: int) -> bool:
        """Whether the penalty is to be added at this step."""
        return self.weight > 0 and step % self.every_n_steps == 0

    def __call__(self, discriminate: Callable[[Tensor], Sequence[Tensor]], real: Tensor, fake: Tensor) -> Tensor:
        """The weighted penalty, a scalar to be added to the discriminator's loss.

        Args:
            discriminate: images (N, C, H, W) -> logits (N, 1, h, w) at each scale.
            real: real images (N, C, H, W).
            fake: generated images (N, C, H, W).
        """
        images = self.points(real.detach(), fake.detach()).requires_grad_()
        scales = [logits.float().flatten(1).mean(dim=1) for logits in discriminate(images)]  # each (N,)
        scores = torch.stack(scales).mean(dim=0)  # (N,)
        (gradients,) = torch.autograd.grad(scores.sum(), images, create_graph=True)  # (N, C, H, W)
        return self.weight * self.every_n_steps * self.term(gradients.flatten(1)).mean()


def interpolate(real: Tensor, fake: Tensor) -> Tensor:
    """A random point on the line between each real and fake image, from torch's global random numbers.

    Raises:
        ValueError: if the shapes differ.
    """
    if real.shape != fake.shape:
        raise ValueError(f"real images of shape {tuple(real.shape)}, but fake ones of {tuple(fake.shape)}")
    share = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    return share * real + (1 - share) * fake


class WGANGP(GradientPenalty):
    """weight · E(‖∇D(x̂)‖ - 1)², x̂ between real and fake (Gulrajani et al. 2017, arXiv:1704.00028 eq. 3)."""

    def __init__(self, weight: float = 10.0, every_n_steps: int = 1) -> None:
        super().__init__(weight, every_n_steps)

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Between real and fake."""
        return interpolate(real, fake)

    def term(self, gradients: Tensor) -> Tensor:
        """(‖∇D‖ - 1)²."""
        return (torch.linalg.vector_norm(gradients, dim=1) - 1).square()


class R1(GradientPenalty):
    """weight / 2 · E‖∇D(real)‖², the paper's γ being the weight (Mescheder et al. 2018, arXiv:1801.04406 eq. 9)."""

    kinds = ("real",)

    def __init__(self, weight: float = 10.0, every_n_steps: int = 16) -> None:
        super().__init__(weight, every_n_steps)

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """At the real images."""
        return real

    def term(self, gradients: Tensor) -> Tensor:
        """‖∇D‖² / 2."""
        return gradients.square().sum(dim=1) / 2


class ZeroCentered(GradientPenalty):
    """weight · E‖∇D(x̃)‖², x̃ between real and fake (Thanh-Tung et al. 2019, arXiv:1902.03984)."""

    def __init__(self, weight: float = 10.0, every_n_steps: int = 1) -> None:
        super().__init__(weight, every_n_steps)

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Between real and fake."""
        return interpolate(real, fake)

    def term(self, gradients: Tensor) -> Tensor:
        """‖∇D‖²."""
        return gradients.square().sum(dim=1)
