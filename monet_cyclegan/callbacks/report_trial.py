"""A trial of a search tells the study each evaluation, and ends where the study's pruner sees no hope."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lightning import Callback

from monet_cyclegan.errors import Pruned

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer
    from optuna import Trial
    from optuna.pruners import BasePruner


class ReportTrial(Callback):
    """Report ``monitor`` after each validation; the first is step 1.

    A hopeless trial raises `Pruned` when its epoch is through, pictures included. One whose score is not a finite
    number raises FloatingPointError, since a network that has diverged doesn't come back. A trial with several
    objectives runs to its end: there is no order in which it could be hopeless.

    Args:
        storage: the study's, see `open_storage`.
        study_name: the study's.
        number: of the trial; the sweeper sets it. Without one this does nothing, since the run is on its own.
        monitor: a logged metric, such as ``val/mifid``.
        pruner: Optuna's; None prunes nothing.
        title: what loggers call the run; they read it from the config.
    """

    def __init__(
        self,
        storage: str,
        study_name: str,
        number: int | None,
        monitor: str,
        pruner: BasePruner | None = None,
        title: str | None = None,
    ):
        self.storage = storage
        self.study_name = study_name
        self.number = number
        self.monitor = monitor
        self.pruner = pruner
        self.reported: list[float] = []
        self._trial: Trial | None = None
        self._verdict: str | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the trial, tell loggers about it, and what a resumed one had found before."""
        if self.number is None or not trainer.is_global_zero:
            return
        from monet_cyclegan.study_storage import load_trial  # SQLAlchemy takes its time to load

        trial = load_trial(self.storage, self.study_name, self.number, self.pruner)
        for logger in trainer.loggers:
            logger.log_hyperparams({"trial": {"study": self.study_name, "number": self.number, **trial.params}})
        self._trial = trial if len(trial.study.directions) == 1 else None
        for step, score in enumerate(self.reported, start=1):
            self._report(step, score)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report this evaluation, and hear whether to go on."""
        if self.number is None or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        score = float(trainer.callback_metrics.get(self.monitor, math.nan))
        score = trainer.strategy.broadcast(score)
        if not math.isfinite(score):
            raise FloatingPointError(f"{self.monitor} is {score} at evaluation {len(self.reported) + 1}")
        self.reported.append(score)
        self._verdict = trainer.strategy.broadcast(self._report(len(self.reported), score))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End here if there is no hope."""
        self._stop_if_hopeless()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """End here after an evaluation within an epoch."""
        self._stop_if_hopeless()

    def state_dict(self) -> dict[str, Any]:
        """What was reported."""
        return {"reported": list(self.reported)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What was reported before."""
        self.reported = list(state_dict["reported"])

    def _report(self, step: int, score: float) -> str | None:
        """Write a score down; why the trial should end, if it should."""
        if self._trial is None:
            return None
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self._trial.report(score, step)
        except UpdateFinishedTrialError:
            return "another worker took it over, since it gave no sign of life"
        return f"{self.monitor} {score:.4g} at evaluation {step}" if self._trial.should_prune() else None

    def _stop_if_hopeless(self) -> None:
        if self._verdict is not None:
            raise Pruned(self._verdict)
