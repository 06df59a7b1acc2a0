"""The best checkpoint: the few that score best on the validated images, and of these the best on all images."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lightning import Callback

from monet_cyclegan.whole_file import second_name, told_if_not, whole_file

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


# A stranger's checkpoint may name other files, and those of candidates get deleted.
_OWN_NAME = re.compile(r"epoch\d{1,9}_batch\d{1,12}\.ckpt")


@runtime_checkable
class ScoresAll(Protocol):
    """A callback that can score the current model on all images."""

    def score_all(self, trainer: Trainer, pl_module: LightningModule, num_images: int | None) -> dict[str, float]:
        """Scores by name, such as {"mifid": 61.2}."""


@dataclass
class Candidate:
    """A checkpoint that was among the best: ``score`` on the validated images, ``final`` on all, once it is known."""

    file: str
    epoch: int  # from 1
    batches: int
    score: float
    final: float | None = None


class SaveBest(Callback):
    """Keep the ``top_k`` checkpoints whose ``monitor`` is best; ``best.ckpt`` is always the best of them.

    When training ends, these are scored again on all images, since neighbouring epochs differ by less than a subset's
    noise, and the winner becomes ``best.ckpt``. A score that isn't a finite number is never among the best. After a
    stop by a signal nothing is scored again: resume, or take the best so far.

    Args:
        folder: where the checkpoints go; ``best.ckpt`` is a hard link to one of them where the file system has such.
        monitor: a logged metric, such as ``val/mifid``.
        table: CSV file with all candidates and scores.
        mode: whether "min" or "max" is best.
        top_k: how many are kept.
        rescore: whether to score them again when training ends.
        rescore_images: at most so many images then, held-out ones first; None for all.
    """

    def __init__(
        self,
        folder: Path | str,
        monitor: str,
        table: Path | str,
        mode: str = "min",
        top_k: int = 3,
        rescore: bool = True,
        rescore_images: int | None = None,
    ):
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode} is not known: choose min or max")
        if top_k < 1:
            raise ValueError(f"top_k={top_k} keeps no checkpoint: give 1 or more")
        self.folder = Path(folder)
        self.monitor = monitor
        self.table = Path(table)
        self.sign = 1 if mode == "min" else -1
        self.top_k = top_k
        self.rescore = rescore
        self.rescore_images = rescore_images
        self.candidates: list[Candidate] = []  # the best in front

    @property
    def final_title(self) -> str:
        """What the final scores are scores of."""
        return f"on {'all' if self.rescore_images is None else self.rescore_images} images"

    @property
    def best_path(self) -> Path:
        """Where the best checkpoint lies, once there is one."""
        return self.folder / "best.ckpt"

    @property
    def best(self) -> Candidate | None:
        """The best so far."""
        return self.candidates[0] if self.candidates else None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save this epoch's checkpoint if it is among the best."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        score = float(trainer.callback_metrics.get(self.monitor, math.nan))
        score = trainer.strategy.broadcast(score)
        if not math.isfinite(score):
            if trainer.is_global_zero:
                print(f"{self.monitor} is {score} after epoch {trainer.current_epoch + 1}: not kept as best")
            return
        epoch, batches = trainer.current_epoch + 1, int(pl_module.batches_done)  # type: ignore[arg-type]
        new = Candidate(f"epoch{epoch:04d}_batch{batches:07d}.ckpt", epoch, batches, score)
        others = [candidate for candidate in self.candidates if candidate.file != new.file]
        ranked = sorted(
            [*others, new], key=lambda candidate: self.sign * candidate.score
        )  # stable: the earlier one wins
        kept, dropped = ranked[: self.top_k], ranked[self.top_k :]
        if new not in kept:
            return
        self.candidates = kept
        trainer.save_checkpoint(self.folder / new.file)  # holds the new list already
        if not trainer.strategy.broadcast((self.folder / new.file).is_file()):  # as its writer has said
            self.candidates = [*others]
            return
        if trainer.is_global_zero:
            self._point_to_best()
            for candidate in dropped:
                (self.folder / candidate.file).unlink(missing_ok=True)
            self._write_table()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the candidates on all images, and let the best of them be ``best.ckpt``."""
        scorer = next((callback for callback in trainer.callbacks if isinstance(callback, ScoresAll)), None)  # type: ignore[attr-defined]
        prefix, _, name = self.monitor.partition("/")
        undecided = len(self.candidates) > 1 and any(candidate.final is None for candidate in self.candidates)
        if not (self.rescore and undecided and scorer and prefix == "val"):
            return
        for place, candidate in enumerate(self.candidates):
            if trainer.is_global_zero:
                print(
                    f"scoring {candidate.file} {self.final_title} ({place + 1} of {len(self.candidates)})", flush=True
                )
            with pl_module.as_saved(self.folder / candidate.file):  # type: ignore[operator]
                candidate.final = scorer.score_all(trainer, pl_module, self.rescore_images).get(name)
        self.candidates.sort(key=self._final_rank)
        if trainer.is_global_zero:
            self._point_to_best()
            self._write_table()
            winner = self.candidates[0]
            if winner.final is not None:
                for logger in trainer.loggers:
                    logger.log_metrics({f"best/{name}": winner.final, "best/epoch": winner.epoch}, winner.batches)

    def state_dict(self) -> dict[str, Any]:
        """The candidates."""
        return {"candidates": [asdict(candidate) for candidate in self.candidates]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the candidates whose files are still there; best.ckpt stands in for the best one's."""
        candidates = [Candidate(**{**saved, "final": None}) for saved in state_dict["candidates"]]
        candidates = [candidate for candidate in candidates if _OWN_NAME.fullmatch(candidate.file)]
        if candidates and self.best_path.is_file() and not (self.folder / candidates[0].file).is_file():
            # a session moved, with best.ckpt and last.ckpt alone
            second_name(self.best_path, self.folder / candidates[0].file, may_copy=True)
        self.candidates = [candidate for candidate in candidates if (self.folder / candidate.file).is_file()]

    def _final_rank(self, candidate: Candidate) -> float:
        final = candidate.final
        return self.sign * final if final is not None and math.isfinite(final) else math.inf

    def _point_to_best(self) -> None:
        """Put the first candidate's file under the name best.ckpt, at once."""
        with told_if_not(self.best_path):
            second_name(self.folder / self.candidates[0].file, self.best_path, may_copy=True)

    def _write_table(self) -> None:
        columns = ["file", "epoch", "batches", self.monitor, f"{self.monitor} {self.final_title}", "best"]
        with told_if_not(self.table), whole_file(self.table) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for place, candidate in enumerate(self.candidates):
                final = "" if candidate.final is None else repr(candidate.final)
                best = "best.ckpt" if place == 0 else ""
                writer.writerow(
                    [candidate.file, candidate.epoch, candidate.batches, repr(candidate.score), final, best]
                )
