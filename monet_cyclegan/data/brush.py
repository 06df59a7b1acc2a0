"""Paints a landscape as an impressionist would: broken colour in visible strokes, laid broad to fine.

Strokes come in layers of decreasing width (Hertzmann 1998, "Painterly rendering with curved brush strokes of multiple
sizes", section 2), along a smooth field of directions. First it is worked out which stroke is on top at every pixel;
colour, bristles and relief then follow for all pixels at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from monet_cyclegan.data.canvas import rgb
from monet_cyclegan.randomness import generator

if TYPE_CHECKING:
    from monet_cyclegan.data.canvas import Canvas

CLOTH = rgb((0.86, 0.81, 0.74))  # the primed cloth that shows between strokes
PIGMENTS = np.stack(  # dashes of pure paint
    [
        rgb((0.72, 0.62, 0.84)),  # lilac
        rgb((0.92, 0.70, 0.72)),  # rose
        rgb((0.44, 0.56, 0.84)),  # cobalt
        rgb((0.42, 0.68, 0.58)),  # viridian
        rgb((0.98, 0.92, 0.76)),  # cream
        rgb((0.94, 0.68, 0.42)),  # orange
    ]
)
LUMINANCE = rgb((0.299, 0.587, 0.114))
SUPERSAMPLING = 2


class Layer(NamedTuple):
    """One pass over the canvas."""

    width: float  # of a stroke, as a fraction of the picture's side
    coverage: float  # area of all strokes over the area of the canvas
    jitter: float  # deviation of a stroke's colour
    only_details: bool = False


LAYERS = (
    Layer(0.060, 1.8, 0.018),
    Layer(0.036, 1.6, 0.024),
    Layer(0.023, 1.5, 0.030),
    Layer(0.013, 1.6, 0.028, only_details=True),
)


class Strokes(NamedTuple):
    """Brush strokes from the lowest to the topmost, in picture sides and radians."""

    x: np.ndarray  # (S,)
    y: np.ndarray  # (S,)
    angle: np.ndarray  # (S,)
    width: np.ndarray  # (S,)
    length: np.ndarray  # (S,)
    colour: np.ndarray  # (S, 3)


def palette(colour: np.ndarray) -> np.ndarray:
    """The painter's colours for what the eye sees, (..., 3) in [0, 1].

    There is no black: shadows are lifted to violet, lights turn to cream, and what lies between becomes more vivid.
    """
    light = _luminance(colour)[..., None]
    vivid = light + (colour - light) * (1.0 + 1.7 * light * (1 - light))
    lifted = 0.18 + 0.80 * vivid
    shadow = (1 - light) ** 2 * rgb((0.08, 0.03, 0.20))
    cream = light**2 * rgb((0.06, 0.01, -0.05))
    return np.clip(lifted + shadow + cream, 0, 1)


def directions(canvas: Canvas) -> np.ndarray:
    """Angle of the brush at every pixel, (H, W): the landscape's own, turned along strong edges."""
    grey = _luminance(canvas.colour)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    tangent = np.stack([dy * dy - dx * dx, -2 * dx * dy], -1)  # doubled angle of the edge, weighted by its strength
    tangent = cv2.GaussianBlur(tangent, (0, 0), canvas.size / 60)
    field = cv2.GaussianBlur(canvas.flow, (0, 0), canvas.size / 80) + np.clip(tangent * 12, -1.5, 1.5)
    return np.asarray(np.arctan2(field[..., 1], field[..., 0]) / 2, np.float32)


def paint(canvas: Canvas, seed: int) -> np.ndarray:
    """The landscape as a painting, (H, W, 3) in [0, 1]."""
    strokes = plan(canvas, generator(seed, 2))
    return render(strokes, canvas.size, generator(seed, 3))


