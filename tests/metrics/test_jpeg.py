from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin
from torch import Tensor

from monet_cyclegan.metrics.jpeg import jpeg_round_trip

if TYPE_CHECKING:
    from pathlib import Path

CHROMA_420 = 2  # what Pillow's get_sampling calls it


def noise(count: int, height: int = 24, width: int = 40, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), dtype=np.uint8))


def through_a_file(image: Tensor, path: Path, quality: int) -> Tensor:
    """Pillow alone: one image (3, H, W) to a file with 4:2:0 and back."""
    Image.fromarray(image.permute(1, 2, 0).numpy(), "RGB").save(path, quality=quality, subsampling="4:2:0")
    with Image.open(path) as opened:
        assert JpegImagePlugin.get_sampling(opened) == CHROMA_420
        return torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)


def mean_error(images: Tensor, quality: int) -> float:
    return (jpeg_round_trip(images, quality).float() - images.float()).abs().mean().item()


@pytest.mark.parametrize(("height", "width"), [(24, 40), (17, 9), (1, 1)])
def test_images_become_what_pillow_reads_back_from_files(tmp_path, height, width):
    images = noise(5, height, width)
    expected = torch.stack([through_a_file(image, tmp_path / "x.jpg", quality=75) for image in images])
    decoded = jpeg_round_trip(images)
    assert decoded.dtype == torch.uint8
    assert torch.equal(decoded, expected)


@pytest.mark.parametrize("quality", [10, 95])
def test_the_quality_is_pillows(tmp_path, quality):
    image = noise(1)
    expected = through_a_file(image[0], tmp_path / "x.jpg", quality)
    assert torch.equal(jpeg_round_trip(image, quality)[0], expected)


def test_the_lower_the_quality_the_more_is_lost():
    ramp = torch.linspace(0, 255, 64).to(torch.uint8)
    images = torch.stack([ramp.expand(64, 64), ramp.flip(0).expand(64, 64), ramp[:, None].expand(64, 64)])[None]
    errors = [mean_error(images, quality) for quality in (95, 75, 30, 5)]
    assert errors == sorted(errors)
    assert errors[-1] > 3 * errors[0] > 0


def test_colours_lose_detail_that_brightness_keeps():
    stripes = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    grey, coloured = stripes.clone(), stripes.clone()
    grey[..., ::2] = 140
    # R + 140, G + 0 against R + 0, G + 71: the same luma (0.299 R + 0.587 G) on both sides of an edge
    coloured[:, 0, :, ::2] = 140
    coloured[:, 1, :, 1::2] = 71
    kept_grey = jpeg_round_trip(grey, 100)[0, 0].float()
    kept_red = jpeg_round_trip(coloured, 100)[0, 0].float()
    assert (kept_grey[:, ::2] - kept_grey[:, 1::2]).mean() > 130
    assert (kept_red[:, ::2] - kept_red[:, 1::2]).mean().abs() < 5  # a pair of pixels shares one colour
    assert kept_red.mean() == pytest.approx(70, abs=5)


def test_colours_twice_as_wide_are_kept():
    blocks = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    wide = torch.arange(32) // 8 % 2 == 0
    blocks[:, 0, :, wide] = 140
    blocks[:, 1, :, ~wide] = 71
    red = jpeg_round_trip(blocks, 100)[0, 0].float()
    assert red[:, 2:6].mean() > 125
    assert red[:, 10:14].mean() < 15


def test_images_stay_in_order():
    greys = torch.arange(0, 256, 5, dtype=torch.uint8)
    images = greys[:, None, None, None].expand(-1, 3, 16, 16)
    assert torch.equal(jpeg_round_trip(images), images)  # a flat grey survives compression


def test_channels_stay_in_order():
    images = torch.tensor([200, 100, 30], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 8, 16)
    assert (jpeg_round_trip(images).int() - images.int()).abs().max() <= 3


def test_the_images_given_are_left_as_they_are():
    images = noise(2)
    before = images.clone()
    assert not torch.equal(jpeg_round_trip(images), before)
    assert torch.equal(images, before)


def test_the_layout_in_memory_does_not_matter():
    images = noise(3)
    expected = jpeg_round_trip(images)
    assert torch.equal(jpeg_round_trip(images.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(jpeg_round_trip(torch.cat([images, images])[::2]), expected[[0, 2, 1]])


def test_no_images_give_none():
    empty = jpeg_round_trip(noise(0))
    assert empty.shape == (0, 3, 24, 40)
    assert empty.dtype == torch.uint8
