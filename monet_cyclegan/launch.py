"""Around Hydra's main function: keys from ``.env``, resuming in place, and errors of one line."""

from __future__ import annotations

import os
import re
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from dotenv import load_dotenv
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from monet_cyclegan.config import describe, key_of
from monet_cyclegan.errors import Interrupted, Pruned, UserError
from monet_cyclegan.intact import intact, latest
from monet_cyclegan.redaction import redacted
from monet_cyclegan.saved_settings import is_harmless, is_harmless_file
from monet_cyclegan.untrusted.bounded import is_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_HYDRA_FULL_ERROR = "HYDRA_FULL_ERROR"
_FROM_ROOT = "_/"  # stands for the / of an absolute path in the name of a config
_TRACEBACKS = "MONET_CYCLEGAN_TRACEBACKS"  # what the user set; processes started by this one see it, too
_LONGEST_SHOWN = 200
_LONGEST_FILE = 1_000_000  # bytes, of an experiment


def launch(main: Callable[[], Any], config_dir: Path, config_name: str) -> None:
    """Run a function decorated by ``hydra.main`` on the command line's arguments."""
    load_dotenv(Path.cwd() / ".env")
    os.environ.setdefault(_TRACEBACKS, os.environ.get(_HYDRA_FULL_ERROR, "0"))
    os.environ[_HYDRA_FULL_ERROR] = "1"  # Hydra would print errors itself otherwise, several lines each
    OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)
    with clear_errors(config_dir, config_name):
        check_multirun(sys.argv[1:])
        sys.argv[1:] = with_checkpoint(sys.argv[1:], config_dir, config_name)
        sys.argv[1:] = with_experiment_file(with_saved_overrides(sys.argv[1:]))
        main()


@contextmanager
def in_job(config_dir: Path, config_name: str) -> Iterator[None]:
    """Around the job: report its errors before Hydra comments on them.

    A sweep's errors go to its sweeper, and a defect's traceback to the run's ``error.txt``.
    """
    single = HydraConfig.get().mode == RunMode.RUN
    with clear_errors(config_dir, config_name) if single else traceback_in(Path(HydraConfig.get().runtime.output_dir)):
        yield


def run_dir(ckpt_path: str | None, new: str) -> str:
    """Folder of a run: for a resumed one that in which its checkpoint lies, if it can be written to."""
    if ckpt_path:
        folder = Path(ckpt_path).parent.parent
        if Path(ckpt_path).parent.name == "checkpoints" and os.access(folder, os.W_OK):
            return str(folder)
    job = _job_of_many_processes()
    return str(Path(new).with_name(job)) if job else new


def _job_of_many_processes() -> str | None:
    """A name that all processes started by srun or torchrun agree on, unlike the time.

    Raises:
        UserError: torchrun without an id, whose next run would write into the same folder.
    """
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ:
        return f"slurm_{os.environ['SLURM_JOB_ID']}"
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if run_id is None or os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    if run_id == "none":
        raise UserError("torchrun needs --rdzv-id=NAME or --standalone, so that its processes agree on a run's folder")
    return f"torchrun_{run_id}"


def check_multirun(arguments: Sequence[str]) -> None:
    """Refuse a search that would run only once.

    Raises:
        UserError: hparams_search without --multirun.
    """
    search = [argument for argument in arguments if key_of(argument) == "hparams_search"]
    several = re.compile(r"-\w*[mch]\w*|--(multirun|cfg|help|info|resolve)\b.*")  # or the config is only shown
    if search and not search[-1].endswith(("=", "=null")) and not any(map(several.fullmatch, arguments)):
        raise UserError(f"{search[-1]} is a search over many runs: add --multirun, or -m")


def with_checkpoint(arguments: Sequence[str], config_dir: Path, config_name: str) -> list[str]:
    """Let ``ckpt_path=auto`` mean the latest run of the name, if there is one; of a damaged checkpoint the one before.

    Raises:
        UserError: auto for many runs, or a damaged checkpoint without another one.
    """
    given = next((text for text in reversed(arguments) if key_of(text) == "ckpt_path"), "")
    value = given.partition("=")[2].strip("\"'")
    if value in ("", "null"):
        return list(arguments)
    others = [text for text in arguments if key_of(text) != "ckpt_path"]
    if value != "auto":
        path = Path(value).expanduser()
    elif any(re.fullmatch(r"-\w*m\w*|--multirun", text) for text in arguments):
        raise UserError("ckpt_path=auto goes on with one run: leave it out of a search, which goes on by itself")
    else:
        folder, last = _where_runs_are(others, config_dir, config_name)
        if last is None:
            print(f"ckpt_path=auto: no checkpoint in {folder}, so a new run begins")
            return others
        path = last
    if not is_file(path):
        return list(arguments)
    found = intact(path)
    if value == "auto":
        print(f"ckpt_path=auto: {found}")
    elif found == path:
        return list(arguments)
    return [*others, f"ckpt_path='{found}'"]


