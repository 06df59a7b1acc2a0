"""Checkpoints that training goes on with, or starts from: what is looked at before Lightning and callbacks get them."""

from __future__ import annotations

import re
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from monet_cyclegan import CHECKPOINT_KEY as KEY
from monet_cyclegan.assembly import check_fit, first_line
from monet_cyclegan.checkpoint import has_discriminators, load_checkpoint, network_config
from monet_cyclegan.errors import Interrupted, Pruned, UserError
from monet_cyclegan.untrusted.plain_values import is_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NETWORKS = {"generator": ("gen_ab", "gen_ba"), "discriminator": ("disc_a", "disc_b")}
_KINDS: dict[str, type] = {"loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list}
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}[\w.+-]{0,40}")
_OF_BEST = re.compile(r"epoch\d{1,9}_batch\d{1,12}\.ckpt")  # SaveBest reads, links and deletes files of these names


def load_to_start_from(path: str) -> dict[str, Any]:
    """Load a checkpoint for its networks, whose configs and weights fit each other.

    Raises:
        UserError: they don't, or it is none of this project.
    """
    checkpoint = load_checkpoint(path)
    for name, parts in _NETWORKS.items():
        if name == "discriminator" and not has_discriminators(checkpoint):
            continue
        config = network_config(checkpoint, name)
        for part in parts:
            check_fit(config, _weights(checkpoint["state_dict"], part), name)
    return checkpoint


def load_to_go_on(path: str) -> dict[str, Any]:
    """Load a checkpoint for all that it holds.

    Raises:
        UserError: its networks don't fit, or the state of its training is built otherwise than train.py's.
    """
    checkpoint = load_to_start_from(path)
    try:
        _check_training_state(checkpoint)
    except ValueError as error:
        raise UserError(f"{path} can't be gone on with: {error}") from error
    return checkpoint


@contextmanager
def going_on_with(path: str | None) -> Iterator[None]:
    """Around Lightning's fit: what fails while it takes a checkpoint over becomes one line."""
    try:
        yield
    except (UserError, Interrupted, Pruned):
        raise
    except Exception as error:
        if path and _while_restoring(error):
            raise UserError(
                f"{path} can't be gone on with: the state of its training isn't what train.py writes "
                f"({type(error).__name__}: {first_line(error)}); init_from= takes its networks alone"
            ) from error
        raise


def _while_restoring(error: BaseException) -> bool:
    """Whether it comes from the part of Lightning that reads checkpoints, and not from its way of writing them."""
    return any(
        frame.f_code.co_filename.endswith("checkpoint_connector.py")
        and frame.f_code.co_name.startswith(("restore", "resume", "_restore"))
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _weights(state: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}


def _check_training_state(checkpoint: dict[str, Any]) -> None:
    """Types and ranges of what Lightning and our callbacks take without a look."""
    for key in ("epoch", "global_step"):
        if type(checkpoint.get(key)) is not int or not 0 <= checkpoint[key] < 2**40:
            raise ValueError(f"its {key} is {str(checkpoint.get(key))[:40]}")
    version = checkpoint.get("pytorch-lightning_version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ValueError(f"it names no version of Lightning, but {str(version)[:40]}")
    for key, kind in _KINDS.items():
        if not isinstance(checkpoint.get(key, kind()), kind):
            raise ValueError(f"its {key} are a {type(checkpoint[key]).__name__}")
    if "optimizer_states" not in checkpoint or "loops" not in checkpoint:
        raise ValueError("it holds networks alone: give it as init_from=, which starts a new run from them")
    _check_counters(checkpoint["loops"])
    expected = 1 + has_discriminators(checkpoint)  # of the generators, and of the discriminators
    if len(checkpoint["optimizer_states"]) != expected:  # of which Lightning would say nothing
        raise ValueError(f"it has the state of {len(checkpoint['optimizer_states'])} optimizers, not of {expected}")
    for state in checkpoint["optimizer_states"]:
        _check_optimizer(state)
    for state in checkpoint.get("callbacks", {}).values():
        if isinstance(state, dict) and "candidates" in state:
            _check_candidates(state["candidates"])
    _check_open_row(checkpoint[KEY].get("open_row"))


def _check_counters(value: Any) -> None:
    """Lightning's loops: nested dicts of whole numbers and bools."""
    if isinstance(value, dict):
        for inner in value.values():
            _check_counters(inner)
    elif value is not None and not (isinstance(value, int) and 0 <= value < 2**40):
        raise ValueError(f"its loops count {str(value)[:40]}")


def _check_optimizer(state: Any) -> None:
    match state:
        case {"state": dict(moments), "param_groups": list(groups)} if all(isinstance(group, dict) for group in groups):
            pass
        case _:
            raise ValueError("its optimizer_states aren't built as torch's")
    for value in moments.values():
        if not isinstance(value, dict):
            raise ValueError("its optimizer_states aren't built as torch's")
    for group in groups:
        for key, value in group.items():
            numbers = value if isinstance(value, list | tuple) else [value]
            if not all(
                number is None or isinstance(number, bool) or _is_number_or_scalar(number) for number in numbers
            ):
                raise ValueError(f"its optimizer's {str(key)[:40]} is {str(value)[:40]}")


def _is_number_or_scalar(value: Any) -> bool:
    return is_number(value) or getattr(value, "shape", None) == ()


def _check_candidates(candidates: Any) -> None:
    """The best checkpoints by name: with another one a stranger's file could have any file deleted."""
    for candidate in candidates if isinstance(candidates, list) else [None]:
        match candidate:
            case {"file": str(file), "epoch": int(), "batches": int(), "score": score} if _OF_BEST.fullmatch(
                file
            ) and is_number(score):
                continue
        raise ValueError(f"it names {str(candidate)[:80]} among its best checkpoints")


def _check_open_row(row: Any) -> None:
    match row:
        case None:
            return
        case {"step": int(), "metrics": dict(metrics)} if all(
            isinstance(key, str) and isinstance(value, int | float) for key, value in metrics.items()
        ):
            return
    raise ValueError("its open row of the log isn't one")
