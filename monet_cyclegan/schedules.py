"""Learning-rate factors as pure functions of progress, the finished share of the training, in [0, 1]."""

from __future__ import annotations

import math


def progress(
    batches_done: int, total_batches: float, elapsed_s: float | None = None, budget_s: float | None = None
) -> float:
    """The finished share of a training that ends after so many batches or seconds, whichever comes first.

    Args:
        batches_done: batches trained on so far.
        total_batches: batches after which training ends; may be infinity.
        elapsed_s: seconds trained so far; needed with a budget.
        budget_s: seconds after which training ends, None for no limit.

    Raises:
        ValueError: if an end isn't positive, or a budget is given without the time elapsed.
    """
    if not total_batches > 0:
        raise ValueError(f"total_batches must be positive, got {total_batches}")
    share = batches_done / total_batches
    if budget_s is not None:
        if elapsed_s is None:
            raise ValueError(f"a budget of {budget_s} seconds needs elapsed_s")
        if not budget_s > 0:
            raise ValueError(f"budget_s must be positive, got {budget_s}")
        share = max(share, elapsed_s / budget_s)
    return min(max(share, 0.0), 1.0)


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def constant_then_linear(progress: float, start: float = 0.5) -> float:
    """1 until ``start``, then linearly down to 0 (CycleGAN, arXiv:1703.10593 §4).

    Raises:
        ValueError: unless 0 <= start < 1.
    """
    if not 0 <= start < 1:
        raise ValueError(f"start must be at least 0 and below 1, got {start}")
    return min(1.0, (1 - progress) / (1 - start))


def cosine(progress: float, warmup: float = 0.0, floor: float = 0.0) -> float:
    """Up from 0 to 1 linearly until ``warmup``, then half a cosine down to ``floor`` (arXiv:1608.03983 eq. 5).

    Raises:
        ValueError: unless 0 <= warmup < 1 and 0 <= floor <= 1.
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be at least 0 and below 1, got {warmup}")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor must be in [0, 1], got {floor}")
    if progress < warmup:
        return progress / warmup
    descent = (progress - warmup) / (1 - warmup)
    return floor + (1 - floor) * (1 + math.cos(math.pi * descent)) / 2
