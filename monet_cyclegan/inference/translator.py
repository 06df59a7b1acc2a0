"""Translate images of any size with a trained generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from monet_cyclegan.errors import UserError
from monet_cyclegan.images import to_float, to_uint8

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALLEST_SIDE = 16


class Translator:
    """Translates one image at a time and keeps its size.

    Args:
        generator: maps (N, 3, H, W) in [-1, 1] to the same, where H and W are multiples of its `size_multiple`.
        device: where it runs; the generator is moved there and set to evaluate.
        precision: "32-true", or "bf16-mixed", whose pictures differ by a fraction of a level of 255 once trained.
    """

    def __init__(self, generator: nn.Module, device: torch.device | str = "cpu", precision: str = "32-true") -> None:
        self.generator = generator.to(device).eval()
        self.device = torch.device(device)
        self.precision = precision
        self.size_multiple = int(generator.size_multiple)  # type: ignore[arg-type]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Translate (H, W, 3) uint8 RGB to the same; UserError below 16 pixels."""
        batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # (1, 3, H, W)
        return self.translate_batch(batch)[0].permute(1, 2, 0).contiguous().cpu().numpy()

    @torch.inference_mode()
    def translate_batch(self, images: Tensor) -> Tensor:
        """Translate uint8 images (N, 3, H, W) to the same, on the generator's device; UserError below 16 pixels."""
        height, width = images.shape[2:]
        if min(height, width) < SMALLEST_SIDE:
            raise UserError(
                f"an image of {width}x{height} pixels is too small, {SMALLEST_SIDE}x{SMALLEST_SIDE} is the least"
            )
        rows = torch.from_numpy(mirrored_indices(height, self.size_multiple)).to(self.device)
        columns = torch.from_numpy(mirrored_indices(width, self.size_multiple)).to(self.device)
        padded = images.to(self.device)[:, :, rows][:, :, :, columns]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            translated = to_uint8(self.generator(to_float(padded)))
        top, left = (len(rows) - height) // 2, (len(columns) - width) // 2
        return translated[:, :, top : top + height, left : left + width]


def mirrored_indices(size: int, multiple: int) -> np.ndarray:
    """Extend 0 ... size-1 to the next multiple, alike on both sides, by reflection that repeats where it has to.

    The edge isn't doubled: size 3 to 8 is 2 1 [0 1 2] 1 0 1.
    """
    target = -(-size // multiple) * multiple
    period = 2 * (size - 1)  # 0 1 2 1 | 0 1 2 1 | ...
    place = (np.arange(target) - (target - size) // 2) % period
    return np.minimum(place, period - place)
