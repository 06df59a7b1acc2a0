from __future__ import annotations

import math

import pytest
import torch

from monet_cyclegan.networks import MultiScaleGAN, PatchGAN, PixelGAN
from monet_cyclegan.penalties import R1, WGANGP, GradientPenalty, ZeroCentered

KINDS = pytest.mark.parametrize("kind", [WGANGP, R1, ZeroCentered])
REAL, FAKE = torch.full((2, 1, 1, 2), 0.5), torch.full((2, 1, 1, 2), -1.0)


def linear(weight: torch.Tensor) -> object:
    """D(x) = <w, x>, whose gradient is w everywhere."""
    return lambda images: [(images * weight).sum(dim=(1, 2, 3), keepdim=True)]


def half_square(images: torch.Tensor) -> list[torch.Tensor]:
    """D(x) = ‖x‖² / 2, whose gradient is x."""
    return [images.square().sum(dim=(1, 2, 3), keepdim=True) / 2]


@pytest.mark.parametrize(
    ("penalty", "value", "slope"),
    [
        # ‖w‖ = ‖(3, 4)‖ = 5, and ∂‖w‖/∂w = w / 5
        (WGANGP(weight=10), 10 * (5 - 1) ** 2, 10 * 2 * (5 - 1) / 5),
        (R1(weight=10, every_n_steps=1), 10 / 2 * 25, 10),
        (ZeroCentered(weight=10), 10 * 25, 20),
    ],
    ids=["wgan-gp", "r1", "zero-centred"],
)
def test_penalty_and_its_gradient_have_the_closed_form_of_a_linear_discriminator(
    penalty: GradientPenalty, value: float, slope: float
) -> None:
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    result = penalty(linear(weight), REAL, FAKE)
    result.backward()
    assert result.shape == ()
    assert result.item() == pytest.approx(value)
    torch.testing.assert_close(weight.grad, slope * weight.detach())


@KINDS
def test_a_rare_penalty_is_as_many_times_stronger(kind: type[GradientPenalty]) -> None:
    discriminate = linear(torch.tensor([3.0, 4.0]))
    often, rarely = (kind(weight=2, every_n_steps=n)(discriminate, REAL, FAKE).item() for n in (1, 16))
    assert rarely == pytest.approx(16 * often)


@KINDS
def test_a_penalty_is_due_at_every_nth_step(kind: type[GradientPenalty]) -> None:
    assert [step for step in range(10) if kind(weight=1, every_n_steps=4).due(step)] == [0, 4, 8]
    assert all(kind(weight=1, every_n_steps=1).due(step) for step in range(10))
    assert not any(kind(weight=0, every_n_steps=1).due(step) for step in range(10))


def test_the_score_is_the_mean_over_patches_then_over_scales() -> None:
    def discriminate(images: torch.Tensor) -> list[torch.Tensor]:
        x = images[..., :1]  # of the two pixels only the first is looked at
        return [torch.cat([x, 3 * x], dim=-1), 6 * x]  # mean slopes 2 and 6, together 4

    assert R1(weight=1, every_n_steps=1)(discriminate, REAL, FAKE).item() == pytest.approx(4**2 / 2)


def test_norms_are_taken_per_image_and_averaged() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 3.0]]).reshape(2, 1, 1, 2)
    assert R1(weight=1, every_n_steps=1)(half_square, images, FAKE).item() == pytest.approx((1 + 9) / 2 / 2)
    assert ZeroCentered(weight=1)(half_square, images, images).item() == pytest.approx((1 + 9) / 2)
    assert WGANGP(weight=1)(half_square, images, images).item() == pytest.approx((0 + 2**2) / 2)


