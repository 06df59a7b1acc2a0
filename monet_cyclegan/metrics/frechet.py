"""Fréchet distance between Gaussians fitted to features, FID where these are Inception's (Heusel et al. 2017, eq. 6).

d² = |μ_r - μ_g|² + Tr(S_r + S_g - 2 (S_r S_g)^(1/2)), with covariances over n - 1 (arXiv:1706.08500). All in float64 on
the CPU, and without ever multiplying the two covariances: the trace of the root is the nuclear norm of a product of
factors, which has no zero eigenvalues whose roots could blur the sum where there are fewer images than features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

CHUNK = 256  # rows turned into float64 at once
ROUNDING = 1e-12  # share of the two variances below which a distance can't be told from zero
SPARE = 16  # directions beyond the rank


class Moments(NamedTuple):
    """What a Gaussian is fitted to: number of rows, mean (D,), and the sum of (x - mean)(x - mean)ᵀ (D, D)."""

    num_rows: int
    mean: Tensor
    scatter: Tensor


def moments(rows: Tensor) -> Moments:
    """Sum rows (N, D) up, some at a time."""
    mean = _mean(rows)
    scatter = mean.new_zeros(len(mean), len(mean))
    _add_scatter(scatter, rows, mean)
    return Moments(len(rows), mean, scatter)


def add_rows(known: Moments, rows: Tensor) -> Moments:
    """The same as `merge` with the moments of rows (N, D), but in the memory of what is known, which is overwritten."""
    if not known.num_rows:
        return moments(rows)
    mean = _mean(rows)
    _add_scatter(known.scatter, rows, mean)
    num_rows = known.num_rows + len(rows)
    shift = mean - known.mean
    known.scatter.addr_(shift, shift, alpha=known.num_rows * len(rows) / num_rows)
    return Moments(num_rows, known.mean + shift * (len(rows) / num_rows), known.scatter)


def _add_scatter(scatter: Tensor, rows: Tensor, mean: Tensor) -> None:
    for chunk in _chunks(rows):
        chunk -= mean
        scatter.addmm_(chunk.T, chunk)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both sets of rows together (Chan et al. 1979, eq. 2.1), without the cancellation of raw sums."""
    if min(a.num_rows, b.num_rows) == 0:
        return a if a.num_rows else b
    num_rows = a.num_rows + b.num_rows
    shift = b.mean - a.mean
    scatter = (a.scatter + b.scatter).addr_(shift, shift, alpha=a.num_rows * b.num_rows / num_rows)
    return Moments(num_rows, a.mean + shift * (b.num_rows / num_rows), scatter)


def frechet_distance(a: Moments, b: Moments) -> Tensor:
    """Compare two fitted Gaussians; NaN if one of them was fitted to fewer than two rows."""
    if min(a.num_rows, b.num_rows) < 2:
        return torch.tensor(torch.nan, dtype=torch.float64)
    fewer, more = sorted((a, b), key=lambda moments: moments.num_rows)
    rank = min(fewer.num_rows - 1, len(fewer.mean))
    # Scatters, scaled as late as can be: a copy of one is 34 MB with Inception's features.
    factor = _factor(fewer.scatter, rank)
    freedom_fewer, freedom_more = fewer.num_rows - 1, more.num_rows - 1
    root = _sum_of_roots(factor.T @ more.scatter @ factor, rank) / (freedom_fewer * freedom_more) ** 0.5
    traces = fewer.scatter.trace() / freedom_fewer + more.scatter.trace() / freedom_more
    return _combine(a.mean, b.mean, traces, root)


def _factor(scatter: Tensor, rank: int) -> Tensor:
    """Give F (D, rank) with F Fᵀ = scatter, whose rank is at most ``rank``."""
    basis = None
    if rank + SPARE < len(scatter):  # products with so many random directions span all columns
        noise = torch.Generator().manual_seed(0)
        directions = torch.randn(len(scatter), rank + SPARE, generator=noise, dtype=torch.float64)
        basis = torch.linalg.qr(scatter @ directions).Q
        scatter = basis.T @ scatter @ basis
    values, vectors = torch.linalg.eigh(scatter)  # in ascending order
    factor = vectors[:, -rank:] * values[-rank:].clamp(min=0).sqrt()
    return factor if basis is None else basis @ factor


def frechet_distance_of_rows(a: Tensor, b: Tensor) -> Tensor:
    """Compare rows (N, D) and (M, D): the same number as by `moments`, but quick where one set has fewer than D rows.

    (S_a S_b)^(1/2) then has the trace of the nuclear norm of the small matrix Aᵀ B of centred, scaled rows.
    """
    fewer, more = sorted((a, b), key=len)
    if len(fewer) < 2 or len(fewer) > fewer.shape[1]:
        return frechet_distance(moments(a), moments(b))
    fewer_mean, more_mean = _mean(fewer), _mean(more)
    centred = (fewer.double().cpu() - fewer_mean) / (len(fewer) - 1) ** 0.5  # (n, D)
    scale = (len(more) - 1) ** 0.5
    trace = centred.square().sum()
    small = len(more) <= more.shape[1]
    products, gram = [], centred.new_zeros(len(fewer), len(fewer))
    for chunk in _chunks(more):
        chunk -= more_mean
        chunk /= scale
        trace += chunk.flatten().dot(chunk.flatten())
        product = centred @ chunk.T  # (n, chunk)
        if small:
            products.append(product)
        else:
            gram.addmm_(product, product.T)
    root = torch.linalg.svdvals(torch.cat(products, 1)).sum() if small else _sum_of_roots(gram, len(fewer) - 1)
    return _combine(fewer_mean, more_mean, trace, root)


def _sum_of_roots(matrix: Tensor, rank: int) -> Tensor:
    """Sum the square roots of the ``rank`` largest eigenvalues; the others are zero but for rounding."""
    return torch.linalg.eigvalsh(matrix)[-rank:].clamp(min=0).sqrt().sum()


def _combine(mean_a: Tensor, mean_b: Tensor, traces: Tensor, trace_of_root: Tensor) -> Tensor:
    distance = (mean_a - mean_b).square().sum() + traces - 2 * trace_of_root
    # Of equal sets rounding leaves about 1e-14 of the traces, either way, which MiFID would divide by almost nothing.
    return distance.where(~(distance < ROUNDING * traces), 0)


def _mean(rows: Tensor) -> Tensor:
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for chunk in _chunks(rows):
        total += chunk.sum(dim=0)
    return total / len(rows)


def _chunks(rows: Tensor) -> Iterator[Tensor]:
    """Copies in float64, which may be changed."""
    return (chunk.cpu().to(torch.float64, copy=True) for chunk in rows.split(CHUNK))
