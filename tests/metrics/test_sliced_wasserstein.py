from __future__ import annotations

import math
from typing import Any

import cv2
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monet_cyclegan.errors import UserError
from monet_cyclegan.metrics import SlicedWassersteinDistance
from monet_cyclegan.metrics.sliced_wasserstein import (
    distance_per_level,
    laplacian_pyramid,
    sliced_wasserstein,
    take_patches,
)


def pictures(count: int, seed: int = 0, size: int = 32) -> Tensor:
    """Coloured blobs with some grain, (N, 3, H, W) uint8."""
    noise = torch.Generator().manual_seed(seed)
    blobs = F.interpolate(torch.rand(count, 3, 4, 4, generator=noise), size=(size, size), mode="bilinear")
    grain = torch.rand(count, 3, size, size, generator=noise)
    return (40 + 120 * blobs + 40 * grain).to(torch.uint8)


def metric(**options: Any) -> SlicedWassersteinDistance:
    return SlicedWassersteinDistance(**{"patches_per_image": 32, "num_directions": 64, **options})


def distance(real: Tensor, fake: Tensor, **options: Any) -> float:
    swd = metric(**options)
    swd.update(real, real=True)
    swd.update(fake, real=False)
    return swd.compute().item()


def blurred(images: Tensor) -> Tensor:
    return F.avg_pool2d(images.float(), 3, stride=1, padding=1, count_include_pad=False).round().to(torch.uint8)


def test_on_a_line_the_distance_of_a_shifted_set_is_the_shift():
    points = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    assert sliced_wasserstein(points, points + 0.7, torch.ones(1, 1)).item() == pytest.approx(0.7, abs=1e-5)


def test_in_more_dimensions_a_shift_counts_as_far_as_it_lies_along_the_directions():
    points = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    directions = torch.tensor([[1.0, 0.0, 0.6], [0.0, 1.0, 0.8]])
    shift = torch.tensor([3.0, 4.0])
    expected = (3 + 4 + 5) / 3
    assert sliced_wasserstein(points, points + shift, directions).item() == pytest.approx(expected, abs=1e-4)


def test_sets_of_different_sizes_give_the_distance_of_their_distributions():
    noise = torch.Generator().manual_seed(0)
    narrow = torch.randn(20_000, 1, generator=noise)
    wide = 2 * torch.randn(7_001, 1, generator=noise)
    expected = math.sqrt(2 / math.pi)  # E|2z - z|, the optimal plan moves z to 2z
    for a, b in ((narrow, wide), (wide, narrow)):
        assert sliced_wasserstein(a, b, torch.ones(1, 1)).item() == pytest.approx(expected, abs=0.03)


def test_a_set_repeated_is_the_same_set():
    points = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    assert sliced_wasserstein(points, points.repeat(3, 1), torch.ones(1, 1)).item() < 0.01


def test_more_directions_than_fit_at_once_are_averaged_like_few():
    points = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    direction = torch.tensor([[0.6], [0.8]])
    one = sliced_wasserstein(points, 2 * points, direction)
    many = sliced_wasserstein(points, 2 * points, direction.repeat(1, 300))
    torch.testing.assert_close(one, many)


@pytest.mark.parametrize(("size", "sizes"), [(16, [16]), (31, [31, 16]), (64, [64, 32, 16]), (70, [70, 35, 18])])
def test_the_pyramid_halves_down_to_16_pixels(size, sizes):
    assert [level.shape[-1] for level in laplacian_pyramid(torch.rand(1, 3, size, size))] == sizes


def test_the_smallest_level_agrees_with_opencv():
    image = pictures(1, size=64).float()
    expected = cv2.pyrDown(cv2.pyrDown(image[0].permute(1, 2, 0).numpy()))
    torch.testing.assert_close(laplacian_pyramid(image)[-1][0].permute(1, 2, 0), torch.from_numpy(expected))


def test_a_level_of_details_agrees_with_opencv_away_from_the_border():
    image = pictures(1, size=64).float()
    picture = image[0].permute(1, 2, 0).numpy()
    expected = torch.from_numpy(picture - cv2.pyrUp(cv2.pyrDown(picture)))
    details = laplacian_pyramid(image)[0][0].permute(1, 2, 0)
    torch.testing.assert_close(details[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-3, rtol=0)


def test_patches_lie_where_they_were_asked_for():
    images = torch.arange(2 * 3 * 16 * 20).reshape(2, 3, 16, 20)
    where = torch.tensor(
        [[[0.0, 0.999], [0.0, 0.999]], [[0.5, 0.0], [0.0, 0.5]]]
    )  # rows and columns of two patches each
    patches = take_patches(images, where)
    assert patches.shape == (2, 2, 3, 7, 7)
    assert torch.equal(patches[0, 0], images[0, :, :7, :7])
    assert torch.equal(patches[0, 1], images[0, :, 9:, 13:])
    assert torch.equal(patches[1, 0], images[1, :, 5:12, :7])
    assert torch.equal(patches[1, 1], images[1, :, :7, 7:14])


def test_lighter_images_are_as_far_off_as_a_gaussian_projection_says():
    bits = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    real = (50 + 100 * bits).to(torch.uint8)  # deviation 50 in every channel, one level
    # 10 / 50 deviations in all components of a patch, along a unit vector: 0.2 E|sum of its components|, nearly normal
    assert distance(real, real + 10, num_directions=512) == pytest.approx(1000 * 0.2 * math.sqrt(2 / math.pi), rel=0.1)


def test_a_set_has_no_distance_to_itself_and_little_to_its_like():
    assert distance(pictures(12), pictures(12)) == 0
    assert 0 < distance(pictures(40), pictures(40, seed=1)) < distance(pictures(40), 255 - pictures(40, seed=1)) / 3


def test_the_distance_is_about_the_same_both_ways():
    a, b = pictures(16), 255 - pictures(16, seed=1)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=0.1)


