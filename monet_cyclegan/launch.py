"""Around Hydra's main function: keys from ``.env``, resuming in place, and errors of one line."""

from __future__ import annotations

import os
import re
import sys
import traceback
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import load_dotenv
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from monet_cyclegan.config import check_types, describe, key_of
from monet_cyclegan.errors import Interrupted, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from omegaconf import DictConfig

_HYDRA_FULL_ERROR = "HYDRA_FULL_ERROR"
_TRACEBACKS = "MONET_CYCLEGAN_TRACEBACKS"  # what the user set; processes started by this one see it, too
_PLAIN_OVERRIDE = re.compile(  # no interpolation, nothing of Hydra's own, no config file from elsewhere
    r"""[+~]{0,2} (?!hydra\b) (
        [\w-]+ (\.[\w-]+)+ = [^$]*  # no $ at all, since Hydra reads $\{ as ${, too
      | \w[\w/-]* = ((?!\.\.)[^$])*  # may be a group, whose option ../x would be a file outside of conf
    ) | ~ (?!hydra\b) \w[\w./-]*""",
    re.VERBOSE,
)


def launch(main: Callable[[], Any], config_dir: Path, config_name: str) -> None:
    """Run a function decorated by ``hydra.main`` on the command line's arguments."""
    load_dotenv(Path.cwd() / ".env")
    os.environ.setdefault(_TRACEBACKS, os.environ.get(_HYDRA_FULL_ERROR, "0"))
    os.environ[_HYDRA_FULL_ERROR] = "1"  # Hydra would print errors itself otherwise, several lines each
    OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)
    with clear_errors(config_dir, config_name):
        sys.argv[1:] = with_saved_overrides(sys.argv[1:])
        main()


@contextmanager
def in_job(cfg: DictConfig, config_dir: Path, config_name: str) -> Iterator[None]:
    """Around the job: check values' types, and report its errors before Hydra comments on them.

    A sweep's errors go to its sweeper.
    """
    single = HydraConfig.get().mode == RunMode.RUN
    with clear_errors(config_dir, config_name) if single else nullcontext():
        check_types(cfg)
        yield


def run_dir(ckpt_path: str | None, new: str) -> str:
    """Folder of a run: for a resumed one that in which its checkpoint lies, if it can be written to."""
    if ckpt_path:
        folder = Path(ckpt_path).parent.parent
        if Path(ckpt_path).parent.name == "checkpoints" and os.access(folder, os.W_OK):
            return str(folder)
    return new


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
        if "_target_" in override or not override.isprintable() or not _PLAIN_OVERRIDE.fullmatch(override):
            raise UserError(f"{path} asks for {override!r}: add it to the command if you trust it")
    if saved:
        print(f"going on with the settings of {path}: {' '.join(saved)}")
    return [*saved, *arguments]


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
            traceback.print_exc()
            raise SystemExit(1) from None
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
