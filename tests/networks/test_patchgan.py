from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monet_cyclegan.networks import MultiScaleGAN, PatchGAN, PixelGAN


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize(("num_layers", "extent"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_a_logit_sees_a_patch_of_the_published_size(num_layers: int, extent: int) -> None:
    torch.manual_seed(0)
    # Without norm, because its mean and deviation are taken over the whole image.
    discriminator = PatchGAN(num_layers, base_channels=2, norm="none").double()
    images = torch.rand(1, 3, 256, 256, dtype=torch.float64, requires_grad=True)
    (logits,) = discriminator(images)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], images)
    seen = gradient[0].abs().sum(dim=0) > 0  # (256, 256)
    rows, columns = seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == extent
    assert columns[-1] - columns[0] + 1 == extent


def test_the_default_has_the_published_channels_and_number_of_parameters() -> None:
    with torch.device("meta"):
        discriminator = PatchGAN(norm="none")  # with biases everywhere, as in the published code
    assert [layer.out_channels for layer in convolutions(discriminator)] == [64, 128, 256, 512, 1]
    assert [layer.stride[0] for layer in convolutions(discriminator)] == [2, 2, 2, 1, 1]
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 2_764_737


def test_it_computes_what_the_paper_describes() -> None:
    torch.manual_seed(0)
    discriminator = PatchGAN(num_layers=2, base_channels=4)
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    first, second, third, last = convolutions(discriminator)
    for layer in (first, last):
        nn.init.normal_(layer.bias)
    x = F.leaky_relu(F.conv2d(images, first.weight, first.bias, stride=2, padding=1), 0.2)
    x = F.leaky_relu(F.instance_norm(F.conv2d(x, second.weight, stride=2, padding=1)), 0.2)
    x = F.leaky_relu(F.instance_norm(F.conv2d(x, third.weight, stride=1, padding=1)), 0.2)
    expected = F.conv2d(x, last.weight, last.bias, stride=1, padding=1)
    torch.testing.assert_close(discriminator(images)[0], expected)


def test_channels_stop_growing_at_the_limit() -> None:
    discriminator = PatchGAN(num_layers=4, base_channels=4, max_channels=10)
    assert [layer.out_channels for layer in convolutions(discriminator)] == [4, 8, 10, 10, 10, 1]


def test_256_pixels_give_30_by_30_logits() -> None:
    torch.manual_seed(0)
    (logits,) = PatchGAN(base_channels=2)(torch.rand(2, 3, 256, 256))
    assert logits.shape == (2, 1, 30, 30)


def test_a_pixel_gan_judges_each_pixel_alone() -> None:
    torch.manual_seed(0)
    discriminator = PixelGAN(base_channels=4, norm="none")
    images = torch.rand(1, 3, 5, 6, requires_grad=True)
    (logits,) = discriminator(images)
    assert logits.shape == (1, 1, 5, 6)
    (gradient,) = torch.autograd.grad(logits[0, 0, 2, 3], images)
    assert gradient.abs().sum(dim=1).nonzero().tolist() == [[0, 2, 3]]


def test_scales_judge_averaged_images_with_weights_of_their_own() -> None:
    torch.manual_seed(0)
    discriminator = MultiScaleGAN(num_scales=2, num_layers=1, base_channels=4)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    fine, coarse = discriminator(images)
    assert fine.shape == (2, 1, 6, 6)
    assert coarse.shape == (2, 1, 2, 2)
    assert torch.equal(fine, discriminator.scales[0](images)[0])
    halved = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
    assert torch.equal(coarse, discriminator.scales[1](halved)[0])
    assert not torch.equal(discriminator.scales[0](images)[0], discriminator.scales[1](images)[0])


def test_halving_keeps_a_flat_image_flat_up_to_its_border() -> None:
    torch.manual_seed(0)
    discriminator = MultiScaleGAN(num_scales=2, num_layers=1, base_channels=4)
    assert torch.equal(discriminator.halve(torch.full((1, 3, 16, 16), 0.5)), torch.full((1, 3, 8, 8), 0.5))


