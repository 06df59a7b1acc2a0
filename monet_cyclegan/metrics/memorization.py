"""How close generated images come to training images, and what that does to a score (MiFID; Bai et al. 2021, §3).

arXiv:2106.03062, as the competition "I'm Something of a Painter Myself" computes it: the mean is over generated images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 256  # generated rows compared at once
EPS = 0.1  # of the code that defined the metric; the competition's page doesn't publish its own
TINY = 1e-15  # added to the distance, so that copies divide by something


class Nearest(NamedTuple):
    """For each generated row its nearest training row: cosine distances (N,) in [0, 1] and indices (N,).

    Where a row is all zero, or all training rows are, the distance is NaN and the index -1.
    """

    distances: Tensor
    indices: Tensor


def nearest_training(generated: Tensor, training: Tensor) -> Nearest:
    """Find min_j 1 - |<g_i, t_j>| / (|g_i| |t_j|) for rows (N, D) against rows (M, D), some at a time."""
    kept = _nonzero(training).nonzero().squeeze(1)
    distances = torch.full((len(generated),), torch.nan, dtype=torch.float64)
    indices = torch.full((len(generated),), -1)
    if not len(kept):
        return Nearest(distances, indices)
    directions = _normalized(training[kept.to(training.device)])
    for start in range(0, len(generated), CHUNK):
        some = generated[start : start + CHUNK]
        rows = _nonzero(some).nonzero().squeeze(1)
        if len(rows):
            similarity = (_normalized(some[rows.to(some.device)]) @ directions.T).abs()
            best, place = similarity.max(dim=1)
            distances[start + rows] = (1 - best).clamp(min=0)  # rounding can leave a cosine just above 1
            indices[start + rows] = kept[place]
    return Nearest(distances, indices)


def memorization_distance(generated: Tensor, training: Tensor) -> Tensor:
    """The mean over generated rows of the distance to the nearest training row; all-zero rows don't count.

    NaN if no row is left to compare.
    """
    return nearest_training(generated, training).distances.nanmean()


def mifid(fid: Tensor, distance: Tensor, eps: float = EPS) -> Tensor:
    """FID / (d + 1e-15) where the memorization distance d lies below ``eps``, else FID / (1 + 1e-15)."""
    penalty = torch.where(distance < eps, distance, torch.where(distance.isnan(), distance, torch.ones_like(distance)))
    return fid / (penalty + TINY)


def _nonzero(rows: Tensor) -> Tensor:
    return (rows != 0).any(dim=1).cpu()


def _normalized(rows: Tensor) -> Tensor:
    rows = rows.cpu().double()
    return rows / rows.norm(dim=1, keepdim=True)
