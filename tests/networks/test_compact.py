from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from monet_cyclegan.assembly import assemble
from monet_cyclegan.networks import CompactGenerator, ResNetGenerator
from monet_cyclegan.networks.compact import SeparableBlock, SeparableConv, ThinUpsample

CONF = Path(__file__).parents[2] / "conf" / "model" / "generator" / "compact.yaml"


def small(**options: Any) -> CompactGenerator:
    return CompactGenerator(**{"num_residual_blocks": 2, "base_channels": 4, **options})


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def multiply_adds(generator: nn.Module, height: int = 256, width: int = 256) -> int:
    """Of all convolutions in one forward pass, as hooks see their maps; nothing is computed."""
    counted = []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        values = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output  # each is used, or made, by a kernel
        counted.append(values.numel() * layer.weight[0].numel())

    generator = generator.to("meta")
    for layer in generator.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.register_forward_hook(count)
    generator(torch.empty(1, 3, height, width, device="meta"))
    return sum(counted)


def parameters(generator: nn.Module) -> int:
    return sum(parameter.numel() for parameter in generator.parameters())


def test_it_takes_a_thirtieth_of_the_published_networks_multiply_adds_and_parameters() -> None:
    published = ResNetGenerator(num_residual_blocks=9, base_channels=64)
    assert 49e9 < multiply_adds(published) < 57e9
    assert multiply_adds(CompactGenerator()) < multiply_adds(published) / 30
    assert parameters(CompactGenerator()) < parameters(published) / 30


def test_with_as_many_blocks_as_the_published_network_it_takes_less_than_a_tenth() -> None:
    assert multiply_adds(CompactGenerator(num_residual_blocks=9)) < multiply_adds(ResNetGenerator()) / 10


def test_most_work_is_not_at_full_resolution() -> None:
    generator = CompactGenerator()
    whole = multiply_adds(generator)
    generator.blocks = nn.Sequential()
    assert multiply_adds(generator) < whole / 2


def test_a_separable_block_is_a_residual_block_of_dense_convolutions() -> None:
    torch.manual_seed(0)
    block, x = SeparableBlock(5, norm="none"), torch.randn(2, 5, 7, 9)
    y = x
    for place in (0, 3):
        separable: Any = block.body[place]
        separable.pointwise.bias.data.normal_()
        dense = separable.pointwise.weight * separable.depthwise.weight[:, 0]  # (out, in, 1, 1) * (in, 3, 3)
        y = F.conv2d(F.pad(y.relu() if place else y, (1, 1, 1, 1), mode="reflect"), dense, separable.pointwise.bias)
    torch.testing.assert_close(block(x), x + y, atol=1e-5, rtol=1e-4)


def test_a_thin_upsampling_is_a_resize_convolution_of_all_channels() -> None:
    torch.manual_seed(0)
    thin, x = ThinUpsample(6, 3, bias=True), torch.randn(2, 6, 4, 5)
    dense = torch.einsum("omhw,mi->oihw", thin.convolution.weight, thin.pointwise.weight[:, :, 0, 0])
    large = F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (1, 1, 1, 1), mode="reflect")
    torch.testing.assert_close(thin(x), F.conv2d(large, dense, thin.convolution.bias), atol=1e-5, rtol=1e-4)


KINDS = [("instance", False), ("none", False), ("none", True)]


@pytest.mark.parametrize(("norm", "image_skip"), KINDS)
def test_the_translation_has_the_size_of_the_image_and_values_in_range(norm: str, image_skip: bool) -> None:
    torch.manual_seed(0)
    generator = small(norm=norm, image_skip=image_skip)
    convolutions(generator)[-1].weight.data.mul_(1e4)  # drives the output into saturation
    for height, width in [(8, 8), (12, 20)]:
        output = generator(torch.rand(2, 3, height, width) * 2 - 1)
        assert output.shape == (2, 3, height, width)
        assert output.abs().max() <= 1


@pytest.mark.parametrize(("norm", "image_skip"), KINDS)
def test_gradients_reach_all_parameters(norm: str, image_skip: bool) -> None:
    torch.manual_seed(0)
    generator = small(norm=norm, image_skip=image_skip)
    generator(torch.rand(1, 3, 16, 16) * 2 - 1).square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_no_bias_is_where_a_norm_or_another_convolution_follows() -> None:
    assert [layer.bias is not None for layer in convolutions(small(norm="instance", image_skip=False))][-1]
    assert sum(layer.bias is not None for layer in convolutions(small(norm="instance", image_skip=False))) == 1
    for module in small().modules():
        if isinstance(module, SeparableConv):
            assert module.depthwise.bias is None
            assert module.pointwise.bias is not None


@pytest.mark.parametrize("blocks", [2, 9])
def test_without_a_norm_maps_keep_their_size_from_layer_to_layer(blocks: int) -> None:
    torch.manual_seed(0)
    generator = CompactGenerator(num_residual_blocks=blocks, image_skip=False)
    x = torch.randn(1, 3, 64, 64)
    sizes = []
    for layer in [*generator.encoder, *generator.blocks, *generator.decoder]:
        x = layer(x)
        if isinstance(layer, (nn.ReLU, SeparableBlock)):
            sizes.append(x.square().mean().sqrt().item())
    assert all(0.5 < size < 3 for size in sizes), sizes
    assert 0.2 < x.std() < 1.2


def test_with_an_image_skip_training_starts_close_to_the_identity() -> None:
    torch.manual_seed(0)
    generator, images = CompactGenerator(), torch.rand(1, 3, 32, 32) * 2 - 1
    change = generator(images) - images
    assert 0 < change.abs().mean() < 0.03
    assert change.abs().max() < 0.15


def test_with_an_image_skip_the_change_is_added_before_tanh() -> None:
    torch.manual_seed(0)
    plain, skipping = small(image_skip=False), small()
    skipping.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    expected = ((0.98 * images).atanh() + plain(images).atanh()).tanh()
    torch.testing.assert_close(skipping(images), expected, atol=1e-5, rtol=1e-4)
    assert skipping(torch.ones(1, 3, 16, 16)).isfinite().all()


def test_mirrored_kernels_translate_mirrored_images() -> None:
    torch.manual_seed(0)
    generator, images = small(image_skip=False), torch.rand(1, 3, 16, 24) * 2 - 1
    expected = generator(images).flip(3)
    assert expected.std() > 0.1
    for layer in convolutions(generator):
        layer.weight.data = layer.weight.flip(3)
    torch.testing.assert_close(generator(images.flip(3)), expected, atol=1e-5, rtol=1e-4)


def test_it_is_rebuilt_from_its_config_and_weights() -> None:
    torch.manual_seed(0)
    config = yaml.safe_load(CONF.read_text(encoding="utf-8"))
    options = {key: value for key, value in config.items() if not key.startswith("_")}
    generator = CompactGenerator(**options).eval()
    rebuilt = assemble(config, generator.state_dict())
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(rebuilt(images), generator(images))
    assert rebuilt.size_multiple == 4


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
        ({"norm": "instance"}, "image_skip takes norm 'none', not 'instance': add image_skip=false"),
        ({"out_channels": 1}, "image_skip takes as many channels in as out, not 3 and 1"),
        ({"num_residual_blocks": 0}, "num_residual_blocks must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
