from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric

from monet_cyclegan.metrics import kernel
from monet_cyclegan.metrics.kernel import kernel_distance, kernel_distance_over_subsets


def rows(count: int, width: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    rng = np.random.default_rng([seed, count, width])
    return torch.from_numpy(np.abs(rng.normal(size=(count, width))) + shift)


def brute_force(a: Tensor, b: Tensor) -> float:
    """Every pair by itself, from the paper's formulas."""
    x, y = a.double().numpy(), b.double().numpy()
    n, m = len(x), len(y)

    def k(left, right):
        return (float(left @ right) / len(left) + 1) ** 3

    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    across = sum(k(x[i], y[j]) for i in range(n) for j in range(m)) / (n * m)
    return within_x + within_y - 2 * across


def brute_force_error(a: Tensor, b: Tensor) -> float:
    """The jackknife of two samples: each row left out in turn."""
    variance = 0.0
    for rows_left_out in (
        [brute_force(torch.cat([a[:i], a[i + 1 :]]), b) for i in range(len(a))],
        [brute_force(a, torch.cat([b[:j], b[j + 1 :]])) for j in range(len(b))],
    ):
        count = len(rows_left_out)
        mean = sum(rows_left_out) / count
        variance += (count - 1) / count * sum((value - mean) ** 2 for value in rows_left_out)
    return variance**0.5


def with_zeros(features: Tensor) -> Tensor:
    features = features.clone()
    features[::3] = 0
    return features


def with_duplicates(features: Tensor) -> Tensor:
    return features[torch.arange(len(features)) // 2]


@pytest.mark.parametrize("shift", [0.0, 0.02])
def test_in_float32_it_loses_nothing_that_its_error_would_show(shift):
    a, b = rows(300, 2048), rows(200, 2048, seed=1, shift=shift)
    exact, rounded = kernel_distance(a, b), kernel_distance(a.float(), b.float())
    assert rounded.value.item() == pytest.approx(exact.value.item(), abs=1e-4 * exact.error.item())
    assert rounded.error.item() == pytest.approx(exact.error.item(), rel=1e-3)


def test_a_value_by_hand():
    a, b = torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    # k = (<x, y> / 2 + 1)³: within a 1; within b 1, 1, 1; across 8, 8, 1 and 8, 0, 1
    assert kernel_distance(a, b).value.item() == pytest.approx(1 + 1 - 2 * 26 / 6, rel=1e-12)


@pytest.mark.parametrize("spoilt", [torch.clone, with_zeros, with_duplicates])
@pytest.mark.parametrize(("n", "m", "width"), [(2, 2, 1), (2, 7, 5), (9, 6, 40), (12, 13, 3)])
def test_it_is_the_sum_over_all_pairs(spoilt, n, m, width):
    a, b = rows(n, width), spoilt(rows(m, width, seed=1, shift=0.3))
    assert kernel_distance(a, b).value.item() == pytest.approx(brute_force(a, b), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("n", "m", "width"), [(3, 3, 1), (3, 8, 5), (9, 6, 40)])
def test_the_error_is_that_of_leaving_each_row_out_in_turn(n, m, width):
    a, b = rows(n, width), rows(m, width, seed=1, shift=0.3)
    assert kernel_distance(a, b).error.item() == pytest.approx(brute_force_error(a, b), rel=1e-8)


@pytest.mark.parametrize("chunk", [1, 4, 5])
def test_rows_that_do_not_fit_into_one_chunk_give_the_same(monkeypatch, chunk):
    a, b = rows(10, 6), rows(13, 6, seed=1, shift=0.3)
    expected = kernel_distance(a, b)
    monkeypatch.setattr(kernel, "CHUNK", chunk)
    torch.testing.assert_close(kernel_distance(a, b), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 2), (4, 5)])
def test_its_mean_over_all_possible_draws_is_the_distance_of_the_distributions(n, m):
    def mean_over_draws(coin_a: tuple[float, float], coin_b: tuple[float, float]) -> float:
        draws = product(product(coin_a, repeat=n), product(coin_b, repeat=m))
        values = [kernel_distance(torch.tensor(a)[:, None], torch.tensor(b)[:, None]).value.item() for a, b in draws]
        return sum(values) / len(values)

    # (xy + 1)³ compares moments: 3 (E x - E y)² + 3 (E x² - E y²)² + (E x³ - E y³)²
    assert mean_over_draws((-1.0, 1.0), (0.0, 1.0)) == pytest.approx(3 * 0.5**2 + 3 * 0.5**2 + 0.5**2, rel=1e-10)
    assert mean_over_draws((-1.0, 1.0), (-1.0, 1.0)) == pytest.approx(0, abs=1e-10)


