"""Around Hydra's main function: keys from ``.env``, resuming in place, and errors of one line."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import load_dotenv
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from monet_cyclegan.cli import nearest
from monet_cyclegan.errors import Interrupted, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

_FULL_ERROR = "HYDRA_FULL_ERROR"
_SHOW_TRACEBACKS = os.environ.get(_FULL_ERROR) == "1"


def launch(main: Callable[[], Any], config_dir: Path, config_name: str) -> None:
    """Run a function decorated by ``hydra.main`` on the command line's arguments."""
    os.environ[_FULL_ERROR] = "1"  # Hydra would print errors itself otherwise, several lines each
    load_dotenv(Path.cwd() / ".env")
    register_resolvers()
    with clear_errors(config_dir, config_name):
        sys.argv[1:] = with_saved_overrides(sys.argv[1:])
        main()


def in_job(config_dir: Path, config_name: str) -> AbstractContextManager[None]:
    """Clear errors inside of a single run's job, before Hydra comments on them; a sweep's go to its sweeper."""
    single = HydraConfig.get().mode == RunMode.RUN
    return clear_errors(config_dir, config_name) if single else nullcontext()


def register_resolvers() -> None:
    """Make ``${run_dir:ckpt_path,new}`` known to the configs."""
    OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)


def run_dir(ckpt_path: str | None, new: str) -> str:
    """Folder of a run: for a resumed one that in which its checkpoint lies, if it can be written to."""
    if ckpt_path:
        folder = Path(ckpt_path).parent.parent
        if Path(ckpt_path).parent.name == "checkpoints" and os.access(folder, os.W_OK):
            return str(folder)
    return new


def with_saved_overrides(arguments: Sequence[str]) -> list[str]:
    """Put the overrides of ``ckpt_path``'s run before those given now, which win."""
    given = {_key(argument): argument for argument in arguments}
    path = given.get("ckpt_path", "").partition("=")[2].strip("\"'")
    if not path or path == "null":
        return list(arguments)
    from monet_cyclegan.checkpoint import load_checkpoint, saved_overrides  # loads torch, which takes seconds

    saved = [override for override in saved_overrides(load_checkpoint(path)) if _key(override) not in given]
    if saved:
        print(f"going on with the settings of {path}: {' '.join(saved)}")
    return [*saved, *arguments]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


@contextmanager
def clear_errors(config_dir: Path, config_name: str) -> Iterator[None]:
    """Turn a user's mistake into one line and exit status 2; with HYDRA_FULL_ERROR=1 everything keeps its traceback."""
    if _SHOW_TRACEBACKS:
        yield
        return
    try:
        yield
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        raise SystemExit(130) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        line = describe(error, config_dir, config_name)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(2) from None


def describe(error: BaseException, config_dir: Path, config_name: str) -> str | None:
    """One line on a mistake in data, config or command line; None for anything else, which is a defect."""
    for cause in _causes(error):
        if isinstance(cause, UserError):
            return str(cause)
    if isinstance(error, InstantiationException):
        return _instantiation_line(error)
    if isinstance(error, ConfigCompositionException | MissingConfigException | OverrideParseException | HydraException):
        return _composition_line(error, config_dir, config_name)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: add {error.full_key}=..."
    if isinstance(error, OmegaConfBaseException):
        return _one_line(error)
    return None


def _instantiation_line(error: InstantiationException) -> str | None:
    """A constructor that refuses its arguments has a line of its own to say; other failures are defects."""
    cause = list(_causes(error))[-1]
    key = re.search(r"full_key: (\S+)", str(error))
    if isinstance(cause, ValueError | TypeError | ImportError | InstantiationException) or type(cause).__name__ in (
        "MisconfigurationException",
    ):
        return f"{key.group(1)}: {_one_line(cause)}" if key else _one_line(cause)
    return None


def _composition_line(error: Exception, config_dir: Path, config_name: str) -> str:
    """Name the nearest key or option beside what can't be composed."""
    text = " ".join(_one_line(cause) for cause in _causes(error))
    missing_key = re.search(r"Could not override '([^']+)'|full_key: (\S+)", "\n".join(map(str, _causes(error))))
    if missing_key:
        key = missing_key.group(1) or missing_key.group(2)
        return f"there is no setting {key}{_suggestion(key, _known_keys(config_dir, config_name))}"
    group = re.search(r"(?:Could not find|load) '([\w/.-]+)/([\w.-]+)'", text)
    if group:
        options = sorted(file.stem for file in (config_dir / group.group(1)).glob("*.yaml") if file.stem != "base")
        name = f"{group.group(1)}={group.group(2)}"
        return f"there is no {name}{_suggestion(group.group(2), options)}; choose from {', '.join(options)}"
    default = re.search(r"Could not override '([^']+)'\.?\s*No match in the defaults list", text)
    if default:
        return f"there is no config group {default.group(1)}"
    return text


def _suggestion(word: str, choices: Sequence[str]) -> str:
    guess = nearest(word, choices)
    return f", did you mean {guess}?" if guess else ""


def _known_keys(config_dir: Path, config_name: str) -> list[str]:
    """All keys of the config as the arguments compose it, less those arguments that can't be."""
    GlobalHydra.instance().clear()
    arguments = [argument for argument in sys.argv[1:] if "=" in argument]
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        groups = [argument for argument in arguments if (config_dir / _key(argument)).is_dir()]
        try:
            cfg = compose(config_name, groups)
        except HydraException:
            cfg = compose(config_name)
    return list(_flatten(cfg))


def _flatten(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in cfg:
        path = f"{prefix}{key}"
        yield path
        value = cfg._get_node(key)
        if isinstance(value, DictConfig) and not value._is_missing() and not value._is_none():
            yield from _flatten(value, f"{path}.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
