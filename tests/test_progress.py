from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress

from monet_cyclegan import progress
from monet_cyclegan.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_forced_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def as_terminal(monkeypatch) -> Terminal:
    """Let stderr be a terminal; no fixture, because pytest exchanges stderr once more between these and the test."""
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by ten seconds at each look."""
    ticks = iter(range(0, 10**6, 10))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))


def shown(screen: io.StringIO) -> str:
    """What was written to a terminal, without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


BATCHES = [["a", "b"], ["c"], ["d", "e", "f"]]


def test_batches_are_handed_through_as_they_are():
    found = list(track(iter(BATCHES), 6, "reading"))
    assert all(given is taken for given, taken in zip(BATCHES, found, strict=True))
    assert list(track([], 0, "reading")) == []


def test_batches_are_taken_one_at_a_time():
    taken = []
    batches = track((taken.append(index) or [index] for index in range(3)), 3, "reading")
    assert taken == []
    next(batches)
    assert taken == [0]
    next(batches)
    assert taken == [0, 1]


@pytest.mark.usefixtures("clock")
def test_in_a_file_lines_tell_how_far_it_is(capsys):
    list(track(BATCHES, 6, "reading", line_every_s=15))
    out, err = capsys.readouterr()
    # The clock is read at the start and after each batch: at 0, 10, 20 and 30 s, of which two lines lie 15 s apart.
    assert out == "reading: 3 of 6, about 20 s left\n"
    assert err == ""


@pytest.mark.usefixtures("clock")
def test_lines_come_as_often_as_asked_for(capsys):
    list(track(BATCHES, 6, "reading", line_every_s=10))
    assert capsys.readouterr().out.splitlines() == [
        "reading: 2 of 6, about 20 s left",
        "reading: 3 of 6, about 20 s left",
        "reading: 6 of 6, about 0 s left",
    ]


def test_what_ends_sooner_prints_nothing(capfd):
    list(track(BATCHES, 6, "reading"))
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_that_is_gone_at_the_end(monkeypatch, capsys):
    terminal = as_terminal(monkeypatch)
    for index, _ in enumerate(track(BATCHES, 6, "reading")):
        assert index > 0 or "reading" in shown(terminal)
    assert "reading" in shown(terminal)
    assert "0/6" in shown(terminal)
    assert terminal.getvalue().endswith("\x1b[2K")  # the bar's line is erased
    assert "\x1b[?25h" in terminal.getvalue()  # and the cursor is back
    assert capsys.readouterr().out == ""


def test_a_bar_counts_items_not_batches(monkeypatch):
    terminal = as_terminal(monkeypatch)
    list(track(BATCHES, 6, "reading"))
    assert "6/6" in shown(terminal)


def test_a_bar_within_another_hands_all_batches_through(monkeypatch):
    terminal = as_terminal(monkeypatch)
    with Progress(console=Console(stderr=True)) as outer:
        task = outer.add_task("epoch", total=2)
        for _ in range(2):
            assert list(track(BATCHES, 6, "reading")) == BATCHES
            outer.advance(task)
    assert "reading" in shown(terminal)
    assert "epoch" in shown(terminal).splitlines()[-1]
    assert "100%" in shown(terminal).splitlines()[-1]


def test_loops_within_loops_hand_all_batches_through(monkeypatch):
    as_terminal(monkeypatch)
    inner = [list(track(BATCHES, 6, "inner")) for _ in track([[1], [2]], 2, "outer")]
    assert inner == [BATCHES, BATCHES]


def test_an_error_in_the_loop_passes_through_and_gives_the_screen_back(monkeypatch):
    terminal = as_terminal(monkeypatch)

    def failing():
        yield [1]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(track(failing(), 2, "reading"))
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


def test_a_loop_that_is_left_gives_the_screen_back(monkeypatch):
    terminal = as_terminal(monkeypatch)
    batches = track(BATCHES, 6, "reading")
    next(batches)
    batches.close()
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")
