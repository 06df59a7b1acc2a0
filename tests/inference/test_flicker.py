from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference import flicker
from monet_cyclegan.inference.flicker import find_motion, steady, warping_index
from monet_cyclegan.inference.video import DEFAULT_SMOOTHING

HEIGHT, WIDTH = 96, 128


def scenery(seed: int, height: int = 200, width: int = 260, grain: float = 2.0) -> np.ndarray:
    """A texture (H, W, 3) uint8 that motion can be seen in."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), grain)
    return np.clip(128 + 45 * blurred / blurred.std(), 0, 255).astype(np.uint8)


def seen_at(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """What a camera at x, y sees of an image."""
    shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    return np.clip(cv2.warpAffine(image.astype(np.float32), shift, (WIDTH, HEIGHT), flags=flags), 0, 255).astype(
        np.uint8
    )


def still(count: int = 8) -> list[np.ndarray]:
    return [seen_at(scenery(0), 10, 10)] * count


def pan(count: int = 8) -> list[np.ndarray]:
    return [seen_at(scenery(0), 10 + 2.3 * t, 12 + 1.6 * t) for t in range(count)]


def negatives(frames: list[np.ndarray]) -> list[np.ndarray]:
    return [255 - frame for frame in frames]


def flickering(frames: list[np.ndarray], levels: int) -> list[np.ndarray]:
    """Frames that are too bright and too dark in turn."""
    squeezed = (64 + frame // 2 for frame in frames)  # no level is cut off
    return [frame + np.uint8((levels if t % 2 else -levels) % 256) for t, frame in enumerate(squeezed)]


def index(sources: list[np.ndarray], paintings: list[np.ndarray], smoothing: float = DEFAULT_SMOOTHING):
    frames = steady(zip(sources, paintings, strict=True), smoothing)
    return warping_index(frame.errors for frame in frames if frame.errors is not None)


def smoothed(sources: list[np.ndarray], paintings: list[np.ndarray], smoothing: float = DEFAULT_SMOOTHING):
    return [step.frame for step in steady(zip(sources, paintings, strict=True), smoothing)]


def sharpness(frame: np.ndarray) -> float:
    return cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var()


def test_motion_is_where_pixels_were_before():
    before, now = seen_at(scenery(0), 20, 20), seen_at(scenery(0), 23, 18)  # 3 to the right, 2 up: so pixels were there
    places = find_motion(before, now).places
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    assert np.median(places[..., 0] - x) == pytest.approx(3, abs=0.05)
    assert np.median(places[..., 1] - y) == pytest.approx(-2, abs=0.05)


def test_motion_of_large_frames_is_searched_in_small_ones(monkeypatch):
    before, now = seen_at(scenery(0, grain=5), 20, 20), seen_at(scenery(0, grain=5), 24, 17)
    monkeypatch.setattr(flicker, "_SEARCH_SIDE", 50)
    places = find_motion(before, now).places
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    assert places.shape == (HEIGHT, WIDTH, 2)
    assert np.median(places[..., 0] - x) == pytest.approx(4, abs=0.3)
    assert np.median(places[..., 1] - y) == pytest.approx(-3, abs=0.3)


def test_what_was_outside_of_the_picture_was_not_visible():
    motion = find_motion(seen_at(scenery(0), 20, 20), seen_at(scenery(0), 26, 20))
    assert not motion.visible[:, -5:].any()
    assert not motion.confidence[:, -5:].any()
    assert motion.visible[:, 8:-14].mean() > 0.95


def test_a_still_clip_has_no_flicker_and_stays_as_it_is():
    paintings = negatives(still())
    assert index(still(), paintings) == (0, 0, 0)
    assert all(np.array_equal(frame, paintings[0]) for frame in smoothed(still(), paintings))


def test_a_painting_that_moves_with_its_source_has_the_source_s_index_of_nearly_zero():
    source, raw, _ = index(pan(), negatives(pan()))
    assert source < 1.5
    assert raw == pytest.approx(source, abs=0.1)


def test_the_index_of_brightness_that_changes_in_turn_is_twice_its_levels():
    for levels in (1, 3, 10):
        source, raw, _ = index(still(), flickering(still(), levels))
        assert source == 0
        assert raw == pytest.approx(2 * levels, rel=1e-5)


def test_the_index_grows_with_flicker_in_motion():
    indices = [index(pan(), flickering(pan(), levels))[1] for levels in (0, 1, 2, 4, 8, 16)]
    assert indices == sorted(indices)
    assert indices[0] < 1
    assert indices[-1] == pytest.approx(32, rel=0.05)


def test_the_index_is_the_root_of_the_mean_of_squares_and_zero_for_a_single_frame():
    assert warping_index([(1.0, 4.0, 0.0), (3.0, 4.0, 8.0)]) == pytest.approx((math.sqrt(2), 2, 2))
    assert warping_index([]) == (0, 0, 0)
    assert index(still(1), still(1)) == (0, 0, 0)


@pytest.mark.parametrize("frames", [still(24), pan(24)], ids=["still", "pan"])
def test_smoothing_takes_most_of_the_flicker(frames):
    _, raw, steadied = index(frames, flickering(frames, 8))
    assert steadied < raw / 4


def test_smoothing_averages_what_is_certain_with_what_came_before():
    paintings = flickering(still(3), 10)
    first, second, third = smoothed(still(3), paintings, 0.37)
    assert np.array_equal(first, paintings[0])
    expected = 0.63 * paintings[1] + 0.37 * paintings[0].astype(np.float64)
    assert np.abs(second - expected).max() <= 0.5
    assert np.abs(third - (0.63 * paintings[2] + 0.37 * expected)).max() <= 0.5


def test_smoothing_of_zero_leaves_each_painting_bit_for_bit():
    paintings = flickering(pan(), 8)
    assert all(frame is painting for frame, painting in zip(smoothed(pan(), paintings, 0), paintings, strict=True))
    source, raw, steadied = index(pan(), paintings, 0)
    assert steadied == raw > source


def test_neither_sources_nor_paintings_are_written_to():
    sources, paintings = pan(4), flickering(pan(4), 8)
    for frame in (*sources, *paintings):
        frame.setflags(write=False)
    smoothed(sources, paintings)


def test_a_pan_stays_as_sharp_as_it_was_for_cubic_interpolation(monkeypatch):
    frames = [seen_at(scenery(0, grain=1), 5 + 1.37 * t, 5 + 0.71 * t) for t in range(30)]
    before = sum(sharpness(frame) for frame in frames[15:])
    cubic = sum(sharpness(frame) for frame in smoothed(frames, frames)[15:])
    assert cubic > 0.9 * before
    monkeypatch.setattr(flicker.cv2, "INTER_CUBIC", cv2.INTER_LINEAR)
    linear = sum(sharpness(frame) for frame in smoothed(frames, frames)[15:])
    assert linear < 0.8 * before


def test_the_first_frame_of_another_scene_is_left_as_it_was_painted():
    sources = [*pan(4), *(seen_at(scenery(1), 10 + 2 * t, 10) for t in range(4))]
    paintings = flickering(sources, 8)
    steps = [*steady(zip(sources, paintings, strict=True), 0.9)]
    assert np.array_equal(steps[4].frame, paintings[4])
    assert [step.errors is None for step in steps] == [True, False, False, False, True, False, False, False]
    assert not np.array_equal(steps[5].frame, paintings[5])


def moving_object(count: int = 12) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A bright square with a texture runs over a dark scene; and what it leaves uncovered, of each frame."""
    frames, uncovered = [], []
    for t in range(count):
        frame = seen_at(scenery(0), 20, 20) // 3
        left = 5 + 7 * t
        frame[30:60, left : left + 30] = 130 + scenery(2)[:30, :30] // 3
        frames.append(frame)
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[30:60, max(left - 14, 0) : left] = True
        uncovered.append(mask)
    return frames, uncovered


