"""Settings held against the classes and functions that they are arguments of, whatever file they stand in."""

from __future__ import annotations

import inspect
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from monet_cyclegan.cli import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}
# Types of modules that are imported for a type checker alone can't be looked up: these are told by their text.
_BY_TEXT: dict[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, bool, str)},
    **{f"{kind.__name__} | None": kind | None for kind in (int, float, str)},
    "int | float": int | float,
}


def unfit_arguments(cfg: DictConfig) -> dict[str, str]:
    """What this project's classes and functions don't know, or of another type than theirs: a line for each key."""
    found: dict[str, str] = {}
    for path, node in _targets(cfg):
        target = str(node._get_node("_target_"))
        if not target.startswith("monet_cyclegan."):
            continue
        try:
            function = get_object(target)
        except Exception as error:  # whatever importing it stumbles over
            found[f"{path}._target_"] = f"{path}._target_={target} can't be had: {' '.join(str(error).split())}"
            continue
        kinds, takes_all = _arguments(function)
        for name in map(str, node):
            key = f"{path}.{name}"
            if name.startswith("_"):
                continue
            if name in kinds:
                value = OmegaConf.select(cfg, key)
                if not _fits(value, kinds[name]):
                    found[key] = f"{key}={'null' if value is None else value} is not {_in_words(kinds[name])}"
            elif not takes_all:
                guess = nearest(name, kinds)
                found[key] = f"there is no setting {key}" + (f", did you mean {path}.{guess}?" if guess else "")
    return found


def without(cfg: DictConfig, keys: Iterable[str]) -> DictConfig:
    """A copy without these keys, whose defaults in the code then hold."""
    copy = cfg.copy()
    for key in keys:
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(copy, parent)
        with open_dict(node):
            del node[name]
    return copy


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """All parts of a config that name what is made of them."""
    if isinstance(node, ListConfig):
        for index, child in enumerate(node):
            yield from _targets(child, f"{path}.{index}")
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    if "_target_" in node and path:
        yield path, node
    for name in map(str, node):
        if not node._get_node(name)._is_interpolation():  # type: ignore[union-attr]
            yield from _targets(node._get_node(name), f"{path}.{name}" if path else name)


def _arguments(function: Any) -> tuple[dict[str, Any], bool]:
    """Names and types of arguments, as far as they can be told, and whether there may be any others."""
    parameters = inspect.signature(function).parameters.values()
    kinds = {one.name: _hints(function).get(one.name, Any) for one in parameters if one.kind is not one.VAR_KEYWORD}
    others = any(one.kind is one.VAR_KEYWORD for one in parameters)
    maker = getattr(function, "__self__", None)
    if others and inspect.isclass(maker):  # an alternative constructor, which hands the others on
        its_kinds, others = _arguments(maker)
        kinds = {**its_kinds, **kinds}
    return kinds, others


def _hints(function: Any) -> dict[str, Any]:
    """Types of arguments, of as many as can be told."""
    function = function.__init__ if inspect.isclass(function) else getattr(function, "__func__", function)
    try:
        return get_type_hints(function)
    except NameError:  # imported for the type checker alone
        notes = inspect.get_annotations(function)
        known = {name: function.__globals__.get(note, _BY_TEXT.get(note, Any)) for name, note in notes.items()}
        return {name: Any if inspect.isclass(kind) and kind not in _WORDS else kind for name, kind in known.items()}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a setting may be an argument of this type; of types that aren't plain, anything may."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if origin is Literal:
        return value in get_args(kind)
    if kind is NoneType:
        return value is None
    if kind is bool or kind is str:
        return isinstance(value, kind)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return True


def _in_words(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_in_words(one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    return _WORDS[kind]
