"""Named moments of a run at which it can be killed, and writes that can be made to fail: by wrapping functions."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from monet_cyclegan import checkpoint_io, cyclegan, loggers
from monet_cyclegan.callbacks import log_images
from monet_cyclegan.callbacks.evaluate import Evaluate
from monet_cyclegan.callbacks.save_best import SaveBest
from monet_cyclegan.callbacks.save_last import SaveLast
from monet_cyclegan.cyclegan import CycleGAN
from monet_cyclegan.intact import BEFORE

if TYPE_CHECKING:
    from collections.abc import Callable

POINTS = (
    "a batch begins",
    "between the generators' step and the discriminators'",
    "a batch has ended",
    "validation begins",
    "in the middle of validation",
    "validation has ended",
    "before a row of the log",
    "before the log takes its name",
    "before a picture",
    "half a checkpoint is written",
    "before a checkpoint takes its name",
    "before the one before it takes its name",
    "a checkpoint has its name",
)
_die_at: tuple[str, int] | None = None
_reached: Counter[str] = Counter()
_report_to: Path | None = None


def reach(point: str) -> bool:
    """Count a point; dies there if it is to, or tells that it is about to."""
    _reached[point] += 1
    return _die_at == (point, _reached[point])


def die() -> None:
    """As by a power cut: nothing of Python runs any more."""
    os.kill(os.getpid(), signal.SIGKILL)


def report() -> None:
    """Write down how often each point was reached."""
    if _report_to is not None:
        _report_to.write_text(json.dumps(_reached))


def install(die_at: Any, fail_at: Any, reached: Path | None) -> None:
    """Wrap everything, in a process that is only for this run."""
    global _die_at, _report_to
    _die_at, _report_to = tuple(die_at) if die_at else None, reached
    _before(CycleGAN, "training_step", "a batch begins")
    _before(SaveLast, "on_train_batch_end", "a batch has ended")
    _before(Evaluate, "on_validation_start", "validation begins")
    _before(Evaluate, "on_validation_batch_end", "in the middle of validation")
    _before(SaveBest, "on_validation_end", "validation has ended")
    _before(loggers.CSVLog, "log_metrics", "before a row of the log")
    _before(log_images, "write_image", "before a picture")
    _before(checkpoint_io, "_keep_before", "before a checkpoint takes its name")
    _before(checkpoint_io, "_sync_folder", "a checkpoint has its name")
    _between_steps()
    _half_written()
    _before_renaming()
    if fail_at is not None:
        _failing_writes(*fail_at)


def _before(owner: Any, name: str, point: str) -> None:
    real = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if reach(point):
            die()
        return real(*args, **kwargs)

    setattr(owner, name, wrapped)


def _between_steps() -> None:
    real = cyclegan.minimise
    calls = 0

    def minimise(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        result = real(*args, **kwargs)
        calls += 1
        if calls % 2 and reach("between the generators' step and the discriminators'"):
            die()
        return result

    cyclegan.minimise = minimise


def _half_written() -> None:
    real = torch.save

    def save(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        if reach("half a checkpoint is written"):
            whole = io.BytesIO()
            real(value, whole)
            file.write(whole.getvalue()[: whole.tell() // 2])
            file.flush()
            die()
        real(value, file, *args, **kwargs)

    torch.save = save  # type: ignore[assignment]


def _before_renaming() -> None:
    real = Path.replace

    def replace(path: Path, target: Any) -> Path:
        if Path(target).suffix == ".csv" and reach("before the log takes its name"):
            die()
        if Path(target).name == BEFORE and reach("before the one before it takes its name"):
            die()
        return real(path, target)

    Path.replace = replace  # type: ignore[method-assign]


def _failing_writes(first: int, count: int) -> None:
    """Let ``count`` operations that write fail as on a full disk, from the ``first`` one on."""

    def failing(real: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if writes(*args, **kwargs):
                _reached["writes"] += 1
                if first <= _reached["writes"] < first + count:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **kwargs)

        return call

    def for_writing(_: Any, mode: str = "r", *__: Any, **___: Any) -> bool:
        return any(letter in mode for letter in "wax+")

    builtins.open = failing(builtins.open, for_writing)
    Path.open = failing(Path.open, for_writing)  # type: ignore[method-assign]
    Path.replace = failing(Path.replace, lambda *_: True)  # type: ignore[method-assign]
    os.fsync = failing(os.fsync, lambda *_: True)
    os.link = failing(os.link, lambda *_, **__: True)
    torch.save = failing(torch.save, lambda *_, **__: True)
