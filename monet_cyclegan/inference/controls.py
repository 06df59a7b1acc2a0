"""What a person sets about the look of a translation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

COLORS = ("painting", "photo")
MOST_STRENGTH = 2


class Look(NamedTuple):
    """How a picture is shown to the network, and how much of the painting is kept.

    Attributes:
        strength: from 0, the photo, over 1, the painting, to 2, which exaggerates what the painting changed.
        color: "painting"; or "photo": its chroma under the painting's luminance (Gatys et al. 2016, arXiv:1606.05897).
        working_size: shorter side in pixels at which it is translated, None for its own; the smaller, the broader the
            strokes.
    """

    strength: float = 1.0
    color: str = "painting"
    working_size: int | None = None

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        """What the network gets of a picture (H, W, 3) uint8."""
        height, width = pixels.shape[:2]
        if self.working_size is None or self.working_size == min(height, width):
            return pixels
        scale = self.working_size / min(height, width)
        return _resized(pixels, max(round(width * scale), 1), max(round(height * scale), 1))

    def finished(self, pixels: np.ndarray, painted: np.ndarray) -> np.ndarray:
        """The picture (H, W, 3) uint8 with what the network made of it, in its own size."""
        if painted.shape != pixels.shape:
            painted = _resized(painted, pixels.shape[1], pixels.shape[0])
        if self == Look(working_size=self.working_size):
            return painted
        photo, painting = Image.fromarray(pixels), Image.fromarray(painted)
        if self.color == "photo":
            luminance = painting.convert("YCbCr").getchannel("Y")
            _, blue, red = photo.convert("YCbCr").split()
            painting = Image.merge("YCbCr", (luminance, blue, red)).convert("RGB")
        return np.array(Image.blend(photo, painting, self.strength))


def parse_look(options: Mapping[str, str]) -> Look:
    """Read `strength`, `color` and `working_size` from a command line.

    Raises:
        UserError: a value that can't be.
    """
    strength = _parse_number("strength", options["strength"], MOST_STRENGTH)
    if options["color"] not in COLORS:
        raise UserError(f"color={options['color']} is not known: choose {' or '.join(COLORS)}")
    size = options["working_size"]
    if size and not (size.isdecimal() and int(size) >= 16):
        raise UserError(f"working_size={size} is not a number of pixels from 16 on")
    return Look(strength, options["color"], int(size) if size else None)


def parse_share(key: str, text: str) -> float:
    """Read a number from 0 to 1; UserError for anything else."""
    return _parse_number(key, text, 1)


def _parse_number(key: str, text: str, most: int) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise UserError(f"{key}={text} is not a number from 0 to {most}")
    return number


def _resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
