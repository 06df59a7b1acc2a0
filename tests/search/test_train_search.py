"""train.py under a search: pruned, killed, resumed and watched, with real training runs of tiny networks."""

from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.trial import TrialState

from monet_cyclegan.study_storage import close_storages, open_storage, quiet_optuna

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study

ROOT = Path(__file__).parents[2]
SEARCH = [
    "experiment=demo",
    "hparams_search=demo",
    "trainer=cpu",
    "data.count_a=6",
    "data.count_b=6",
    "data.val_count=4",
    "data.size=32",
    "data.load_size=16",
    "data.crop_size=16",
    "model.generator.base_channels=2",
    "model.discriminator.base_channels=2",
    "model.discriminator.num_layers=1",
    "trainer.max_epochs=3",
    "hydra.sweep.dir=search",
    "hydra.sweeper.study_name=tiny",
    "hydra.sweeper.heartbeat_interval=1",
    "hydra.sweeper.grace_period=3",
]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    close_storages()


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    search = ["--multirun"] if any("hparams_search" in argument for argument in arguments) else []
    command = [sys.executable, str(ROOT / "train.py"), *search, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def run(*arguments: str) -> str:
    process = start(*arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def study() -> Study:
    with quiet_optuna():
        return optuna.load_study(study_name="tiny", storage=open_storage("sqlite:///search/study.db"))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def wandb_records(folder: Path) -> list[Any]:
    """All records of all runs that W&B has written offline."""
    from wandb.proto import wandb_internal_pb2

    records = []
    for path in sorted(folder.glob("**/*.wandb")):
        for data in logged_chunks(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            records.append(record)
    return records


def logged_chunks(log: bytes) -> Iterator[bytes]:
    """Split a file in LevelDB's log format, which is W&B's: 7 bytes, then records in blocks of 32 KiB."""
    position, begun = 7, b""
    while position + 7 <= len(log):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", log[position : position + 7])
        begun += log[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            yield begun
            begun = b""


def test_trials_are_pruned_and_marked_in_weights_and_biases(folder):
    hopeless = [
        "hydra/sweeper/pruner=none",
        "hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner",
        "+hydra.sweeper.pruner.upper=0.001",
    ]
    output = run(*SEARCH, *hopeless, "hydra.sweeper.n_trials=2", "logger=wandb")
    found = study()
    assert [trial.state for trial in found.trials] == [TrialState.PRUNED] * 2
    assert [len(trial.intermediate_values) for trial in found.trials] == [1, 1]
    assert "trial 1: pruned, val/swd" in output

    records = wandb_records(folder)
    runs = {record.run.run_id: record.run for record in records if record.run.run_id}
    assert len(runs) == 2
    last = [list(record.run.tags) for record in records if record.run.run_id]
    assert last.count(["demo", "pruned"]) == 2
    assert {record.run.run_group for record in records if record.run.run_id} == {"tiny"}
    assert {record.run.display_name for record in records if record.run.run_id} == {"tiny 0", "tiny 1"}
    assert {record.exit.exit_code for record in records if record.HasField("exit")} == {0}
    told = [json.loads(item.value_json) for run in runs.values() for item in run.config.update if item.key == "trial"]
    assert [(trial["study"], trial["number"]) for trial in told] == [("tiny", 0), ("tiny", 1)]
    assert told[1]["model.lr"] == found.trials[1].params["model.lr"]


def test_a_killed_search_goes_on_inside_the_trial_from_its_last_checkpoint(folder):
    arguments = [
        *SEARCH,
        "hydra.sweeper.n_trials=2",
        "trainer.max_epochs=12",
        "hydra/sweeper/pruner=none",
    ]
    process = start(*arguments)
    deadline = time.monotonic() + 120
    last = folder / "search" / "trial_0001" / "checkpoints" / "last.ckpt"
    while not last.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    reported = study().trials[1].intermediate_values
    assert 0 < len(reported) < 12

    run(*arguments)
    found = study()
    assert [trial.state for trial in found.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    dead, again = found.trials[1:]
    assert again.params == dead.params
    assert again.user_attrs["folder"] == dead.user_attrs["folder"] == "search/trial_0001"
    assert len(again.intermediate_values) == 12
    shared = [step for step in dead.intermediate_values if step in again.intermediate_values]
    assert all(again.intermediate_values[step] == dead.intermediate_values[step] for step in shared)
    epochs = [row["epoch"] for row in rows(folder / "search" / "trial_0001" / "metrics.csv") if row["val/swd"]]
    assert epochs == [str(epoch) for epoch in range(12)]


def test_the_written_experiment_trains_as_the_best_trial_did(folder):
    run(*SEARCH, "hydra.sweeper.n_trials=3")
    best = study().best_trial
    run("experiment=search/best.yaml", "hydra.run.dir=again", "callbacks.best.rescore=false")
    scores = [float(row["val/swd"]) for row in rows(folder / "again" / "metrics.csv") if row["val/swd"]]
    assert min(scores) == best.value
    run("ckpt_path=again/checkpoints/last.ckpt", "trainer.max_epochs=4")
    assert rows(folder / "again" / "metrics.csv")[-1]["epoch"] == "3"


def test_good_and_fast_are_searched_at_once(folder):
    small = [argument for argument in SEARCH if "hparams_search" not in argument]
    space = [
        "model.generator.base_channels=2,16",
        "model/generator=resnet_small",
        "model.lr=tag(log,interval(1e-4,1e-3))",
    ]
    small = [argument for argument in small if "generator.base" not in argument]
    output = run(*small, "hparams_search=pareto", *space, "hydra.sweeper.n_trials=3")
    found = study()
    assert all(trial.state == TrialState.COMPLETE and len(trial.values) == 2 for trial in found.trials)
    assert all(0 < trial.values[1] < 10 for trial in found.trials)
    assert "val/seconds_per_image" in output
    assert {file.name for file in (folder / "search").glob("best_*.yaml")} == {
        f"best_{trial.number:04d}.yaml" for trial in found.best_trials
    }
