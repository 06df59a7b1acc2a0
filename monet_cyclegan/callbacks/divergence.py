"""Steps that were skipped because a loss or gradient was NaN or infinite: said, counted, and too many end the run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning import Callback

from monet_cyclegan.errors import Diverged

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer

    from monet_cyclegan.bad_steps import Steps

_WHOSE = {"gen": "generators", "disc": "discriminators"}


class _Skip(NamedTuple):
    """A step that was skipped."""

    step: int  # as in metrics.csv, from 0
    what: str  # "train/cycle_a is nan"
    is_term: bool  # of the loss in this process, rather than the gradient that all processes share


class _Skips(NamedTuple):
    """Some of an optimizer's steps that were skipped: the first, how many, and of these how many in a row at most."""

    first: _Skip
    number: int
    longest: int


class Divergence(Callback):
    """Tell of skipped steps by the first term that was no finite number, log ``train/skipped``, their number so far.

    Looks with each line of the log, and on a CPU after each batch. It stands before the callbacks that save: a run that
    it ends leaves the checkpoints that there are, and what these hold is finite, since bad steps change nothing.

    Args:
        max_skipped: so many steps of the generators or of the discriminators may be skipped in a row.
        folder: where the checkpoints lie that an error may name.
        at_once: whether to look after each batch, for which a GPU would have to wait; None for on a CPU only.

    Raises:
        ValueError: if max_skipped is negative.
        Diverged: when more steps were skipped in a row.
    """

    def __init__(self, max_skipped: int = 10, folder: Path | str | None = None, at_once: bool | None = None):
        if max_skipped < 0:
            raise ValueError(f"max_skipped must be 0 or more, got {max_skipped}")
        self.max_skipped = max_skipped
        self.folder = None if folder is None else Path(folder)
        self.at_once = at_once
        self.in_row = dict.fromkeys(_WHOSE, 0)
        self.total = dict.fromkeys(_WHOSE, 0)
        self._began: dict[str, _Skip] = {}  # the first of the steps in a row
        self._end: str | None = None  # why the run has to
        self._watched: tuple[Trainer, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Know whose steps to look at when a checkpoint is saved."""
        self._watched = (trainer, pl_module)
        if self.at_once is None:
            self.at_once = pl_module.device.type == "cpu"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look if it's time."""
        is_line = (batch_idx + 1) % trainer.log_every_n_steps == 0 or trainer.is_last_batch  # type: ignore[attr-defined]
        if is_line or self.at_once:
            self._look()
        if is_line:
            pl_module.log("train/skipped", float(sum(self.total.values())))
        if self._end is not None:
            raise Diverged(self._end)

    def state_is_good(self) -> bool:
        """Whether the latest steps could be taken; a single one that couldn't may be its batch's fault alone."""
        self._look()
        return max(self.in_row.values()) < 2

    def state_dict(self) -> dict[str, Any]:
        """The numbers, those of steps not looked at yet included."""
        self._look()
        return {"in_row": dict(self.in_row), "total": dict(self.total)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.in_row.update(state_dict["in_row"])
        self.total.update(state_dict["total"])

    def _look(self) -> None:
        if self._watched is None:
            return
        trainer, model = self._watched
        told: dict[tuple[int, int, int], tuple[_Skips, list[str]]] = {}
        for name, log in model.step_logs.items():
            skips = self._count(name, log.take(), int(model.batches_done))
            if skips is not None:  # images of NaN stop the discriminators, too
                told.setdefault((skips.first.step, skips.number, skips.longest), (skips, []))[1].append(_WHOSE[name])
        for skips, whose in told.values():
            if trainer.is_global_zero or skips.first.is_term:
                process = "" if trainer.world_size == 1 else f"process {trainer.global_rank}: "
                number = "step" if skips.number == 1 else f"{skips.number} steps"
                print(
                    f"warning: {process}step {skips.first.step}: {skips.first.what}, {number} of the "
                    f"{' and '.join(whose)} skipped ({skips.longest} of {self.max_skipped} in a row)",
                    flush=True,
                )

    def _count(self, name: str, steps: Steps, batches_done: int) -> _Skips | None:
        """Count those of an optimizer's latest steps that were skipped, if any."""
        norms = steps.norms.tolist()
        first_step = batches_done - len(norms)
        first: _Skip | None = None
        skipped, longest = 0, 0
        for index, norm in enumerate(norms):
            if math.isfinite(norm):
                self.in_row[name] = 0
                continue
            skip = _skip(name, steps, index, first_step + index)
            first = first or skip
            if self.in_row[name] == 0 or name not in self._began:  # after a resume the one that began it isn't known
                self._began[name] = skip
            skipped += 1
            self.in_row[name] += 1
            longest = max(longest, self.in_row[name])
            if self.in_row[name] > self.max_skipped:
                self._end = self._end or self._why(name)
        self.total[name] += skipped
        return None if first is None else _Skips(first, skipped, longest)

    def _why(self, name: str) -> str:
        began = self._began[name]
        saved = [self.folder / file for file in ("last.ckpt", "best.ckpt")] if self.folder is not None else []
        saved = [path for path in saved if path.is_file()]
        good = f"the last good checkpoint is {saved[0]}" if saved else "there is no checkpoint yet"
        good += f", the best one {saved[1]}" if len(saved) > 1 else ""
        return (
            f"training diverged at step {began.step}: {began.what}, and more than callbacks.divergence.max_skipped="
            f"{self.max_skipped} steps of the {_WHOSE[name]} in a row had to be skipped; {good}: "
            "try a lower model.lr, model/clip=norm or trainer.precision=32-true"
        )


def _skip(name: str, steps: Steps, index: int, step: int) -> _Skip:
    terms = zip(steps.names, steps.terms[index].tolist(), strict=True)
    bad = next(((term, value) for term, value in terms if not math.isfinite(value)), None)
    if bad is not None:
        return _Skip(step, f"train/{bad[0]} is {bad[1]}", True)
    return _Skip(step, f"train/grad_norm_{name} is {steps.norms[index].item()}", False)