@pytest.mark.parametrize("kind", [WGANGP, ZeroCentered])
def test_points_are_spread_evenly_between_each_real_and_fake_image(kind: type[GradientPenalty]) -> None:
    torch.manual_seed(0)
    real, fake = torch.zeros(4000, 1, 1, 2), torch.ones(4000, 1, 1, 2)
    seen: list[torch.Tensor] = []

    def discriminate(images: torch.Tensor) -> list[torch.Tensor]:
        seen.append(images.detach())
        return half_square(images)

    kind(weight=1)(discriminate, real, fake)
    shares = seen[0][..., 0].flatten()
    assert torch.equal(seen[0][..., 1].flatten(), shares)  # one share for all pixels of an image
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares.mean().item() == pytest.approx(1 / 2, abs=0.02)
    assert shares.var().item() == pytest.approx(1 / 12, abs=0.01)


def test_r1_looks_at_the_real_images() -> None:
    seen: list[torch.Tensor] = []
    R1()(lambda images: seen.append(images.detach()) or half_square(images), REAL, FAKE)
    assert torch.equal(seen[0], REAL)


@KINDS
def test_the_images_given_are_left_without_gradients(kind: type[GradientPenalty]) -> None:
    real, fake = REAL.clone(), FAKE.clone()
    kind()(half_square, real, fake)
    assert not real.requires_grad
    assert not fake.requires_grad


def test_a_penalty_sends_no_gradient_into_the_generator() -> None:
    fake = FAKE.clone().requires_grad_()
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    WGANGP()(lambda images: [(weight * images.square()).sum(dim=(1, 2, 3), keepdim=True)], REAL, fake).backward()
    assert fake.grad is None
    assert weight.grad is not None


def test_wgan_gp_of_a_flat_discriminator_has_a_finite_gradient() -> None:
    weight = torch.zeros(2, requires_grad=True)
    penalty = WGANGP(weight=10)(linear(weight), REAL, FAKE)
    penalty.backward()
    assert penalty.item() == 10
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


@KINDS
def test_a_penaltys_gradient_is_its_slope_by_differences(kind: type[GradientPenalty]) -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(2, 2, 1, 3, 3, dtype=torch.float64)
    first, last = torch.randn(2, 1, 2, 2, dtype=torch.float64), torch.randn(1, 2, 2, 2, dtype=torch.float64)

    def penalty(first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)  # of points between real and fake
        convolve = torch.nn.functional.conv2d
        return kind(weight=3, every_n_steps=1)(lambda x: [convolve(convolve(x, first).tanh(), last)], real, fake)

    assert torch.autograd.gradcheck(penalty, (first.requires_grad_(), last.requires_grad_()))


@KINDS
@pytest.mark.parametrize("options", [{"norm": "instance"}, {"norm": "none"}, {"norm": "none", "spectral_norm": True}])
@pytest.mark.parametrize("network", [PatchGAN, PixelGAN, MultiScaleGAN])
def test_every_weight_of_every_discriminator_learns_from_every_penalty(
    kind: type[GradientPenalty], options: dict[str, object], network: type[torch.nn.Module]
) -> None:
    torch.manual_seed(0)
    discriminator = network(base_channels=4, **options)
    real, fake = torch.rand(2, 2, 3, 48, 48) * 2 - 1
    kind(weight=1, every_n_steps=1)(discriminator, real, fake).backward()
    for name, parameter in discriminator.named_parameters():
        if parameter.ndim == 4:  # the slope doesn't depend on most biases
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


@KINDS
@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_out_of_range_is_refused(kind: type[GradientPenalty], weight: float) -> None:
    with pytest.raises(ValueError, match=f"weight of a gradient penalty must be 0 or more, got {weight}"):
        kind(weight=weight)


@KINDS
def test_fewer_than_every_step_is_refused(kind: type[GradientPenalty]) -> None:
    with pytest.raises(ValueError, match="every_n_steps must be at least 1, got 0"):
        kind(every_n_steps=0)


def test_batches_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError, match=r"real images of shape \(2, 1, 1, 2\), but fake ones of \(1, 1, 1, 2\)"):
        WGANGP()(half_square, REAL, FAKE[:1])
