"""Steps whose loss or gradient is NaN or infinite: skipped and written down on the device, which nobody waits for."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor
    from torch.optim import Optimizer


_KERNELS_THAT_SKIP = ("cpu", "cuda")  # MPS ignores found_inf (pytorch/pytorch#186360), and others may


def one_or_nan(loss: Tensor) -> Tensor:
    """1 if the loss is a finite number, else NaN: what its backward pass has to start from.

    An infinite loss may have finite gradients. This makes them NaN, so that their norm tells all, and tells it to all
    processes: gradients are what these share, while each has losses of its own.
    """
    return loss.detach() * 0 + 1


@contextmanager
def skipped_unless_finite(optimizer: Optimizer, norm: Tensor) -> Iterator[None]:
    """Around an optimizer's step: parameters and state stay as they are where the gradients' norm isn't finite.

    Fused kernels look at ``found_inf`` by themselves, as torch's GradScaler has them do. Of others on a CPU, where
    reading costs nothing, the gradients become None, which is no step. Of any other on a device, what was before is
    copied and put back; a state that it keeps on the CPU, as Adam its number of steps unless fused, counts the step.

    Args:
        optimizer: torch's, whose gradients are ready.
        norm: of all these gradients, a 0-d tensor on their device.
    """
    if _skips_by_itself(optimizer) and norm.device.type in _KERNELS_THAT_SKIP:
        optimizer.found_inf = (~(norm < math.inf)).float()  # type: ignore[attr-defined] # the kernels compare with 1.0
        try:
            yield
        finally:
            optimizer.__dict__.pop("found_inf", None)  # a GradScaler removes it, too
    elif norm.device.type == "cpu":
        if not math.isfinite(norm):
            optimizer.zero_grad(set_to_none=True)
        yield
    else:
        with _put_back_unless(norm < math.inf, optimizer):
            yield


def _skips_by_itself(optimizer: Optimizer) -> bool:
    # Fused SGD would begin with uninitialised momentum if its first step were skipped.
    has_momentum = any(group.get("momentum") for group in optimizer.param_groups)
    return getattr(optimizer, "_step_supports_amp_scaling", False) and not has_momentum


@contextmanager
def _put_back_unless(finite: Tensor, optimizer: Optimizer) -> Iterator[None]:
    """The same operations whatever ``finite`` is; state that the step begins with becomes zero, as optimizers do."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    before = [parameter.detach().clone() for parameter in parameters]
    states = [
        {key: value.clone() for key, value in optimizer.state.get(parameter, {}).items() if torch.is_tensor(value)}
        for parameter in parameters
    ]
    yield
    with torch.no_grad():
        for parameter, old, state in zip(parameters, before, states, strict=True):
            parameter.copy_(torch.where(finite, parameter, old))
            for key, value in optimizer.state[parameter].items():
                if torch.is_tensor(value) and value.device == finite.device:
                    value.copy_(torch.where(finite, value, state.get(key, 0)))


class Steps(NamedTuple):
    """Some steps of an optimizer, one after the other, on the CPU."""

    norms: Tensor  # (n,), of the gradients
    terms: Tensor  # (n, len(names)), of the loss; 0 where a term was absent
    names: tuple[str, ...]


class StepLog:
    """The latest steps' gradient norms and loss terms, kept on the device until someone reads them all at once.

    Rows move up instead of being written at an index, and a term that isn't due is a zero, so that an XLA device sees
    the same graph at each step.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._rows: Tensor | None = None  # (length, 1 + terms): norm, then terms; the latest last
        self._zero: Tensor | None = None
        self._unread = 0

    @torch.no_grad()
    def add(self, terms: Mapping[str, Tensor], norm: Tensor, length: int) -> None:
        """Add a step, of which the ``length`` latest are kept."""
        if self._rows is None or self._zero is None or len(self._rows) != length:
            self._names, self._unread = (), 0
            self._zero = torch.zeros((), device=norm.device)
            self._rows = torch.zeros(length, 1, device=norm.device)
        new = tuple(name for name in terms if name not in self._names)
        if new:
            self._names += new
            self._rows = torch.cat([self._rows, self._zero.expand(length, len(new))], dim=1)
        row = torch.stack([norm, *(terms.get(name, self._zero) for name in self._names)])
        self._rows = torch.cat([self._rows[1:], row[None]])
        self._unread = min(self._unread + 1, length)

    def take(self) -> Steps:
        """Those not taken yet, read from the device in one go."""
        if self._rows is None:
            return Steps(torch.zeros(0), torch.zeros(0, 0), ())
        rows = self._rows.cpu()[len(self._rows) - self._unread :]
        self._unread = 0
        return Steps(rows[:, 0], rows[:, 1:], self._names)
