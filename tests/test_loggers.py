from __future__ import annotations

import csv
from functools import partial

import pytest
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from monet_cyclegan.callbacks.evaluate import Evaluate
from monet_cyclegan.loggers import CSVLog
from monet_cyclegan.metrics import SlicedWassersteinDistance


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_step_is_a_row_that_is_on_disk_at_once(tmp_path):
    log = CSVLog(tmp_path / "run")
    for step in range(3):
        log.log_metrics({"loss": step / 7, "epoch": 0}, step)
        assert len(rows(tmp_path / "run")) == step + 1
    assert [float(row["loss"]) for row in rows(tmp_path / "run")] == [0, 1 / 7, 2 / 7]
    assert [row["step"] for row in rows(tmp_path / "run")] == ["0", "1", "2"]
    assert rows(tmp_path / "run")[0]["epoch"] == "0"


def test_a_new_quantity_gets_a_column_and_leaves_earlier_rows_empty_there(tmp_path):
    log = CSVLog(tmp_path)
    log.log_metrics({"loss": 1.0}, 0)
    log.log_metrics({"score": 2.0}, 1)
    log.log_metrics({"loss": 3.0}, 2)
    assert rows(tmp_path) == [
        {"step": "0", "loss": "1.0", "score": ""},
        {"step": "1", "loss": "", "score": "2.0"},
        {"step": "2", "loss": "3.0", "score": ""},
    ]


def test_a_resumed_run_keeps_earlier_rows_and_removes_those_beyond_the_checkpoint(tmp_path):
    cut_off = CSVLog(tmp_path)
    for step in range(6):
        cut_off.log_metrics({"loss": float(step), "only_before": 1.0}, step)
    resumed = CSVLog(tmp_path, ckpt_path="last.ckpt")
    for step in (4, 5, 6):
        resumed.log_metrics({"loss": -float(step), "only_after": 2.0}, step)
    assert [row["loss"] for row in rows(tmp_path)] == ["0.0", "1.0", "2.0", "3.0", "-4.0", "-5.0", "-6.0"]
    assert [row["only_before"] for row in rows(tmp_path)] == ["1.0"] * 4 + [""] * 3
    assert [row["only_after"] for row in rows(tmp_path)] == [""] * 4 + ["2.0"] * 3


def test_a_row_that_was_cut_off_in_the_middle_does_not_matter(tmp_path):
    cut_off = CSVLog(tmp_path)
    cut_off.log_metrics({"loss": 1.0}, 0)
    with cut_off.path.open("a") as file:
        file.write("1")
    resumed = CSVLog(tmp_path, ckpt_path="last.ckpt")
    resumed.log_metrics({"loss": 2.0}, 1)
    assert rows(tmp_path) == [{"step": "0", "loss": "1.0"}, {"step": "1", "loss": "2.0"}]


@pytest.mark.parametrize("first_step", [0, 9])
def test_a_new_run_in_the_same_folder_starts_anew(tmp_path, first_step):
    earlier = CSVLog(tmp_path)
    for step in range(3):
        earlier.log_metrics({"old": 1.0}, step)
    CSVLog(tmp_path).log_metrics({"new": 2.0}, first_step)
    assert rows(tmp_path) == [{"step": str(first_step), "new": "2.0"}]


def test_a_resumed_run_whose_folder_is_new_starts_a_file(tmp_path):
    CSVLog(tmp_path, ckpt_path="elsewhere/last.ckpt").log_metrics({"loss": 2.0}, 8)
    assert rows(tmp_path) == [{"step": "8", "loss": "2.0"}]


class KilledError(Exception):
    pass


class Kill(Callback):
    def __init__(self, batches):
        self.batches = batches

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.batches_done == self.batches:
            raise KilledError


@pytest.mark.parametrize("killed_after", [10, 13])
@pytest.mark.parametrize("every_n_steps", [1, 2])
def test_a_run_that_was_cut_off_and_resumed_has_the_rows_of_one_that_was_not(tmp_path, killed_after, every_n_steps):
    def fit(folder, *callbacks, ckpt_path=None):
        trainer = tiny_trainer(
            folder,
            [
                Evaluate({"swd": partial(SlicedWassersteinDistance, 8, 8)}),
                ModelCheckpoint(folder, "last", enable_version_counter=False, save_on_train_epoch_end=True),
                *callbacks,
            ],
            max_epochs=3,
            logger=CSVLog(folder, ckpt_path),
            log_every_n_steps=every_n_steps,
        )
        trainer.fit(tiny_model(), tiny_data(tmp_path), ckpt_path=ckpt_path)

    fit(tmp_path / "whole")
    with pytest.raises(KilledError):
        fit(tmp_path / "cut", Kill(killed_after))
    fit(tmp_path / "cut", ckpt_path=tmp_path / "cut" / "last.ckpt")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert {"train/gen", "train/disc", "train/lr", "val/swd", "val/swd_photo"} <= rows(tmp_path / "whole")[0].keys()
    assert [row["epoch"] for row in rows(tmp_path / "whole") if row["val/swd"]] == ["0", "1", "2"]
