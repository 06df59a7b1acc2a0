from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from monet_cyclegan.metrics import frechet
from monet_cyclegan.metrics.frechet import Moments, frechet_distance, frechet_distance_of_rows, merge, moments

if TYPE_CHECKING:
    from numpy.typing import NDArray


def by_moments(a: Tensor, b: Tensor) -> Tensor:
    return frechet_distance(moments(a), moments(b))


both_routes = pytest.mark.parametrize("route", [by_moments, frechet_distance_of_rows])


def rows(count: int, width: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    """Like a network's features: not negative, some much larger than others, correlated; float32."""
    rng = np.random.default_rng([seed, count, width])
    mixing = np.random.default_rng(width).uniform(0, 1, (width, width)) / width
    independent = np.abs(rng.normal(size=(count, width))) ** 2
    return torch.from_numpy((independent + independent @ mixing + shift).astype(np.float32))


def textbook(a: Tensor, b: Tensor) -> float:
    """The formula as it stands; for covariances of full rank."""
    x, y = a.double().numpy(), b.double().numpy()
    s, t = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    root = scipy.linalg.sqrtm(s @ t)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * root.real))


def symmetric(a: Tensor, b: Tensor) -> float:
    """The same by Tr (ST)^(1/2) = Tr (S^(1/2) T S^(1/2))^(1/2).

    S T isn't symmetric: an eigenvalue that should be 0 comes out as about 1e-16 of the largest, negative, or complex,
    and its root adds 1e-8. Symmetric matrices have real eigenvalues, and those that are only rounding are dropped.
    """
    x, y = a.double().numpy(), b.double().numpy()
    s, t = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    root = symmetric_root(s)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * symmetric_root(root @ t @ root)))


def symmetric_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    values = np.where(values > 1e-13 * values[-1], values, 0)
    return (vectors * np.sqrt(values)) @ vectors.T


def with_zeros(features: Tensor) -> Tensor:
    features = features.clone()
    features[::3] = 0
    return features


def with_duplicates(features: Tensor) -> Tensor:
    return features[torch.arange(len(features)) // 2]


def axes(deviations: list[float], mean: list[float]) -> Tensor:
    """Two rows on every axis, whose covariance is exactly diagonal with the ``deviations`` squared."""
    width = len(deviations)
    offsets = torch.diag(torch.tensor(deviations, dtype=torch.float64)) * ((2 * width - 1) / 2) ** 0.5
    return torch.cat([offsets, -offsets]) + torch.tensor(mean, dtype=torch.float64)


@both_routes
@pytest.mark.parametrize(("n", "m", "width"), [(9, 12, 1), (30, 20, 5), (200, 150, 24), (80, 400, 48), (3, 4, 2)])
def test_it_is_the_textbook_formula(route, n, m, width):
    a, b = rows(n, width), rows(m, width, seed=1, shift=0.3)
    assert route(a, b).item() == pytest.approx(textbook(a, b), rel=1e-6)


@both_routes
@pytest.mark.parametrize(
    ("n", "m", "width"),
    [(2, 2, 40), (2, 90, 40), (10, 10, 40), (10, 30, 40), (10, 90, 40), (40, 90, 40), (41, 40, 40), (90, 3, 40)],
)
def test_it_is_the_formula_with_fewer_images_than_features(route, n, m, width):
    a, b = rows(n, width), rows(m, width, seed=1, shift=0.3)
    assert route(a, b).item() == pytest.approx(symmetric(a, b), rel=1e-10)  # one zero's root is more


@both_routes
@pytest.mark.parametrize("spoilt", [with_zeros, with_duplicates])
@pytest.mark.parametrize(("n", "m"), [(12, 9), (12, 100), (100, 80), (45, 500)])
def test_black_images_and_duplicates_count_like_any_others(route, spoilt, n, m):
    a, b = rows(n, 32), rows(m, 32, seed=1, shift=0.3)
    for left, right in ((spoilt(a), b), (a, spoilt(b)), (spoilt(a), spoilt(b))):
        assert route(left, right).item() == pytest.approx(symmetric(left, right), rel=1e-6)


@both_routes
@pytest.mark.parametrize(("n", "m"), [(12, 9), (12, 100), (100, 80)])
def test_features_that_are_always_zero_add_nothing(route, n, m):
    a, b = rows(n, 16), rows(m, 16, seed=1, shift=0.3)
    expected = symmetric(a, b)
    a, b = (torch.cat([part, torch.zeros(len(part), 16)], 1) for part in (a, b))
    assert route(a, b).item() == pytest.approx(expected, rel=1e-6)


@both_routes
def test_of_independent_features_it_is_the_sum_of_squared_differences_of_means_and_deviations(route):
    a = axes([1.0, 2.0, 0.5], mean=[0.0, 0.0, 1.0])
    b = axes([3.0, 0.0, 0.5], mean=[1.0, 0.0, -1.0])  # no spread along the second
    expected = (1**2 + 0 + 2**2) + (2**2 + 2**2 + 0)
    assert route(a, b).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(7, 23), (23, 7), (20, 300), (300, 20), (300, 250)])
