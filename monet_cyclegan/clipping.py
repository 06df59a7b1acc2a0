"""Gradient clipping, in place and without waiting for the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.nn import Parameter


def gradient_norm(parameters: Iterable[Parameter]) -> Tensor:
    """The norm of all gradients as one vector, a 0-d tensor; parameters without a gradient count as zero."""
    return get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])


class NormClip:
    """Scale all gradients together so that their total norm is at most ``max_norm`` (arXiv:1211.5063 §3.2).

    Raises:
        ValueError: unless ``max_norm`` is positive.
    """

    def __init__(self, max_norm: float) -> None:
        if not max_norm > 0:
            raise ValueError(f"max_norm must be positive, got {max_norm}")
        self.max_norm = max_norm

    def __call__(self, parameters: Iterable[Parameter]) -> Tensor:
        """Clip in place; return the total norm before, a 0-d tensor."""
        parameters = list(parameters)
        norm = gradient_norm(parameters)
        clip_grads_with_norm_(parameters, self.max_norm, norm)
        return norm


class AdaptiveClip:
    """Limit the gradient of each unit to a share of its weight's norm (Brock et al. 2021, arXiv:2102.06171 eq. 3).

    A unit is a slice along a weight's first dimension: an output channel of a convolution, an input channel of a
    transposed one. As in the authors' code, a vector such as a bias is one unit as a whole.

    Args:
        clipping: λ, the largest ratio of gradient norm to weight norm.
        eps: the least weight norm reckoned with, so that zero weights can grow.

    Raises:
        ValueError: unless both are positive.
    """

    def __init__(self, clipping: float = 0.01, eps: float = 1e-3) -> None:
        if not clipping > 0:
            raise ValueError(f"clipping must be positive, got {clipping}")
        if not eps > 0:
            raise ValueError(f"eps must be positive, got {eps}")
        self.clipping = clipping
        self.eps = eps

    @torch.no_grad()
    def __call__(self, parameters: Iterable[Parameter]) -> Tensor:
        """Clip in place; return the total norm before, a 0-d tensor."""
        parameters = [parameter for parameter in parameters if parameter.grad is not None]
        norm = gradient_norm(parameters)
        for parameter in parameters:
            assert parameter.grad is not None
            limit = self.clipping * _unit_norms(parameter).clamp(min=self.eps)
            # A gradient of zero gives a ratio of infinity, which the clamp turns into 1.
            parameter.grad.mul_((limit / _unit_norms(parameter.grad)).clamp(max=1))
        return norm


def _unit_norms(tensor: Tensor) -> Tensor:
    """The norm of each unit, in a shape that broadcasts against the tensor."""
    if tensor.ndim <= 1:
        return torch.linalg.vector_norm(tensor)
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)
