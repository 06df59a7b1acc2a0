"""Where a search keeps its trials: an SQLite file, a journal file, or a database server; with signs of life in each."""

from __future__ import annotations

import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from optuna import Trial
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_LAST_SIGN = "last_sign_of_life"
_CREATIONS = 10  # tries to make the tables, while another worker makes them, too
_WAIT_FOR_SQLITE_S = 120.0


_opened: dict[str, BaseStorage] = {}


def open_storage(storage: str, interval_s: int = 15, grace_s: int = 60, max_retries: int = 3) -> BaseStorage:
    """Open ``storage``, once in a process; its folder and tables are made if need be.

    Args:
        storage: a URL, such as ``sqlite:///outputs/study.db`` or ``postgresql://user@host/name``, or else the path of a
            journal file, which can also be shared over NFS.
        interval_s: seconds between two signs of life of a trial.
        grace_s: seconds without one after which a trial counts as dead.
        max_retries: how often a dead trial is tried again.

    Raises:
        UserError: a URL that can't be used.
    """
    if storage not in _opened:
        _opened[storage] = _open(storage, interval_s, grace_s, max_retries)
    return _opened[storage]


def close_storages() -> None:
    """Close what `open_storage` has opened in this process."""
    for storage in _opened.values():
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()
    _opened.clear()


def shown(storage: str) -> str:
    """A storage as other programs of Optuna take it, without a password."""
    head, at, tail = _with_driver(storage).rpartition("@")
    scheme, slashes, login = head.partition("://")
    return f"{scheme}{slashes}{login.partition(':')[0]}{at}{tail}"


def load_trial(storage: str, study_name: str, number: int, pruner: BasePruner | None = None) -> Trial:
    """The running trial ``number``, for a process that is to report its scores."""
    with quiet_optuna():
        sampler = optuna.samplers.RandomSampler()  # draws nothing; the default would look for what to draw
        study = optuna.load_study(
            study_name=study_name,
            storage=open_storage(storage),
            sampler=sampler,
            pruner=pruner or optuna.pruners.NopPruner(),
        )
        return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _open(storage: str, interval_s: int, grace_s: int, max_retries: int) -> BaseStorage:
    retry = RetryHeartbeatStaleTrialCallback(max_retry=max_retries)
    if "://" not in storage:
        Path(storage).parent.mkdir(parents=True, exist_ok=True)
        return JournalWithHeartbeats(storage, interval_s, grace_s, retry)
    if storage.startswith("sqlite:///"):
        Path(storage.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        engine: dict[str, Any] = {"connect_args": {"timeout": _WAIT_FOR_SQLITE_S}}
    else:
        storage = _with_driver(storage)
        engine = {"pool_pre_ping": True}
    for attempt in range(_CREATIONS):
        opened = _open_database(storage, engine, interval_s, grace_s, retry, last=attempt == _CREATIONS - 1)
        if opened is not None:
            return opened
        time.sleep(0.2 * (attempt + 1))
    raise AssertionError("the last attempt opens or raises")


def _open_database(
    url: str,
    engine: dict[str, Any],
    interval_s: int,
    grace_s: int,
    retry: RetryHeartbeatStaleTrialCallback,
    last: bool,
) -> RDBStorage | None:
    """Open, or None where another worker is making the same tables at this moment."""
    try:
        return RDBStorage(
            url,
            engine_kwargs=engine,
            heartbeat_interval=interval_s,
            grace_period=grace_s,
            heartbeat_stale_trial_callback=retry,
        )
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        hint = "; add it by: pip install 'monet-cyclegan[search]'" if isinstance(error, ImportError) else ""
        raise UserError(f"storage {shown(url)} can't be used: {_first_line(error)}{hint}") from None
    except (SQLAlchemyError, StorageInternalError) as error:
        if last or not _is_race(error):
            raise UserError(f"storage {shown(url)} can't be opened: {_first_line(error)}") from None
        return None


class JournalWithHeartbeats(JournalStorage, BaseHeartbeat):
    """A journal file in which running trials give signs of life, which Optuna's own has for databases only.

    Each is an attribute of the trial with the time, so the clocks of the machines must agree to some seconds.
    """

    def __init__(
        self, path: str, interval_s: int, grace_s: int, stale_callback: Callable[[Any, Any], None] | None = None
    ):
        super().__init__(JournalFileBackend(path))
        self.interval_s = interval_s
        self.grace_s = grace_s
        self.stale_callback = stale_callback

    def record_heartbeat(self, trial_id: int) -> None:
        """Write down that the trial lives."""
        self.set_trial_system_attr(trial_id, _LAST_SIGN, time.time())

    def get_heartbeat_interval(self) -> int:
        """Seconds between two signs of life."""
        return self.interval_s

    def get_heartbeat_stale_trial_callback(self) -> Callable[[Any, Any], None] | None:
        """What is done with a dead trial."""
        return self.stale_callback

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        oldest = time.time() - self.grace_s
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [trial._trial_id for trial in running if _last_sign(trial) < oldest]


@contextmanager
def signs_of_life(storage: Any, trial_ids: Sequence[int]) -> Iterator[None]:
    """Give signs of life of the trials while the block runs; the first one before it starts."""
    finished = threading.Event()

    def give() -> None:
        for trial_id in trial_ids:
            _give_one(storage, trial_id)

    def keep_giving() -> None:
        while not finished.wait(storage.get_heartbeat_interval()):
            give()

    give()
    thread = threading.Thread(target=keep_giving, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _give_one(storage: Any, trial_id: int) -> None:
    try:
        storage.record_heartbeat(trial_id)
    except UpdateFinishedTrialError:
        pass  # given up by another worker, while this machine slept
    except StorageInternalError as error:
        print(f"trial {trial_id} could give no sign of life: {_first_line(error)}")


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's lines on each trial and its warnings that a class is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with Study.optimize")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _last_sign(trial: FrozenTrial) -> float:
    """When a running trial was last known to live; what a retried one has from its predecessor is older than it."""
    assert trial.datetime_start is not None
    return max(trial.datetime_start.timestamp(), trial.system_attrs.get(_LAST_SIGN, 0.0))


def _with_driver(url: str) -> str:
    """Psycopg 3 for PostgreSQL, unless the URL names a driver."""
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return f"postgresql+psycopg://{url.removeprefix(scheme)}"
    return url


def _is_race(error: Exception) -> bool:
    return any(word in str(error) for word in ("already exists", "UNIQUE", "duplicate key", "database is locked"))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
