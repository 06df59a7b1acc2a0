"""A picture of pictures: each before and after its translation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from monet_cyclegan.images import image_grid, to_float

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_PAIRS = 8
_SIDE = 256
_ALONE_SIDE = 1024


def before_and_after(pairs: Sequence[tuple[np.ndarray, np.ndarray]], direction: str) -> np.ndarray:
    """Lay pairs (H, W, 3) uint8 side by side: one as a whole, several as central squares of the same size."""
    before_name, _, after_name = direction.partition("_to_")
    fit = _whole if len(pairs) == 1 else _square
    before, after = (torch.stack([fit(image) for image in column]) for column in zip(*pairs, strict=True))
    if len(pairs) < 4:
        return image_grid({before_name: before, after_name: after})
    half = len(pairs) // 2  # two blocks side by side; an odd last pair is left out
    left = image_grid({before_name: before[:half], after_name: after[:half]})
    right = image_grid({before_name: before[half : 2 * half], after_name: after[half : 2 * half]})
    return np.concatenate([left, right], axis=1)


def _whole(image: np.ndarray) -> torch.Tensor:
    """Scale an image down to at most _ALONE_SIDE: (3, H, W) in [-1, 1]."""
    picture = Image.fromarray(image)
    picture.thumbnail((_ALONE_SIDE, _ALONE_SIDE), Image.Resampling.LANCZOS)
    return to_float(torch.from_numpy(np.array(picture)).permute(2, 0, 1))


def _square(image: np.ndarray) -> torch.Tensor:
    """Cut the central square and scale it to _SIDE: (3, S, S) in [-1, 1]."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    return to_float(
        torch.from_numpy(np.array(square.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))).permute(2, 0, 1)
    )
