"""What a checkpoint holds, read without running anything that it may contain."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import torch

from monet_cyclegan import CHECKPOINT_FORMAT as FORMAT
from monet_cyclegan import CHECKPOINT_KEY as KEY
from monet_cyclegan.assembly import assemble, check_network_config, first_line
from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.bounded import is_file
from monet_cyclegan.untrusted.pickle_walk import Claim, Harmful
from monet_cyclegan.untrusted.plain_values import check_plain
from monet_cyclegan.untrusted.torch_archive import structure

if TYPE_CHECKING:
    from torch import nn

_MOST_OVERRIDES = 200
_MOST_DEPTH = 16  # of a config; ours have seven
_LONGEST_NAME = 500
_MOST_SHOWN = 5
_DOMAIN = re.compile(r"\w[\w .,+&'()-]{0,63}")  # it becomes part of names of files


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Load a checkpoint of ours on the CPU, tensors mapped from the file, once all in it was looked at.

    Raises:
        UserError: no such file, or one that isn't a checkpoint of this project.
    """
    path = Path(path)
    if not is_file(path):
        raise UserError(f"no checkpoint at {path}{_neighbours(path)}")
    try:
        with path.open("rb") as file:
            if not is_zipfile(file):
                raise UserError(f"{path} is not a checkpoint of this project, or only a part of one")
            found = structure(file, file.seek(0, os.SEEK_END))
        check_structure(found, str(path))
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (Harmful, pickle.UnpicklingError) as error:  # torch's text tells how to load the file all the same
        raise UserError(
            f"{path} holds more than tensors and plain values, so it was not loaded: it may be harmful"
        ) from error
    except UserError:
        raise
    except Exception as error:  # torch's own errors differ by file: zip, runtime, type
        raise UserError(f"{path} is not a checkpoint of this project: {first_line(error)}") from error


def check_structure(found: Any, name: str) -> None:
    """Refuse what isn't built as our checkpoints are, a `Claim` or a tensor in each tensor's place.

    Raises:
        UserError: beginning with ``name``.
    """
    whole = isinstance(found, dict) and isinstance(found.get("state_dict"), dict)
    mark: Any = found.get(KEY) if whole else None
    match mark:
        case {"format": int(number)} if number > FORMAT:
            raise UserError(
                f"{name} was written by a newer version, {mark.get('version')}, in format {number}; "
                f"this one reads up to {FORMAT}: update it"
            )
        case {
            "format": int(),
            "config": {"data": {"names": {"a": str(a), "b": str(b)}}, "model": {"generator": {}}},
            "overrides": [*overrides],
        } if all(isinstance(override, str) for override in overrides) and len(overrides) <= _MOST_OVERRIDES:
            try:
                check_plain(mark, depth=_MOST_DEPTH)
                check_plain(found, (Claim, torch.Tensor))
                _check_weights(found["state_dict"])
            except ValueError as error:
                raise UserError(f"{name} is not a checkpoint of this project: {error}") from error
            if a != b and all(_DOMAIN.fullmatch(domain) for domain in (a, b)):
                return
            raise UserError(f"{name} is not a checkpoint of this project: its domains have the names {a!r} and {b!r}")
    raise UserError(
        f"{name} is not a checkpoint of this project: it holds no {KEY} config with weights; train.py writes such files"
    )


def _check_weights(state: dict[Any, Any]) -> None:
    """Tensors by name, and the image histories' own states."""
    for name, value in state.items():
        if not isinstance(name, str) or len(name) > _LONGEST_NAME:
            raise ValueError("its weights have no names")
        if isinstance(value, torch.Tensor) and (value.layout != torch.strided or value.device.type == "meta"):
            raise ValueError(f"its weights {name} are no ordinary tensor")
        if not isinstance(value, Claim | torch.Tensor) and not name.endswith("._extra_state"):
            raise ValueError(f"its weights {name} are no tensor")


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


def has_discriminators(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint has discriminators, or says so: other models than a CycleGAN have none."""
    named = "discriminator" in saved_config(checkpoint)["model"]
    return named or any(str(key).startswith("disc_") for key in checkpoint["state_dict"])


def load_networks(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Give a model the networks of a checkpoint that it has too, and neither optimizers nor image pools.

    Networks that the checkpoint hasn't got, as a pre-training's has no discriminators, stay as they are.
    """
    own = model.state_dict()
    state = {key: value for key, value in checkpoint["state_dict"].items() if key.startswith(("gen_", "disc_", "ema_"))}
    for key in own:
        if key.startswith("ema_"):  # ema_ab.model.x: a run without averages hands on the generators themselves
            state.setdefault(key, state[key.replace("ema_", "gen_", 1).replace(".model.", ".", 1)])
    parts = {key.partition(".")[0] for key in state} & {key.partition(".")[0] for key in own}
    taken = {key: value for key, value in state.items() if key.partition(".")[0] in parts}
    kept = {key: value for key, value in own.items() if key.partition(".")[0] not in parts}
    model.load_state_dict({**kept, **taken})


def _neighbours(path: Path) -> str:
    try:
        found = sorted(str(file) for file in path.parent.glob("*.ckpt")) if path.parent.is_dir() else []
    except (OSError, ValueError):
        return ""
    more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return f"; there are {', '.join(found[:_MOST_SHOWN])}{more}" if found else ""
