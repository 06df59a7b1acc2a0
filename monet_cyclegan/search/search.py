"""The trials of a study: each asks Optuna for values, runs as one of Hydra's jobs, and tells what came of it."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import optuna
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import TrialState

from monet_cyclegan.errors import Interrupted, Pruned, UserError
from monet_cyclegan.redaction import redacted_override
from monet_cyclegan.search.space import described
from monet_cyclegan.study_storage import open_storage, signs_of_life

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    from monet_cyclegan.search.space import Space

    Outcome = float | Sequence[float | None] | BaseException | None  # what a job returned or raised

_POLL_S = 1.0
_COUNTED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_FIXED = "fixed arguments"
ERROR = "error"


@dataclass(frozen=True)
class Search:
    """How a study is searched; the same in each of the workers that share it."""

    study_name: str
    storage: str
    directions: tuple[str, ...]
    n_trials: int  # finished or pruned ones, by all workers together
    n_jobs: int  # trials that a launcher gets at a time
    max_failures: int  # trials that may fail by themselves; killed ones are tried again instead
    max_retries: int
    heartbeat_interval: int
    grace_period: int
    folder: Path

    def limited(self, n_trials: int) -> Search:
        """The same with no more trials than that."""
        return replace(self, n_trials=min(n_trials, self.n_trials))

    def trial_folder(self, study: Study, trial: Trial) -> Path:
        """Where a trial writes: a retried one where its first attempt did."""
        first = _first_attempt(study, trial)
        return self.folder / f"trial_{trial.number if first is None else first:04d}"


def open_study(
    search: Search, space: Space, baseline: Mapping[str, Any], sampler: BaseSampler, pruner: BasePruner
) -> Study:
    """Create the study with ``baseline`` as its first trial, or join it.

    Raises:
        UserError: the study that there is has other directions, or other fixed arguments.
    """
    storage = open_storage(search.storage, search.heartbeat_interval, search.grace_period, search.max_retries)
    shared: dict[str, Any] = {
        "study_name": search.study_name,
        "storage": storage,
        "sampler": sampler,
        "pruner": pruner,
    }
    fixed = sorted(map(redacted_override, space.fixed))
    try:
        study = optuna.create_study(directions=[StudyDirection[name.upper()] for name in search.directions], **shared)
    except optuna.exceptions.DuplicatedStudyError:
        sampler.reseed_rng()  # with its seed it would draw what the first worker drew
        study = optuna.load_study(**shared)
        if not study.get_trials(deepcopy=False) or _count(study, (*_COUNTED, TrialState.WAITING)):
            _check_same(search, study, fixed)
            return study
        # All that there is has failed, perhaps by a mistake that was put right meanwhile: a new beginning.
    study.set_user_attr(_FIXED, fixed)
    if baseline:
        study.enqueue_trial(dict(baseline), user_attrs={"baseline": True})
    return study


def run_trials(
    study: Study,
    search: Search,
    space: Space,
    launch: Callable[[list[list[str]]], Sequence[Outcome]],
    after_batch: Callable[[Study], None],
) -> None:
    """Run trials until ``n_trials`` are finished or pruned, by this worker and all others.

    Args:
        study: see `open_study`.
        search: how to go about it.
        space: what to draw from.
        launch: runs jobs, given each one's overrides; returns or raises what they did.
        after_batch: called after each batch of trials.

    Raises:
        UserError: too many trials failed; or the first one did by a mistake in the settings, like all others would.
        Interrupted: a signal stopped a trial, whose checkpoint the next worker goes on from.
    """
    waiting = False
    while _count(study, _FINISHED) < search.n_trials:
        fail_stale_trials(study)
        batch = _claim(study, search, space)
        if not batch:
            if not waiting:
                print(f"{study.study_name}: the last trials run elsewhere; waiting for them, in case one dies")
            waiting = True
            time.sleep(_POLL_S)
            continue
        waiting = False
        for trial in batch:
            trial.set_user_attr("folder", str(search.trial_folder(study, trial)))
            trial.set_user_attr("worker", f"{socket.gethostname()} {os.getpid()}")
            _make_way(study, search, trial)
            print(f"trial {trial.number} of {study.study_name}: {described(trial.params)}", flush=True)
        try:
            with signs_of_life(study._storage, [trial._trial_id for trial in batch]):
                outcomes: Sequence[Outcome] = launch([_overrides(study, search, space, trial) for trial in batch])
        except Exception as error:  # of the launcher or of the config: jobs return theirs
            outcomes = [error] * len(batch)
        except BaseException:
            for trial in batch:
                _give_back(study, trial, search)
            raise
        for trial, outcome in zip(batch, outcomes, strict=True):
            _attach_grid(study, search, trial)
            _tell(study, search, trial, outcome)
        after_batch(study)
        _raise_if_hopeless(study, search, outcomes)
        del outcomes
        _free_memory()


def _check_same(search: Search, study: Study, fixed: list[str]) -> None:
    directions = tuple(direction.name.lower() for direction in study.directions)
    if directions != search.directions:
        raise UserError(
            f"study {search.study_name} has directions {', '.join(directions)}, not {', '.join(search.directions)}: "
            "give another hydra.sweeper.study_name"
        )
    before = study.user_attrs.get(_FIXED, fixed)  # none yet while its creator is at it
    differing = sorted({*before} ^ {*fixed})
    if differing:
        raise UserError(
            f"study {search.study_name} was begun with {' '.join(before) or 'no arguments'}, and scores under other "
            f"settings can't be compared; different: {' '.join(differing)}; give another hydra.sweeper.study_name"
        )


def _count(study: Study, states: tuple[TrialState, ...]) -> int:
    return len(study.get_trials(deepcopy=False, states=states))


def _claim(study: Study, search: Search, space: Space) -> list[Trial]:
    """As many new trials as are to be done, at most ``n_jobs``.

    Workers that ask for the last one at once get one each; the ones whose numbers are too high put theirs back.
    """
    batch: list[Trial] = []
    for _ in range(min(search.n_jobs, search.n_trials - _count(study, _COUNTED))):
        trial = study.ask(space.distributions)
        # Waiting ones count here, or one taken from the queue now could make two last ones.
        rivals = study.get_trials(deepcopy=False, states=(*_COUNTED, TrialState.WAITING))
        if sum(rival.number < trial.number for rival in rivals) >= search.n_trials:
            study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            break
        batch.append(trial)
    return batch


def _first_attempt(study: Study, trial: Trial) -> int | None:
    return RetryHeartbeatStaleTrialCallback.retried_trial_number(study.get_trials(deepcopy=False)[trial.number])


def _make_way(study: Study, search: Search, trial: Trial) -> None:
    """Rename a folder that a new trial would write into: it is of another study, whose file was deleted."""
    folder = search.trial_folder(study, trial)
    if _first_attempt(study, trial) is None and folder.exists():
        free = (folder.with_name(f"{folder.name}_before_{number}") for number in itertools.count(1))
        folder.rename(next(name for name in free if not name.exists()))


def _overrides(study: Study, search: Search, space: Space, trial: Trial) -> list[str]:
    values = {key: trial.params[key] for key in space.distributions}
    folder = search.trial_folder(study, trial)
    overrides = [
        *space.overrides(values),
        f"callbacks.report_trial.number={trial.number}",
        f"callbacks.report_trial.title='{search.study_name} {trial.number}'",
        f"hydra.sweep.subdir={folder.name}",
    ]
    last = folder / "checkpoints" / "last.ckpt"
    return [*overrides, f"ckpt_path='{last}'"] if last.is_file() else overrides


def _tell(study: Study, search: Search, trial: Trial, outcome: Outcome) -> None:
    if isinstance(outcome, Interrupted | KeyboardInterrupt | SystemExit):
        _give_back(study, trial, search)
        return
    values = outcome if isinstance(outcome, list | tuple) else [outcome]
    if isinstance(outcome, Pruned):
        _finish(study, trial, TrialState.PRUNED)
        print(f"trial {trial.number}: pruned, {outcome}")
    elif isinstance(outcome, BaseException):
        _fail(study, trial, f"{type(outcome).__name__}: {' '.join(str(outcome).split())}"[:1000])
    elif any(not isinstance(value, float) or value != value for value in values):
        _fail(study, trial, f"the objective is {', '.join(map(str, values))}")
    else:
        _finish(study, trial, TrialState.COMPLETE, [float(value) for value in values])  # type: ignore[arg-type]
        print(f"trial {trial.number}: {', '.join(f'{value:.5g}' for value in values)}")


def _attach_grid(study: Study, search: Search, trial: Trial) -> None:
    """Make the trial's last pictures artifacts, which a dashboard shows: number and eye don't always agree."""
    files = (search.trial_folder(study, trial) / "samples").glob("*.png")
    grids = sorted(files, key=lambda file: file.stat().st_mtime)
    newest = {file.name.partition("_epoch")[0]: file for file in grids}  # one for each direction
    artifacts = search.folder / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(artifacts)
    with suppress(optuna.exceptions.UpdateFinishedTrialError):  # given up by another worker
        for file in newest.values():
            upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=trial)


def _fail(study: Study, trial: Trial, reason: str) -> None:
    if not study.get_trials(deepcopy=False)[trial.number].state.is_finished():
        trial.set_user_attr(ERROR, reason)
    _finish(study, trial, TrialState.FAIL)
    print(f"trial {trial.number}: failed, {reason}")


def _give_back(study: Study, trial: Trial, search: Search) -> None:
    """Mark a trial that was stopped from outside, and put it to the front of the queue."""
    _finish(study, trial, TrialState.FAIL)
    frozen = study.get_trials()[trial.number]
    RetryHeartbeatStaleTrialCallback(max_retry=search.max_retries)(study, frozen)


def _finish(study: Study, trial: Trial, state: TrialState, values: Sequence[float] | None = None) -> None:
    try:
        study.tell(trial, values, state, skip_if_finished=True)
    except RuntimeError as error:
        # A grid sampler that has run out stops Study.optimize, which isn't used here; the trial is told by then.
        if "Study.stop" not in str(error):
            raise


def _raise_if_hopeless(study: Study, search: Search, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Interrupted):
            raise Interrupted(outcome.signal_name, "the same command")
        if isinstance(outcome, KeyboardInterrupt | SystemExit):
            raise outcome
        if isinstance(outcome, UserError | HydraException | OmegaConfBaseException) and not _count(study, _FINISHED):
            raise outcome
    dead = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    failed = [trial for trial in dead if ERROR in trial.user_attrs]
    if len(failed) > search.max_failures:
        raise UserError(
            f"{len(failed)} trials failed, more than hydra.sweeper.max_failures={search.max_failures}; the last: "
            f"{failed[-1].user_attrs[ERROR]} (traceback: {failed[-1].user_attrs['folder']}/error.txt)"
        )


def _free_memory() -> None:
    """Give a device's memory back: what a failed trial held lives on in cycles of its traceback."""
    gc.collect()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        sys.modules["torch"].cuda.empty_cache()
