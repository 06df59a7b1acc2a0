"""Progress of long loops: a bar in a terminal, a line now and then where the output is a file."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sized

    from rich.progress import Task

    Batch = TypeVar("Batch", bound=Sized)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def track(batches: Iterable[Batch], total: int, label: str, line_every_s: float = 15.0) -> Iterator[Batch]:
    """Hand batches through while showing how many of ``total`` items are done.

    Args:
        batches: groups of items; their lengths are what is counted.
        total: number of items in all.
        label: what is being done.
        line_every_s: seconds between two lines where the output is no terminal; what ends sooner prints none.
    """
    with progress(total, label, line_every_s) as show:
        done = 0
        for batch in batches:
            yield batch  # counted when its user comes back for the next
            done += len(batch)
            show(done)


@contextmanager
def progress(total: int, label: str, line_every_s: float = 15.0) -> Iterator[Callable[[float], None]]:
    """Show how many of ``total`` items are done, which may be parts of one, whenever what it gives is called."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=int(done) if total > 1 else done)
        return
    started = last = time.monotonic()

    def line(done: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= line_every_s and done > 0:
            last = now
            remaining = (now - started) / done * (total - done)
            how_far = f"{done:.0%}" if total == 1 else f"{int(done)} of {total}"
            print(f"{label}: {how_far}, about {remaining:.0f} s left", flush=True)

    yield line
