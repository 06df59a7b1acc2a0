from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monet_cyclegan.networks import UNetGenerator
from monet_cyclegan.networks.unet import DownBlock, UpBlock


def small(**options: object) -> UNetGenerator:
    return UNetGenerator(**{"num_levels": 3, "base_channels": 4, "max_channels": 8, **options})


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_default_has_the_weights_of_pix2pix_and_of_the_shortcuts() -> None:
    down = [(3, 64), (64, 128), (128, 256), (256, 512), *[(512, 512)] * 4]
    up = [(512, 512), *[(1024, 512)] * 3, (1024, 256), (512, 128), (256, 64), (128, 3)]
    weights = sum(i * o for i, o in down + up)
    biases = 64 + 512 + 512 + 3  # of the first, the two bottleneck convolutions and the last
    with torch.device("meta"):
        assert count(UNetGenerator(residual=False)) == 16 * weights + biases
        assert count(UNetGenerator()) == 17 * weights + biases


def test_it_computes_what_pix2pix_describes_with_reflected_borders() -> None:
    torch.manual_seed(0)
    generator = small(residual=False)
    images = torch.rand(2, 3, 16, 24) * 2 - 1

    def down(x: torch.Tensor, level: int) -> torch.Tensor:
        layer = generator.down[level].body[1]
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), layer.weight, layer.bias, stride=2)

    def up(x: torch.Tensor, level: int) -> torch.Tensor:
        layer = generator.up[level].body[1]
        return F.conv_transpose2d(F.relu(x), layer.weight, layer.bias, stride=2, padding=1)

    for block in (*generator.down, *generator.up):
        block.body[1].weight.data.mul_(10)  # so that the bottleneck, which has no norm, matters
    one = down(images, 0)
    two = F.instance_norm(down(F.leaky_relu(one, 0.2), 1))
    bottleneck = down(F.leaky_relu(two, 0.2), 2)
    back = torch.cat([up(bottleneck, 2), two], dim=1)
    back = torch.cat([F.instance_norm(up(back, 1)), one], dim=1)
    torch.testing.assert_close(generator(images), torch.tanh(up(back, 0)))


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("residual", [True, False])
def test_the_translation_has_the_size_of_the_image_and_values_in_range(upsampling: str, residual: bool) -> None:
    torch.manual_seed(0)
    generator = small(upsampling=upsampling, residual=residual)
    for parameter in generator.up[0].parameters():
        parameter.data.mul_(1e4)  # drives the output into saturation
    for height, width in [(8, 8), (8, 24), (16, 32)]:
        output = generator(torch.rand(2, 3, height, width) * 2 - 1)
        assert output.shape == (2, 3, height, width)
        assert output.abs().max() <= 1


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm", ["instance", "none"])
def test_gradients_reach_all_parameters_through_a_bottleneck_of_one_pixel(
    upsampling: str, residual: bool, norm: str
) -> None:
    torch.manual_seed(0)
    generator = small(upsampling=upsampling, residual=residual, norm=norm)
    generator(torch.rand(1, 3, 8, 8) * 2 - 1).square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_eight_levels_take_256_pixels(upsampling: str) -> None:
    torch.manual_seed(0)
    output = UNetGenerator(base_channels=2, max_channels=4, upsampling=upsampling)(torch.rand(1, 3, 256, 256) * 2 - 1)
    assert output.shape == (1, 3, 256, 256)
    assert output.isfinite().all()


def test_the_shortcut_down_is_the_mean_of_four_pixels_times_a_matrix() -> None:
    torch.manual_seed(0)
    block = DownBlock(2, 3, norm="instance", norm_eps=1e-5, residual=True, activate=True)
    nn.init.zeros_(block.body[1].weight)
    x = torch.rand(1, 2, 4, 4)
    means = x.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5))  # (1, 2, 2, 2)
    torch.testing.assert_close(block(x), torch.einsum("oi,nihw->nohw", block.shortcut[1].weight[:, :, 0, 0], means))


def test_the_shortcut_up_repeats_pixels_times_a_matrix() -> None:
    torch.manual_seed(0)
    block = UpBlock(2, 3, norm="instance", norm_eps=1e-5, residual=True, upsampling="transposed", dropout=0.0)
    nn.init.zeros_(block.body[1].weight)
    x = torch.rand(1, 2, 2, 2)
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # (1, 2, 4, 4)
    torch.testing.assert_close(block(x), torch.einsum("oi,nihw->nohw", block.shortcut[0].weight[:, :, 0, 0], repeated))


def test_dropout_is_in_the_three_deepest_levels_of_the_decoder_but_never_in_the_output() -> None:
    generator = small(num_levels=5, dropout=0.5)
    assert [up.body[-1].p for up in generator.up] == [0, 0, 0.5, 0.5, 0.5]
    assert [up.body[-1].p for up in small(num_levels=2, dropout=0.5).up] == [0, 0.5]


def test_a_state_dict_carries_the_whole_network() -> None:
    torch.manual_seed(0)
    source, target = small(), small()
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    assert not torch.equal(source(images), target(images))
    target.load_state_dict(source.state_dict())
    assert torch.equal(source(images), target(images))


@pytest.mark.parametrize(("height", "width"), [(8, 12), (12, 8), (4, 8)])
def test_a_size_that_is_no_multiple_of_its_own_is_refused(height: int, width: int) -> None:
    generator = small()
    assert generator.size_multiple == 8
    with pytest.raises(ValueError, match=f"images of {height}x{width} pixels: .* must be multiples of 8"):
        generator(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "batch"}, "unknown norm 'batch': choose 'instance' or 'none'"),
        ({"upsampling": "bilinear"}, "unknown upsampling 'bilinear': choose 'transposed' or 'resize'"),
        ({"num_levels": 1}, "num_levels must be at least 2, got 1"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
