from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monet_cyclegan.images import to_float, to_uint8
from monet_cyclegan.inference import strips
from monet_cyclegan.inference.strips import StripGenerator
from monet_cyclegan.networks import CompactGenerator, ResNetGenerator, UNetGenerator

if TYPE_CHECKING:
    from collections.abc import Callable


def sharpened(generator: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that keep the scale of their input: pictures with contrast, in which a mistake shows."""
    draw = torch.Generator().manual_seed(seed)
    for module in generator.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.data.normal_(0, 1.5 / module.weight[0].numel() ** 0.5, generator=draw)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.3, generator=draw)
    return generator.eval()


def resnet(**options: object) -> nn.Module:
    return sharpened(ResNetGenerator(**{"num_residual_blocks": 2, "base_channels": 4, **options}))


def unet(**options: object) -> nn.Module:
    return sharpened(UNetGenerator(**{"num_levels": 3, "base_channels": 4, "max_channels": 8, **options}))


def picture(height: int, width: int) -> torch.Tensor:
    """Noise on a ramp, such that the statistics of a strip aren't those of the picture."""
    noise = torch.randint(0, 100, (1, 3, height, width), generator=torch.Generator().manual_seed(1))
    return (noise + torch.linspace(0, 155, height)[:, None]).to(torch.uint8)


@torch.inference_mode()
def untiled(generator: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return generator(to_float(images))


def in_strips(generator: nn.Module, images: torch.Tensor, rows: int, precision: str = "32-true") -> torch.Tensor:
    return torch.cat(list(StripGenerator(generator).strips(images, precision, rows * images.shape[3])), dim=2)


@pytest.mark.parametrize("rows", [1, 3, 12, 1000])
@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_a_resnet_in_strips_is_the_resnet(upsampling: str, norm: str, rows: int) -> None:
    generator, images = resnet(upsampling=upsampling, norm=norm), picture(40, 24)
    expected = untiled(generator, images)
    assert expected.std() > 0.3
    torch.testing.assert_close(in_strips(generator, images, rows), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rows", [1, 12])
def test_a_resnet_that_changes_the_image_in_strips_is_that_resnet(rows: int) -> None:
    generator, images = resnet(norm="none", image_skip=True), picture(40, 24)
    expected = untiled(generator, images)
    assert (expected - images).std() > 0.1
    torch.testing.assert_close(in_strips(generator, images, rows), expected, atol=1e-4, rtol=0)
    assert StripGenerator(generator).network.best_plan().peak < 16


@pytest.mark.parametrize("rows", [1, 3, 12, 1000])
@pytest.mark.parametrize(("norm", "image_skip"), [("instance", False), ("none", False), ("none", True)])
def test_a_compact_generator_in_strips_is_that_generator(norm: str, image_skip: bool, rows: int) -> None:
    generator = sharpened(CompactGenerator(2, 4, norm=norm, image_skip=image_skip))
    images = picture(40, 24)
    expected = untiled(generator, images)
    assert expected.std() > 0.3
    torch.testing.assert_close(in_strips(generator, images, rows), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rows", [2, 16])
@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_a_unet_in_strips_is_the_unet(upsampling: str, residual: bool, norm: str, rows: int) -> None:
    generator, images = unet(upsampling=upsampling, residual=residual, norm=norm), picture(40, 24)
    torch.testing.assert_close(in_strips(generator, images, rows), untiled(generator, images), atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [resnet, unet])
def test_the_picture_does_not_depend_on_which_maps_are_stored(kind: Callable[[], nn.Module], seed: int) -> None:
    draw = random.Random(seed)
    generator, images = kind(), picture(40, 24)
    translator = StripGenerator(generator)
    nodes = translator.network.nodes[1:]
    translator.plan = translator.network.simulate({node for node in nodes if draw.random() < 0.4})
    translated = torch.cat(list(translator.strips(images, "32-true", 24 * draw.randint(1, 9))), dim=2)
    torch.testing.assert_close(translated, untiled(generator, images), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 56), (64, 16), (44, 36)])
def test_pictures_of_any_size(height: int, width: int) -> None:
    generator, images = resnet(), picture(height, width)
    translator = StripGenerator(generator)  # one for all
    for _ in range(2):
        difference = translator.translate(images, strip_pixels=5 * width).int() - to_uint8(untiled(generator, images))
        assert difference.abs().max() <= 1
        assert difference.float().abs().mean() < 0.01


def test_strips_leave_no_step_at_their_borders() -> None:
    generator, images = resnet(), picture(64, 32)
    difference = (in_strips(generator, images, rows=8) - untiled(generator, images)).abs().amax((0, 1, 3))  # (H,)
    borders = [row for row in range(64) if row % 8 in (0, 7)]
    inside = [row for row in range(64) if row % 8 not in (0, 7)]
    assert difference[borders].max() < 2 * difference[inside].max() + 1e-6


def test_statistics_of_single_strips_would_give_another_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfTheLastStrip(strips._Statistics):
        def add(self, rows: torch.Tensor) -> None:
            self.parts.clear()
            super().add(rows)

    generator, images = resnet(), picture(64, 32)
    monkeypatch.setattr(strips, "_Statistics", OfTheLastStrip)
    assert (in_strips(generator, images, rows=8) - untiled(generator, images)).abs().max() > 0.1


def test_statistics_of_strips_join_to_those_of_the_map() -> None:
    values = 1000 + torch.randn(1, 5, 37, 4, generator=torch.Generator().manual_seed(0))
    joined = strips._Statistics()
    for start, stop in ((0, 1), (1, 20), (20, 37)):
        joined.add(values[:, :, start:stop])
    variance, mean = torch.var_mean(values.double(), (2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(joined.result(), (mean.float(), variance.float()), rtol=1e-4, atol=1e-3)


class Attention(nn.Module):
    """Every pixel sees all; with shapes taken apart and views, so that it has to be one step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.values = nn.Conv2d(channels, channels, 1)
        self.weight = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        flat = x.view(n, c, h * w)
        weights = torch.softmax(flat.transpose(1, 2) @ flat / c, dim=-1)
        return x + self.weight * (self.values(x).view(n, c, h * w) @ weights).view(n, c, h, w)


class Gate(nn.Module):
    """Channels scaled by what a pooled map says (squeeze and excitation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool, self.layer = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.layer(self.pool(x)))


class InPlace(nn.Module):
    """Blocks that overwrite what is read again: what is added is the activated map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.relu, self.layer = nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.layer(self.relu(x)))
        z = y
        y += x
        F.relu(y, inplace=True)
        return x + z


class Padded(nn.Module):
    """Steps that are known to nobody here, but see only some rows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(channels, channels, 5), nn.GroupNorm(2, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


@pytest.mark.parametrize("middle", [Attention, Gate, InPlace, Padded])
def test_modules_that_are_not_known_in_rows_are_exact_too(middle: type[nn.Module]) -> None:
    generator = resnet()
    generator.blocks.insert(1, sharpened(middle(16)))
    images = picture(40, 24)
    torch.testing.assert_close(in_strips(generator, images, rows=4), untiled(generator, images), atol=1e-4, rtol=0)


def test_a_network_of_nothing_known_is_exact_too() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x.mean() if len(x) else x

    images = picture(9, 7)
    torch.testing.assert_close(in_strips(Odd().eval(), images, rows=2), untiled(Odd(), images))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_maps_stored_in_halves_change_pictures_by_little(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "FLOAT32_BYTES", 0)
    generator, images = resnet(num_residual_blocks=4), picture(64, 32)
    translated = StripGenerator(generator).translate(images, precision, strip_pixels=7 * 32)
    difference = (translated.int() - to_uint8(untiled(generator, images))).float().abs()
    assert difference.mean() < (0.1 if precision == "32-true" else 2)


def test_numbers_too_large_for_halves_are_stored_in_float32() -> None:
    rows = strips._Rows(torch.device("cpu"), torch.float16, height=6)
    values = torch.randn(1, 2, 6, 3, generator=torch.Generator().manual_seed(0)).half().float()
    values[:, :, 2:4] *= 1e6
    for start in (0, 2, 4):
        rows.append(values[:, :, start : start + 2])
    assert torch.equal(rows.read(1, 6).float(), values[:, :, 1:])


@pytest.mark.parametrize("kind", [resnet, unet])
def test_what_is_stored_is_what_was_planned(kind: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "SLAB_BYTES", 1)
    held = []
    strip = strips._Run.strip

    def counted(self: strips._Run, *args: object) -> torch.Tensor:
        result = strip(self, *args)
        storages = [chunk.untyped_storage() for rows in self.rows.values() for _, chunk in rows.chunks]
        held.append(sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values()))
        return result

    monkeypatch.setattr(strips._Run, "strip", counted)
    generator, images = kind(), picture(512, 16)
    translator = StripGenerator(generator)
    assert 0 < translator.plan.peak < sum(translator.network.size.values()) / 3
    translator.translate(images, strip_pixels=8 * 16)
    planned = 4 * translator.plan.peak * 512 * 16
    of_strips = 4 * 3 * 8 * 16 * sum(translator.network.size.values()) / 2
    assert 0.9 * planned < max(held) < planned + of_strips
    assert held[-1] == 0


def test_progress_grows_to_one() -> None:
    told: list[float] = []
    StripGenerator(resnet()).translate(picture(40, 24), strip_pixels=8 * 24, progress=told.append)
    assert told == sorted(told)
    assert 0 < told[0] < 0.1
    assert told[-1] == pytest.approx(1)


def test_maps_may_be_stored_elsewhere() -> None:
    generator, images = resnet(), picture(40, 24)
    translator = StripGenerator(generator)
    assert torch.equal(translator.translate(images, store_on="cpu"), translator.translate(images))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (picture(16, 16).repeat(2, 1, 1, 1), r"expected one uint8 picture \(1, 3, H, W\), got torch.uint8 \(2, 3, 16"),
        (picture(16, 16)[0], "expected one uint8 picture"),
        (picture(16, 16).float(), "got torch.float32"),
        (picture(18, 16), "18x16 pixels: height and width must be multiples of 4"),
        (picture(16, 4), "16x4 pixels: height and width must be at least 8"),
    ],
)
def test_pictures_that_the_generator_cannot_take_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StripGenerator(resnet()).translate(images)


def test_an_unknown_precision_and_a_training_generator_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown precision '16-true': choose '32-true' or 'bf16-mixed'"):
        StripGenerator(resnet()).translate(picture(16, 16), "16-true")
    with pytest.raises(ValueError, match="in training mode"):
        StripGenerator(resnet().train())
