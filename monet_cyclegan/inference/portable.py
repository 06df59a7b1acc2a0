"""A generator for programs that aren't ours: 0 to 1 in and out, of any size, with all else inside."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.fx.experimental._config
from torch import nn

from monet_cyclegan.networks import compact, resnet, unet, vit_unet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_SMALLEST_SIDE = 16
_LARGEST_SIDE = 16384
_MOST_IMAGES = 1024


class Portable(nn.Module):
    """Maps RGB images (N, 3, H, W) in [0, 1] to the same; mirrors borders up to the multiple that the network needs.

    The same borders as `Translator`'s, in operations that can be exported with height and width left open.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.multiple = int(generator.size_multiple)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Translate images; their sides need 16 pixels."""
        height, width = images.shape[2], images.shape[3]
        padded = self._mirrored(self._mirrored(images * 2 - 1, 2), 3)
        translated = self.generator(padded)
        return ((self._cut(self._cut(translated, 2, height), 3, width) + 1) / 2).clamp(0, 1)

    @staticmethod
    def _cut(images: Tensor, axis: int, size: int) -> Tensor:
        # By indices, since a slice would be traced as one that always takes away something, or never does.
        first = (images.shape[axis] - size) // 2
        return images.index_select(axis, torch.arange(size, device=images.device) + first)

    def _mirrored(self, images: Tensor, axis: int) -> Tensor:
        size = images.shape[axis]
        target = (size + self.multiple - 1) // self.multiple * self.multiple
        # A tensor, since the exporter has no remainder by a size that is left open.
        period = torch.arange(2 * (size - 1), 2 * size - 1, device=images.device)
        place = torch.remainder(torch.arange(target, device=images.device) - (target - size) // 2, period)
        return images.index_select(axis, torch.minimum(place, period - place))


def export_program(generator: nn.Module) -> torch.export.ExportedProgram:
    """Trace a generator, as `Portable`, with number, height and width of the images left open."""
    number = torch.export.Dim("number", min=1, max=_MOST_IMAGES)
    height, width = (torch.export.Dim(name, min=_SMALLEST_SIDE, max=_LARGEST_SIDE) for name in ("height", "width"))
    portable = Portable(generator).eval()
    # Not special in any way, since what is would be taken for granted: no size is 1, even in the deepest map, nor equal
    # to another, nor a multiple.
    example = torch.zeros(2, 3, 2 * portable.multiple + 70, 3 * portable.multiple + 90)
    # Without the last one a map that might be of one pixel would be taken for one that never is.
    oblivious = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with torch.no_grad(), _any_size(), oblivious:
        return torch.export.export(
            portable,
            (example,),
            dynamic_shapes=({0: number, 2: height, 3: width},),
            # What the tracer can't prove of sizes that are left open is checked when they are known.
            prefer_deferred_runtime_asserts_over_guards=True,
        )


@contextmanager
def _any_size() -> Iterator[None]:
    """Let networks take sizes that aren't known yet; `Portable` sees to it that they fit."""
    checks = {module: module.check_size for module in (compact, resnet, unet, vit_unet)}
    try:
        for module in checks:
            module.check_size = lambda *_, **__: None  # type: ignore[attr-defined]
        yield
    finally:
        for module, check in checks.items():
            module.check_size = check  # type: ignore[attr-defined]
