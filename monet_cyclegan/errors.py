"""The one exception for mistakes that a person can put right."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave: its text is one clear line that names the value and the choices.

    The command-line programs print it as ``error: ...`` and exit with status 2; any other exception is a defect, and
    keeps its traceback.
    """


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """A run ended on a signal, after its checkpoint was saved."""

    def __init__(self, signal_name: str, checkpoint: object):
        super().__init__(f"stopped by {signal_name}; go on with: python train.py ckpt_path={checkpoint}")
