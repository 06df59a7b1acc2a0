"""Networks made of a stranger's config and weights, once it is known that both fit and aren't too large."""

from __future__ import annotations

import inspect
import re
import reprlib
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.plain_values import is_number

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_PARAMETERS = 500_000_000  # the largest of ours has 54 million
_MOST_COUNT = 256  # of blocks, levels, layers or scales
_MOST = 65_536
_MOST_CHARACTERS = 200
_MOST_OPTIONS = 50
_OF_HYDRA = ("_target_", "_partial_", "_convert_", "_recursive_")


def assemble(config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> nn.Module:
    """Make a network of this project of its config and weights, in eval mode.

    Raises:
        UserError: a config that names something else, or weights that don't fit it or are no numbers.
    """
    check_fit(config, state, "generator")
    try:
        generator = _network(config)
        generator.load_state_dict(dict(state))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"the checkpoint's generator doesn't fit its config: {first_line(error)}") from error
    broken = next((name for name, value in generator.state_dict().items() if not bool(value.isfinite().all())), None)
    if broken is not None:
        raise UserError(f"the checkpoint's generator is broken: its weights {broken} hold NaN or infinity")
    return generator.eval()


def check_fit(config: Mapping[str, Any], state: Mapping[str, Any], name: str) -> None:
    """Refuse a config whose network hasn't exactly the weights of ``state``, before any memory is taken for it.

    Raises:
        UserError: it hasn't, or it is larger than any of ours, or no network of ours.
    """
    check_network_config(config, f"model.{name}")
    try:
        _check_options(_network_class(config.get("_target_")), _options(config))
        with torch.device("meta"):
            expected = _network(config).state_dict()
        if sum(value.numel() for value in expected.values()) > MOST_PARAMETERS:
            raise ValueError(f"it would have more than {MOST_PARAMETERS // 10**6} million weights")
        _check_weights(expected, state)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"the checkpoint's {name} doesn't fit its config: {first_line(error)}") from error


def check_network_config(config: Mapping[str, Any], name: str) -> None:
    """Refuse a config that names other code than this project's networks, or holds more than plain values in reason."""
    _network_class(config.get("_target_"))
    if len(config) > _MOST_OPTIONS:
        raise UserError(f"the checkpoint's {name} has {len(config)} settings")
    for key, value in config.items():
        # Resolved when it was saved: an interpolation that is left would be evaluated by whoever puts it into a config.
        if not isinstance(value, str | int | float | None) or "${" in str(value)[:_MOST_CHARACTERS]:
            raise UserError(f"the checkpoint's {name}.{key} is {_shown(value)}, not a plain value")
        if isinstance(value, str) and (len(value) > _MOST_CHARACTERS or "$" in value):
            raise UserError(f"the checkpoint's {name}.{key} is {_shown(value)}, not a plain value")
        if not isinstance(key, str) or not (re.fullmatch(r"[a-z]\w{0,63}", key) or key in _OF_HYDRA):
            raise UserError(f"the checkpoint's {name} has a setting {_shown(key)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            least, most = int(key.endswith("channels")), _MOST_COUNT if key.startswith("num_") else _MOST
            if not is_number(value) or not least <= value <= most:
                raise UserError(
                    f"the checkpoint's {name}.{key} is {_shown(value)}, not a number from {least} to {most}"
                )


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _OF_HYDRA}


def _network(config: Mapping[str, Any]) -> nn.Module:
    return _network_class(config.get("_target_"))(**_options(config))


def _check_options(network: type[nn.Module], options: Mapping[str, Any]) -> None:
    """Compare options with the types of the network's defaults; True is no number, and half a level no level."""
    known = inspect.signature(network).parameters
    for key, value in options.items():
        if key not in known:
            raise ValueError(f"{network.__name__} has no {key}")
        default = known[key].default
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
            raise ValueError(f"{key} is {_shown(value)}, not like {default!r}")


def _check_weights(expected: Mapping[str, torch.Tensor], found: Mapping[str, Any]) -> None:
    """Compare names and shapes; what is found may be tensors, or what a file says of them."""
    missing, more = sorted({*expected} - {*found}), sorted({*found} - {*expected}, key=str)
    if missing or more:
        raise ValueError(f"missing {_few(missing)}; unknown {_few(more)}")
    for name, value in expected.items():
        if tuple(found[name].shape) != tuple(value.shape):
            raise ValueError(f"{name} is of shape {tuple(found[name].shape)}, not {tuple(value.shape)}")
        floating = found[name].is_floating_point() if isinstance(found[name], torch.Tensor) else found[name].is_floating
        if floating != value.is_floating_point():
            raise ValueError(f"{name} holds numbers of another kind")


def _few(names: list[str]) -> str:
    shown = ", ".join(_shown(name) for name in names[:3]) or "none"
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _shown(value: Any) -> str:
    """A value for a line, however long or deep it is."""
    if isinstance(value, str):
        return repr(value if len(value) <= 100 else f"{value[:100]}...")
    if isinstance(value, int) and value.bit_length() > 200:
        return "an enormous number"
    if isinstance(value, list | tuple | dict):
        return reprlib.repr(value)
    return repr(value)[:100]


def _network_class(target: Any) -> type[nn.Module]:
    """Look a network of this project up; a stranger's file must not name anything else to be called."""
    if isinstance(target, str) and len(target) <= _MOST_CHARACTERS:
        module, _, name = target.rpartition(".")
        if re.fullmatch(r"monet_cyclegan\.networks\.[a-z0-9_]+", module) and find_spec(module):
            found = getattr(import_module(module), name, None)
            if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module:
                return found
    shown = _shown(target).strip("'") if isinstance(target, str) else _shown(target)
    raise UserError(f"the checkpoint asks for the network {shown}, which is not one of monet_cyclegan.networks")
