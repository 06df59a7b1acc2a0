"""A moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA(nn.Module):
    """A frozen copy of a network, ``model``, whose weights follow it as an exponential moving average.

    The copy is always in eval mode. Averages of generators make better images than the generators (Yazıcı et al. 2019,
    arXiv:1806.04498).

    Args:
        model: the network to follow.
        decay: share of the old average that is kept at each step, in [0, 1); 0 copies.

    Raises:
        ValueError: for a decay out of range.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> EMA:
        """Stay in eval mode, whatever ``mode`` says."""
        return super().train(False)

    @torch.no_grad()
    def update(self, model: nn.Module, steps_done: int) -> None:
        """Move the average towards the network after an optimizer step.

        The decay is min(decay, (1 + n) / (10 + n)) after n steps, so that the random start is forgotten fast
        (TensorFlow's ExponentialMovingAverage with num_updates). Buffers are copied.
        """
        decay = min(self.decay, (1 + steps_done) / (10 + steps_done))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for average, current in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(current)
