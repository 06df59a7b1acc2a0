from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monet_cyclegan.feature_memory import FeatureMemory, Remembered
from monet_cyclegan.losses import LSGANLoss
from monet_cyclegan.networks import BatchStatisticsGAN
from monet_cyclegan.networks.batch_statistics import joined_moments, moments


def tiny(**options: object) -> BatchStatisticsGAN:
    """For squares of 6 pixels or more; the same first weights each time."""
    torch.manual_seed(0)
    return BatchStatisticsGAN(**{"num_layers": 1, "base_channels": 4, "head_channels": 8, **options})  # type: ignore[arg-type]


def head_alone(features: int = 2, **options: object) -> BatchStatisticsGAN:
    """One whose body hands on images of that many channels as its features, with weights of order 1."""
    discriminator = tiny(base_channels=features, max_channels=features, **options)
    discriminator.body = nn.Sequential()
    for parameter in discriminator.head.parameters():
        nn.init.normal_(parameter, std=0.3)
    return discriminator


def images(seed: int, count: int = 2, size: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def flat(*values: float, channels: int = 2, size: int = 6) -> torch.Tensor:
    """An image of one value for each."""
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, channels, size, size).contiguous()


def remembered(features: torch.Tensor) -> Remembered:
    return Remembered(moments(features), torch.ones(len(features)))


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def test_the_default_is_a_patch_gan_without_last_layer_and_a_head() -> None:
    with torch.device("meta"):
        discriminator, without_norm = BatchStatisticsGAN(), BatchStatisticsGAN(norm="none")
    assert [layer.out_channels for layer in convolutions(discriminator)] == [64, 128, 256, 512, 128, 1]
    body = 2_764_737 - (512 * 16 + 1)  # PatchGAN's in the published code, and its last convolution
    head = (512 * 9 * 128 + 128) + (128 * 9 + 1)
    assert sum(parameter.numel() for parameter in without_norm.parameters()) == body + head
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == body + head - (128 + 256)
    assert (discriminator.num_features, discriminator.memory_size, discriminator.min_size) == (512, 4, 24)


@pytest.mark.parametrize(("num_layers", "extent"), [(1, 18), (2, 38), (3, 78), (4, 158)])
def test_a_logit_sees_a_patch_of_the_documented_size_beside_the_statistics(num_layers: int, extent: int) -> None:
    discriminator = tiny(num_layers=num_layers, base_channels=2, norm="none").double()
    image = torch.rand(1, 3, 256, 256, dtype=torch.float64, requires_grad=True)
    logits = discriminator.head(discriminator.body(image))
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], image)
    rows = (gradient[0].abs().sum(dim=(0, 2)) > 0).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == extent


def test_it_computes_batch_norm_over_the_images_and_the_remembered_ones() -> None:
    discriminator = tiny(num_layers=2)
    new, earlier = images(1, 2), images(2, 3)
    first, second, third, before, last = convolutions(discriminator)
    for layer in convolutions(discriminator):
        if layer.bias is not None:
            nn.init.normal_(layer.bias)
    x = torch.cat([new, earlier])
    x = F.leaky_relu(F.conv2d(x, first.weight, first.bias, stride=2, padding=1), 0.2)
    x = F.leaky_relu(F.instance_norm(F.conv2d(x, second.weight, stride=2, padding=1)), 0.2)
    x = F.leaky_relu(F.conv2d(x, third.weight, third.bias, stride=1, padding=1), 0.2)
    x = F.batch_norm(x, None, None, training=True)[:2]
    x = F.leaky_relu(F.conv2d(x, before.weight, before.bias, padding=1), 0.2)
    expected = F.conv2d(x, last.weight, last.bias, padding=1)
    _, earlier_moments = discriminator.judge(earlier)
    (logits,) = discriminator(new, Remembered(earlier_moments, torch.ones(3)))
    assert logits.shape == (2, 1, 3, 3)
    torch.testing.assert_close(logits, expected)


