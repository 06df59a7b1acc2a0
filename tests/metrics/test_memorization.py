from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torchmetrics.image import MemorizationInformedFrechetInceptionDistance

from monet_cyclegan.metrics import memorization
from monet_cyclegan.metrics.frechet import frechet_distance_of_rows
from monet_cyclegan.metrics.memorization import memorization_distance, mifid, nearest_training


def rows(count: int, width: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    rng = np.random.default_rng([seed, count, width])
    return torch.from_numpy((rng.normal(size=(count, width)) + shift).astype(np.float32))


def reference(generated: Tensor, training: Tensor) -> float:
    """Every pair by itself, as the competition describes it."""
    nearest = []
    for g in generated.double().numpy():
        if g.any():
            cosines = [abs(g @ t) / math.sqrt((g @ g) * (t @ t)) for t in training.double().numpy() if t.any()]
            nearest.append(min(1 - cosine for cosine in cosines))
    return float(np.mean(nearest))


def reference_mifid(generated: Tensor, training: Tensor, eps: float) -> float:
    """By SciPy; for covariances of full rank."""
    x, y = generated.double().numpy(), training.double().numpy()
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    fid = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real)
    d = reference(generated, training)
    return float(fid / ((d if d < eps else 1) + 1e-15))


def our_mifid(generated: Tensor, training: Tensor, eps: float) -> float:
    fid = frechet_distance_of_rows(training, generated)
    return mifid(fid, memorization_distance(generated, training), eps).item()


def with_zeros(features: Tensor) -> Tensor:
    features = features.clone()
    features[::3] = 0
    return features


def with_duplicates(features: Tensor) -> Tensor:
    return features[torch.arange(len(features)) // 2]


def float64(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("spoil_training", [torch.clone, with_zeros, with_duplicates])
@pytest.mark.parametrize("spoil_generated", [torch.clone, with_zeros, with_duplicates])
@pytest.mark.parametrize(("n", "m", "width"), [(9, 4, 3), (4, 30, 12), (25, 7, 40)])
def test_the_distance_is_the_formula(n, m, width, spoil_generated, spoil_training):
    generated, training = spoil_generated(rows(n, width)), spoil_training(rows(m, width, seed=1))
    assert memorization_distance(generated, training).item() == pytest.approx(reference(generated, training), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 9), (9, 1)])
def test_a_single_image_has_a_distance(n, m):
    generated, training = rows(n, 5), rows(m, 5, seed=1)
    assert memorization_distance(generated, training).item() == pytest.approx(reference(generated, training), rel=1e-6)


def test_the_mean_is_over_generated_images_and_the_minimum_over_training_images():
    generated = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    training = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    # Cosines of (3, 4) with the axes are 0.6 and 0.8; (1, 0) is a copy.
    assert memorization_distance(generated, training).item() == pytest.approx((0 + 0.2) / 2, rel=1e-12)
    # The other way (0, 1) is nearest to (3, 4), and both others are copies.
    assert memorization_distance(training, generated).item() == pytest.approx((0 + 0.2 + 0) / 3, rel=1e-12)


def test_each_image_is_told_its_nearest_training_image():
    generated = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-5.0, 0.0], [4.0, 3.0]])
    training = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    distance, index = nearest_training(generated, training)
    assert index.tolist() == [-1, 1, 2, 2]
    assert distance.tolist() == pytest.approx([math.nan, 0.2, 0, 0.2], rel=1e-12, nan_ok=True)


def test_opposite_directions_are_as_close_as_equal_ones():
    generated, training = rows(9, 5), rows(4, 5, seed=1)
    signs = torch.tensor([1, -1, 1, 1, -1, -1, 1, -1, 1])[:, None]
    expected = memorization_distance(generated, training).item()
    assert memorization_distance(generated * signs, training).item() == pytest.approx(expected, rel=1e-12)
    assert memorization_distance(generated, -training).item() == pytest.approx(expected, rel=1e-12)


def test_lengths_do_not_matter():
    generated, training = rows(9, 5), rows(4, 5, seed=1)
    lengths = torch.logspace(-6, 6, 9, dtype=torch.float64)[:, None]
    expected = memorization_distance(generated, training).item()
    assert memorization_distance(generated * lengths, 1e5 * training).item() == pytest.approx(expected, rel=1e-6)


