from __future__ import annotations

from math import exp, log

import pytest
import torch

from monet_cyclegan.losses import (
    AdversarialLoss,
    HingeLoss,
    LSGANLoss,
    TwoObjectives,
    VanillaLoss,
    WassersteinLoss,
    consistency_loss,
    cycle_loss,
    identity_loss,
)


def logits(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(values).reshape(1, 1, 1, -1)]


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


@pytest.mark.parametrize(
    ("loss", "generator", "discriminator"),
    [
        # fake patches are 0.5 and -2, real ones 3 and 0.25
        (LSGANLoss(), (0.5**2 + 3**2) / 2, ((2**2 + 0.75**2) / 2 + (0.5**2 + 2**2) / 2) / 2),
        (
            VanillaLoss(),
            -(log(sigmoid(0.5)) + log(sigmoid(-2))) / 2,
            -((log(sigmoid(3)) + log(sigmoid(0.25))) / 2 + (log(1 - sigmoid(0.5)) + log(1 - sigmoid(-2))) / 2) / 2,
        ),
        (HingeLoss(), (-0.5 + 2) / 2, (0 + 0.75) / 2 + (1.5 + 0) / 2),
        (WassersteinLoss(), (-0.5 + 2) / 2, (0.5 - 2) / 2 - (3 + 0.25) / 2),
    ],
    ids=["lsgan", "vanilla", "hinge", "wasserstein"],
)
def test_losses_match_their_papers_on_numbers(loss: AdversarialLoss, generator: float, discriminator: float) -> None:
    assert loss.generator(logits(0.5, -2.0)).item() == pytest.approx(generator, rel=1e-6)
    assert loss.discriminator(logits(3.0, 0.25), logits(0.5, -2.0)).item() == pytest.approx(discriminator, rel=1e-6)


def test_smoothing_lowers_the_discriminators_target_for_real_images_alone() -> None:
    real, fake = logits(0.9), logits(0.4)
    assert LSGANLoss(0.1).discriminator(real, fake).item() == pytest.approx(0.4**2 / 2)
    cross_entropy = -(0.9 * log(sigmoid(0.9)) + 0.1 * log(1 - sigmoid(0.9))) / 2 - log(1 - sigmoid(0.4)) / 2
    assert VanillaLoss(0.1).discriminator(real, fake).item() == pytest.approx(cross_entropy)
    for smoothed, plain in ((LSGANLoss(0.1), LSGANLoss()), (VanillaLoss(0.1), VanillaLoss())):
        assert smoothed.generator(fake) == plain.generator(fake)


@pytest.mark.parametrize("loss", [LSGANLoss, VanillaLoss])
@pytest.mark.parametrize("smoothing", [-0.1, 0.5])
def test_smoothing_out_of_range_is_refused(loss, smoothing: float) -> None:
    with pytest.raises(ValueError, match=r"smoothing must be at least 0 and below 0\.5"):
        loss(smoothing)


def test_of_two_objectives_each_has_every_other_output() -> None:
    first, second = HingeLoss(), VanillaLoss()
    real, fake = logits(3.0) + logits(0.25), logits(0.5) + logits(-2.0)
    both = TwoObjectives(first, second)
    generator = (first.generator(fake[:1]) + second.generator(fake[1:])) / 2
    torch.testing.assert_close(both.generator(fake), generator)
    discriminator = (first.discriminator(real[:1], fake[:1]) + second.discriminator(real[1:], fake[1:])) / 2
    torch.testing.assert_close(both.discriminator(real, fake), discriminator)
    torch.testing.assert_close(both.generator(fake + fake), generator)  # a second scale with both heads


@pytest.mark.parametrize(
    ("loss", "boundary"),
    [(LSGANLoss(), 0.5), (VanillaLoss(), 0), (HingeLoss(), 0), (TwoObjectives(HingeLoss(), VanillaLoss()), 0)],
)
def test_a_logit_between_real_and_fake_is_known(loss: AdversarialLoss, boundary: float) -> None:
    assert loss.boundary == boundary


def test_consistency_sees_light_and_colour_of_large_parts_and_no_strokes() -> None:
    real = torch.zeros(1, 3, 8, 8)
    strokes = real.clone()
    strokes[..., ::2] += 0.5
    strokes[..., 1::2] -= 0.5
    assert consistency_loss(strokes, real, 4).item() == 0
    assert consistency_loss(strokes + 0.25, real, 4).item() == pytest.approx(0.25)
    half = real.clone()
    half[..., :4] = 1
    assert consistency_loss(half, real, 4).item() == pytest.approx(0.5)
    assert consistency_loss(strokes + 0.25, real, 4, squared=True).item() == pytest.approx(0.25**2)


@pytest.mark.parametrize(("squared", "pull"), [(False, 1.0), (True, 0.0)])
def test_squared_consistency_does_not_hold_a_generator_at_its_image(squared: bool, pull: float) -> None:
    fake = torch.full((1, 1, 4, 4), 1e-6, requires_grad=True)
    consistency_loss(fake, torch.zeros(1, 1, 4, 4), 4, squared=squared).backward()
    assert fake.grad is not None
    assert fake.grad.sum().item() == pytest.approx(pull, abs=1e-5)


ALL = pytest.mark.parametrize("loss", [LSGANLoss(), VanillaLoss(), HingeLoss(), WassersteinLoss()])


@ALL
def test_each_scale_counts_the_same_however_many_patches_it_has(loss: AdversarialLoss) -> None:
    fine, coarse = logits(0.5, -0.5, 0.3, 0.9), logits(-0.25)
    both = fine + coarse
    expected = (loss.generator(fine) + loss.generator(coarse)) / 2
    torch.testing.assert_close(loss.generator(both), expected)
    expected = (loss.discriminator(fine, coarse) + loss.discriminator(coarse, fine)) / 2
    torch.testing.assert_close(loss.discriminator(both, both[::-1]), expected)


@ALL
def test_generator_pushes_fakes_up_and_discriminator_pushes_them_apart(loss: AdversarialLoss) -> None:
    real, fake = torch.zeros(1, 1, 2, 2, requires_grad=True), torch.full((1, 1, 2, 2), 0.1, requires_grad=True)
    (wanted,) = torch.autograd.grad(loss.generator([fake]), fake)
    assert (wanted < 0).all()
    for_real, for_fake = torch.autograd.grad(loss.discriminator([real], [fake]), [real, fake])
    assert (for_real < 0).all()
    assert (for_fake > 0).all()


def test_vanilla_loss_and_its_gradient_stay_finite_for_hopeless_fakes() -> None:
    fake = torch.full((1, 1, 1, 1), -1000.0, requires_grad=True)
    loss = VanillaLoss().generator([fake])
    loss.backward()
    assert loss.item() == 1000
    assert fake.grad is not None
    assert fake.grad.item() == -1


def test_bfloat16_logits_are_averaged_in_float32() -> None:
    loss = WassersteinLoss().generator([torch.full((1, 1, 64, 64), 1.0, dtype=torch.bfloat16)])
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("loss", [cycle_loss, identity_loss])
def test_cycle_and_identity_loss_are_the_mean_absolute_difference(loss: object) -> None:
    a = torch.tensor([0.0, 1.0, -1.0, 0.5]).reshape(1, 1, 2, 2)
    b = torch.tensor([0.5, 1.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    assert loss(a, b).item() == (0.5 + 0 + 2 + 0.5) / 4
