"""torch.compile for what a training step computes: which modes there are, and whether this machine can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

# "reduce-overhead" replays CUDA graphs, "max-autotune" also times several kernels for each operation.
_REPLAYING = ("reduce-overhead", "max-autotune")
MODES = ("default", *_REPLAYING, "max-autotune-no-cudagraphs")


def check_mode(mode: str | bool) -> None:
    """Refuse what is no mode.

    Raises:
        ValueError: for an unknown mode.
    """
    if mode not in (True, False, *MODES):
        raise ValueError(f"unknown compile={mode}: choose true, false, {', '.join(MODES)}")


def compiled(function: Callable[..., Any], mode: str | bool) -> Callable[..., Any]:
    """The function, compiled for each shape of its inputs at the first call with it; as it is if ``mode`` is False.

    What the compiled functions of earlier models of this process took is forgotten: a search would run into the limit
    of compilations for a function, and from there on without a compiler.
    """
    if not mode:
        return function
    torch.compiler.reset()
    name = "default" if mode is True else mode
    return torch.compile(function, mode=None if name == "default" else name, dynamic=False)


def begin_step(mode: str | bool) -> None:
    """Tell CUDA graphs that what they gave in the step before isn't needed any more; a step has two of them."""
    if mode in _REPLAYING:
        torch.compiler.cudagraph_mark_step_begin()


def why_not(device: torch.device) -> str | None:
    """Why this machine can't compile for a device, in a line, or None if it can. Takes seconds.

    Tried rather than asked: a compiler may be missing, too old or unable to link, a GPU unknown to Triton.
    """
    try:
        torch.compile(_probe, dynamic=False)(torch.ones(64, device=device))
    except Exception as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def _probe(x: torch.Tensor) -> torch.Tensor:
    return (x * 2 + 1).relu().sum()
