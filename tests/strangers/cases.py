"""A case of the corpus: what a stranger hands over, what becomes of it, and what that may cost."""

from __future__ import annotations

import re
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Result = Literal["read", "skipped", "refused"]

SECONDS = 10.0  # on a machine that does other things; nearly all take a hundredth of a second
MEGABYTES = 256.0  # above what the process had before


class Case(NamedTuple):
    """One of the corpus.

    Attributes:
        name: says what is wrong, or odd, in a few words; of a door, each once.
        door: where it comes in, such as "predict.py ckpt=".
        make: writes it into an empty folder, and returns what the user would name.
        open: what the door does with that; returns a line for each thing it left out.
        result: "read" all of it; "skipped" some, with a line for each; "refused" with one line.
        says: a regular expression that the lines match: at least the reason.
        megabytes: what it may take.
    """

    name: str
    door: str
    make: Callable[[Path], Path]
    open: Callable[[Path], Sequence[str]]
    result: Result
    says: str = ""
    megabytes: float = MEGABYTES


class Outcome(NamedTuple):
    """What became of a case."""

    result: Result
    lines: list[str]
    seconds: float
    megabytes: float


def run_case(case: Case, folder: Path) -> Outcome:
    """Make and open a case; whatever it raises but a UserError is a defect and comes through."""
    given = case.make(folder)
    before = _peak_memory(reset=True)
    start = time.monotonic()
    with _time_limit(2 * SECONDS):
        try:
            lines = list(case.open(given))
            result: Result = "skipped" if lines else "read"
        except UserError as error:
            result, lines = "refused", [str(error)]
    return Outcome(result, lines, time.monotonic() - start, max(0.0, _peak_memory() - before))


def mistakes(case: Case, outcome: Outcome) -> list[str]:
    """What an outcome has of what it mustn't; nothing if all is well."""
    found = []
    if outcome.result != case.result:
        found.append(f"{outcome.result}, not {case.result}")
    for line in outcome.lines:
        if len(line.splitlines()) != 1 or not line.isprintable():
            found.append(f"not one printable line: {line!r}")
        if len(line) > 1000:
            found.append(f"a line of {len(line)} characters")
        if not re.search(case.says, line):
            found.append(f"{line!r} doesn't say {case.says!r}")
    if outcome.seconds > SECONDS:
        found.append(f"{outcome.seconds:.1f} seconds")
    if outcome.megabytes > case.megabytes:
        found.append(f"{outcome.megabytes:.0f} MB")
    return found


def _peak_memory(*, reset: bool = False) -> float:
    """The most that the process had in memory since the last reset, in megabytes; 0 where Linux doesn't tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return int(re.findall(r"VmHWM:\s*(\d+)", status)[0]) / 1024


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what doesn't end."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:.0f} seconds")

    earlier = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
