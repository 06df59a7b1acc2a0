"""Losses: adversarial ones by name of their paper, and the two that tie an output to an image.

An adversarial loss sees logits (N, 1, h, w), one tensor per scale of the discriminator. It is averaged over the patches
of each scale, then over scales.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


class AdversarialLoss(ABC):
    """What generator and discriminator minimise, scalars of the logits at each scale.

    Attributes:
        boundary: the logit between real and fake.
    """

    boundary: float = 0.0

    @abstractmethod
    def generator(self, fake: Sequence[Tensor]) -> Tensor:
        """The generator's loss from the logits of fake images."""

    @abstractmethod
    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """The discriminator's loss from the logits of real and of fake images."""


class PatchLoss(AdversarialLoss):
    """A subclass gives the three terms, patch by patch."""

    @abstractmethod
    def generator_term(self, fake: Tensor) -> Tensor:
        """The generator's loss at each logit of a fake image."""

    @abstractmethod
    def real_term(self, real: Tensor) -> Tensor:
        """The discriminator's loss at each logit of a real image."""

    @abstractmethod
    def fake_term(self, fake: Tensor) -> Tensor:
        """The discriminator's loss at each logit of a fake image."""

    def generator(self, fake: Sequence[Tensor]) -> Tensor:
        """The mean over patches, then over scales."""
        return _mean_over_scales(self.generator_term, fake)

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """The mean over patches, then over scales."""
        return _mean_over_scales(self.real_term, real) + _mean_over_scales(self.fake_term, fake)


def _mean_over_scales(term: Callable[[Tensor], Tensor], scales: Sequence[Tensor]) -> Tensor:
    # In float32, because the mean of many bfloat16 numbers loses most of their digits.
    return torch.stack([term(logits.float()).mean() for logits in scales]).mean()


class LSGANLoss(PatchLoss):
    """Least squares (Mao et al. 2017, arXiv:1611.04076 eq. 2, with a = 0 and b = c = 1).

    G minimises (D(fake) - 1)², D minimises ½ (D(real) - 1)² + ½ D(fake)²: CycleGAN halves the loss of D alone, to slow
    it down (arXiv:1703.10593 §7.1).

    Args:
        smoothing: how far D's target for real images is below 1, on that side alone (arXiv:1606.03498 §3.4).
    """

    boundary = 0.5

    def __init__(self, smoothing: float = 0.0) -> None:
        self.real_target = 1 - _checked_smoothing(smoothing)

    def generator_term(self, fake: Tensor) -> Tensor:
        """(D(fake) - 1)²."""
        return (fake - 1).square()

    def real_term(self, real: Tensor) -> Tensor:
        """½ (D(real) - 1 + smoothing)²."""
        return (real - self.real_target).square() / 2

    def fake_term(self, fake: Tensor) -> Tensor:
        """½ D(fake)²."""
        return fake.square() / 2


class VanillaLoss(PatchLoss):
    """Cross-entropy, non-saturating for G (Goodfellow et al. 2014, arXiv:1406.2661 §3), with σ(D) the chance of real.

    G minimises -log σ(D(fake)), D minimises ½ (-log σ(D(real)) - log(1 - σ(D(fake)))), the mean of both halves;
    softplus(-x) = -log σ(x) doesn't overflow.

    Args:
        smoothing: how far D's target for real images is below 1, on that side alone (arXiv:1606.03498 §3.4).
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = _checked_smoothing(smoothing)

    def generator_term(self, fake: Tensor) -> Tensor:
        """-log σ(D(fake))."""
        return F.softplus(-fake)

    def real_term(self, real: Tensor) -> Tensor:
        """-½ ((1 - smoothing) log σ(D(real)) + smoothing log(1 - σ(D(real))))."""
        return (F.softplus(-real) + self.smoothing * real) / 2

    def fake_term(self, fake: Tensor) -> Tensor:
        """-½ log(1 - σ(D(fake)))."""
        return F.softplus(fake) / 2


class HingeLoss(PatchLoss):
    """Hinge (Lim and Ye 2017, arXiv:1705.02894; Miyato et al. 2018, arXiv:1802.05957 eq. 16 and 17).

    G minimises -D(fake), D minimises max(0, 1 - D(real)) + max(0, 1 + D(fake)).
    """

    def generator_term(self, fake: Tensor) -> Tensor:
        """-D(fake)."""
        return -fake

    def real_term(self, real: Tensor) -> Tensor:
        """max(0, 1 - D(real))."""
        return F.relu(1 - real)

    def fake_term(self, fake: Tensor) -> Tensor:
        """max(0, 1 + D(fake))."""
        return F.relu(1 + fake)


class WassersteinLoss(PatchLoss):
    """Earth mover's distance (Arjovsky et al. 2017, arXiv:1701.07875 eq. 2).

    G minimises -D(fake), D minimises D(fake) - D(real). D has to be Lipschitz: add a gradient penalty or spectral norm.
    """

    def generator_term(self, fake: Tensor) -> Tensor:
        """-D(fake)."""
        return -fake

    def real_term(self, real: Tensor) -> Tensor:
        """-D(real)."""
        return -real

    def fake_term(self, fake: Tensor) -> Tensor:
        """D(fake)."""
        return fake


class TwoObjectives(AdversarialLoss):
    """Each of a discriminator's outputs has a loss of its own, in turn: heads that judge alike tend to fail alike.

    Args:
        first: of the outputs 0, 2, ...
        second: of the outputs 1, 3, ...
    """

    def __init__(self, first: AdversarialLoss, second: AdversarialLoss) -> None:
        self.objectives = (first, second)
        self.boundary = (first.boundary + second.boundary) / 2

    def generator(self, fake: Sequence[Tensor]) -> Tensor:
        """The mean of the outputs' losses."""
        parts = [self.objectives[index % 2].generator([logits]) for index, logits in enumerate(fake)]
        return torch.stack(parts).mean()

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """The mean of the outputs' losses."""
        pairs = enumerate(zip(real, fake, strict=True))
        return torch.stack([self.objectives[index % 2].discriminator([r], [f]) for index, (r, f) in pairs]).mean()


def _checked_smoothing(smoothing: float) -> float:
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"smoothing must be at least 0 and below 0.5, got {smoothing}")
    return smoothing


def cycle_loss(rec: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of an image and its reconstruction after both ways (arXiv:1703.10593 eq. 2)."""
    return F.l1_loss(rec, real)


def identity_loss(idt: Tensor, real: Tensor) -> Tensor:
    """Mean absolute change that a generator makes to an image of its own target domain (arXiv:1703.10593 §5.2)."""
    return F.l1_loss(idt, real)


def consistency_loss(fake: Tensor, real: Tensor, factor: int, *, squared: bool = False) -> Tensor:
    """Mean absolute difference of translation and image, both ``factor`` times smaller (UVCGANv2, arXiv:2303.16280).

    Colours and light of large parts stay where they were; strokes are free. With ``squared`` the mean of the squares:
    its gradient vanishes where both are equal, so it lets a generator go that begins there.
    """
    distance = F.mse_loss if squared else F.l1_loss
    return distance(F.avg_pool2d(fake, factor), F.avg_pool2d(real, factor))
