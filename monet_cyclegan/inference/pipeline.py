"""From files to files: pictures are read and written by threads, while the device translates those in between.

Pictures of the same size that follow each other are translated together. Memory doesn't grow with their number: only so
many are read ahead or wait to be written, and fewer where they are large.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.controls import Look
from monet_cyclegan.inference.translator import ran_out_of_memory
from monet_cyclegan.pictures import Picture, decode_picture, read_mark, write_picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from monet_cyclegan.inference.inputs import Job
    from monet_cyclegan.inference.translator import Translator

THREADS = max(4, (os.cpu_count() or 1) // 2)  # of each kind: reading and writing
AHEAD_PIXELS = 64_000_000  # read ahead of the device, and as many waiting to be written, but for one picture a thread


class Settings(NamedTuple):
    """What decides how a translation looks, but for the network.

    Attributes:
        look: see `Look`.
        quality: of JPEG and WebP.
        chroma: whether JPEG keeps colours at full resolution.
        fingerprint: of the network and all of these; with it, files that were made with the same from the same picture
            are kept as they are.
    """

    look: Look = Look()
    quality: int = 95
    chroma: bool = True
    fingerprint: str = ""


PLAIN = Settings()


class Outcome(NamedTuple):
    """What became of one picture.

    Attributes:
        source: what messages call it.
        target: its translation's file.
        error: the line with its name that says why there is none, or None.
        kept: whether the file was there from an earlier run.
        notes: what of the picture was lost, such as "16 bits became 8".
    """

    source: str
    target: Path
    error: str | None = None
    kept: bool = False
    notes: tuple[str, ...] = ()


class Loaded(NamedTuple):
    """A picture on its way: ``shown`` (H, W, 3) uint8 is for the network, and then what the network made of it."""

    job: Job
    mark: str = ""
    picture: Picture | None = None
    shown: np.ndarray | None = None
    error: str | None = None


def translate_files(
    translator: Translator, jobs: Iterable[Job], batch_size: int = 1, settings: Settings = PLAIN
) -> Iterator[Outcome]:
    """Translate each job's picture into its file, in order; one that can't be read or written stops no other."""
    with _threads() as writers:
        written: deque[tuple[int, Future[Outcome]]] = deque()
        for launched in _one_ahead(translator, load_groups(jobs, batch_size, settings)):
            for painted in collect(launched):
                written.append((_pixels(painted), writers.submit(write, painted, settings)))
                while written and (written[0][1].done() or _too_many(written, batch_size)):
                    yield written.popleft()[1].result()
        while written:
            yield written.popleft()[1].result()


def load_groups(jobs: Iterable[Job], batch_size: int, settings: Settings) -> Iterator[list[Loaded]]:
    """Neighbours of one size, at most ``batch_size``; what isn't to be translated stays in its place, alone."""
    group: list[Loaded] = []
    for loaded in _read_ahead(jobs, batch_size, settings):
        fits = group and loaded.shown is not None and group[0].shown is not None
        if fits and len(group) < batch_size and loaded.shown.shape == group[0].shown.shape:  # type: ignore[union-attr]
            group.append(loaded)
            continue
        if group:
            yield group
        group = [loaded]
    if group:
        yield group


class Launched(NamedTuple):
    """Pictures that the device translates, or has translated: collect them with `collect`."""

    group: list[Loaded]
    painted: torch.Tensor | None = None  # (N, H, W, 3) uint8 in the machine's memory
    ready: torch.Event | None = None


def launch(translator: Translator, group: list[Loaded]) -> list[Launched]:
    """Have pictures of one size translated together; if they don't fit in memory, one by one."""
    first = group[0]
    if first.shown is None:
        return [Launched(group)]
    images = torch.from_numpy(np.stack([loaded.shown for loaded in group])).permute(0, 3, 1, 2)  # type: ignore[misc]
    try:
        return [_on_its_way(group, translator.translate_batch(images))]
    except UserError as problem:  # too small, so all of them are
        return [Launched([loaded._replace(shown=None, error=f"{loaded.job.source}: {problem}") for loaded in group])]
    except RuntimeError as problem:
        if not ran_out_of_memory(problem):
            raise
    if len(group) > 1:
        return [launched for loaded in group for launched in launch(translator, [loaded])]
    size = f"{first.shown.shape[1]}x{first.shown.shape[0]}"
    line = f"{first.job.source}: {size} pixels don't fit in the memory of {translator.device}, try working_size=1024"
    return [Launched([first._replace(shown=None, error=line)])]


