"""Flicker of a clip that was painted frame by frame: how much there is, and a filter that takes most of it away.

Both follow the motion of the source, in which nothing flickers: what moves along with it is detail, the rest flicker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A painting's pixel is an average of its predecessors' where the source says that it is the same point of the scene.
_NOISE = (1.0, 6.0)  # levels that a pixel may differ from its predecessor, from the least to the most that is believed
_TOLERANCE = 1.5  # in units of the noise: no doubt up to here ...
_DOUBT = 3.0  # ... and beyond it doubt of this scale
_MARGIN = 1  # pixels around doubtful ones that are doubtful too
_FLAT = 2.0  # levels per pixel, below which nothing is to be seen ...
_AROUND = 3  # ... within so many pixels
_COARSE = 8  # pixels that share what moves around them
_SAME_SCENE = 0.25  # of the picture must be found in the predecessor
_SEARCH_SIDE = 640  # pixels of the longer side, at most, that motion is searched at
_SAMPLE_SIDE = 512  # about as many rows and columns of a large frame are compared for the index


class Motion(NamedTuple):
    """Where a frame's pixels were in its predecessor.

    Attributes:
        places: (H, W, 2) float32, x and y in the predecessor.
        visible: (H, W) bool, what surely was in the predecessor's picture and not occluded there.
        confidence: (H, W, 1) float32 from 0 to 1, how well the predecessor explains a pixel; 0 at a cut.
    """

    places: np.ndarray
    visible: np.ndarray
    confidence: np.ndarray


class Steadied(NamedTuple):
    """A frame (H, W, 3) uint8 without most of its flicker.

    Attributes:
        frame: what to show.
        errors: mean squared warping errors of source, painting and frame in levels of 255; None where nothing
            compares with the predecessor: at the beginning, and at cuts.
    """

    frame: np.ndarray
    errors: tuple[float, float, float] | None


def steady(pairs: Iterable[tuple[np.ndarray, np.ndarray]], smoothing: float) -> Iterator[Steadied]:
    """Smooth paintings along the motion of their sources; of each, only the last frame is kept.

    The filter is recursive: out_t = painted_t + smoothing * confidence * (warp(out_{t-1}) - painted_t).

    Args:
        pairs: source and painting of each frame, (H, W, 3) uint8 RGB.
        smoothing: from 0, which leaves every painting as it is, to below 1.

    Raises:
        UserError: smoothing outside of [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise UserError(f"smoothing={smoothing} is not a number from 0 to below 1")
    before: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None
    for source, painted in pairs:
        state = frame = painted
        errors = None
        if before is not None:
            motion = find_motion(before[0], source)
            if smoothing:
                state = blend(painted, before[3], motion, smoothing)  # unrounded, or small differences would stay
                frame = np.rint(state).astype(np.uint8)
            errors = warping_errors(before[:3], (source, painted, frame), motion)
        yield Steadied(frame, errors)
        before = source, painted, frame, state


def find_motion(before: np.ndarray, now: np.ndarray) -> Motion:
    """Find where the pixels of a frame were in the one before it, both (H, W, 3) uint8 RGB."""
    height, width = now.shape[:2]
    scale = min(_SEARCH_SIDE / max(height, width), 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in (before, now))
    back, visible, confidence = _search(*small)
    if scale < 1:
        back = cv2.resize(back, (width, height)) * np.array([width / size[0], height / size[1]], np.float32)
        visible = cv2.resize(visible.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        confidence = cv2.resize(confidence, (width, height))
    return Motion(back + _pixels(height, width), visible, confidence[..., None])


def _search(before: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Displacements (H, W, 2) from ``now`` to ``before``, what was visible there, and the confidence, (H, W) each.

    Dense inverse search (Kroeger et al. 2016, arXiv:1603.03590) in both directions: what doesn't lead back to where it
    came from was occluded (Sundaram et al. 2010, eq. 5).
    """
    grey_before, grey_now = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, now))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back = search.calc(grey_now, grey_before, None)  # type: ignore[call-overload]
    forth = search.calc(grey_before, grey_now, None)  # type: ignore[call-overload]
    height, width = grey_now.shape
    places = back + _pixels(height, width)
    forth = _remap(forth, places, cv2.INTER_LINEAR)
    astray = _squared(back + forth)
    visible = _inside(places) & (astray < 0.01 * (_squared(back) + _squared(forth)) + 0.5)
    # In a clear sky no search finds its way back, so it moves with what is around it: patches left out would show.
    lost = ~visible & (_steepest(grey_now) < _FLAT)
    if lost.any() and visible.any():
        back = np.where(lost[..., None], _spread(back, visible), back)
        places = back + _pixels(height, width)
    difference = cv2.absdiff(warp(before, places), now.astype(np.float32))
    found = visible | (lost & _inside(places))
    return back, visible, _confidence(cv2.transform(difference, np.full((1, 3), 1 / 3)), found)


def _inside(places: np.ndarray) -> np.ndarray:
    """Which places (H, W, 2) lie in the picture, (H, W) bool."""
    (height, width), (x, y) = places.shape[:2], np.moveaxis(places, 2, 0)
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _spread(motion: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Motion (H, W, 2) as it is known around each pixel, from (H, W) bool: means under a wide Gaussian."""
    height, width = known.shape
    size = max(width // _COARSE, 1), max(height // _COARSE, 1)
    weight = known.astype(np.float32)
    coarse = cv2.resize(np.dstack([motion * weight[..., None], weight]), size, interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), max(size) / 8) + 1e-6 * coarse.mean(axis=(0, 1))  # if all is far away
    return cv2.resize(coarse[..., :2] / coarse[..., 2:], (width, height)).astype(np.float32)


def _steepest(grey: np.ndarray) -> np.ndarray:
    """The steepest change around each pixel, in levels per pixel: (H, W) uint8 to float32."""
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return cv2.dilate(cv2.magnitude(across, down), np.ones((2 * _AROUND + 1, 2 * _AROUND + 1), np.uint8))


def _pixels(height: int, width: int) -> np.ndarray:
    """The x and y of each pixel (H, W, 2)."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)


def _squared(vectors: np.ndarray) -> np.ndarray:
    return np.square(vectors[..., 0]) + np.square(vectors[..., 1])


def _confidence(difference: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """How far a difference (H, W) between a source frame and its warped predecessor is no more than noise."""
    noise = np.clip(np.median(difference), *_NOISE)
    excess = np.maximum(cv2.GaussianBlur(difference, (0, 0), 1) / noise - _TOLERANCE, 0) / _DOUBT
    trust = np.exp(-np.square(excess)) * visible
    if np.mean(trust > 0.5) < _SAME_SCENE:
        return np.zeros(trust.shape, np.float32)
    trust = cv2.erode(trust.astype(np.float32), np.ones((2 * _MARGIN + 1, 2 * _MARGIN + 1), np.uint8))
    return np.minimum(trust, cv2.GaussianBlur(trust, (0, 0), 1))


def warp(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Take each pixel of an image (H, W, C) from its place in ``places`` (H, W, 2); the result is float32.

    Cubic, which measurably keeps an image as sharp as it was, however often it is repeated.
    """
    return _remap(image.astype(np.float32), places, cv2.INTER_CUBIC)


def _remap(image: np.ndarray, places: np.ndarray, interpolation: int) -> np.ndarray:
    # The stubs know no None; an empty array in its place makes OpenCV 5.0.0 read whatever is in memory.
    edge = cv2.BORDER_REPLICATE
    return cv2.remap(image, places, None, interpolation, borderMode=edge)  # type: ignore[call-overload]


def blend(painted: np.ndarray, before: np.ndarray, motion: Motion, smoothing: float) -> np.ndarray:
    """Draw a painting (H, W, 3) towards what came ``before``, as far as the motion is certain; float32, 0 to 255."""
    now = painted.astype(np.float32)
    return np.clip(now + smoothing * motion.confidence * (warp(before, motion.places) - now), 0, 255)


def warping_errors(
    before: tuple[np.ndarray, np.ndarray, np.ndarray], now: tuple[np.ndarray, np.ndarray, np.ndarray], motion: Motion
) -> tuple[float, float, float] | None:
    """Mean squared differences of frames and their warped predecessors, in levels of 255; None at a cut."""
    if not motion.confidence.any():
        return None
    first, second, third = (_warping_error(*frames, motion) for frames in zip(before, now, strict=True))
    return first, second, third


def _warping_error(before: np.ndarray, now: np.ndarray, motion: Motion) -> float:
    """E_warp of two frames (Lai et al. 2018, arXiv:1808.00449, section 4), over pixels that aren't occluded."""
    step = max(now.shape[0] // _SAMPLE_SIDE, now.shape[1] // _SAMPLE_SIDE, 1)
    places, visible = motion.places[::step, ::step], motion.visible[::step, ::step]
    return float(np.square(now[::step, ::step] - warp(before, places))[visible].mean())


def warping_index(errors: Iterable[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Root of the mean of a clip's errors, in levels of 255: its square over 255² is E_warp of Lai et al."""
    rows = [*errors]
    source, raw, smoothed = (float(root) for root in np.sqrt(np.mean(rows, axis=0))) if rows else (0.0, 0.0, 0.0)
    return source, raw, smoothed