def test_moments_are_joined_as_computed_by_hand() -> None:
    # Two positions each: (1, 3) and (5, 5); of earlier images (0, 2), and one of which nothing is known.
    features = torch.tensor([[1.0, 3.0], [5.0, 5.0]]).reshape(2, 1, 1, 2)
    own = moments(features)
    assert own[:, :, 0].tolist() == [[2.0, 1.0], [5.0, 0.0]]
    earlier = Remembered(torch.tensor([[[9.0], [9.0]], [[1.0], [1.0]]]), torch.tensor([0.0, 1.0]))
    mean, variance = joined_moments(own, earlier, groups=1)  # of 1 3 5 5 0 2
    assert mean.item() == pytest.approx(16 / 6)
    assert variance.item() == pytest.approx((1 + 9 + 25 + 25 + 0 + 4) / 6 - (16 / 6) ** 2)
    mean, variance = joined_moments(own, earlier, groups=2)  # of 1 3 0 2, and of 5 5 0 2
    assert mean.flatten().tolist() == pytest.approx([1.5, 3.0])
    assert variance.flatten().tolist() == pytest.approx([14 / 4 - 1.5**2, 54 / 4 - 9.0])


def test_moments_of_large_numbers_keep_their_digits() -> None:
    features = 1e4 + torch.arange(8.0).reshape(2, 1, 2, 2)
    mean, variance = joined_moments(moments(features), None, groups=1)
    assert mean.item() == pytest.approx(1e4 + 3.5)
    assert variance.item() == pytest.approx(5.25)


def test_a_single_image_is_judged_otherwise_with_a_memory_and_the_same_with_an_empty_one() -> None:
    discriminator, image = tiny(), images(1, 1)
    (alone,) = discriminator(image)
    (empty,) = discriminator(image, FeatureMemory(4, discriminator.num_features).recall(image.device))
    (compared,) = discriminator(image, Remembered(discriminator.judge(images(2, 4))[1], torch.ones(4)))
    torch.testing.assert_close(empty, alone)
    assert (compared - alone).abs().max() > 1e-3


def test_images_together_are_judged_by_each_other_and_apart_each_as_if_it_came_alone() -> None:
    discriminator, batch = tiny(), images(1, 3).requires_grad_()
    earlier = Remembered(discriminator.judge(images(2, 4))[1], torch.ones(4))
    (together,) = discriminator(batch, earlier)
    (apart,) = discriminator(batch, earlier, groups=3)
    alone = torch.cat([discriminator(image[None], earlier)[0] for image in batch])
    torch.testing.assert_close(apart, alone)
    assert not torch.allclose(together, apart)
    (gradient,) = torch.autograd.grad(apart[0].sum(), batch, retain_graph=True)
    assert gradient[0].any()
    assert not gradient[1:].any()
    (gradient,) = torch.autograd.grad(together[0].sum(), batch)
    assert gradient[1:].any()


def test_groups_of_a_batch_are_judged_as_if_each_came_with_what_is_remembered_of_it() -> None:
    discriminator, batch = tiny(), images(1, 6)
    memories = [FeatureMemory(3, discriminator.num_features) for _ in range(2)]
    memories[0].remember(discriminator.judge(images(2, 4))[1])
    memories[1].remember(discriminator.judge(images(3, 2))[1])
    first, second = (memory.recall(batch.device) for memory in memories)
    (logits,), seen = discriminator.judge(batch, first.beside(second), groups=2)
    expected = torch.cat([discriminator(batch[:3], first)[0], discriminator(batch[3:], second)[0]])
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(seen, discriminator.judge(batch)[1])


def test_training_and_evaluation_are_alike_and_change_no_state() -> None:
    discriminator = tiny()
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    (training,) = discriminator(images(1))
    (evaluation,) = discriminator.eval()(images(1))
    assert torch.equal(training, evaluation)
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())


def test_what_may_be_remembered_is_detached_and_of_any_size_of_crop() -> None:
    discriminator = tiny()
    _, seen = discriminator.judge(images(1, 2, size=24))
    assert seen.shape == (2, 2, discriminator.num_features)
    assert not seen.requires_grad
    (logits,) = discriminator(images(1, size=16), Remembered(seen, torch.ones(2)))
    assert logits.isfinite().all()


def test_fakes_that_look_alike_differ_from_varied_reals_only_beside_others_of_their_kind() -> None:
    discriminator = head_alone()
    alike, varied = remembered(flat(1, 1, 1, 1)), remembered(flat(-2, -1, 2, 3))
    values = (-1.0, 1.0, 2.0)
    alone = [discriminator(flat(value))[0] for value in values]
    assert all(torch.equal(logits, alone[0]) for logits in alone)  # of one image by itself nothing is left
    (among_alike,), (among_varied,) = (discriminator(flat(1.0), earlier) for earlier in (alike, varied))
    torch.testing.assert_close(among_alike, alone[0])
    assert (among_varied - among_alike).abs().max() > 0.1


