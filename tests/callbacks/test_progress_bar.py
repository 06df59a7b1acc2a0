from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback

from monet_cyclegan.callbacks import progress_bar
from monet_cyclegan.callbacks.progress_bar import ProgressBar

LINE = re.compile(
    r"epoch (?P<epoch>\d+)/2  batch (?P<batch>\d+)/3  images/s (?P<speed>[\d.]+)"
    r"  train/gen (?P<gen>[\d.]+)  train/disc (?P<disc>[\d.]+)"
)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by ten seconds at each look."""
    ticks = iter(range(0, 10**6, 10))
    monkeypatch.setattr(progress_bar, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))


def fit(tmp_path, bar, **options):
    trainer = tiny_trainer(tmp_path, [bar], **options)
    trainer.fit(tiny_model(), tiny_data(tmp_path, batch_size=2))
    return trainer


def lines(capsys):
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "\r" not in output
    return [line for line in output.splitlines() if line.strip()]


def test_where_the_output_is_a_file_an_epoch_ends_with_a_plain_line(tmp_path, capsys):
    trainer = fit(tmp_path, ProgressBar(line_every_s=3600))
    found = [LINE.fullmatch(line) for line in lines(capsys)]
    assert [(line["epoch"], line["batch"]) for line in found] == [("1", "3"), ("2", "3")]
    assert float(found[1]["gen"]) == pytest.approx(trainer.callback_metrics["train/gen"].item(), rel=1e-3)
    assert float(found[1]["disc"]) == pytest.approx(trainer.callback_metrics["train/disc"].item(), rel=1e-3)
    assert all(float(line["speed"]) > 0 for line in found)


def test_lines_come_as_often_as_asked_for(tmp_path, capsys):
    fit(tmp_path, ProgressBar(line_every_s=0))
    assert [LINE.fullmatch(line)["batch"] for line in lines(capsys)] == ["1", "2", "3", "1", "2", "3"]


@pytest.mark.usefixtures("clock")
def test_images_of_both_domains_are_counted_by_the_second(tmp_path, capsys):
    fit(tmp_path, ProgressBar(line_every_s=10))
    # Each batch looks at the clock twice, before its line and after: 2 + 2 images in 10 s.
    assert {LINE.fullmatch(line)["speed"] for line in lines(capsys)} == {"0.4"}


def test_a_run_without_an_end_has_no_number_of_epochs_in_its_lines(tmp_path, capsys):
    class OneEpoch(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = True

    trainer = tiny_trainer(tmp_path, [ProgressBar(line_every_s=3600), OneEpoch()], max_epochs=-1)
    trainer.fit(tiny_model(), tiny_data(tmp_path, batch_size=2))
    assert lines(capsys)[0].startswith("epoch 1  batch 3/3  images/s ")


def test_a_terminal_gets_a_bar_with_the_same_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    fit(tmp_path, ProgressBar())
    output = capsys.readouterr().out
    assert "━" in output
    for name in ("epoch 2/2", "images/s", "train/gen", "train/disc"):
        assert name in output
    assert not LINE.search(output)