def test_rows_that_do_not_fit_into_one_chunk_give_the_same(monkeypatch, n, m):
    a, b = rows(n, 24), rows(m, 24, seed=1, shift=0.3)
    expected = symmetric(a, b)
    monkeypatch.setattr(frechet, "CHUNK", 6)
    assert frechet_distance_of_rows(a, b).item() == pytest.approx(expected, rel=1e-6)
    assert by_moments(a, b).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n", "m", "width"), [(60, 50, 12), (20, 300, 12), (300, 20, 40), (10, 12, 40)])
def test_it_agrees_with_torch_fidelity(n, m, width):
    a, b = rows(n, width), rows(m, width, seed=1, shift=0.3)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), verbose=False)
    expected = pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert by_moments(a, b).item() == expected
    assert frechet_distance_of_rows(a, b).item() == expected


@both_routes
@pytest.mark.parametrize(("n", "width"), [(100, 24), (10, 24), (24, 24), (2, 24), (50, 1)])
def test_a_set_has_no_distance_to_itself_in_any_order(route, n, width):
    a = rows(n, width)
    trace = moments(a).scatter.trace().item() / (n - 1)
    assert 0 <= route(a, a).item() <= 1e-9 * trace
    assert 0 <= route(a, a.flip(0)).item() <= 1e-9 * trace


@both_routes
@pytest.mark.parametrize(("n", "m"), [(10, 15), (10, 90), (70, 90)])
def test_it_is_the_same_both_ways(route, n, m):
    a, b = rows(n, 24), rows(m, 24, seed=1, shift=0.3)
    assert route(a, b).item() == pytest.approx(route(b, a).item(), rel=1e-9)


@both_routes
@pytest.mark.parametrize("n", [10, 90])
def test_a_shift_of_everything_adds_its_square(route, n):
    a = rows(n, 24)
    shift = torch.linspace(-1, 2, 24, dtype=torch.float64)
    assert route(a, a + shift).item() == pytest.approx(shift.square().sum().item(), rel=1e-6)


@both_routes
def test_a_large_common_offset_costs_no_precision(route):
    a, b = rows(40, 12).double(), rows(50, 12, seed=1, shift=0.3).double()
    assert route(a + 1e4, b + 1e4).item() == pytest.approx(route(a, b).item(), rel=1e-6)


@both_routes
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 30), (30, 1), (0, 30), (0, 0)])
def test_of_fewer_than_two_images_it_is_nan(route, n, m):
    assert route(rows(n, 8), rows(m, 8, seed=1)).isnan()


@both_routes
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_it_is_a_single_float64_whatever_the_features_are(route, dtype):
    result = route(rows(5, 8).to(dtype), rows(6, 8).to(dtype))
    assert result.dtype == torch.float64
    assert result.shape == ()


def test_moments_are_the_count_the_mean_and_the_scatter():
    count, mean, scatter = moments(torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 5.0]]))
    assert count == 3
    assert mean.tolist() == [3, 3]
    assert scatter.tolist() == [[8, 6], [6, 6]]  # of (-2, -1), (0, -1), (2, 2)


@pytest.mark.parametrize("sizes", [[30], [1, 29], [10, 0, 19, 1], [1] * 30])
def test_parts_merge_into_the_moments_of_all_rows(sizes):
    a = rows(30, 6) + 100
    merged = Moments(0, torch.zeros(6, dtype=torch.float64), torch.zeros(6, 6, dtype=torch.float64))
    for part in a.split(sizes):
        merged = merge(merged, moments(part))
    whole = moments(a)
    assert merged.num_rows == whole.num_rows
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(merged.scatter, whole.scatter, rtol=1e-10, atol=1e-10)
