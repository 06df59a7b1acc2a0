from __future__ import annotations

import pickle
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from monet_cyclegan.metrics import FeatureMetric, FrechetInceptionDistance, KernelInceptionDistance, MiFID
from monet_cyclegan.metrics.feature_metrics import BLOCK, no_rows
from monet_cyclegan.metrics.frechet import frechet_distance, moments
from monet_cyclegan.metrics.kernel import kernel_distance, kernel_distance_over_subsets
from monet_cyclegan.metrics.memorization import memorization_distance

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 6
MAKERS: dict[str, Any] = {
    "fid": FrechetInceptionDistance,
    "kid": KernelInceptionDistance,
    "kid over subsets": lambda features: KernelInceptionDistance(features, subsets=5, subset_size=10),
    "mifid": MiFID,
    "mifid with a penalty": lambda features: MiFID(features, eps=2.0),
}
every_metric = pytest.mark.parametrize("name", MAKERS)


class Edges(nn.Module):
    """A small random network that says nothing of its width; in float64, so that batches don't round differently."""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.randn(WIDTH, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images.double() / 255, self.weights).relu().mean(dim=(2, 3))


class MeanColours(nn.Module):
    """Says its width, which is not what one would see of a black image if it were run."""

    num_features = 3

    def forward(self, images: Tensor) -> Tensor:
        assert images.any(), "run on a black image"
        return images.float().mean(dim=(2, 3))


def pictures(count: int, seed: int = 0) -> Tensor:
    """Noise of different brightness and contrast, (N, 3, H, W) uint8."""
    noise = torch.Generator().manual_seed(seed)
    brightest = torch.randint(40 + 20 * seed, 256, (count, 3, 1, 1), generator=noise)
    return (torch.rand(count, 3, 6, 6, generator=noise) * brightest).to(torch.uint8)


def features_of(images: Tensor) -> Tensor:
    with torch.no_grad():
        return Edges()(images)


def value(metric: FeatureMetric, real: Tensor, fake: Tensor, batch: int = 1000) -> float:
    """What ``metric`` gives of images, or of their features, in batches."""
    for part in real.split(batch):
        metric.update(part, real=True)
    for part in fake.split(batch):
        metric.update(part, real=False)
    return metric.compute().item()


def expected_fid(real: Tensor, fake: Tensor) -> float:
    return frechet_distance(moments(features_of(real)), moments(features_of(fake))).item()


def test_fid_is_the_frechet_distance_of_the_images_features():
    real, fake = pictures(40), pictures(30, seed=1)
    assert value(FrechetInceptionDistance(Edges()), real, fake) == pytest.approx(expected_fid(real, fake), rel=1e-9)


def test_kid_is_the_distance_over_all_pairs_with_its_error():
    real, fake = pictures(20), pictures(30, seed=1)
    expected = kernel_distance(features_of(fake), features_of(real))
    kid = KernelInceptionDistance(Edges())
    assert value(kid, real, fake) == pytest.approx(expected.value.item(), rel=1e-9)
    assert kid.error.item() == pytest.approx(expected.error.item(), rel=1e-9)


def test_kid_over_subsets_draws_from_the_generated_images_first_as_torch_fidelity_does():
    real, fake = pictures(20), pictures(30, seed=1)
    expected = kernel_distance_over_subsets(features_of(fake), features_of(real), subsets=7, subset_size=15)
    kid = KernelInceptionDistance(Edges(), subsets=7, subset_size=15)
    assert value(kid, real, fake) == pytest.approx(expected.value.item(), rel=1e-9)
    assert kid.error.item() == pytest.approx(expected.error.item(), rel=1e-9)


def test_mifid_is_made_of_fid_and_the_distance_from_generated_to_real_images():
    real, fake = pictures(8), pictures(30, seed=1)
    d = memorization_distance(features_of(fake), features_of(real)).item()
    assert d != pytest.approx(memorization_distance(features_of(real), features_of(fake)).item(), rel=0.1)
    fid = expected_fid(real, fake)
    for eps, divisor in ((0.99 * d, 1), (1.01 * d, d)):
        metric = MiFID(Edges(), eps=eps)
        assert value(metric, real, fake) == pytest.approx(fid / divisor, rel=1e-7)
        assert metric.fid.item() == pytest.approx(fid, rel=1e-7)
        assert metric.memorization_distance.item() == pytest.approx(d, rel=1e-7)


@every_metric
def test_scores_are_named_as_they_are_logged_and_are_what_compute_and_the_parts_say(name):
    metric = MAKERS[name](Edges())
    number = value(metric, pictures(20), pictures(15, seed=1))
    expected = {
        "fid": {"fid": number},
        "kid": {"kid": number, "kid_error": getattr(metric, "error", None)},
        "mifid": {
            "mifid": number,
            "fid": getattr(metric, "fid", None),
            "memorization_distance": getattr(metric, "memorization_distance", None),
        },
    }[name.split()[0]]
    assert {key: score.item() for key, score in metric.scores().items()} == expected


