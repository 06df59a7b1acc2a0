"""The space of a search, in Hydra's override grammar: interval, choice, range, tag(log, ...) and int(...)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FORMS = "interval(a,b), tag(log,interval(a,b)), int(interval(a,b)), range(start,stop,step) or choice(x,y,...)"


@dataclass(frozen=True)
class Space:
    """What the trials of a search share, and what each draws for itself."""

    fixed: tuple[str, ...]  # overrides, as they were given
    distributions: dict[str, BaseDistribution]  # by key or group, with + before one that is added

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """A trial's arguments: the fixed ones, then its values."""
        return [*self.fixed, *(f"{key}={as_text(value)}" for key, value in values.items())]

    def grid(self) -> dict[str, list[Any]]:
        """All values of each parameter, for a grid search.

        Raises:
            UserError: an interval has infinitely many.
        """
        return {key: _all_values(key, distribution) for key, distribution in self.distributions.items()}


def parse_space(params: Mapping[str, Any], arguments: Sequence[str]) -> Space:
    """Read ``params`` and the command line's arguments, which win; sweeps among either span the space.

    Raises:
        UserError: a form that can't be read, or that spans nothing.
    """
    parser = OverridesParser.create()
    lines = {key: f"{key}={as_text(value)}" for key, value in params.items()}
    parsed = {**_parsed(parser, lines.values()), **_parsed(parser, arguments)}
    fixed: list[str] = []
    distributions: dict[str, BaseDistribution] = {}
    for override in parsed.values():
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed.append(override.input_line or "")
            continue
        choices = _elements(override)
        if choices is not None and len(choices) == 1:
            fixed.append(f"{key}={as_text(choices[0])}")
        else:
            distributions[key] = _distribution(override, choices)
    if not distributions:
        raise UserError(f"hydra.sweeper.params and the arguments leave nothing to search: give one {_FORMS}")
    return Space(tuple(fixed), distributions)


def as_text(value: Any) -> str:
    """A value as an override has it; a string stands as it is, since it was read from one."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def described(values: Mapping[str, Any]) -> str:
    """Parameters in short: lr=0.0007 generator=unet."""
    return " ".join(f"{short_name(key)}={_rounded(value)}" for key, value in values.items())


def short_name(key: str) -> str:
    """The part of a key that tells it from others: base_channels of model.generator.base_channels."""
    words = key.replace("/", ".").split(".")
    return ".".join(words[-2:]) if words[-1] in ("p", "weight") else words[-1]


def matching(distribution: BaseDistribution, value: Any) -> Any:
    """The value as the distribution could have drawn it, or None: 0 for a choice of 0 and 50 if it is 0.0."""
    if isinstance(distribution, CategoricalDistribution):
        same = [choice for choice in distribution.choices if _is_bool(choice) == _is_bool(value) and choice == value]
        return same[0] if same else None
    if _is_bool(value) or not isinstance(value, int | float):
        return None
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not distribution.low <= value <= distribution.high:
        return None
    steps = (value - distribution.low) / (distribution.step or 1)
    on_grid = distribution.step is None or distribution.log or math.isclose(steps, round(steps), abs_tol=1e-6)
    if isinstance(distribution, IntDistribution):
        return int(value) if on_grid and value == int(value) else None
    return float(value) if on_grid else None


def _rounded(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else as_text(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _parsed(parser: OverridesParser, lines: Iterable[str]) -> dict[str, Override]:
    parsed = {}
    for line in lines:
        try:
            override = parser.parse_override(line)
        except HydraException as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{line} can't be read as one of {_FORMS}: {reason}") from None
        parsed[override.get_key_element().lstrip("+~")] = override
    return parsed


def _elements(override: Override) -> list[CategoricalChoiceType] | None:
    """The choices of a choice, numbers as such, anything else as the text that an override has for it."""
    sweep = override.value()
    if isinstance(sweep, Glob):
        raise UserError(f"{override.input_line} can't be searched: name the options, choice(x,y,...)")
    if not isinstance(sweep, ChoiceSweep):
        return None
    return [
        element
        if isinstance(element, bool | int | float) or element is None
        else Override._get_value_element_as_str(element)
        for element in sweep.list
    ]


def _distribution(override: Override, choices: Sequence[CategoricalChoiceType] | None) -> BaseDistribution:
    sweep = override.value()
    log = "log" in getattr(sweep, "tags", ())
    try:
        if choices is not None:
            return CategoricalDistribution(choices)
        if isinstance(sweep, IntervalSweep):
            low, high = sweep.start, sweep.end
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low), float(high), log=log)  # type: ignore[arg-type]
        assert isinstance(sweep, RangeSweep)
        values = list(sweep.range())
        if not values:
            raise ValueError("it has no values")
        low, high, step = values[0], values[-1], sweep.step
        if all(isinstance(number, int) for number in (low, high, step)):
            return IntDistribution(low, high, log=log, step=int(step))
        return FloatDistribution(float(low), float(high), log=log, step=None if log else float(step))
    except ValueError as error:
        raise UserError(f"{override.input_line} spans nothing: {error}") from None


def _all_values(key: str, distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if isinstance(distribution, FloatDistribution) and distribution.step is None:
        raise UserError(f"{key} is an interval, which a grid can't exhaust: use choice(...) or range(...)")
    count = round((distribution.high - distribution.low) / (distribution.step or 1)) + 1
    return [distribution.low + index * (distribution.step or 1) for index in range(count)]