def trained_loss(discriminator: BatchStatisticsGAN, real: torch.Tensor, fake: torch.Tensor, steps: int) -> float:
    """Train on one image of each kind at a time; returns the mean loss of the last ten steps."""
    memories = {kind: FeatureMemory(discriminator.memory_size, discriminator.num_features) for kind in ("real", "fake")}
    optimizer, losses = torch.optim.Adam(discriminator.parameters(), lr=1e-2), []
    for step in range(steps):
        judged = {}
        for kind, pictures in (("real", real), ("fake", fake)):
            image = pictures[step % len(pictures)][None]
            judged[kind], seen = discriminator.judge(image, memories[kind].recall(image.device))
            memories[kind].remember(seen)
        loss = LSGANLoss().discriminator(judged["real"], judged["fake"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def test_it_learns_that_all_fakes_look_alike_and_without_a_memory_it_can_not() -> None:
    real, fake = flat(-2, 1), flat(1)
    assert trained_loss(head_alone(memory_size=4), real, fake, 100) < 0.05
    assert trained_loss(head_alone(memory_size=0), real, fake, 100) > 0.2  # 1/4 is what knowing nothing costs


def test_it_learns_two_tiny_sets_by_heart() -> None:
    discriminator = tiny(num_layers=2, base_channels=8)
    assert trained_loss(discriminator, images(1, 3), images(2, 3), 60) < 0.02


def test_gradients_of_the_head_are_those_of_finite_differences_the_second_ones_too() -> None:
    discriminator = head_alone().double()
    batch = torch.rand(2, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    earlier = Remembered(torch.rand(3, 2, 2), torch.tensor([0.0, 1.0, 1.0]))
    for groups in (1, 2):
        judged = partial(discriminator, remembered=earlier, groups=groups)
        assert torch.autograd.gradcheck(lambda pixels, judged=judged: judged(pixels)[0], batch)
    assert torch.autograd.gradgradcheck(lambda pixels: judged(pixels)[0].square().mean(), batch)


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("num_heads", [1, 2])
def test_gradients_reach_all_parameters_and_a_state_dict_carries_them(spectral_norm: bool, num_heads: int) -> None:
    source = tiny(num_layers=2, spectral_norm=spectral_norm, num_heads=num_heads)
    target = BatchStatisticsGAN(2, 4, head_channels=8, spectral_norm=spectral_norm, num_heads=num_heads)
    logits = source(images(1))
    assert len(logits) == num_heads
    sum(scale.square().mean() for scale in logits).backward()  # type: ignore[union-attr]
    for name, parameter in source.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    source.eval(), target.eval()  # training would move the power iteration on
    assert not torch.equal(source(images(1))[0], target(images(1))[0])
    target.load_state_dict(source.state_dict())
    for ours, theirs in zip(source(images(1)), target(images(1)), strict=True):
        assert torch.equal(ours, theirs)


def test_spectral_norm_is_on_every_convolution() -> None:
    layers = convolutions(tiny(num_layers=2, spectral_norm=True))
    assert len(layers) == 5
    assert all(nn.utils.parametrize.is_parametrized(layer) for layer in layers)


def test_the_smallest_image_is_taken_and_a_smaller_one_refused() -> None:
    discriminator = tiny(num_layers=2)
    assert discriminator(images(1, 1, size=12))[0].shape == (1, 1, 2, 2)
    with pytest.raises(ValueError, match="images of 11x11 pixels: height and width must be at least 12"):
        discriminator(images(1, 1, size=11))


def test_in_bfloat16_statistics_are_taken_in_float32() -> None:
    discriminator = tiny(num_layers=2)
    with torch.autocast("cpu", torch.bfloat16):
        (logits,), seen = discriminator.judge(images(1))
    assert logits.dtype == torch.bfloat16
    assert seen.dtype == torch.float32
    torch.testing.assert_close(logits.float(), discriminator(images(1))[0], rtol=0.1, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "batch"}, "unknown norm 'batch': choose 'instance' or 'none'"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        ({"memory_size": -1}, "memory_size must be from 0 to 1024, got -1"),
        ({"memory_size": 1025}, "memory_size must be from 0 to 1024, got 1025"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)
