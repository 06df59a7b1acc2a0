"""What every training with manual optimisation does in a step, and how far it has come."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from monet_cyclegan.bad_steps import one_or_nan, skipped_unless_finite
from monet_cyclegan.schedules import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from lightning import LightningModule
    from torch import Tensor, nn

    from monet_cyclegan.bad_steps import StepLog

Terms = dict[str, "Tensor"]  # named scalars, weighted: their sum is minimised


def total(terms: Terms) -> Tensor:
    """The sum of all terms."""
    return torch.stack(list(terms.values())).sum()


def minimise(
    module: LightningModule,
    optimizer: Any,
    terms: Terms,
    lr: float,
    clip: Callable[[Iterable[nn.Parameter]], Tensor],
    step_log: StepLog,
) -> Tensor:
    """Minimise the sum of the terms by one step; returns the norm of the gradient before clipping.

    A sum or gradient that is no finite number changes neither parameters nor the optimizer's state.
    """
    optimizer.zero_grad()
    loss = total(terms)
    module.manual_backward(loss, gradient=one_or_nan(loss))
    for group in optimizer.param_groups:
        group["lr"] = lr
    norm = clip([parameter for group in optimizer.param_groups for parameter in group["params"]])
    with skipped_unless_finite(optimizer.optimizer, norm):
        optimizer.step()
    step_log.add(terms, norm, module.trainer.log_every_n_steps)  # type: ignore[attr-defined]
    return norm


def finished_share(trainer: Any, batches_done: int) -> float:
    """Which share of a training is done, in [0, 1]: of its batches or of ``trainer.max_time``, all processes alike."""
    epochs = float("inf") if trainer.max_epochs in (None, -1) else trainer.max_epochs
    batches = trainer.num_training_batches * epochs
    timer = next((callback for callback in trainer.callbacks if hasattr(callback, "time_remaining")), None)
    remaining = timer.time_remaining() if timer else None
    if timer is None or remaining is None:
        return progress(batches_done, batches)
    elapsed = timer.time_elapsed()
    share = progress(batches_done, batches, elapsed, elapsed + remaining)
    return trainer.strategy.broadcast(share) if trainer.world_size > 1 else share


@contextmanager
def weights_of_checkpoint(module: nn.Module, network: nn.Module, path: Path | str) -> Iterator[None]:
    """Meanwhile, a network of ``module`` has the weights of a checkpoint of that module."""
    prefix = next(f"{name}." for name, part in module.named_modules() if part is network)
    saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    weights = {key.removeprefix(prefix): saved[key] for key in saved if key.startswith(prefix)}
    try:
        network.load_state_dict(weights)
        yield
    finally:  # Ctrl-C, too: the next checkpoint must not hold these
        network.load_state_dict(before)
