"""Mistakes in a config or in the arguments that change it, told in one line each."""

from __future__ import annotations

import errno
import re
import sys
import traceback
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from monet_cyclegan.cli import nearest
from monet_cyclegan.errors import Diverged, UserError, UserErrors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

# What a disk says that is full, broken or not ours to write to: the user's to put right, wherever it comes up.
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR})
_ANY_TYPE = frozenset({"trainer.devices"})  # a number, auto, or a list
_ANY_LENGTH = frozenset({"eps"})
_SHARES = frozenset({"data.val_a", "data.val_b"})  # a number of images, or a share below 1


def key_of(override: str) -> str:
    """The key or group of an argument: ``model.lr`` of ``+model.lr=3``."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def wrong_types(cfg: DictConfig) -> dict[str, str]:
    """What this run's overrides set to another type than the default's, by key: a number stays a number or null."""
    if not (
        HydraConfig.initialized() and GlobalHydra.instance().is_initialized()
    ):  # a config that nobody composed here
        return {}
    found = {}
    hydra = HydraConfig.get()
    defaults = _defaults(str(hydra.job.config_name), hydra.overrides.task)
    for override in hydra.overrides.task:
        key = key_of(override)
        value = OmegaConf.select(cfg, key)
        if value is None or override.startswith("~"):  # null switches off what can be switched off
            continue
        expected = _expected_instead(key, OmegaConf.select(defaults, key), value)
        if expected:
            found[key] = f"{override.lstrip('+')} is not {expected}"
    return found


def mended(cfg: DictConfig, wrong: Collection[str]) -> DictConfig:
    """A copy with the defaults of these keys."""
    copy = cfg.copy()
    if wrong:
        hydra = HydraConfig.get()
        defaults = _defaults(str(hydra.job.config_name), hydra.overrides.task)
        for key in wrong:
            OmegaConf.update(copy, key, OmegaConf.select(defaults, key), merge=False, force_add=True)
    return copy


def check_types(cfg: DictConfig) -> None:
    """Refuse values of other types than their defaults'.

    Raises:
        UserErrors: a line for each.
    """
    wrong = wrong_types(cfg)
    if wrong:
        raise UserErrors(wrong.values())


def _expected_instead(key: str, default: Any, value: Any) -> str | None:
    """What should stand in the place of ``value``; None if it can stay."""
    if key in _ANY_TYPE:
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        return _expected_number(key, default, value)
    if isinstance(default, ListConfig) and default:
        numbers = not isinstance(default[0], str)
        free = not numbers or key in _ANY_LENGTH
        same = isinstance(value, ListConfig) and (free or len(value) == len(default))
        if not same or any(_expected_instead(key, default[0], item) for item in value):
            return f"a list like {default}"
    if isinstance(default, DictConfig) and not isinstance(value, DictConfig):
        group = key.replace(".", "/")
        is_group = value in _options(group)
        return "a group of settings" + (f", did you mean {group}={value}?" if is_group else "")
    return None


def _expected_number(key: str, default: float, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "a number"
    if isinstance(default, int) and isinstance(value, float) and key not in _SHARES:
        return "a whole number"
    if value < 0 <= default and not key.startswith("trainer."):  # Lightning's -1 means no limit
        return "0 or more"
    return None


def describe(error: BaseException, config_dir: Path, config_name: str) -> str | None:
    """One line on a mistake in data, config or command line; None for anything else, which is a defect."""
    for cause in _causes(error):
        if isinstance(cause, UserError | Diverged):
            return str(cause)
    if isinstance(error, InstantiationException):
        return describe_instantiation(error)
    if isinstance(error, OverrideParseException):
        return _parse_line(error.override)
    if isinstance(error, MissingConfigException) and error.options:
        return _option_line(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: add {error.full_key}=..."
    if isinstance(error, HydraException):
        return _composition_line(error, config_dir, config_name)
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}"
    if _ran_out_of_memory(error):
        return f"{one_line(error)[:200]}: try a smaller data.batch_size or data.crop_size; ckpt_path=auto goes on"
    if re.match(r"DataLoader worker \(pid", str(error)):
        return f"{one_line(error)}; ckpt_path=auto goes on with the last checkpoint"
    if isinstance(error, OmegaConfBaseException) or _raised_by_hydra(error) or _is_misconfiguration(error):
        return one_line(error)
    return None


def describe_instantiation(error: InstantiationException) -> str | None:
    """A constructor that refuses its arguments has a line of its own to say; other failures are defects, and None."""
    cause = error.__cause__ or error
    if not isinstance(cause, ValueError | TypeError | ImportError | HydraException) and not _is_misconfiguration(cause):
        return None
    key = re.search(r"full_key: (\S+)", str(error))
    return f"{key.group(1)}: {one_line(cause)}" if key else one_line(cause)


def _parse_line(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override} is not an argument: settings are changed by key=value, such as trainer.max_epochs=10"
    quoted = value.replace('"', '\\"')
    return f"{override} can't be read: special characters in a value need two kinds of quotes, '{key}=\"{quoted}\"'"


def _option_line(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    options = [name for name in error.options or () if name != "base"]
    return f"there is no {group}={option}{_suggestion(option, options)} (choices: {', '.join(options)})"


def _composition_line(error: HydraException, config_dir: Path, config_name: str) -> str:
    """Name the nearest key or group beside one that doesn't exist."""
    text = one_line(error)
    unknown = re.match(r"Could not (?:override|delete)[^']*'([^'=]+)", text)
    if unknown:
        key = unknown.group(1)
        return f"there is no setting {key}{_suggestion(key, _known(config_dir, config_name))}"
    ambiguous = re.search(r"Ambiguous value for argument '([^']+)'|Sweep parameters '([^']+)'", text)
    if ambiguous:
        override = ambiguous.group(1) or ambiguous.group(2)
        key, _, values = override.partition("=")
        return f"{override} gives several values: add --multirun to try each, or write a list, '{key}=[{values}]'"
    return text