def plan(canvas: Canvas, rng: np.random.Generator) -> Strokes:
    """Decide on every stroke's place, direction, size and colour."""
    size = canvas.size
    angles = directions(canvas)
    ideal = palette(canvas.colour)
    parts = []
    for layer in LAYERS:
        smooth = cv2.GaussianBlur(ideal, (0, 0), max(layer.width * size * 0.35, 0.3))
        grid = max(2, round((layer.coverage / (2.5 * layer.width**2)) ** 0.5))
        order = rng.permutation(grid * grid)
        x = (order % grid + rng.random(order.size)) / grid
        y = (order // grid + rng.random(order.size)) / grid
        noise = rng.normal(0, 1, (order.size, 6)).astype(np.float32)
        pigment = PIGMENTS[rng.integers(0, len(PIGMENTS), order.size)]
        broken = rng.random((order.size, 1))
        row, column = (y * size).astype(int), (x * size).astype(int)
        colour = smooth[row, column] + layer.jitter * (noise[:, :1] * 0.8 + noise[:, 1:4])
        colour = np.where(broken < 0.12, 0.75 * colour + 0.25 * pigment, colour)
        width = layer.width * np.clip(1 + 0.2 * noise[:, 4], 0.6, 1.5)
        strokes = Strokes(
            x, y, angles[row, column] + 0.15 * noise[:, 5], width, width * canvas.stretch[row, column], colour
        )
        if layer.only_details:
            lost = np.abs(ideal - cv2.GaussianBlur(ideal, (0, 0), layer.width * size)).sum(-1)[row, column]
            strokes = Strokes(*(values[(lost > 0.04) | (broken[:, 0] > 0.85)] for values in strokes))
        parts.append(strokes)
    return Strokes(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def render(strokes: Strokes, size: int, rng: np.random.Generator) -> np.ndarray:
    """Lay the strokes on canvas, (size, size, 3) in [0, 1]."""
    side = size * SUPERSAMPLING
    top = _topmost(strokes, side)
    bristles = rng.normal(0, 1, (len(strokes.x) + 1, 16)).astype(np.float32)
    across, along = _within_stroke(strokes, top, side)
    hair = bristles[top, np.clip((across + 1) * 8, 0, 15).astype(np.intp)]
    bare = top == 0
    # Paint piles up at a stroke's sides and end and thins out where the hairs leave furrows.
    height = np.where(bare, 0, 0.55 + 0.25 * hair + 0.5 * across * across + 0.3 * along).astype(np.float32)
    colours = np.concatenate([CLOTH[None], strokes.colour.astype(np.float32)])
    picture = colours[top] + (0.018 * hair * ~bare)[..., None]
    tooth = rng.normal(0, 1, (side, side)).astype(np.float32)
    relief = cv2.GaussianBlur(height, (0, 0), 0.7)
    shine = relief - np.roll(relief, (1, 1), (0, 1)) + 0.03 * tooth
    picture = picture + 0.10 * np.clip(shine, -0.7, 0.7)[..., None]
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))


def _topmost(strokes: Strokes, side: int) -> np.ndarray:
    """Number from 1 of the stroke on top at every pixel, 0 where the canvas is bare; (side, side)."""
    corners = [[-1, -0.45], [-0.8, -1], [0.75, -1], [1, -0.5], [1, 0.5], [0.8, 1], [-0.8, 1], [-1, 0.55]]
    outline = np.array(corners, np.float32) / 2  # of a flat brush: a rectangle without sharp corners
    along = outline[None, :, 0] * strokes.length[:, None]
    across = outline[None, :, 1] * strokes.width[:, None]
    cos, sin = np.cos(strokes.angle)[:, None], np.sin(strokes.angle)[:, None]
    x = strokes.x[:, None] + cos * along - sin * across
    y = strokes.y[:, None] + sin * along + cos * across
    polygons = np.rint(np.stack([x, y], -1) * side * 16 - 8).astype(np.int32)  # in sixteenths of a pixel
    top = np.zeros((side, side), np.int32)
    for number, polygon in enumerate(polygons, 1):
        cv2.fillConvexPoly(top, polygon, number, shift=4)
    return top


def _within_stroke(strokes: Strokes, top: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in its stroke a pixel lies: from -1 to 1 across, and along."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side
    table = np.stack(
        [strokes.x, strokes.y, np.cos(strokes.angle), np.sin(strokes.angle), strokes.width, strokes.length]
    )
    table = np.concatenate([np.ones((6, 1)), table], 1).astype(np.float32)
    x, y, cos, sin, width, length = table[:, top]
    dx, dy = axis[None, :] - x, axis[:, None] - y
    return (cos * dy - sin * dx) * 2 / width, (cos * dx + sin * dy) * 2 / length


def _luminance(colour: np.ndarray) -> np.ndarray:
    # Not a matrix product: BLAS may round otherwise with another number of threads.
    return np.asarray(np.einsum("...c,c->...", colour, LUMINANCE), np.float32)