def collect(launched: Launched) -> list[Loaded]:
    """Wait for the device; what wasn't to be translated comes as it was."""
    if launched.painted is None:
        return launched.group
    if launched.ready is not None:
        launched.ready.synchronize()
    return [
        loaded._replace(shown=image) for loaded, image in zip(launched.group, launched.painted.numpy(), strict=True)
    ]


def _on_its_way(group: list[Loaded], painted: torch.Tensor) -> Launched:
    """Begin to copy (N, 3, H, W) from the device, which meanwhile goes on with the next."""
    painted = painted.permute(0, 2, 3, 1).contiguous()
    if painted.device.type != "cuda":
        return Launched(group, painted.cpu())
    host = painted.to("cpu", non_blocking=True)
    ready = torch.Event(painted.device)
    ready.record()
    return Launched(group, host, ready)


def write(painted: Loaded, settings: Settings) -> Outcome:
    """Write what was painted, and say what became of it."""
    job, mark, picture, shown, error = painted
    outcome = Outcome(job.source, job.target, error)
    if error is not None:
        return outcome
    if picture is None or shown is None:
        return outcome._replace(kept=True)
    translated = picture._replace(pixels=settings.look.finished(picture.pixels, shown))
    try:
        lost = write_picture(job.target, translated, settings.quality, chroma=settings.chroma, mark=mark)
    except UserError as problem:
        return outcome._replace(error=str(problem))
    return outcome._replace(notes=(*picture.notes, *lost))


def _one_ahead(translator: Translator, groups: Iterable[list[Loaded]]) -> Iterator[Launched]:
    """Launch a group before the last one is asked for, so that an accelerator never waits for whoever takes it."""
    waiting: deque[Launched] = deque()
    for group in groups:
        for launched in launch(translator, group):
            waiting.append(launched)
            while len(waiting) > 1 or (waiting and waiting[0].ready is None):
                yield waiting.popleft()
    yield from waiting


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that end with their user: what they hadn't begun by then is dropped."""
    executor = ThreadPoolExecutor(THREADS)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _read_ahead(jobs: Iterable[Job], batch_size: int, settings: Settings) -> Iterator[Loaded]:
    """The pictures in order."""
    waiting: deque[Future[Loaded]] = deque()
    remaining = iter(jobs)
    largest = AHEAD_PIXELS // THREADS  # until pictures were seen, they may be large
    with _threads() as readers:
        while True:
            while len(waiting) < min(max(AHEAD_PIXELS // largest, 1), 2 * batch_size + THREADS):
                job = next(remaining, None)
                if job is None:
                    break
                waiting.append(readers.submit(_load, job, settings))
            if not waiting:
                return
            loaded = waiting.popleft().result()
            if loaded.picture is not None:
                largest = max(_pixels(loaded), largest * 3 // 4)  # large ones are forgotten after a while
            yield loaded


def _load(job: Job, settings: Settings) -> Loaded:
    """Read a picture, unless its translation is there; then there is neither a picture nor an error."""
    try:
        data = job.read()
        mark = _mark(settings.fingerprint, data) if settings.fingerprint else ""
        if mark and read_mark(job.target) == mark:
            return Loaded(job, mark)
        picture = decode_picture(data, job.source, heic=True)
    except UserError as problem:
        return Loaded(job, error=str(problem))
    return Loaded(job, mark, picture, settings.look.shown(picture.pixels))


def _mark(fingerprint: str, data: bytes) -> str:
    """32 hexadecimal digits that change with the picture, the network and the settings."""
    return hashlib.blake2b(data, digest_size=16, key=fingerprint.encode()[:64]).hexdigest()


def _pixels(loaded: Loaded) -> int:
    return 0 if loaded.picture is None else loaded.picture.pixels.shape[0] * loaded.picture.pixels.shape[1]


def _too_many(written: deque[tuple[int, Future[Outcome]]], batch_size: int) -> bool:
    return len(written) > batch_size + THREADS or sum(pixels for pixels, _ in written) > AHEAD_PIXELS