@pytest.mark.parametrize(
    "discriminator",
    [PatchGAN(2, base_channels=4), MultiScaleGAN(2, 1, base_channels=4), MultiScaleGAN(3, 1, base_channels=4)],
    ids=["patch", "two scales", "three scales"],
)
def test_the_smallest_image_is_taken_and_a_smaller_one_refused(discriminator: PatchGAN | MultiScaleGAN) -> None:
    least = discriminator.min_size
    assert discriminator(torch.rand(1, 3, least, least))[-1].shape == (1, 1, 1, 1)
    message = f"images of {least}x{least - 1} pixels: height and width must be at least {least}"
    with pytest.raises(ValueError, match=message):
        discriminator(torch.rand(1, 3, least, least - 1))


def test_spectral_norm_brings_every_weight_to_a_largest_singular_value_of_one() -> None:
    torch.manual_seed(0)
    for discriminator in (
        PatchGAN(1, base_channels=4, spectral_norm=True),
        PixelGAN(base_channels=4, spectral_norm=True),
        MultiScaleGAN(2, 1, base_channels=4, spectral_norm=True),
    ):
        for _ in range(100):  # each forward pass in training is a step of the power iteration
            discriminator(torch.rand(1, 3, 16, 16))
        for layer in convolutions(discriminator):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() == pytest.approx(1, rel=1e-2)


def test_spectral_norm_divides_weights_that_start_like_all_others() -> None:
    torch.manual_seed(0)
    plain = PatchGAN(2, base_channels=8)
    torch.manual_seed(0)
    normalised = PatchGAN(2, base_channels=8, spectral_norm=True)
    for layer, other in zip(convolutions(normalised), convolutions(plain), strict=True):
        assert torch.equal(layer.parametrizations.weight.original, other.weight)


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("kind", [PatchGAN, PixelGAN, MultiScaleGAN])
def test_gradients_reach_all_parameters_and_a_state_dict_carries_them(kind: type, spectral_norm: bool) -> None:
    torch.manual_seed(0)
    source, target = (kind(base_channels=4, spectral_norm=spectral_norm) for _ in range(2))
    images = torch.rand(1, 3, 48, 48) * 2 - 1
    sum(logits.square().mean() for logits in source(images)).backward()
    for name, parameter in source.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    source.eval(), target.eval()  # training would move the power iteration on
    assert not torch.equal(source(images)[0], target(images)[0])
    target.load_state_dict(source.state_dict())
    for ours, theirs in zip(source(images), target(images), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (PatchGAN, {"norm": "batch"}, "unknown norm 'batch': choose 'instance' or 'none'"),
        (PixelGAN, {"norm": "batch"}, "unknown norm 'batch': choose 'instance' or 'none'"),
        (PatchGAN, {"num_layers": 0}, "num_layers must be at least 1, got 0"),
        (MultiScaleGAN, {"num_scales": 0}, "num_scales must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused_by_name(kind: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)


@pytest.mark.parametrize("discriminator", [PatchGAN, MultiScaleGAN])
def test_heads_share_all_but_the_last_layer(discriminator: type[PatchGAN | MultiScaleGAN]) -> None:
    torch.manual_seed(0)
    one, two = (discriminator(num_layers=1, base_channels=2, num_heads=heads) for heads in (1, 2))
    images = torch.rand(1, 3, 32, 32)
    assert len(two(images)) == 2 * len(one(images))
    first, second, *_ = two(images)
    assert first.shape == second.shape == one(images)[0].shape
    assert not torch.equal(first, second)
    shapes = [
        (tuple(left.shape), tuple(right.shape)) for left, right in zip(one.parameters(), two.parameters(), strict=True)
    ]
    assert sum(left != right for left, right in shapes) == 2 * len(one(images))  # weight and bias of each last one


def test_no_head_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="num_heads must be at least 1, got 0"):
        PatchGAN(num_heads=0)
