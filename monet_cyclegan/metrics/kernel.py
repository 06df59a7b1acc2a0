"""Squared maximum mean discrepancy of features, KID where these are Inception's (Bińkowski et al. 2018, §3.1).

arXiv:1801.01401: the kernel is k(x, y) = (<x, y> / D + 1)³, the estimator the unbiased one of Gretton et al. 2012
(eq. 3). On the CPU, some rows at a time: products in the features' own precision, their many sums in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 512


class Estimate(NamedTuple):
    """A value and its error, as 0-d tensors."""

    value: Tensor
    error: Tensor


def kernel_distance(a: Tensor, b: Tensor) -> Estimate:
    """Compare rows (N, D) and (M, D), using every pair; the error is the jackknife's standard error.

    Unbiased whatever N and M are, so it may be slightly negative. NaN with fewer than two rows in a set; the error
    needs three.
    """
    a, b = _ready(a), _ready(b)
    n, m = len(a), len(b)
    if min(n, m) < 2:
        return Estimate(*torch.full((2,), torch.nan, dtype=torch.float64))
    within_a, within_b = _sums_within(a), _sums_within(b)  # per row: (N,), (M,)
    across_a, across_b = _sums_across(a, b)
    total_a, total_b, across = within_a.sum(), within_b.sum(), across_a.sum()
    value = total_a / (n * (n - 1)) + total_b / (m * (m - 1)) - 2 * across / (n * m)
    if min(n, m) < 3:
        return Estimate(value, torch.full_like(value, torch.nan))
    without_a = (total_a - 2 * within_a) / ((n - 1) * (n - 2)) - 2 * (across - across_a) / ((n - 1) * m)
    without_b = (total_b - 2 * within_b) / ((m - 1) * (m - 2)) - 2 * (across - across_b) / (n * (m - 1))
    variance = without_a.var(correction=0) * (n - 1) + without_b.var(correction=0) * (m - 1)
    return Estimate(value, variance.sqrt())


def kernel_distance_over_subsets(
    a: Tensor, b: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> Estimate:
    """Mean and standard deviation over random subsets of both sets, as papers report KID.

    The draws are torch-fidelity's for the same order of rows and the same ``seed``.

    Raises:
        ValueError: if a set has fewer rows than ``subset_size``.
    """
    if min(len(a), len(b)) < subset_size:
        raise ValueError(f"subsets of {subset_size} can't be drawn from {len(a)} and {len(b)} rows")
    a, b = _ready(a), _ready(b)
    rng = np.random.RandomState(seed)  # torch-fidelity's, whose draws these are
    draws = [[torch.from_numpy(rng.choice(len(x), subset_size, replace=False)) for x in (a, b)] for _ in range(subsets)]
    drawn_a, drawn_b = map(torch.stack, zip(*draws, strict=True))  # (S, K) each
    within = _within_subsets(a, drawn_a) + _within_subsets(b, drawn_b)
    values = within / (subset_size * (subset_size - 1)) - 2 * _across_subsets(a, drawn_a, b, drawn_b) / subset_size**2
    return Estimate(values.mean(), values.std(correction=0))


def _within_subsets(rows: Tensor, drawn: Tensor) -> Tensor:
    # Sums in one tensor: small ones between the large would keep those from being freed.
    sums = torch.zeros(len(drawn), dtype=torch.float64)
    if 2 * drawn.numel() * drawn.shape[1] < len(rows) ** 2:  # fewer pairs in all subsets than in the whole set
        for subset, chosen in enumerate(drawn):
            sums[subset] = _sums_within(rows[chosen]).sum()
        return sums
    member = _membership(drawn, len(rows))
    for start in range(0, len(rows), CHUNK):
        left, member_left = rows[start : start + CHUNK], member[start : start + CHUNK]
        sums += (member_left * (_kernel(left, left).fill_diagonal_(0).double() @ member_left)).sum(0)
        for other in range(start + CHUNK, len(rows), CHUNK):
            block = _kernel(left, rows[other : other + CHUNK]).double()
            sums += 2 * (member_left * (block @ member[other : other + CHUNK])).sum(0)
    return sums


def _across_subsets(a: Tensor, drawn_a: Tensor, b: Tensor, drawn_b: Tensor) -> Tensor:
    sums = torch.zeros(len(drawn_a), dtype=torch.float64)
    if drawn_a.numel() * drawn_a.shape[1] < len(a) * len(b):
        for subset, (chosen_a, chosen_b) in enumerate(zip(drawn_a, drawn_b, strict=True)):
            sums[subset] = _sums_across(a[chosen_a], b[chosen_b])[0].sum()
        return sums
    member_a, member_b = _membership(drawn_a, len(a)), _membership(drawn_b, len(b))
    for start in range(0, len(a), CHUNK):
        left, member_left = a[start : start + CHUNK], member_a[start : start + CHUNK]
        for other in range(0, len(b), CHUNK):
            block = _kernel(left, b[other : other + CHUNK]).double()
            sums += (member_left * (block @ member_b[other : other + CHUNK])).sum(0)
    return sums


def _membership(drawn: Tensor, num_rows: int) -> Tensor:
    """Turn indices (S, K) into (``num_rows``, S), 1 where a row is in a subset, so that a block of pairs serves all."""
    return torch.zeros(num_rows, len(drawn), dtype=torch.float64).scatter_(0, drawn.T, 1)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return torch.addmm(a.new_ones(()), a, b.T, alpha=1 / a.shape[1]).pow_(3)


def _sums_within(rows: Tensor) -> Tensor:
    """For each row the sum of the kernel with all others (N,); each pair of chunks is visited once."""
    sums = torch.zeros(len(rows), dtype=torch.float64)
    for start in range(0, len(rows), CHUNK):
        left = rows[start : start + CHUNK]
        block = _kernel(left, left)
        sums[start : start + CHUNK] += block.sum(1, dtype=torch.float64) - block.diagonal()
        for other in range(start + CHUNK, len(rows), CHUNK):
            block = _kernel(left, rows[other : other + CHUNK])
            sums[start : start + CHUNK] += block.sum(1, dtype=torch.float64)
            sums[other : other + CHUNK] += block.sum(0, dtype=torch.float64)
    return sums


def _sums_across(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the kernel over all of the other set, for each row of ``a`` (N,) and of ``b`` (M,)."""
    sums_a, sums_b = torch.zeros(len(a), dtype=torch.float64), torch.zeros(len(b), dtype=torch.float64)
    for start in range(0, len(a), CHUNK):
        left = a[start : start + CHUNK]
        for other in range(0, len(b), CHUNK):
            block = _kernel(left, b[other : other + CHUNK])
            sums_a[start : start + CHUNK] += block.sum(1, dtype=torch.float64)
            sums_b[other : other + CHUNK] += block.sum(0, dtype=torch.float64)
    return sums_a, sums_b


def _ready(rows: Tensor) -> Tensor:
    return rows.cpu().to(torch.promote_types(rows.dtype, torch.float32))
