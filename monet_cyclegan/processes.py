"""What several training processes decide together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning import Trainer

_EVERY_N_BATCHES = 10


def any_says_so(trainer: Trainer, flag: bool, batch_idx: int) -> bool:
    """Whether ``flag`` is set in any process, told to all of them at the end of the same batch.

    Asking makes each wait for the others and for its device, so several processes ask at every tenth batch only; one
    alone doesn't have to.
    """
    if trainer.world_size == 1:
        return flag
    if (batch_idx + 1) % _EVERY_N_BATCHES:
        return False
    return trainer.strategy.reduce_boolean_decision(flag, all=False)
