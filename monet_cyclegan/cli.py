"""What the small `python -m` tools share: `key=value` arguments, and errors of one line."""

from __future__ import annotations

import difflib
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.bounded import home_expanded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_BOOLS = {"true": True, "false": False}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def parse_key_values(argv: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Read `key=value` arguments over defaults, whose types (str, int, float, bool, Path) the values take.

    Raises:
        UserError: for an argument without "=", an unknown key, or a value that isn't of the default's type.
    """
    values = dict(defaults)
    for argument in argv:
        key, equals, text = argument.partition("=")
        if not equals:
            usage = " ".join(f"{name}={default}" for name, default in defaults.items())
            raise UserError(f"arguments look like key=value, not {argument!r}; with their defaults: {usage}")
        if key not in defaults:
            guess = nearest(key, defaults)
            hint = f", did you mean {guess!r}?" if guess else ";"
            raise UserError(f"unknown key {key!r}{hint} choose from {', '.join(defaults)}")
        values[key] = _convert(key, text, type(defaults[key]))
    return values


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Find the choice that `word` may be a misspelling of, if any is close."""
    return next(iter(difflib.get_close_matches(word, list(choices), n=1)), None)


@contextmanager
def exit_with_one_line() -> Iterator[None]:
    """End the program on a user's mistake: `error: ...` on stderr and status 2; on Ctrl-C silently with 130.

    A context manager, and as `@exit_with_one_line()` a decorator of `main`.
    """
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _convert(key: str, text: str, kind: type[Any]) -> Any:
    try:
        if kind is bool:
            return _BOOLS[text.lower()]
        return home_expanded(text) if issubclass(kind, Path) else kind(text)
    except (KeyError, ValueError):
        raise UserError(f"{key} needs {_KINDS[kind]}, not {text!r}") from None
