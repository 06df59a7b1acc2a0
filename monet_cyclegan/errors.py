"""The exception for mistakes that a person can put right, and those for runs that end early on purpose."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave: its text is one clear line that names the value and the choices.

    The command-line programs print it as ``error: ...`` and exit with status 2; any other exception is a defect, and
    keeps its traceback.
    """


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
