from __future__ import annotations

import pytest
import torch

from monet_cyclegan import diff_augment
from monet_cyclegan.diff_augment import POLICIES, DiffAugment, color, cutout, mean_sign, translation


def images(count: int = 4, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def seeded(function, *arguments):
    torch.manual_seed(0)
    return function(*arguments)


@pytest.mark.parametrize("policy", POLICIES.values())
def test_each_image_draws_for_itself_and_the_seed_decides(policy):
    same = images(1).expand(8, -1, -1, -1)
    made = seeded(policy, same)
    assert made.shape == same.shape
    assert len({tuple(image.flatten().tolist()) for image in made}) > 4
    assert torch.equal(made, seeded(policy, same))


@pytest.mark.parametrize("policy", POLICIES.values())
def test_gradients_pass_through(policy):
    x = images().requires_grad_()
    seeded(policy, x).square().sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.flatten(1).any(dim=1).all()


def test_color_is_brightness_then_saturation_then_contrast(monkeypatch):
    draws = iter([0.75, 0.25, 1.0])
    monkeypatch.setattr(diff_augment, "_draws", lambda images: torch.full((len(images), 1, 1, 1), next(draws)))
    x = torch.tensor([[[[0.3, 0.0]], [[0.0, 0.3]], [[0.0, 0.6]]]])  # (1, 3, 1, 2)
    # Brightness adds 0.25; saturation halves the distance to the grey 0.35 and 0.55; contrast is 1.5 around 0.45.
    grey = torch.tensor([[0.1, 0.3]]) + 0.25
    pale = grey + 0.5 * (x + 0.25 - grey)
    torch.testing.assert_close(color(x), 0.45 + 1.5 * (pale - 0.45))


def test_translation_moves_by_whole_pixels_and_zeros_come_in(monkeypatch):
    moves = iter([1, -2])
    monkeypatch.setattr(diff_augment, "_whole", lambda images, most: torch.full((len(images), 1, 1), next(moves)))
    x = images()
    moved = translation(x)
    assert torch.equal(moved[:, :, :-1, 2:], x[:, :, 1:, :-2])
    assert not moved[:, :, -1].any()
    assert not moved[:, :, :, :2].any()


def test_translation_goes_as_far_as_an_eighth_of_the_side():
    x = torch.ones(500, 1, 16, 16)
    empty = (16 - seeded(translation, x)[:, 0].amax(dim=2).sum(dim=1)).unique().tolist()
    assert empty == [0, 1, 2]


def test_cutout_takes_a_square_of_half_the_side():
    x = torch.ones(2000, 1, 16, 16)
    made = seeded(cutout, x)
    holes = 1 - made[:, 0]
    heights = holes.amax(dim=2).sum(dim=1)
    assert heights.max() == 8
    assert heights.min() == 4  # its middle lies inside
    assert holes.sum(dim=(1, 2)).max() == 64
    assert torch.equal(holes, holes.amax(dim=2, keepdim=True) * holes.amax(dim=1, keepdim=True))


@pytest.mark.parametrize(("probability", "changed"), [(0.0, 0), (1.0, 64), (0.25, 16)])
def test_an_image_is_augmented_with_the_probability(probability, changed):
    augment = DiffAugment(["color"], probability)
    x = images(64)
    count = (seeded(augment, x) != x).flatten(1).any(dim=1).sum().item()
    assert count == pytest.approx(changed, abs=8 if 0 < probability < 1 else 0)


def test_policies_follow_each_other():
    x = images()
    both = seeded(DiffAugment(["translation", "cutout"]), x)
    torch.manual_seed(0)
    torch.rand(4, 1, 1, 1)  # who is augmented
    assert torch.equal(both, cutout(translation(x)))


def test_the_probability_rises_while_real_images_are_known_too_surely_and_falls_else():
    augment = DiffAugment(probability=0.5, target=0.6, images_to_one=100)
    augment.adapt(torch.tensor(0.9), count=2)
    assert augment.probability.item() == pytest.approx(0.52)
    for _ in range(3):
        augment.adapt(torch.tensor(0.1), count=2)
    assert augment.probability.item() == pytest.approx(0.46)
    for _ in range(100):
        augment.adapt(torch.tensor(1.0), count=2)
    assert augment.probability.item() == 1
    assert augment.state_dict()["probability"] == 1


def test_without_a_target_it_stays():
    augment = DiffAugment(probability=0.5)
    augment.adapt(torch.tensor(1.0), count=1)
    assert augment.probability.item() == 0.5


def test_the_mean_sign_counts_patches_beyond_the_boundary_scale_by_scale():
    scales = [torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([0.6])]
    assert mean_sign(scales, boundary=0.5).item() == pytest.approx((0.5 + 1) / 2)
    assert mean_sign(scales, boundary=0.0).item() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policies": ["blur"]}, r"policies=\['blur'\]: choose some of color, translation, cutout"),
        ({"policies": []}, "choose some of"),
        ({"probability": 1.5}, "probability must be from 0 to 1, got 1.5"),
        ({"target": 1.0}, "target must be between -1 and 1, got 1.0"),
        ({"images_to_one": 0}, "images_to_one must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        DiffAugment(**options)