def test_the_further_colours_shift_the_larger_the_distance():
    real = pictures(12)
    tint = torch.tensor([1, 0, -1])[:, None, None]
    distances = [distance(real, (real.int() + shift * tint).to(torch.uint8)) for shift in (0, 5, 15, 40)]
    assert distances == sorted(distances)
    assert len(set(distances)) == 4


def test_blur_shows_most_at_the_finest_level():
    real = pictures(12)
    sharp, blur = metric(), metric()
    sharp.update(real, real=True)
    blur.update(blurred(real), real=False)
    directions = F.normalize(torch.randn(147, 64, generator=torch.Generator().manual_seed(0)), dim=0)
    fine, coarse = distance_per_level(sharp.real[0], blur.fake[0], directions)
    assert fine > 3 * coarse
    assert fine > 0.2


def test_sets_of_different_sizes_can_be_compared():
    assert distance(pictures(30), pictures(11)) < 0.5 * distance(pictures(30), 255 - pictures(11))


def test_images_need_not_be_square():
    assert distance(pictures(4)[..., :20], pictures(4)[..., :20]) == 0


def test_neither_batches_nor_other_random_draws_matter():
    real, fake = pictures(9), pictures(9, seed=1)
    expected = distance(real, fake)
    swd = metric()
    for part in (real[:1], real[1:5], real[5:]):
        torch.rand(3)
        swd.update(part, real=True)
    for part in (fake[:7], fake[7:]):
        swd.update(part, real=False)
    before = torch.get_rng_state()
    assert swd.compute().item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_order_of_images_hardly_matters():
    real, fake = pictures(30), pictures(30, seed=1) // 2
    assert distance(real, fake.flip(0), patches_per_image=64) == pytest.approx(
        distance(real, fake, patches_per_image=64), rel=0.05
    )


def test_another_seed_draws_other_patches_and_directions():
    real, fake = pictures(9), pictures(9, seed=1) // 2
    assert distance(real, fake, seed=0) != distance(real, fake, seed=1)
    assert distance(real, fake, seed=0) == pytest.approx(distance(real, fake, seed=1), rel=0.2)


def test_after_a_reset_the_same_images_give_the_same_value():
    swd = metric()
    values = []
    for _ in range(2):
        swd.update(pictures(5), real=True)
        swd.update(pictures(5, seed=1), real=False)
        values.append(swd.compute().item())
        swd.reset()
    assert values[0] == values[1]


def test_no_more_images_are_held_than_allowed():
    extra = 255 - pictures(20)
    expected = distance(pictures(5), pictures(5, seed=1))
    swd = metric(max_images=5)
    swd.update(torch.cat([pictures(5), extra]), real=True)
    for part in (pictures(5, seed=1), extra):
        swd.update(part, real=False)
    assert swd.compute().item() == pytest.approx(expected, rel=1e-5)
    assert sum(len(patches) for patches in swd.fake) == 5


def test_two_processes_with_the_same_images_agree_with_one():
    options = {"dist_sync_fn": lambda state, group: [state, state], "distributed_available_fn": lambda: True}
    swd = metric(**options)
    for part in (slice(0, 2), slice(2, 6)):
        swd.update(pictures(6)[part], real=True)
        swd.update(pictures(6, seed=1)[part], real=False)
    assert swd.compute().item() == pytest.approx(distance(pictures(6), pictures(6, seed=1)), rel=1e-4)
    assert [len(batch) for batch in swd.fake] == [2, 4]


def test_flat_images_give_a_finite_distance():
    black = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    assert distance(black, black) == 0
    assert math.isfinite(distance(black, pictures(2, size=16)))


@pytest.mark.parametrize(("real", "fake"), [(0, 0), (5, 0), (0, 5)])
def test_a_set_without_images_is_refused_with_their_numbers(real, fake):
    swd = metric()
    swd.update(pictures(max(real, 1))[:real], real=True)
    swd.update(pictures(max(fake, 1))[:fake], real=False)
    with pytest.raises(UserError, match=f"not {real} real and {fake} fake"):
        swd.compute()


def test_sets_of_different_image_sizes_are_refused():
    with pytest.raises(UserError, match="same size"):
        distance(pictures(2, size=32), pictures(2, size=16))


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 15, dtype=torch.uint8)])
def test_images_of_the_wrong_kind_are_refused(images):
    with pytest.raises(ValueError, match="uint8 images of 16 pixels"):
        metric().update(images, real=True)
