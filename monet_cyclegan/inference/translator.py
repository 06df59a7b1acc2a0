"""Translate images of any size with a trained generator."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from monet_cyclegan.errors import UserError
from monet_cyclegan.images import to_float, to_uint8

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from monet_cyclegan.inference.strips import StripGenerator

SMALLEST_SIDE = 16
TILES = ("auto", "off", "on")
LARGE_PIXELS = 2_000_000  # from here on a CPU works in strips; other devices do where memory ends


class Translator:
    """Translates images and keeps their size.

    Args:
        generator: maps (N, 3, H, W) in [-1, 1] to the same, where H and W are multiples of its `size_multiple`; with a
            true `in_one_piece` it never runs in strips.
        device: where it runs; the generator is moved there and set to evaluate.
        precision: "32-true", or "bf16-mixed", whose pictures differ by a fraction of a level of 255 once trained.
        tile: "on" runs the network in strips, which gives the same in far less memory; "auto" does for large images,
            and for those that don't fit otherwise; "off" never.
        progress: is told which part of an image is done, from 0 to 1, where that is in strips.
    """

    def __init__(
        self,
        generator: nn.Module,
        device: torch.device | str = "cpu",
        precision: str = "32-true",
        tile: str = "auto",
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.generator = generator.to(device).eval()
        self.device = torch.device(device)
        self.precision = precision
        self.tile = "off" if getattr(generator, "in_one_piece", False) else tile
        self.progress = progress
        self.size_multiple = int(generator.size_multiple)  # type: ignore[arg-type]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Translate (H, W, 3) uint8 RGB to the same; UserError below 16 pixels."""
        batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # (1, 3, H, W)
        return self.translate_batch(batch)[0].permute(1, 2, 0).contiguous().cpu().numpy()

    @torch.inference_mode()
    def translate_batch(self, images: Tensor) -> Tensor:
        """Translate uint8 images (N, 3, H, W) to the same, on any device; UserError below 16 pixels."""
        height, width = images.shape[2:]
        if min(height, width) < SMALLEST_SIDE:
            raise UserError(
                f"an image of {width}x{height} pixels is too small, {SMALLEST_SIDE}x{SMALLEST_SIDE} is the least"
            )
        padded = _mirrored(images, self.size_multiple)
        large = self.device.type == "cpu" and height * width >= LARGE_PIXELS
        wanted = self.tile == "on" or (self.tile == "auto" and large)
        painted = None if wanted and self._strips else self._as_a_whole(padded)
        if painted is None:
            painted = torch.cat([self._in_strips(image, self._strips) for image in padded.split(1)])
        top, left = (padded.shape[2] - height) // 2, (padded.shape[3] - width) // 2
        return painted[:, :, top : top + height, left : left + width]

    def _as_a_whole(self, images: Tensor) -> Tensor | None:
        """Run the network once; None if one image doesn't fit in memory but may in strips."""
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"):
                return to_uint8(self.generator(to_float(images.to(self.device, non_blocking=True))))
        except RuntimeError as error:
            if len(images) > 1 or self.tile == "off" or not ran_out_of_memory(error) or self._strips is None:
                raise
        return None

    def _in_strips(self, image: Tensor, strips: StripGenerator | None) -> Tensor:
        """Run the network on (1, 3, H, W), its maps in the device's memory, or else in the machine's."""
        assert strips is not None
        try:
            return strips.translate(image.cpu(), self.precision, progress=self.progress)
        except RuntimeError as error:
            if self.device.type == "cpu" or not ran_out_of_memory(error):
                raise
        return strips.translate(image.cpu(), self.precision, progress=self.progress, store_on=torch.device("cpu"))

    @cached_property
    def _strips(self) -> StripGenerator | None:
        """None for a network that can't run in strips, since its maps' sizes depend on what it sees."""
        from monet_cyclegan.inference.strips import StripGenerator  # the tracer takes a while to load

        try:
            return StripGenerator(self.generator)
        except ValueError:
            return None


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether that is what an error means; on a CPU a failed allocation has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _mirrored(images: Tensor, multiple: int) -> Tensor:
    """Extend (N, C, H, W) to the next multiples of height and width by reflection."""
    for axis in (2, 3):
        if images.shape[axis] % multiple:
            indices = torch.from_numpy(mirrored_indices(images.shape[axis], multiple)).to(images.device)
            images = images.index_select(axis, indices)
    return images


def mirrored_indices(size: int, multiple: int) -> np.ndarray:
    """Extend 0 ... size-1 to the next multiple, alike on both sides, by reflection that repeats where it has to.

    The edge isn't doubled: size 3 to 8 is 2 1 [0 1 2] 1 0 1.
    """
    target = -(-size // multiple) * multiple
    period = 2 * (size - 1)  # 0 1 2 1 | 0 1 2 1 | ...
    place = (np.arange(target) - (target - size) // 2) % period
    return np.minimum(place, period - place)
