from __future__ import annotations

import pytest
import torch
from torch import nn

from monet_cyclegan.networks import ResNetGenerator


def small(**options: object) -> ResNetGenerator:
    return ResNetGenerator(**{"num_residual_blocks": 2, "base_channels": 4, **options})


def convolutions(module: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]


class PublishedBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels), nn.ReLU()),
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv_block(x)


def published_generator(num_blocks: int, c: int) -> nn.Sequential:
    """The generator as the appendix of the CycleGAN paper lists it, biases everywhere as in its authors' code."""
    return nn.Sequential(
        *(nn.ReflectionPad2d(3), nn.Conv2d(3, c, 7), nn.InstanceNorm2d(c), nn.ReLU()),
        *(nn.Conv2d(c, 2 * c, 3, 2, 1), nn.InstanceNorm2d(2 * c), nn.ReLU()),
        *(nn.Conv2d(2 * c, 4 * c, 3, 2, 1), nn.InstanceNorm2d(4 * c), nn.ReLU()),
        *(PublishedBlock(4 * c) for _ in range(num_blocks)),
        *(nn.ConvTranspose2d(4 * c, 2 * c, 3, 2, 1, 1), nn.InstanceNorm2d(2 * c), nn.ReLU()),
        *(nn.ConvTranspose2d(2 * c, c, 3, 2, 1, 1), nn.InstanceNorm2d(c), nn.ReLU()),
        *(nn.ReflectionPad2d(3), nn.Conv2d(c, 3, 7), nn.Tanh()),
    )


def test_it_computes_what_the_published_network_with_the_same_weights_does() -> None:
    torch.manual_seed(0)
    published, ours = published_generator(num_blocks=2, c=4), small()
    for theirs, our in zip(convolutions(published), convolutions(ours), strict=True):
        our.weight.data.copy_(theirs.weight)
    convolutions(ours)[-1].bias.data.copy_(convolutions(published)[-1].bias)  # the others are cancelled by the norm
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    torch.testing.assert_close(ours(images), published(images), atol=1e-5, rtol=1e-4)


def test_the_default_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        generator = ResNetGenerator(norm="none")  # with biases everywhere, as in the published code
    assert sum(parameter.numel() for parameter in generator.parameters()) == 11_378_179


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("norm", ["instance", "none"])
def test_the_translation_has_the_size_of_the_image_and_values_in_range(upsampling: str, norm: str) -> None:
    torch.manual_seed(0)
    generator = small(upsampling=upsampling, norm=norm)
    convolutions(generator)[-1].weight.data.mul_(1e4)  # drives the output into saturation
    for height, width in [(8, 8), (12, 20)]:
        output = generator(torch.rand(2, 3, height, width) * 2 - 1)
        assert output.shape == (2, 3, height, width)
        assert output.abs().max() <= 1


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("norm", ["instance", "none"])
def test_gradients_reach_all_parameters(upsampling: str, norm: str) -> None:
    torch.manual_seed(0)
    generator = small(upsampling=upsampling, norm=norm)
    generator(torch.rand(1, 3, 16, 16) * 2 - 1).square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_only_the_convolution_without_a_norm_behind_it_has_a_bias() -> None:
    assert [layer.bias is not None for layer in convolutions(small())] == [False] * 9 + [True]


def test_weights_start_with_a_deviation_of_two_hundredths_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    generator = small(base_channels=16)
    for layer in convolutions(generator):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert layer.weight.mean().item() == pytest.approx(0, abs=0.002)
    assert not convolutions(generator)[-1].bias.any()


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_without_a_norm_maps_keep_their_size_from_layer_to_layer(upsampling: str) -> None:
    torch.manual_seed(0)
    generator = small(num_residual_blocks=6, base_channels=32, norm="none", upsampling=upsampling)
    x = torch.randn(1, 3, 64, 64)
    sizes = []
    for layer in [*generator.encoder, *generator.blocks, *generator.decoder]:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            sizes.append(x.square().mean().sqrt().item())
    assert all(0.5 < size < 3 for size in sizes), sizes
    assert 0.3 < x.std() < 1.2


def test_with_an_image_skip_training_starts_close_to_the_identity() -> None:
    torch.manual_seed(0)
    generator = small(base_channels=16, norm="none", image_skip=True)
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    change = generator(images) - images
    assert 0 < change.abs().mean() < 0.03
    assert change.abs().max() < 0.1


def test_with_an_image_skip_the_change_is_added_before_tanh() -> None:
    torch.manual_seed(0)
    plain, skipping = small(norm="none"), small(norm="none", image_skip=True)
    skipping.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    expected = ((0.98 * images).atanh() + plain(images).atanh()).tanh()
    torch.testing.assert_close(skipping(images), expected, atol=1e-5, rtol=1e-4)
    assert skipping(torch.ones(1, 3, 16, 16)).isfinite().all()


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    generator = small(dropout=0.5)
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    assert not torch.equal(generator(images), generator(images))
    generator.eval()
    assert torch.equal(generator(images), generator(images))


def test_a_state_dict_carries_the_whole_network() -> None:
    torch.manual_seed(0)
    source, target = small(), small()
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    assert not torch.equal(source(images), target(images))
    target.load_state_dict(source.state_dict())
    assert torch.equal(source(images), target(images))


def test_a_size_that_is_no_multiple_of_four_is_refused() -> None:
    with pytest.raises(ValueError, match=r"images of 16x18 pixels: height and width must be multiples of 4"):
        small()(torch.zeros(1, 3, 16, 18))


def test_an_image_too_small_for_the_residual_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"images of 4x8 pixels: height and width must be at least 8"):
        small()(torch.zeros(1, 3, 4, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "batch"}, "unknown norm 'batch': choose 'instance' or 'none'"),
        ({"upsampling": "bilinear"}, "unknown upsampling 'bilinear': choose 'transposed' or 'resize'"),
        ({"image_skip": True}, "image_skip takes norm 'none', not 'instance'"),
        ({"image_skip": True, "norm": "none", "out_channels": 1}, "as many channels in as out, not 3 and 1"),
        ({"num_residual_blocks": 0}, "num_residual_blocks must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_a_floor_of_the_variance_keeps_what_has_no_contrast_from_being_blown_up() -> None:
    torch.manual_seed(0)
    plain, floored = small(), small(norm_eps=0.1)
    floored.load_state_dict(plain.state_dict())
    night = -0.9 + 0.001 * torch.randn(1, 3, 32, 32)
    assert floored(night).std() < 0.1 * plain(night).std()
    day = torch.rand(1, 3, 32, 32) * 2 - 1
    assert floored.encoder[1].eps == floored.blocks[0].body[1].eps == 0.1
    assert (floored(day) - plain(day)).abs().mean() < plain(day).std()


def test_a_floor_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="norm_eps must be above 0, got 0"):
        small(norm_eps=0.0)
