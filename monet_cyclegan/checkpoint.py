"""What a checkpoint holds, read without running anything that it may contain."""

from __future__ import annotations

import pickle
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import torch
from torch import nn

from monet_cyclegan import CHECKPOINT_FORMAT as FORMAT
from monet_cyclegan import CHECKPOINT_KEY as KEY
from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Load a checkpoint of ours on the CPU, tensors mapped from the file.

    Raises:
        UserError: no such file, or one that isn't a checkpoint of this project.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}{_neighbours(path)}")
    if not is_zipfile(path):
        raise UserError(f"{path} is not a checkpoint of this project, or only a part of one")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:  # whose text tells how to load the file all the same
        raise UserError(
            f"{path} holds more than tensors and plain values, so it was not loaded: it may be harmful"
        ) from error
    except Exception as error:  # torch's own errors differ by file: zip, runtime, type
        raise UserError(f"{path} is not a checkpoint of this project: {_first_line(error)}") from error
    whole = isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict)
    mark: Any = checkpoint.get(KEY) if whole else None
    match mark:
        case {"format": int(number)} if number > FORMAT:
            raise UserError(
                f"{path} was written by a newer version, {mark.get('version')}, in format {number}; "
                f"this one reads up to {FORMAT}: update it"
            )
        case {
            "format": int(),
            "config": {"data": {"names": {"a": str(), "b": str()}}, "model": {"generator": {}}},
            "overrides": [*overrides],
        } if all(isinstance(override, str) for override in overrides):
            return checkpoint
    raise UserError(
        f"{path} is not a checkpoint of this project: it holds no {KEY} config with weights; train.py writes such files"
    )


def saved_config(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The resolved config of the run that wrote a checkpoint."""
    return checkpoint[KEY]["config"]


def saved_overrides(checkpoint: dict[str, Any]) -> list[str]:
    """The command-line overrides of the run that wrote a checkpoint."""
    return checkpoint[KEY]["overrides"]


def saved_record(checkpoint: dict[str, Any]) -> Any:
    """What `RunRecord` put into a checkpoint, unchecked; None in those without."""
    return checkpoint[KEY].get("record")


def directions(checkpoint: dict[str, Any]) -> dict[str, str]:
    """Names of both directions and the generators that go them: {"photo_to_monet": "ab", "monet_to_photo": "ba"}."""
    names = saved_config(checkpoint)["data"]["names"]
    return {f"{names['a']}_to_{names['b']}": "ab", f"{names['b']}_to_{names['a']}": "ba"}


def build_generator(checkpoint: dict[str, Any], direction: str | None = None) -> nn.Module:
    """Rebuild a generator, the averaged one where there is one, in eval mode; by default the one from A to B.

    Raises:
        UserError: an unknown direction, or a network that isn't one of this project's.
    """
    known = directions(checkpoint)
    if direction is not None and direction not in known:
        raise UserError(f"direction={direction} is not one of this checkpoint's: choose {' or '.join(known)}")
    config = network_config(checkpoint, "generator")
    return assemble(config, generator_state(checkpoint, known[direction] if direction else "ab"))


def generator_state(checkpoint: dict[str, Any], suffix: str) -> dict[str, torch.Tensor]:
    """The weights of the generator "ab" or "ba", the averaged ones where there are some."""
    averaged, plain = f"ema_{suffix}.model.", f"gen_{suffix}."
    state = checkpoint["state_dict"]
    prefix = averaged if any(key.startswith(averaged) for key in state) else plain
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def assemble(config: Mapping[str, Any], state: dict[str, torch.Tensor]) -> nn.Module:
    """Make a network of this project of its config and weights, in eval mode.

    Raises:
        UserError: a config that names something else, or weights that don't fit it.
    """
    options = {key: value for key, value in config.items() if key not in ("_partial_", "_target_")}
    network = _network_class(str(config.get("_target_")))
    try:
        generator = network(**options)
        generator.load_state_dict(state)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"the checkpoint's generator doesn't fit its config: {_first_line(error)}") from error
    return generator.eval()


def network_config(checkpoint: dict[str, Any], name: str) -> dict[str, Any]:
    """The config of a checkpoint's ``generator`` or ``discriminator``, safe to instantiate.

    Raises:
        UserError: it names code that isn't one of this project's networks, or holds more than plain values.
    """
    config = saved_config(checkpoint)["model"].get(name)
    if not isinstance(config, dict):
        raise UserError(f"the checkpoint has no model.{name}")
    check_network_config(config, f"model.{name}")
    return config


def check_network_config(config: Mapping[str, Any], name: str) -> None:
    """Refuse a config that names other code than this project's networks, or holds more than plain values."""
    _network_class(str(config.get("_target_")))
    for key, value in config.items():
        # Resolved when it was saved: an interpolation that is left would be evaluated by whoever puts it into a config.
        if not isinstance(value, str | int | float | None) or "${" in str(value):
            raise UserError(f"the checkpoint's {name}.{key} is {value!r}, not a plain value")


def _network_class(target: str) -> type[nn.Module]:
    """Look a network of this project up; a stranger's file must not name anything else to be called."""
    module, _, name = target.rpartition(".")
    if re.fullmatch(r"monet_cyclegan\.networks\.[a-z0-9_]+", module) and find_spec(module):
        found = getattr(import_module(module), name, None)
        if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module:
            return found
    raise UserError(f"the checkpoint asks for the network {target}, which is not one of monet_cyclegan.networks")


def load_networks(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Give a CycleGAN the networks of a checkpoint, and neither its optimizers nor its image pools."""
    state = {key: value for key, value in checkpoint["state_dict"].items() if not key.startswith("pool_")}
    averages = [key for key in model.state_dict() if key.startswith("ema_")]
    for key in averages:  # ema_ab.model.x: a run without averages hands on the generators themselves
        state.setdefault(key, state[key.replace("ema_", "gen_", 1).replace(".model.", ".", 1)])
    if not averages:
        state = {key: value for key, value in state.items() if not key.startswith("ema_")}
    pools = {key: value for key, value in model.state_dict().items() if key.startswith("pool_")}
    model.load_state_dict({**state, **pools})


def _neighbours(path: Path) -> str:
    found = sorted(str(file) for file in path.parent.glob("*.ckpt")) if path.parent.is_dir() else []
    return f"; there are {', '.join(found)}" if found else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
