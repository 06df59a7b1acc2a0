"""Heads on the real VGG16's features, at small sizes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from monet_cyclegan.losses import HingeLoss
from monet_cyclegan.networks.projected import ProjectedGAN, RandomProjection


def test_each_stage_is_judged_at_its_size_by_each_head() -> None:
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert [tuple(logits.shape) for logits in ProjectedGAN(base_channels=4)(images)] == [
        (2, 1, 17, 17),
        (2, 1, 9, 9),
        (2, 1, 5, 5),
    ]
    twice = ProjectedGAN(num_stages=1, skipped_stages=2, base_channels=4, num_heads=2)(images)
    assert [tuple(logits.shape) for logits in twice] == [(2, 1, 9, 9)] * 2


def test_only_the_heads_learn_and_only_they_and_the_mixing_are_saved() -> None:
    discriminator = ProjectedGAN(base_channels=4)
    # Three heads, each of a 3x3 convolution of 4 channels and one to a logit, with biases.
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 3 * (4 * 4 * 9 + 4 + 4 * 9 + 1)
    assert {name.partition(".")[0] for name in discriminator.state_dict()} == {"heads", "projection"}
    images = (torch.rand(1, 3, 32, 32) * 2 - 1).requires_grad_()
    sum(logits.square().mean() for logits in discriminator(images)).backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert images.grad.any()
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_a_state_dict_carries_the_mixing_too() -> None:
    torch.manual_seed(0)
    source, target = ProjectedGAN(base_channels=4).eval(), ProjectedGAN(base_channels=4).eval()
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    assert not torch.equal(source(images)[0], target(images)[0])
    target.load_state_dict(source.state_dict())
    for ours, theirs in zip(source(images), target(images), strict=True):
        assert torch.equal(ours, theirs)


def test_mixing_goes_across_channels_and_from_coarse_to_fine() -> None:
    projection = RandomProjection([2, 3], 1)
    projection.across0, projection.across1 = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0, 5.0]])
    projection.across0, projection.across1 = (x[:, :, None, None] for x in (projection.across0, projection.across1))
    projection.down0 = torch.zeros(1, 1, 3, 3)
    projection.down0[..., 1, 1] = 7.0
    fine, coarse = projection([torch.ones(1, 2, 4, 4), torch.ones(1, 3, 2, 2)])
    assert coarse.tolist() == [[[[12.0] * 2] * 2]]
    torch.testing.assert_close(fine, torch.full((1, 1, 4, 4), (3 + 7 * 12) / math.sqrt(2)))


def test_mixtures_are_about_as_large_as_the_features() -> None:
    torch.manual_seed(0)
    mixtures = RandomProjection([64, 128], 256)([torch.randn(1, 64, 16, 16), torch.randn(1, 128, 8, 8)])
    for mixture in mixtures:
        assert mixture.std() == pytest.approx(1, abs=0.25)  # interpolation between pixels takes some


def test_it_learns_to_tell_clouds_from_noise() -> None:
    torch.manual_seed(0)
    discriminator, loss = ProjectedGAN(num_stages=2, base_channels=8), HingeLoss()
    clouds = F.interpolate(torch.rand(4, 3, 5, 5) - 0.5, size=32, mode="bilinear")
    noise = torch.rand(4, 3, 32, 32) - 0.5
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=5e-3)
    for _ in range(20):
        optimizer.zero_grad()
        loss.discriminator(discriminator(clouds), discriminator(noise)).backward()
        optimizer.step()
    for real, fake in zip(discriminator(clouds), discriminator(noise), strict=True):
        assert real.mean() > 1
        assert fake.mean() < -1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_stages": 0}, "num_stages must be at least 1, got 0"),
        ({"base_channels": 0}, "base_channels must be at least 1, got 0"),
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        ({"num_stages": 5}, "skipped_stages must be 0 to 0, got 1"),
        ({"skipped_stages": -1}, "skipped_stages must be 0 to 2, got -1"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProjectedGAN(**options)


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="images of 16 x 16 pixels are too small"):
        ProjectedGAN(base_channels=4)(torch.zeros(1, 3, 16, 16))
