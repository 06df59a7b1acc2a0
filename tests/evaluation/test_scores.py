"""All scores of a set of images, and what real images have among themselves."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric

from monet_cyclegan.evaluation.scores import noise_floor, score

EPS = [0.05, 0.1, 0.25]


def rows(count: int, width: int = 6, seed: int = 0, shift: float = 1.0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + shift


def around(centre: Tensor, spread: float, seed: int) -> Tensor:
    """Rows in directions near those of others."""
    return centre + spread * torch.randn(centre.shape, generator=torch.Generator().manual_seed(seed))


def fid(a: np.ndarray, b: np.ndarray) -> float:
    cov_a, cov_b = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (a, b))
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real))


def distance(fake: np.ndarray, real: np.ndarray) -> float:
    """The mean over generated rows of the cosine distance to the nearest real one."""
    cosines = [[abs(f @ r) / np.linalg.norm(f) / np.linalg.norm(r) for r in real] for f in fake]
    return float(np.mean([1 - max(row) for row in cosines]))


def kid(x: np.ndarray, y: np.ndarray) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / len(a) + 1) ** 3

    within = [np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    return float(sum(within) - 2 * np.mean([k(a, b) for a in x for b in y]))


def test_scores_are_those_of_their_definitions_and_generated_rows_come_first():
    fake, real = rows(30, seed=1), rows(40, seed=2, shift=0.5)
    found = score(fake, real, EPS)
    arrays = fake.double().numpy(), real.double().numpy()
    assert (found.num_fake, found.num_real) == (30, 40)
    assert found.fid == pytest.approx(fid(*arrays), rel=1e-6)
    assert found.kid == pytest.approx(kid(*arrays), rel=1e-6)
    assert found.memorization_distance == pytest.approx(distance(*arrays), rel=1e-6)
    assert distance(*arrays) != pytest.approx(distance(*arrays[::-1]), rel=1e-2)


@pytest.mark.parametrize(("num_fake", "num_real"), [(30, 40), (40, 30)])
def test_kid_over_subsets_is_torch_fidelitys_with_its_defaults(num_fake, num_real):
    fake, real = rows(num_fake, seed=1).double(), rows(num_real, seed=2, shift=0.5).double()
    found = score(fake, real, EPS)
    reference = kid_features_to_metric(fake, real, kid_subsets=100, kid_subset_size=30, verbose=False)
    assert (found.subsets, found.subset_size) == (100, 30)
    assert found.kid_subsets == pytest.approx(reference["kernel_inception_distance_mean"], rel=1e-9)
    assert found.kid_subsets_deviation == pytest.approx(reference["kernel_inception_distance_std"], rel=1e-9)


def test_subsets_are_never_of_more_than_a_thousand():
    assert score(rows(1003, 2), rows(1002, 2, seed=1), EPS).subset_size == 1000


def test_fid_is_divided_by_the_distance_only_where_it_lies_below_eps():
    real = rows(30, seed=2)
    found = score(around(real, 0.3, seed=1), real, [0.001, 0.01, 0.02, 0.5, 1])
    assert 0.001 < found.memorization_distance < 0.5
    for eps, value in found.mifid.items():
        divisor = found.memorization_distance if found.memorization_distance < eps else 1
        assert value == pytest.approx(found.fid / divisor, rel=1e-9)
    assert list(found.mifid) == [0.001, 0.01, 0.02, 0.5, 1]


def test_a_set_against_itself_has_no_distances():
    real = rows(40, width=64)
    found = score(real.clone(), real, EPS)
    assert found.memorization_distance < 1e-9
    assert found.fid < 1e-9
    # What is unbiased for two draws lies below 0 for one: each row's kernel with itself is left out on one side only.
    kernel = (real.double() @ real.double().T / 64 + 1) ** 3
    others = (kernel.sum() - kernel.trace()) / (40 * 39)
    assert found.kid == pytest.approx(-2 / 40 * float(kernel.trace() / 40 - others), rel=1e-6)


def test_two_rows_have_scores_but_no_error_of_kid():
    found = score(rows(2), rows(2, seed=1), EPS)
    assert math.isnan(found.kid_error)
    assert all(map(math.isfinite, (found.fid, found.kid, found.kid_subsets, found.memorization_distance)))


# ---- noise floor ----


@pytest.mark.parametrize("count", [4, 5, 6])
def test_the_noise_floor_is_one_half_of_the_real_rows_against_the_other(count):
    real = rows(count, width=1, seed=3)
    found = noise_floor(real, EPS)
    assert found is not None
    assert (found.num_fake, found.num_real) == (count // 2, count - count // 2)
    splits = [
        (real[list(half)], real[[index for index in range(count) if index not in half]])
        for half in combinations(range(count), count // 2)
    ]
    possible = [fid(first.double().numpy(), second.double().numpy()) for first, second in splits]
    assert min(abs(found.fid - value) for value in possible) < 1e-5
    assert found.mifid.keys() == {*EPS}


def test_the_noise_floor_depends_on_its_seed_alone():
    real = rows(40, seed=3)
    first = noise_floor(real, EPS, seed=5)
    torch.manual_seed(1)
    np.random.seed(1)
    assert noise_floor(real, EPS, seed=5) == first
    assert noise_floor(real, EPS, seed=6) != first


def test_the_noise_floor_mixes_rows_whose_order_means_something():
    ordered = torch.cat([rows(50, seed=1, shift=-3), rows(50, seed=2, shift=3)])
    found = noise_floor(ordered, EPS)
    assert found is not None
    assert found.fid < 0.05 * score(ordered[:50], ordered[50:], EPS).fid


@pytest.mark.parametrize("count", [2, 3])
def test_too_few_real_rows_have_no_noise_floor(count):
    assert noise_floor(rows(count), EPS) is None
