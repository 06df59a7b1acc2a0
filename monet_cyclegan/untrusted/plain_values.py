"""Nested lists and dicts of a stranger: nothing but plain values, not too deep, and not more than they look like."""

from __future__ import annotations

import math
from typing import Any

MOST_DEPTH = 32
MOST_VALUES = 500_000
MOST_CHARACTERS = 1_000_000
_MOST_BITS = 63


def check_plain(value: Any, leaves: type | tuple[type, ...] = (), *, depth: int = MOST_DEPTH) -> None:
    """Refuse what isn't made of lists, tuples, dicts, strings, numbers, bools, None and ``leaves``.

    A value that lies in two places is counted twice: that is how a short file becomes an endless structure.

    Raises:
        ValueError: it isn't, or it is too deep or too large.
    """
    waiting = [(value, 0)]
    left = MOST_VALUES
    while waiting:
        found, level = waiting.pop()
        if isinstance(found, dict):
            for key in found:
                _check_leaf(key, ())
            inner: Any = found.values()
            left -= len(found)
        elif isinstance(found, list | tuple):
            inner = found
        else:
            _check_leaf(found, leaves)
            continue
        if level >= depth:
            raise ValueError(f"it is nested more than {depth} levels deep")
        left -= len(inner) + 1
        if left < 0:
            raise ValueError(f"it holds more than {MOST_VALUES} values")
        waiting += [(item, level + 1) for item in inner]


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_leaf(value: Any, leaves: type | tuple[type, ...]) -> None:
    if isinstance(value, str):
        if len(value) > MOST_CHARACTERS:
            raise ValueError(f"it holds a text of {len(value)} characters")
    elif isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > _MOST_BITS:
            raise ValueError("it holds a number of more than 64 bits")
    elif not isinstance(value, bool | float | None) and not isinstance(value, leaves):
        raise ValueError(f"it holds a {type(value).__name__}")
