"""From files to files: images are read and written by threads, while the device translates those in between.

Images of the same size that follow each other are translated together. Memory doesn't grow with their number: only so
many are read ahead, and fewer where they are large.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from monet_cyclegan.errors import UserError
from monet_cyclegan.images import read_image, write_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from monet_cyclegan.inference.translator import Translator

    Job = tuple[Path, Path]

THREADS = 4  # of each kind: reading and writing
AHEAD_PIXELS = 64_000_000  # read ahead of the device, at most, but for one image a thread


class Outcome(NamedTuple):
    """What became of one file: `error` is None, or the line with its name that says why there is no target."""

    source: Path
    target: Path
    error: str | None


class Translated(NamedTuple):
    """One file's translation (H, W, 3) uint8, or why there is none."""

    source: Path
    target: Path
    image: np.ndarray | None
    error: str | None = None


def translate_files(translator: Translator, jobs: Iterable[Job], batch_size: int = 1) -> Iterator[Outcome]:
    """Translate each source file to its target file, in order; one that can't be read or written stops no other."""
    with _threads() as writers:
        written: deque[Future[Outcome]] = deque()
        for translated in translate_each(translator, jobs, batch_size):
            written.append(writers.submit(_write, translated))
            while written and (written[0].done() or len(written) > batch_size + THREADS):
                yield written.popleft().result()
        while written:
            yield written.popleft().result()


def translate_each(translator: Translator, jobs: Iterable[Job], batch_size: int = 1) -> Iterator[Translated]:
    """Translate each source file, in order; nothing is written."""
    for group in _groups(_read_ahead(jobs, batch_size), batch_size):
        yield from _translate(translator, group)


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that end with their user: what they hadn't begun by then is dropped."""
    executor = ThreadPoolExecutor(THREADS)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _read_ahead(jobs: Iterable[Job], batch_size: int) -> Iterator[Translated]:
    """What was read, in order: ``image`` is the source still."""
    waiting: deque[Future[Translated]] = deque()
    remaining = iter(jobs)
    largest = AHEAD_PIXELS // THREADS  # until images were seen, they may be large
    with _threads() as readers:
        while True:
            while len(waiting) < min(max(AHEAD_PIXELS // largest, 1), 2 * batch_size + THREADS):
                job = next(remaining, None)
                if job is None:
                    break
                waiting.append(readers.submit(_read, *job))
            if not waiting:
                return
            read = waiting.popleft().result()
            if read.image is not None:
                pixels = read.image.shape[0] * read.image.shape[1]
                largest = max(pixels, largest * 3 // 4)  # large ones are forgotten after a while
            yield read


def _read(source: Path, target: Path) -> Translated:
    try:
        return Translated(source, target, read_image(source))
    except UserError as problem:
        return Translated(source, target, None, str(problem))


def _write(translated: Translated) -> Outcome:
    source, target, image, error = translated
    try:
        if image is not None:
            write_image(target, image)
    except UserError as problem:
        error = str(problem)
    return Outcome(source, target, error)


def _groups(images: Iterable[Translated], batch_size: int) -> Iterator[list[Translated]]:
    """Neighbours of one size, at most ``batch_size``; what couldn't be read stays in its place, alone."""
    group: list[Translated] = []
    for image in images:
        fits = group and image.image is not None and group[0].image is not None
        if fits and len(group) < batch_size and image.image.shape == group[0].image.shape:  # type: ignore[union-attr]
            group.append(image)
            continue
        if group:
            yield group
        group = [image]
    if group:
        yield group


def _translate(translator: Translator, group: list[Translated]) -> list[Translated]:
    """Translate images of one size together; if they don't fit in memory, one by one."""
    first = group[0]
    if first.image is None:
        return group
    images = torch.from_numpy(np.stack([read.image for read in group])).permute(0, 3, 1, 2)  # type: ignore[misc]
    try:
        painted = translator.translate_batch(images).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    except UserError as problem:  # too small, so all of them are
        return [read._replace(image=None, error=f"{read.source}: {problem}") for read in group]
    except RuntimeError as problem:
        # On a CPU a failed allocation has no class of its own.
        if not isinstance(problem, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(problem):
            raise
    else:
        return [read._replace(image=image) for read, image in zip(group, painted, strict=True)]
    if len(group) > 1:
        return [translated for read in group for translated in _translate(translator, [read])]
    size = f"{first.image.shape[1]}x{first.image.shape[0]}"
    line = f"{first.source}: {size} pixels don't fit in the memory of {translator.device}"
    return [first._replace(image=None, error=line)]
