"""What several training processes decide together, and what they tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

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


def gather(state: dict[str, dict[str, Tensor]]) -> list[dict[str, dict[str, Tensor]]]:
    """Tensors of all processes, on the CPU, told to each of them; all must ask at the same point."""
    here = {name: {key: tensor.cpu() for key, tensor in part.items()} for name, part in state.items()}
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [here]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, here)
    return found