def test_order_does_not_matter():
    generated, training = rows(9, 5), rows(4, 5, seed=1)
    expected = memorization_distance(generated, training).item()
    assert memorization_distance(generated.flip(0), training.roll(1, 0)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("chunk", [1, 4, 5])
def test_rows_that_do_not_fit_into_one_chunk_give_the_same(monkeypatch, chunk):
    generated, training = with_zeros(rows(10, 5)), with_zeros(rows(7, 5, seed=1))
    expected = nearest_training(generated, training)
    monkeypatch.setattr(memorization, "CHUNK", chunk)
    torch.testing.assert_close(nearest_training(generated, training), expected, equal_nan=True, rtol=1e-12, atol=0)


@pytest.mark.parametrize("width", [2, 3, 64, 2048])
def test_copies_have_no_distance(width):
    training = rows(30, width)
    distance, index = nearest_training(training.flip(0), training)
    assert index.tolist() == list(range(30))[::-1]
    assert (distance >= 0).all()
    assert distance.max() < 1e-12


@pytest.mark.parametrize("generated", [torch.zeros(3, 5), torch.zeros(0, 5), torch.ones(3, 5)])
def test_without_rows_to_compare_the_distance_is_nan(generated):
    training = rows(4, 5) if not generated.any() else torch.zeros(2, 5)
    assert memorization_distance(generated, training).isnan()


@pytest.mark.parametrize(
    ("d", "divisor"), [(0.05, 0.05), (math.nextafter(0.1, 0), 0.1), (0.1, 1), (math.nextafter(0.1, 1), 1), (0.9, 1)]
)
def test_only_a_distance_below_eps_is_held_against_the_images(d, divisor):
    assert mifid(float64(30.0), float64(d), eps=0.1).item() == pytest.approx(30 / divisor, rel=1e-12)


def test_by_default_eps_is_that_of_the_code_that_defined_the_metric():
    assert mifid(float64(30.0), float64(0.0999)).item() == pytest.approx(30 / 0.0999, rel=1e-12)
    assert mifid(float64(30.0), float64(0.1)).item() == pytest.approx(30, rel=1e-12)


def test_copies_divide_by_1e_15():
    assert mifid(float64(30.0), float64(0.0)).item() == pytest.approx(30 / 1e-15, rel=1e-12)


def test_without_a_distance_or_a_fid_it_is_nan():
    assert mifid(float64(30.0), float64(math.nan)).isnan()
    assert mifid(float64(math.nan), float64(0.05)).isnan()


def test_a_set_against_itself_gives_a_number():
    training = rows(20, 6)
    trace = torch.cov(training.double().T).trace().item()
    value = our_mifid(training, training, eps=0.1)
    assert 0 <= value <= 1e-9 * trace / 1e-15  # rounding, over rounding


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("n", "m", "width"), [(40, 30, 6), (100, 20, 4), (15, 200, 8)])
def test_mifid_is_the_formula_on_both_sides_of_eps(n, m, width, shift):
    generated, training = rows(n, width, shift=shift), rows(m, width, seed=1, shift=shift)
    d = reference(generated, training)
    for eps in (0.99 * d, 1.01 * d):
        expected = reference_mifid(generated, training, eps)
        assert our_mifid(generated, training, eps) == pytest.approx(expected, rel=1e-6)


def test_torchmetrics_goes_the_other_way_so_that_it_gives_this_value_with_the_sets_swapped():
    def theirs(real: Tensor, fake: Tensor, eps: float) -> float:
        metric = MemorizationInformedFrechetInceptionDistance(feature=nn.Identity(), cosine_distance_eps=eps)
        metric.update(real.double(), real=True)
        metric.update(fake.double(), real=False)
        return metric.compute().item()

    generated, training = rows(200, 6, shift=0.5), rows(20, 6, seed=1, shift=0.5)
    ours, reverse = reference(generated, training), reference(training, generated)
    assert reverse < 0.7 * ours  # with many generated images a training image has one near it
    eps = (reverse + ours) / 2
    fid = frechet_distance_of_rows(generated, training).item()
    assert our_mifid(generated, training, eps) == pytest.approx(fid, rel=1e-6)
    assert theirs(real=generated, fake=training, eps=eps) == pytest.approx(fid, rel=1e-6)
    assert theirs(real=training, fake=generated, eps=eps) == pytest.approx(fid / reverse, rel=1e-6)
