"""The pixels that a landscape is drawn on, and what textures it: fractal noise, soft steps, mixing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from monet_cyclegan.randomness import generator

if TYPE_CHECKING:
    from types import EllipsisType

    from monet_cyclegan.data.scenes import Colour, Scene

Window = tuple[slice, slice]


def fractal(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int], octaves: int = 4, roughness: float = 0.5
) -> np.ndarray:
    """Fractal value noise of zero mean and unit deviation.

    The coarsest octave has `cells` (rows, columns), 0 rows for noise along x alone. What is drawn from `rng` doesn't
    depend on `shape`, so that a picture has the same noise at every size.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        rows, columns = (n * 2**octave + 1 if n else 1 for n in cells)
        lattice = rng.random((rows, columns), np.float32)
        smooth = cv2.INTER_CUBIC if rows <= height and columns <= width else cv2.INTER_AREA
        total += roughness**octave * cv2.resize(lattice, (width, height), interpolation=smooth)
    total -= total.mean()
    return np.asarray(total / (total.std() + 1e-6), np.float32)


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: np.ndarray, b: np.ndarray, t: np.ndarray | float) -> np.ndarray:
    """Blend: `a` where t is 0, `b` where t is 1."""
    return a + (b - a) * t


def rgb(colour: Colour) -> np.ndarray:
    """A colour that can be multiplied with pixels."""
    return np.array(colour, np.float32)


def sample(texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Look a texture up at (u, v) in its pixels; beyond its edges it is mirrored."""
    maps = u.astype(np.float32), v.astype(np.float32)
    return np.asarray(cv2.remap(texture, *maps, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT))


class Canvas:
    """A scene as pixels, and for every pixel how a painter's brush would move there.

    colour: (H, W, 3) in [0, 1]; flow: (H, W, 2), direction of the brush as (cos 2θ, sin 2θ), which has no sign;
    stretch: (H, W), length of a brush stroke in widths.
    """

    def __init__(self, scene: Scene, seed: int, size: int) -> None:
        self.scene = scene
        self.size = size
        self.rng = generator(seed, 1)
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size
        self.y, self.x = np.broadcast_arrays(axis[:, None], axis[None, :])
        self.near = np.clip((self.y - scene.horizon) / (1 - scene.horizon), 0, 1)  # 0 at the horizon, 1 at our feet
        self.colour = np.zeros((size, size, 3), np.float32)
        self.flow = np.zeros((size, size, 2), np.float32)
        self.stretch = np.full((size, size), 3.0, np.float32)
        self.wander = fractal(self.rng, (size, size), (4, 4), 3)  # makes the brush stray from the straight line

    def noise(self, cells: tuple[int, int], octaves: int = 4, roughness: float = 0.5) -> np.ndarray:
        """Fractal noise over the whole picture."""
        return fractal(self.rng, (self.size, self.size), cells, octaves, roughness)

    def outline(self, cells: int, octaves: int, roughness: float) -> np.ndarray:
        """Fractal noise along x."""
        return fractal(self.rng, (1, self.size), (0, cells), octaves, roughness)[0]

    def edge(self, signed: np.ndarray) -> np.ndarray:
        """An anti-aliased mask of where a signed distance (in picture sides) is positive."""
        return np.clip(signed * self.size + 0.5, 0, 1).astype(np.float32)

    def on_ground(self, texture: np.ndarray, scale: float) -> np.ndarray:
        """A texture lying flat on the ground plane, fading out where it gets too fine for the pixels."""
        depth = 1 / (self.near + 0.06)
        u = ((self.x - 0.5) * depth + 16) * scale * 100
        v = depth * scale * 130
        flat = sample(texture, u, v)
        return np.asarray(flat * np.clip(self.near * 5 / scale + 0.15, 0, 1), np.float32)

    def window(self, left: float, top: float, right: float, bottom: float) -> Window | None:
        """The pixels of a rectangle, or None if it lies outside of the picture."""
        rows = slice(max(0, int(top * self.size)), min(self.size, int(bottom * self.size) + 2))
        columns = slice(max(0, int(left * self.size)), min(self.size, int(right * self.size) + 2))
        return (rows, columns) if rows.stop > rows.start and columns.stop > columns.start else None

    def lay(
        self,
        colour: np.ndarray,
        mask: np.ndarray,
        angle: np.ndarray | float,
        stretch: float,
        at: Window | EllipsisType = ...,
    ) -> None:
        """Put a layer over what is there, within the window `at`."""
        self.colour[at] = mix(self.colour[at], colour, mask[..., None])
        angle = np.broadcast_to(np.asarray(angle, np.float32), mask.shape)
        self.flow[at] = mix(self.flow[at], np.stack([np.cos(2 * angle), np.sin(2 * angle)], -1), mask[..., None])
        self.stretch[at] = mix(self.stretch[at], np.full_like(mask, stretch), mask)