def ghost(smoothing: float = 0.9) -> float:
    """By how many levels what was uncovered differs from its painting, in the mean of the worst frame."""
    frames, uncovered = moving_object()
    steps = smoothed(frames, negatives(frames), smoothing)
    differences = [
        np.abs(step.astype(int) - (255 - frame.astype(int)))[mask].mean()
        for step, frame, mask in zip(steps, frames, uncovered, strict=True)
    ]
    return max(differences)


def test_what_an_object_uncovers_was_not_visible():
    frames, uncovered = moving_object()
    shares = [find_motion(frames[t - 1], frames[t]).visible[uncovered[t]].mean() for t in range(3, 10)]
    assert max(shares) < 0.6


def test_neighbours_of_a_doubtful_pixel_are_doubtful():
    difference = np.full((20, 20), 1, np.float32)
    difference[8:12, 8:12] = 200
    confidence = flicker._confidence(difference, np.ones((20, 20), bool))
    assert not confidence[7:13, 7:13].any()
    assert confidence[:3].min() > 0.95
    invisible = np.ones((20, 20), bool)
    invisible[10, 10] = False
    confidence = flicker._confidence(np.ones((20, 20), np.float32), invisible)
    assert not confidence[9:12, 9:12].any()
    assert confidence[8, 8] > 0.5


