from __future__ import annotations

import numpy as np
import pytest

from monet_cyclegan.inference.controls import Look


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def luminance(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(float) @ [0.299, 0.587, 0.114]  # BT.601


def test_a_plain_look_shows_and_gives_what_it_got():
    photo, painting = noise(20, 30), noise(20, 30, 1)
    assert Look().shown(photo) is photo
    assert Look().finished(photo, painting) is painting


@pytest.mark.parametrize("strength", [0, 0.3, 0.5, 1, 1.6, 2])
def test_strength_mixes_photo_and_painting_and_exaggerates_it(strength):
    photo, painting = noise(20, 30), noise(20, 30, 1)
    mixed = Look(strength=strength).finished(photo, painting)
    expected = (1.0 - strength) * photo + strength * painting.astype(float)
    assert np.abs(mixed - expected.clip(0, 255)).max() <= 1


def test_the_photos_colours_stay_under_the_paintings_luminance():
    muted = (noise(20, 30) // 4 + 96).astype(np.uint8)  # so that no channel is cut off
    painting = (noise(20, 30, 1) // 4 + 96).astype(np.uint8)
    mixed = Look(color="photo").finished(muted, painting)
    assert np.abs(luminance(mixed) - luminance(painting)).max() <= 2
    for channel in (0, 2):
        chroma = mixed[..., channel] - luminance(mixed), muted[..., channel] - luminance(muted)
        assert np.abs(chroma[0] - chroma[1]).max() <= 4
    grey = np.repeat(noise(20, 30)[..., :1], 3, axis=2)
    assert np.ptp(Look(color="photo").finished(grey, painting).astype(int), axis=2).max() <= 2


@pytest.mark.parametrize(
    ("size", "working_size", "shown"),
    [((20, 30), 40, (40, 60)), ((100, 50), 25, (50, 25)), ((30, 30), 30, (30, 30)), ((33, 1000), 16, (16, 485))],
)
def test_the_working_size_is_the_shorter_side_and_the_picture_keeps_its_own(size, working_size, shown):
    look = Look(working_size=working_size)
    photo = noise(*size)
    assert look.shown(photo).shape == (*shown, 3)
    assert look.finished(photo, noise(*shown)).shape == photo.shape


def test_scaling_down_and_back_keeps_what_is_smooth():
    y, x = np.mgrid[0:120, 0:180]
    smooth = np.stack([x, y, x + y], axis=-1).clip(0, 255).astype(np.uint8)
    look = Look(working_size=60)
    assert np.abs(look.finished(smooth, look.shown(smooth)).astype(int) - smooth).mean() < 1