@every_metric
def test_features_in_place_of_images_give_the_same(name):
    real, fake = pictures(20), pictures(15, seed=1)
    by_images = value(MAKERS[name](Edges()), real, fake)
    assert value(MAKERS[name](Edges()), features_of(real), features_of(fake)) == pytest.approx(by_images, rel=1e-9)
    assert value(MAKERS[name](Edges()), features_of(real), fake) == pytest.approx(by_images, rel=1e-9)


@every_metric
@pytest.mark.parametrize("batch", [1, 7, 200])
def test_the_size_of_batches_does_not_matter(name, batch):
    real, fake = pictures(50), pictures(200, seed=1)
    expected = value(MAKERS[name](Edges()), real, fake)
    assert value(MAKERS[name](Edges()), real, fake, batch) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", ["fid", "kid", "mifid", "mifid with a penalty"])
def test_the_order_of_images_does_not_matter(name):
    real, fake = pictures(50), pictures(30, seed=1)
    expected = value(MAKERS[name](Edges()), real, fake)
    assert value(MAKERS[name](Edges()), real.flip(0), fake.roll(9, 0), 7) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("batch", [1, 100, BLOCK - 1, BLOCK, 3 * BLOCK])
def test_fid_of_many_blocks_is_that_of_all_rows(batch):
    real = torch.randn(2 * BLOCK + 5, WIDTH, generator=torch.Generator().manual_seed(0)) + 10
    fake = torch.randn(BLOCK + 1, WIDTH, generator=torch.Generator().manual_seed(1)) * 2 + 11
    expected = frechet_distance(moments(real), moments(fake)).item()
    assert value(FrechetInceptionDistance(Edges()), real, fake, batch) == pytest.approx(expected, rel=1e-9)


def test_fid_takes_no_more_memory_for_more_images():
    fid = FrechetInceptionDistance(Edges())
    sizes = []
    for batches in (0, BLOCK // 8, 12 * BLOCK // 8):  # nothing waits after a whole number of blocks
        for _ in range(batches):
            fid.update(torch.rand(8, WIDTH), real=True)
            fid.update(torch.rand(8, WIDTH), real=False)
        sizes.append(len(pickle.dumps(fid)))
    assert max(sizes) < min(sizes) + 1000


@every_metric
def test_images_may_follow_after_a_computation(name):
    real, fake = pictures(30), pictures(40, seed=1)
    expected = value(MAKERS[name](Edges()), real, fake)
    metric = MAKERS[name](Edges())
    first = value(metric, real, fake[:25])
    metric.update(fake[25:], real=False)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-7)
    assert first != pytest.approx(expected, rel=1e-3)


@every_metric
@pytest.mark.parametrize("computed", [False, True])
def test_a_reset_forgets_everything(name, computed):
    real, fake = pictures(30), pictures(40, seed=1)
    expected = value(MAKERS[name](Edges()), real, fake)
    metric = MAKERS[name](Edges())
    metric.update(pictures(BLOCK + 9, seed=2), real=True)
    metric.update(pictures(9, seed=3), real=False)  # FID has them wait for more
    metric.update(pictures(9, seed=3), real=False)
    if computed:
        metric.compute()
    metric.reset()
    assert value(metric, real, fake) == pytest.approx(expected, rel=1e-9)


@every_metric
def test_a_pickled_metric_goes_on_where_it_was(name):
    real, fake = pictures(30), pictures(40, seed=1)
    metric = MAKERS[name](Edges())
    metric.update(real, real=True)
    metric.update(fake[:13], real=False)
    again = pickle.loads(pickle.dumps(metric))
    again.update(fake[13:], real=False)
    assert again.compute().item() == pytest.approx(value(MAKERS[name](Edges()), real, fake), rel=1e-7)


@pytest.mark.parametrize("name", ["fid", "kid", "mifid"])
@pytest.mark.parametrize(("n", "m"), [(1, 9), (9, 1), (1, 1)])
def test_of_a_single_image_a_score_is_nan(name, n, m):
    metric = MAKERS[name](Edges())
    value(metric, pictures(n), pictures(m, seed=1))
    assert metric.compute().isnan()


@pytest.mark.parametrize("name", ["fid", "kid", "mifid"])
@pytest.mark.parametrize("real", [False, True])
def test_with_images_of_one_kind_only_a_score_is_nan(name, real):
    metric = MAKERS[name](Edges())
    metric.update(pictures(9), real=real)
    metric.update(pictures(9)[:0], real=not real)
    assert metric.compute().isnan()


def test_a_single_generated_image_has_a_memorization_distance():
    mifid = MiFID(Edges())
    value(mifid, pictures(9), pictures(1, seed=1))
    expected = memorization_distance(features_of(pictures(1, seed=1)), features_of(pictures(9))).item()
    assert mifid.memorization_distance.item() == pytest.approx(expected, rel=1e-7)


def test_a_batch_of_no_images_changes_nothing():
    for name, maker in MAKERS.items():
        metric = maker(Edges())
        real, fake = pictures(20), pictures(15, seed=1)
        metric.update(real[:0], real=True)
        metric.update(features_of(fake)[:0], real=False)
        assert value(metric, real, fake) == pytest.approx(value(maker(Edges()), real, fake), rel=1e-9), name


