"""All scores of one set of generated images, from the features of both sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monet_cyclegan.metrics.frechet import frechet_distance_of_rows
from monet_cyclegan.metrics.kernel import kernel_distance, kernel_distance_over_subsets
from monet_cyclegan.metrics.memorization import memorization_distance, mifid
from monet_cyclegan.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SUBSETS, LARGEST_SUBSET = 100, 1000  # torch-fidelity's defaults


@dataclass(frozen=True)
class Scores:
    """FID, KID with its standard error, KID over subsets as torch-fidelity gives it, MiFID by eps, and its distance."""

    num_fake: int
    num_real: int
    fid: float
    kid: float
    kid_error: float
    kid_subsets: float
    kid_subsets_deviation: float
    subsets: int
    subset_size: int
    memorization_distance: float
    mifid: dict[float, float]


def score(fake: Tensor, real: Tensor, eps: Sequence[float]) -> Scores:
    """Score features of generated images (N, D) against those of real ones (M, D)."""
    fid = frechet_distance_of_rows(real, fake)
    distance = memorization_distance(fake, real)
    kid, kid_error = kernel_distance(fake, real)
    size = min(LARGEST_SUBSET, len(fake), len(real))
    over_subsets, deviation = kernel_distance_over_subsets(fake, real, SUBSETS, size)
    return Scores(
        len(fake),
        len(real),
        float(fid),
        float(kid),
        float(kid_error),
        float(over_subsets),
        float(deviation),
        SUBSETS,
        size,
        float(distance),
        {value: float(mifid(fid, distance, value)) for value in eps},
    )


def noise_floor(real: Tensor, eps: Sequence[float], seed: int = 0) -> Scores | None:
    """Score one random half of the real images against the other: what no generator can be told from."""
    half = len(real) // 2
    if half < 2:
        return None
    order = generator(seed).permutation(len(real))
    return score(real[order[:half]], real[order[half:]], eps)
