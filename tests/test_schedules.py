from __future__ import annotations

from math import cos, inf, nan, pi

import pytest

from monet_cyclegan.schedules import constant, constant_then_linear, cosine, progress


@pytest.mark.parametrize(
    ("arguments", "share"),
    [
        ((0, 200), 0.0),
        ((50, 200), 0.25),
        ((200, 200), 1.0),
        ((300, 200), 1.0),
        ((50, inf), 0.0),
        ((50, 200, 30.0, None), 0.25),
        ((50, 200, 30.0, 60.0), 0.5),
        ((150, 200, 30.0, 60.0), 0.75),
        ((50, inf, 30.0, 40.0), 0.75),
        ((50, 200, 90.0, 60.0), 1.0),
        ((0, 200, -1.0, 60.0), 0.0),
    ],
)
def test_progress_is_the_larger_share_of_batches_or_time(arguments: tuple[float, ...], share: float) -> None:
    assert progress(*arguments) == share


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 0), "total_batches must be positive, got 0"),
        ((1, -1), "total_batches must be positive, got -1"),
        ((1, nan), "total_batches must be positive, got nan"),
        ((1, 10, 5.0, 0.0), "budget_s must be positive, got 0.0"),
        ((1, 10, None, 60.0), "a budget of 60.0 seconds needs elapsed_s"),
    ],
)
def test_an_end_that_cannot_be_reached_is_refused(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        progress(*arguments)


def test_constant_never_changes() -> None:
    assert [constant(p) for p in (0.0, 0.3, 1.0)] == [1, 1, 1]


@pytest.mark.parametrize(("p", "factor"), [(0.0, 1.0), (0.25, 1.0), (0.5, 1.0), (0.625, 0.75), (0.75, 0.5), (1.0, 0.0)])
def test_constant_then_linear_falls_in_the_second_half(p: float, factor: float) -> None:
    assert constant_then_linear(p) == factor


def test_constant_then_linear_falls_from_where_it_is_told_to() -> None:
    assert [constant_then_linear(p, start=0.0) for p in (0.0, 0.25, 1.0)] == [1, 0.75, 0]
    assert constant_then_linear(0.9, start=0.8) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("p", "warmup", "floor", "factor"),
    [
        (0.0, 0.0, 0.0, 1.0),
        (0.25, 0.0, 0.0, (1 + cos(pi / 4)) / 2),
        (0.5, 0.0, 0.0, 0.5),
        (1.0, 0.0, 0.0, 0.0),
        (1.0, 0.0, 0.1, 0.1),
        (0.5, 0.0, 0.1, 0.55),
        (0.0, 0.2, 0.1, 0.0),
        (0.05, 0.2, 0.1, 0.25),
        (0.2, 0.2, 0.1, 1.0),
        (0.6, 0.2, 0.0, 0.5),
        (1.0, 0.2, 0.1, 0.1),
    ],
)
def test_cosine_rises_while_warming_up_and_falls_to_its_floor(
    p: float, warmup: float, floor: float, factor: float
) -> None:
    assert cosine(p, warmup, floor) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize("value", [-0.1, 1.0, nan])
def test_a_start_or_warmup_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"start must be at least 0 and below 1, got {value}"):
        constant_then_linear(0.5, start=value)
    with pytest.raises(ValueError, match=f"warmup must be at least 0 and below 1, got {value}"):
        cosine(0.5, warmup=value)


@pytest.mark.parametrize("value", [-0.1, 1.1, nan])
def test_a_floor_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=rf"floor must be in \[0, 1\], got {value}"):
        cosine(0.5, floor=value)