def _where_runs_are(arguments: Sequence[str], config_dir: Path, config_name: str) -> tuple[Path, Path | None]:
    """The folder of the runs that have the name which these arguments make, or of this very run, and its last.ckpt."""
    for text in arguments:
        if key_of(text) == "hydra.run.dir":
            folder = Path(text.partition("=")[2].strip("\"'"))
            return folder, latest(folder.parent, folder.name)
    overrides = [text for text in with_experiment_file(arguments) if not text.startswith(("-", "hydra"))]
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        folder = Path("outputs") / str(compose(config_name, overrides).name)
    return folder, latest(folder)


def with_experiment_file(arguments: Sequence[str]) -> list[str]:
    """Let ``experiment=PATH.yaml`` mean that file, such as a search's best.yaml.

    Raises:
        UserError: there is no such file, or it isn't YAML.
    """
    return [
        _registered(path) if (path := _experiment_file(argument)) is not None else argument for argument in arguments
    ]


def _experiment_file(argument: str) -> Path | None:
    """The file that an argument names as its experiment."""
    key, _, value = argument.partition("=")
    value = value.strip("\"'")
    if key != "experiment" or not value.endswith(".yaml"):
        return None
    return Path(f"/{value.removeprefix(_FROM_ROOT)}" if value.startswith(_FROM_ROOT) else value).expanduser()


def _registered(path: Path) -> str:
    """Put an experiment file where Hydra looks for options, in memory; returns the argument that asks for it."""
    try:
        node = OmegaConf.create(_text_of(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"experiment={path} is not YAML: {' '.join(str(error).split())}") from None
    inside = not path.is_absolute() and ".." not in path.parts
    option = path.as_posix() if inside else f"{_FROM_ROOT}{path.resolve().relative_to('/').as_posix()}"
    group, _, name = f"experiment/{option.removesuffix('.yaml')}".rpartition("/")
    ConfigStore.instance().store(name=name, node=node, group=group, package="_global_", provider=str(path))
    return f"experiment='{option}'"


def _text_of(path: Path) -> str:
    if not is_file(path):
        raise UserError(f"experiment={path} is not a file")
    try:
        if path.stat().st_size <= _LONGEST_FILE:
            return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"experiment={path} can't be read ({error})") from error
    raise UserError(f"experiment={path} is longer than an experiment can be")


def with_saved_overrides(arguments: Sequence[str]) -> list[str]:
    """Put the overrides of ``ckpt_path``'s run before those given now, which win.

    What is given for a whole group, such as ``logger=csv``, wins over its saved settings, too.

    Raises:
        UserError: an override in the checkpoint may do more than set a value; a stranger could have put it there.
    """
    given = {key_of(argument): argument for argument in arguments}
    path = given.get("ckpt_path", "").partition("=")[2].strip("\"'")
    if not path or path == "null":
        return list(arguments)
    from monet_cyclegan.checkpoint import load_checkpoint, saved_overrides  # loads torch, which takes seconds

    replaced = tuple(
        f"{key.replace('/', '.')}."
        for key, argument in given.items()
        if not argument.partition("=")[2].startswith("{")  # settings in braces are merged with the others
    )
    saved = [
        override
        for override in saved_overrides(load_checkpoint(path))
        if key_of(override) not in given and not key_of(override).replace("/", ".").startswith(replaced)
    ]
    for override in saved:
        file = _experiment_file(override)
        if file is not None and not _is_harmless(file):
            raise UserError(
                f"{path} asks for experiment={file}, which does more than set values: add it to the command"
            )
        if not is_harmless(override):
            shown = override if len(override) <= _LONGEST_SHOWN else f"{override[:_LONGEST_SHOWN]}..."
            raise UserError(f"{path} asks for {shown!r}: add it to the command if you trust it")
    if saved:
        print(f"going on with the settings of {path}: {' '.join(saved)}")
    return [*saved, *arguments]


def _is_harmless(file: Path) -> bool:
    try:
        return is_harmless_file(_text_of(file))
    except ValueError as error:
        raise UserError(f"experiment={file} is not YAML: {error}") from error


@contextmanager
def traceback_in(folder: Path) -> Iterator[None]:
    """Write an unexpected error's traceback into a run's folder, whose sweeper may live in another process."""
    try:
        yield
    except (UserError, Interrupted, Pruned):
        raise
    except Exception:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(redacted(traceback.format_exc()), encoding="utf-8")
        raise


@contextmanager
def clear_errors(config_dir: Path, config_name: str) -> Iterator[None]:
    """Turn a user's mistake into one line and exit status 2; a defect keeps its traceback, with exit status 1.

    With HYDRA_FULL_ERROR=1 everything keeps its traceback.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, Interrupted):
            print(error, file=sys.stderr)
            raise SystemExit(130) from None
        if os.environ.get(_TRACEBACKS) == "1":
            raise
        line = describe(error, config_dir, config_name)
        if line is None:
            print(redacted(traceback.format_exc()), end="", file=sys.stderr)
            raise SystemExit(1) from None
        print(f"error: {redacted(line)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