def test_nothing_is_left_behind_a_moving_object():
    assert ghost() < 1


def test_without_doubt_there_would_be_a_ghost(monkeypatch):
    monkeypatch.setattr(flicker, "_confidence", lambda difference, visible: np.ones(difference.shape, np.float32))
    assert ghost() > 20


def test_light_that_changes_in_the_source_changes_in_the_painting_at_once():
    sources = [frame // 2 + np.uint8(60 if t >= 4 else 0) for t, frame in enumerate(still(6))]
    steps = smoothed(sources, sources)
    assert np.array_equal(steps[4], sources[4])


def test_the_noise_of_a_camera_is_no_reason_for_doubt():
    rng = np.random.default_rng(0)
    sources = [np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8) for frame in pan(4)]
    assert find_motion(sources[2], sources[3]).confidence[8:-8, 8:-8].mean() > 0.9


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0, math.nan])
def test_smoothing_that_would_never_let_go_is_refused(smoothing):
    with pytest.raises(UserError, match="smoothing="):
        smoothed(still(2), still(2), smoothing)


def test_a_clear_sky_whose_tone_drifts_gets_no_patches():
    """Nothing in it leads a search of motion back, and what is doubted shows the new tone beside the smoothed one."""
    hills = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 1, (96, 320, 3)), (0, 0), 3)
    hills = 110 + 60 * hills / hills.std()
    sky = np.linspace(235, 200, 96)[:, None, None] + np.linspace(0, 6, 320)[:, None]
    wide = np.where(np.arange(96)[:, None, None] < 60, sky, hills)
    noise = np.random.default_rng(2).normal(0, 0.7, (16, 96, 160, 3))
    sources = [(wide[:, 3 * t : 3 * t + 160] + noise[t]).clip(0, 255).astype(np.uint8) for t in range(16)]
    painted = [(0.7 * source + 4 * t).clip(0, 255).astype(np.uint8) for t, source in enumerate(sources)]
    last = [steadied.frame for steadied in steady(zip(sources, painted, strict=True), 0.9)][-1]
    smooth_sky = cv2.GaussianBlur(last, (0, 0), 2)[8:50, 16:-16].astype(float)
    expected = cv2.GaussianBlur(painted[-1], (0, 0), 2)[8:50, 16:-16].astype(float)
    assert np.std((smooth_sky - expected).mean(axis=2)) < 2