def _suggestion(word: str, choices: Sequence[str]) -> str:
    """Name the choice nearest to a word; to one that isn't a path, that whose last part is nearest."""
    whole = re.search(r"[./]", word)
    names = {choice if whole else re.split(r"[./]", choice)[-1]: choice for choice in reversed(choices)}
    guess = nearest(word, names)
    return f", did you mean {names[guess]}?" if guess else ""


def _known(config_dir: Path, config_name: str) -> list[str]:
    """All groups, and all keys as the arguments' groups compose the config."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        try:
            cfg = _defaults(config_name, sys.argv[1:])
        except HydraException:
            cfg = compose(config_name)
    folders = {file.parent.relative_to(config_dir).as_posix() for file in config_dir.rglob("*.yaml")}
    return [*sorted(folders - {".", "hydra"}), *_flatten(cfg)]


def _defaults(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """The config as the groups among the overrides compose it."""
    return compose(config_name, [override for override in overrides if _options(key_of(override))])


def _options(group: str) -> list[str]:
    return GlobalHydra.instance().config_loader().get_group_options(group)


def _flatten(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in cfg:
        path = f"{prefix}{key!s}"
        yield path
        value = cfg._get_node(key)
        if isinstance(value, DictConfig) and not value._is_missing() and not value._is_none():
            yield from _flatten(value, f"{path}.")


def _is_misconfiguration(error: BaseException) -> bool:
    """Whether Lightning refuses a setting; by name, because importing it takes seconds."""
    return type(error).__name__ == "MisconfigurationException"


def _ran_out_of_memory(error: BaseException) -> bool:
    """By name, as importing torch takes seconds; a CPU's allocator has no class of its own."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )


def _raised_by_hydra(error: BaseException) -> bool:
    """Whether Hydra's own code refuses something, such as a number for a group's option, by a plain ValueError."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").startswith("hydra.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def one_line(error: BaseException) -> str:
    """An error's text without its line breaks."""
    return " ".join(str(error).split())