@every_metric
def test_no_gradients_are_kept_for_the_network_or_the_features(name):
    metric = MAKERS[name](Edges())
    fake = features_of(pictures(15, seed=1)).requires_grad_()
    with torch.enable_grad():
        metric.update(pictures(20), real=True)
        metric.update(fake, real=False)
        assert not metric.compute().requires_grad


@every_metric
@pytest.mark.parametrize(
    ("images", "named"),
    [
        (torch.zeros(2, 3, 6, 6), r"torch.float32 of shape \(2, 3, 6, 6\)"),
        (torch.zeros(2, 3, 6, 6, dtype=torch.int64), r"torch.int64 of shape \(2, 3, 6, 6\)"),
        (torch.zeros(3, 6, 6, dtype=torch.uint8), r"torch.uint8 of shape \(3, 6, 6\)"),
        (torch.zeros(2, WIDTH, dtype=torch.int64), r"torch.int64 of shape \(2, 6\)"),
        (torch.zeros(WIDTH), r"torch.float32 of shape \(6,\)"),
    ],
)
def test_anything_but_uint8_images_and_float_features_is_refused_and_named(name, images, named):
    with pytest.raises(ValueError, match=named):
        MAKERS[name](Edges()).update(images, real=True)


def test_the_width_of_features_is_what_the_network_says_or_shows():
    assert no_rows(MeanColours()).shape == (0, 3)
    assert no_rows(Edges()).shape == (0, WIDTH)
    fid = FrechetInceptionDistance(MeanColours())
    assert value(fid, torch.eye(2, 3), torch.eye(2, 3) + 1) == pytest.approx(3, rel=1e-9)


@every_metric
def test_lower_is_better(name):
    assert MAKERS[name](Edges()).higher_is_better is False


@every_metric
def test_calling_a_metric_updates_it_and_gives_no_score_of_a_batch(name):
    called, updated = MAKERS[name](Edges()), MAKERS[name](Edges())
    real, fake = pictures(12), pictures(11, seed=1)
    assert called(real, real=True) is None
    assert called(fake, real=False) is None
    assert called.compute().item() == value(updated, real, fake)


def test_running_sums_can_be_merged_while_rows_wait():
    parts, whole = [FrechetInceptionDistance(Edges()) for _ in range(3)], FrechetInceptionDistance(Edges())
    real, fake = pictures(12), pictures(9, seed=1)
    for part, metric in enumerate(parts):
        metric.update(real[part::3], real=True)
        metric.update(fake[part::3], real=False)
    for part in parts[1:]:
        parts[0].merge_state(part)
    assert parts[0].compute().item() == pytest.approx(value(whole, real, fake), rel=1e-9)


@pytest.mark.parametrize("name", [name for name in MAKERS if "subsets" not in name])
def test_without_images_of_a_kind_the_score_is_not_a_number(name):
    metric = MAKERS[name](Edges())
    metric.update(pictures(5), real=True)
    assert metric.compute().isnan()


# ---- two processes ----

REAL, FAKE, MORE = pictures(57), pictures(BLOCK + 60, seed=1), pictures(12, seed=2)
SHARES = [(slice(0, 50), slice(0, BLOCK + 20)), (slice(50, 57), slice(BLOCK + 20, BLOCK + 60))]


def scores_of_a_process(rank: int, folder: Path) -> None:
    """Score this process's share, then once more with some generated images that only rank 1 was given."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    reals, fakes = SHARES[rank]
    found = {}
    for name, maker in MAKERS.items():
        metric = maker(Edges())
        metric.update(REAL[reals], real=True)
        metric.update(FAKE[: 30 * rank], real=False)
        found[f"{name} without generated images on rank 0"] = metric.compute().item()
        metric = maker(Edges())
        for part in REAL[reals].split(7):
            metric.update(part, real=True)
        for part in FAKE[fakes].split(64):
            metric.update(part, real=False)
        found[name] = [{key: score.item() for key, score in metric.scores().items()}]
        metric.update(MORE[: len(MORE) * rank], real=False)
        found[name].append({key: score.item() for key, score in metric.scores().items()})
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_with_unequal_shares_both_give_what_one_process_gives(tmp_path):
    mp.spawn(scores_of_a_process, args=(tmp_path,), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, maker in MAKERS.items():
        expected = pytest.approx(value(maker(Edges()), REAL, FAKE[:30]), rel=1e-7)
        assert [found[f"{name} without generated images on rank 0"] for found in ranks] == [expected] * 2, name
    for name, maker in MAKERS.items():
        for turn, fake in enumerate((FAKE, torch.cat([FAKE, MORE]))):
            metric = maker(Edges())
            value(metric, REAL, fake)
            expected = {key: pytest.approx(score.item(), rel=1e-7) for key, score in metric.scores().items()}
            assert ranks[0][name][turn] == expected, name
            assert ranks[1][name][turn] == ranks[0][name][turn], name