def test_for_two_sets_of_one_distribution_it_is_zero_on_average_and_often_below():
    estimates = [kernel_distance(rows(30, 8, seed=2 * draw), rows(20, 8, seed=2 * draw + 1)) for draw in range(300)]
    values = torch.stack([estimate.value for estimate in estimates])
    assert values.mean().abs() < 3 * values.std() / len(values) ** 0.5
    assert (values < 0).sum() > 100


@pytest.mark.parametrize(("n", "m"), [(40, 40), (15, 80)])
def test_the_error_is_about_the_deviation_over_repeated_draws(n, m):
    estimates = [
        kernel_distance(rows(n, 8, seed=2 * draw), rows(m, 8, seed=2 * draw + 1, shift=0.7)) for draw in range(200)
    ]
    deviation = torch.stack([estimate.value for estimate in estimates]).std()
    error = torch.stack([estimate.error for estimate in estimates]).mean()
    assert 0.8 < (error / deviation).item() < 1.25


def test_neither_the_order_of_rows_nor_that_of_the_sets_matters():
    a, b = rows(10, 6), rows(13, 6, seed=1, shift=0.3)
    expected = kernel_distance(a, b)
    torch.testing.assert_close(kernel_distance(a.flip(0), b.roll(4, 0)), expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(kernel_distance(b, a), expected, rtol=1e-10, atol=0)


def test_a_set_against_itself_is_below_zero_as_no_row_is_compared_with_itself():
    a = rows(10, 6)
    assert kernel_distance(a, a).value.item() == pytest.approx(brute_force(a, a), rel=1e-10)
    assert kernel_distance(a, a).value < 0


@pytest.mark.parametrize(("n", "m"), [(0, 0), (1, 1), (1, 9), (9, 1), (0, 9)])
def test_of_fewer_than_two_rows_value_and_error_are_nan(n, m):
    value, error = kernel_distance(rows(n, 4), rows(m, 4))
    assert value.isnan()
    assert error.isnan()


@pytest.mark.parametrize(("n", "m"), [(2, 9), (9, 2)])
def test_of_two_rows_only_the_error_is_nan(n, m):
    value, error = kernel_distance(rows(n, 4), rows(m, 4))
    assert value.isfinite()
    assert error.isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("subsets", "size"), [(100, 10), (3, 25), (1, 2)])
def test_over_subsets_it_agrees_with_torch_fidelity(dtype, subsets, size):
    a, b = rows(40, 12).to(dtype), rows(25, 12, seed=1, shift=0.3).to(dtype)
    theirs = kid_features_to_metric(a, b, kid_subsets=subsets, kid_subset_size=size, verbose=False)
    value, error = kernel_distance_over_subsets(a, b, subsets, size)
    assert value.item() == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert error.item() == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4, abs=1e-12)


def test_subsets_of_everything_are_the_estimate_from_all_pairs():
    a, b = rows(12, 6), rows(12, 6, seed=1, shift=0.3)
    value, error = kernel_distance_over_subsets(a, b, subsets=4, subset_size=12)
    assert value.item() == pytest.approx(brute_force(a, b), rel=1e-10)
    assert error.item() < 1e-12


def test_another_seed_draws_other_subsets_and_the_same_seed_the_same():
    a, b = rows(20, 6), rows(20, 6, seed=1)
    first, again = (kernel_distance_over_subsets(a, b, 5, 8) for _ in range(2))
    assert first == again
    assert kernel_distance_over_subsets(a, b, 5, 8, seed=1).value != first.value


@pytest.mark.parametrize(("n", "m"), [(9, 20), (20, 9)])
def test_subsets_larger_than_a_set_are_refused_with_the_numbers(n, m):
    with pytest.raises(ValueError, match=f"subsets of 10 can't be drawn from {n} and {m} rows"):
        kernel_distance_over_subsets(rows(n, 4), rows(m, 4), subset_size=10)


@pytest.mark.parametrize("subsets", [2, 60])  # fewer pairs in all subsets than in the sets, and more
@pytest.mark.parametrize("chunk", [4, 512])
def test_over_subsets_it_is_the_estimate_of_each_subset_by_itself(monkeypatch, subsets, chunk):
    monkeypatch.setattr(kernel, "CHUNK", chunk)
    a, b = rows(25, 6), rows(19, 6, seed=1, shift=0.3)
    rng = np.random.RandomState(3)
    values = []
    for _ in range(subsets):
        chosen = (rng.choice(len(x), 7, replace=False) for x in (a, b))
        values.append(brute_force(*(x[torch.from_numpy(index)] for x, index in zip((a, b), chosen, strict=True))))
    found = kernel_distance_over_subsets(a, b, subsets, 7, seed=3)
    assert found.value.item() == pytest.approx(np.mean(values), rel=1e-9)
    assert found.error.item() == pytest.approx(np.std(values), rel=1e-9)
