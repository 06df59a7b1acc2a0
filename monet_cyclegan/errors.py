"""The exception for mistakes that a person can put right, and those for runs that end early on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_LINE = 900  # characters


class UserError(Exception):
    """A mistake in what the user gave: its text is one clear line that names the value and the choices.

    The command-line programs print it as ``error: ...`` and exit with status 2; any other exception is a defect, and
    keeps its traceback. Names of files, and what stands in them, may be of any kind: what can't be printed is escaped,
    and what is too long for a line is cut in its middle.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class UserErrors(UserError):  # noqa: N818 - several of them
    """Several mistakes at once: ``lines`` has each."""

    def __init__(self, lines: Iterable[str]):
        self.lines = tuple(map(one_line, lines))
        super().__init__(*self.lines)

    def __str__(self) -> str:
        if len(self.lines) == 1:
            return self.lines[0]
        return "\n".join([f"{len(self.lines)} settings can't work:", *(f"  {line}" for line in self.lines)])


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """A run ended on a signal, after its checkpoint was saved; `command` goes on with it."""

    def __init__(self, signal_name: str, command: str):
        super().__init__(signal_name, command)  # all that it needs to be made again in another process
        self.signal_name = signal_name
        self.command = command

    def __str__(self) -> str:
        return f"stopped by {self.signal_name}; go on with: {self.command}"


class Diverged(FloatingPointError):  # noqa: N818 - a trial of a search fails by it, and others go on
    """A run ended because losses or gradients were no finite numbers step after step: its text is one clear line."""


class Pruned(Exception):  # noqa: N818 - not an error: other trials do better
    """A trial of a search ended early: its text says at which evaluation and value."""


def one_line(text: str) -> str:
    """A text as one printable line of at most `LONGEST_LINE` characters."""
    if not text.isprintable():
        text = _cut(text)  # first, since names can be of millions
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return _cut(text)


def _cut(text: str) -> str:
    if len(text) <= LONGEST_LINE:
        return text
    return f"{text[: LONGEST_LINE // 2]} ... {text[-LONGEST_LINE // 3 :]}"
