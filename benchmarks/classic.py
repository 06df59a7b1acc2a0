"""The classic training loop, written from the papers as everybody runs it: what ours is measured against.

Eager, default precision, NCHW; separate forward passes for translation, cycle and identity, and for real and fake; a
Python list as the image history; stock Adam (CycleGAN, arXiv:1703.10593 §4 and §7.1; Shrivastava et al. 2017,
arXiv:1612.07828 §2.3).
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor, nn


class ListPool:
    """The image history as a list of images of full precision."""

    def __init__(self, size: int):
        self.size = size
        self.images: list[Tensor] = []

    def query(self, batch: Tensor) -> Tensor:
        """Swap about half of a batch for earlier images, once there are ``size``."""
        returned = []
        for image in batch.detach().split(1):
            if len(self.images) < self.size:
                self.images.append(image)
                returned.append(image)
            elif random.random() > 0.5:
                slot = random.randrange(self.size)
                returned.append(self.images[slot].clone())
                self.images[slot] = image
            else:
                returned.append(image)
        return torch.cat(returned)


class ClassicLoop:
    """Two generators, two discriminators and one step; the networks are given, so that they may be those of ours.

    ``disc_a`` judges images of A, as ours does.
    """

    def __init__(
        self,
        gen_ab: nn.Module,
        gen_ba: nn.Module,
        disc_a: nn.Module,
        disc_b: nn.Module,
        lr: float = 2e-4,
        lambda_cycle: float = 10.0,
        lambda_identity: float = 5.0,
        pool_size: int = 50,
    ):
        self.gen_ab, self.gen_ba, self.disc_a, self.disc_b = gen_ab, gen_ba, disc_a, disc_b
        self.lambda_cycle, self.lambda_identity = lambda_cycle, lambda_identity
        self.pool_a, self.pool_b = ListPool(pool_size), ListPool(pool_size)
        generators = itertools.chain(gen_ab.parameters(), gen_ba.parameters())
        discriminators = itertools.chain(disc_a.parameters(), disc_b.parameters())
        self.opt_gen = torch.optim.Adam(generators, lr=lr, betas=(0.5, 0.999))
        self.opt_disc = torch.optim.Adam(discriminators, lr=lr, betas=(0.5, 0.999))

    def step(self, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
        """One step of the generators, then one of the discriminators; returns the weighted losses."""
        fake_b = self.gen_ab(real_a)
        rec_a = self.gen_ba(fake_b)
        fake_a = self.gen_ba(real_b)
        rec_b = self.gen_ab(fake_a)

        self._train_discriminators(False)
        self.opt_gen.zero_grad()
        losses = {
            "identity_b": self.lambda_identity * F.l1_loss(self.gen_ab(real_b), real_b),
            "identity_a": self.lambda_identity * F.l1_loss(self.gen_ba(real_a), real_a),
            "adv_b": _squared_error(self.disc_b(fake_b), 1.0),
            "adv_a": _squared_error(self.disc_a(fake_a), 1.0),
            "cycle_a": self.lambda_cycle * F.l1_loss(rec_a, real_a),
            "cycle_b": self.lambda_cycle * F.l1_loss(rec_b, real_b),
        }
        sum(losses.values(), torch.zeros_like(losses["adv_a"])).backward()
        self.opt_gen.step()

        self._train_discriminators(True)
        self.opt_disc.zero_grad()
        losses["disc_b"] = self._discriminate(self.disc_b, real_b, self.pool_b.query(fake_b))
        losses["disc_a"] = self._discriminate(self.disc_a, real_a, self.pool_a.query(fake_a))
        self.opt_disc.step()
        return losses

    def _train_discriminators(self, on: bool) -> None:
        for network in (self.disc_a, self.disc_b):
            network.requires_grad_(on)

    @staticmethod
    def _discriminate(network: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        loss = (_squared_error(network(real), 1.0) + _squared_error(network(fake.detach()), 0.0)) / 2
        loss.backward()
        return loss


def _squared_error(logits: list[Tensor], target: float) -> Tensor:
    """Least squares, averaged over the scales of the discriminator."""
    scales = [F.mse_loss(scale, torch.full_like(scale, target)) for scale in logits]
    return torch.stack(scales).mean()
