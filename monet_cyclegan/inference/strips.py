"""Translate pictures too large for one forward pass, in strips, with the very result of that pass.

Instance norm needs the mean and variance of whole maps, so each norm costs one pass over its input before any of its
output is known. Within a pass every map is computed once, from the top down, a few rows at a time, and what no later
strip will ask for is dropped: halos of convolutions are kept, not computed again. Between passes some maps are stored
whole, such that the next pass needn't begin at the picture; the others are computed again. While a stored map is read
for the last time it shrinks from the top as the next one grows, so a ResNet needs memory for two maps of its blocks.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING

import torch

from monet_cyclegan.images import to_float, to_uint8
from monet_cyclegan.inference.lazy_rows import Norm, Whole
from monet_cyclegan.inference.passes import Network
from monet_cyclegan.networks.layers import check_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, fx, nn

    from monet_cyclegan.inference.passes import Pass

STRIP_PIXELS = 32 * 6000  # of the picture: a strip of 64 channels in float32 takes 49 MB, and three exist at a time
SLAB_BYTES = 33 * 2**20  # stored maps grow by this much: what is larger than 32 MiB goes back to the system once freed
STRIPS_PER_TRIM = 4  # see `_trim_heap`, whose price is that memory is mapped anew
FLOAT32_BYTES = 2**30  # what is stored in full precision; beyond it halves


class StripGenerator:
    """Runs a generator over one picture of any size in little memory, with the result of an ordinary pass.

    Convolutions, resizing, pooling, activations, sums and joined channels are computed by rows. Any other module
    sees its input whole: exact as well, but in more memory. The default networks store 32 values per pixel. Where that
    is more than a gigabyte they are halves, which moves about one value in a hundred of the picture by one level.

    Args:
        generator: maps (1, 3, H, W) in [-1, 1] to the same; in eval mode, on the device where it is to run.

    Raises:
        ValueError: if the generator is in training mode.
    """

    def __init__(self, generator: nn.Module) -> None:
        if generator.training:
            raise ValueError("the generator is in training mode: call eval() first")
        size_multiple = int(getattr(generator, "size_multiple", 1))
        self.network = Network(generator, size_multiple)
        self.plan = self.network.best_plan()
        self.checks = [{"minimum": 1, "multiple": size_multiple}, *self.network.checks]
        self.device = next((parameter.device for parameter in generator.parameters()), torch.device("cpu"))

    @torch.inference_mode()
    def translate(
        self,
        images: Tensor,
        precision: str = "32-true",
        strip_pixels: int = STRIP_PIXELS,
        progress: Callable[[float], None] | None = None,
        *,
        store_on: torch.device | str | None = None,
    ) -> Tensor:
        """Translate one picture: (1, 3, H, W) uint8 on the CPU -> (1, 3, H, W) uint8 on the CPU.

        Args:
            images: the picture, H and W multiples of the generator's ``size_multiple``.
            precision: "32-true" or "bf16-mixed".
            strip_pixels: pixels of the picture in a strip.
            progress: is told after each strip what part of the work is done, from 0 to 1.
            store_on: where maps are stored between passes; the generator's device if None.

        Raises:
            ValueError: for anything but one uint8 picture of such a size, or an unknown precision.
        """
        if images.dim() != 4 or len(images) != 1 or images.dtype != torch.uint8:
            raise ValueError(f"expected one uint8 picture (1, 3, H, W), got {images.dtype} {tuple(images.shape)}")
        if precision not in ("32-true", "bf16-mixed"):
            raise ValueError(f"unknown precision {precision!r}: choose '32-true' or 'bf16-mixed'")
        for limits in self.checks:
            check_size(images, **limits)

        shape = self.network.shapes(*images.shape[1:])[self.network.output]
        result = torch.empty(shape, dtype=torch.uint8)
        strips = self.strips(images, precision, strip_pixels, progress, store_on)
        first = 0
        for rows in strips:
            last = first + rows.shape[2]
            result[:, :, first:last] = to_uint8(rows).cpu()
            first = last
        return result

    @torch.inference_mode()
    def strips(
        self,
        images: Tensor,
        precision: str,
        strip_pixels: int,
        progress: Callable[[float], None] | None = None,
        store_on: torch.device | str | None = None,
    ) -> Iterator[Tensor]:
        """Yield the generator's output from the top, (1, 3, rows, W) in [-1, 1]; see `translate`."""
        halves = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
        fits = precision == "32-true" and 4 * self.plan.peak * images[0, 0].numel() < FLOAT32_BYTES
        dtype, device = torch.float32 if fits else halves, self.device
        run = _Run(self.network, images, device, torch.device(store_on or device), dtype)
        strip_rows = max(1, strip_pixels // images.shape[3])
        done, total, count = 0.0, self.plan.work, 0
        for current in self.plan.passes:
            height = run.heights[current.target]
            rows_at_once = max(1, strip_rows * height // images.shape[2])
            statistics = _Statistics()
            last_pass = current is self.plan.passes[-1]
            for first in range(0, height, rows_at_once):
                last = min(first + rows_at_once, height)
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                    rows = run.strip(current, first, last)
                if last_pass:
                    yield rows
                elif run.needs_statistics(current.target):
                    statistics.add(rows)
                del rows
                count += 1
                if count % STRIPS_PER_TRIM == 0:
                    _trim_heap()
                if progress is not None:
                    progress(min(1.0, (done + current.work * last / height) / total))
            done += current.work
            if not last_pass and run.needs_statistics(current.target):
                run.statistics[current.target] = statistics.result()


class _Rows:
    """Rows of one map, computed from the top down: what no one will read any more is dropped from the top."""

    def __init__(self, device: torch.device, dtype: torch.dtype | None = None, height: int = 0) -> None:
        self.device, self.dtype, self.height = device, dtype, height
        self.chunks: list[tuple[int, Tensor]] = []  # first row and (1, C, rows, W)
        self.slab: Tensor | None = None  # the rest of the last one
        self.stop = 0

    def append(self, rows: Tensor) -> None:
        """Add the next rows, as they are or, given a dtype, converted and copied to the device."""
        if self.dtype is None:
            self._add(rows)
            return
        halves = self.dtype == torch.float16 and bool(rows.abs().max() <= torch.finfo(torch.float16).max)
        dtype = torch.float32 if self.dtype == torch.float16 and not halves else self.dtype  # too large for halves
        while rows.shape[2]:
            if self.slab is None or not self.slab.shape[2] or self.slab.dtype != dtype:
                _, channels, _, width = rows.shape
                count = min(-(-SLAB_BYTES // (channels * width * dtype.itemsize)), self.height - self.stop)
                self.slab = torch.empty(
                    (1, channels, count, width), dtype=dtype, device=self.device, memory_format=torch.channels_last
                )
            count = min(self.slab.shape[2], rows.shape[2])
            self._add(self.slab[:, :, :count].copy_(rows[:, :, :count]))
            self.slab, rows = self.slab[:, :, count:], rows[:, :, count:]
        if self.stop == self.height:
            self.slab = None

    def _add(self, rows: Tensor) -> None:
        self.chunks.append((self.stop, rows))
        self.stop += rows.shape[2]

    def read(self, start: int, stop: int) -> Tensor:
        """Rows [start, stop), all of which have to be there."""
        pieces = [
            chunk[:, :, max(start - first, 0) : stop - first]
            for first, chunk in self.chunks
            if first < stop and start < first + chunk.shape[2]
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)

    def drop(self, before: int) -> None:
        """Forget the rows above ``before``."""
        self.chunks = [(first, chunk) for first, chunk in self.chunks if first + chunk.shape[2] > before]
        if self.chunks:
            first, chunk = self.chunks[0]
            gone = before - first
            if (
                self.dtype is None and 2 * gone > chunk.shape[2]
            ):  # a small rest of its own, so that the large chunk goes
                self.chunks[0] = (before, chunk[:, :, gone:].clone())


class _Statistics:
    """Mean and variance of a map from those of its strips (Chan et al. 1979), in float64."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, Tensor, Tensor]] = []

    def add(self, rows: Tensor) -> None:
        """Take the next rows, (1, C, rows, W)."""
        rows = rows.float()
        mean = rows.mean((2, 3), keepdim=True)
        self.parts.append((rows[0, 0].numel(), mean, (rows - mean).square_().sum((2, 3), keepdim=True)))

    def result(self) -> tuple[Tensor, Tensor]:
        """The map's mean and biased variance, (1, C, 1, 1) in float32."""
        device = self.parts[0][1].device
        counts = torch.tensor([count for count, *_ in self.parts], dtype=torch.float64)[:, None, None, None]
        means = torch.cat([mean for _, mean, _ in self.parts]).cpu().double()  # (strips, C, 1, 1)
        squares = torch.cat([square for *_, square in self.parts]).cpu().double()
        mean = (counts * means).sum(0, keepdim=True) / counts.sum()
        variance = (squares + counts * (means - mean) ** 2).sum(0, keepdim=True) / counts.sum()
        return mean.float().to(device), variance.float().to(device)


class _Run:
    """The state of one picture's translation: the rows that exist, and the statistics of the passes so far."""

    def __init__(
        self, network: Network, images: Tensor, device: torch.device, store_on: torch.device, dtype: torch.dtype
    ) -> None:
        self.network, self.images, self.device, self.store_on, self.dtype = network, images, device, store_on, dtype
        self.heights = {node: shape[2] for node, shape in network.shapes(*images.shape[1:]).items()}
        self.rows: dict[fx.Node, _Rows] = {}
        self.statistics: dict[fx.Node, tuple[Tensor, Tensor]] = {}

    def needs_statistics(self, target: fx.Node) -> bool:
        """Whether a norm reads this map."""
        return any(isinstance(self.network.steps.get(user), Norm) for user in target.users)

    def strip(self, current: Pass, first: int, last: int) -> Tensor:
        """Compute rows [first, last) of the pass's target, which has to be asked for all its rows in order."""
        kept_ends = {node: (self.heights[node], self.heights[node]) for node in current.kept}
        ends = last == self.heights[current.target]
        for node in current.nodes:
            if node not in self.rows:
                stored = node in current.kept
                self.rows[node] = _Rows(self.store_on, self.dtype, self.heights[node]) if stored else _Rows(self.device)
        # Maps that stay are completed with the last strip: what they are made of may be gone later.
        _, missing = self.demand(current, {**(kept_ends if ends else {}), current.target: (first, last)}, {})
        after = {node: stop for node, (_, stop) in missing.items()}
        rest = {} if ends else {**kept_ends, current.target: (last, self.heights[current.target])}
        later, _ = self.demand(current, rest, after)
        last_reader = {source: node for node in missing for source in node.all_input_nodes}

        for node, (start, stop) in missing.items():
            self.rows[node].append(self.compute(node, start, stop))
            for source in node.all_input_nodes:
                if last_reader[source] is node and source is not current.target:
                    self.forget(current, source, later)
        rows = self.read(current.target, first, last)
        self.forget(current, current.target, later)
        if ends:
            for node in current.nodes:
                if node not in current.kept or node in current.freed:
                    del self.rows[node]
        return rows

    def demand(
        self, current: Pass, wanted: dict[fx.Node, tuple[int, int]], stops: dict[fx.Node, int]
    ) -> tuple[dict[fx.Node, tuple[int, int]], dict[fx.Node, tuple[int, int]]]:
        """The rows that will be read of each map for these, and those that have to be computed first, in order."""
        reads = dict(wanted)
        missing = {}
        for node in reversed(current.nodes):
            if node not in reads:
                continue
            start, stop = stops.get(node, self.rows[node].stop), reads[node][1]
            operation = self.network.steps[node]
            if isinstance(operation, Whole):
                stop = self.heights[node]
            if start >= stop:
                continue
            missing[node] = (start, stop)
            for source in node.all_input_nodes:
                low, high = operation.rows(start, stop, self.heights[source])
                before = reads.get(source, (low, high))
                reads[source] = (min(low, before[0]), max(high, before[1]))
        return reads, dict(reversed(missing.items()))

    def compute(self, node: fx.Node, start: int, stop: int) -> Tensor:
        """Rows [start, stop) of a map from those of its sources."""
        if node is self.network.source:
            rows = to_float(self.images[:, :, start:stop].to(self.device))
            return rows.contiguous(memory_format=torch.channels_last)
        operation = self.network.steps[node]
        heights = [self.heights[source] for source in node.all_input_nodes]
        inputs = [
            self.read(source, *operation.rows(start, stop, height))
            for source, height in zip(node.all_input_nodes, heights, strict=True)
        ]
        if isinstance(operation, Norm):
            return operation.normalise(inputs[0], *self.statistics[node.all_input_nodes[0]])
        return operation.compute(inputs, start, stop, heights[0])

    def read(self, node: fx.Node, start: int, stop: int) -> Tensor:
        """Rows of a map that are there, where and as they are computed with."""
        rows = self.rows[node].read(start, stop).to(self.device)
        return rows.float() if rows.dtype == torch.float16 else rows

    def forget(self, current: Pass, node: fx.Node, later: dict[fx.Node, tuple[int, int]]) -> None:
        """Drop the rows of a map that neither a later strip nor a later pass reads."""
        if node not in current.kept or node in current.freed:
            self.rows[node].drop(later[node][0] if node in later else self.heights[node])


def _trim_heap() -> None:
    """Give free memory back to the system: glibc keeps what lies between pieces in use, here up to a gigabyte."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
