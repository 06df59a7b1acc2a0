"""Progress of long loops: a bar in a terminal, a line now and then where the output is a file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sized

    Batch = TypeVar("Batch", bound=Sized)

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def track(batches: Iterable[Batch], total: int, label: str, line_every_s: float = 15.0) -> Iterator[Batch]:
    """Hand batches through while showing how many of ``total`` items are done.

    Args:
        batches: groups of items; their lengths are what is counted.
        total: number of items in all.
        label: what is being done.
        line_every_s: seconds between two lines where the output is no terminal; what ends sooner prints none.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(*_COLUMNS, console=console, transient=True) as progress:
            task = progress.add_task(label, total=total)
            yield from _counted(batches, lambda done: progress.update(task, completed=done))
        return
    started = last = time.monotonic()

    def line(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= line_every_s:
            last = now
            remaining = (now - started) / done * (total - done)
            print(f"{label}: {done} of {total}, about {remaining:.0f} s left", flush=True)

    yield from _counted(batches, line)


def _counted(batches: Iterable[Batch], show: Callable[[int], None]) -> Iterator[Batch]:
    done = 0
    for batch in batches:
        yield batch  # counted when its user comes back for the next
        done += len(batch)
        show(done)
