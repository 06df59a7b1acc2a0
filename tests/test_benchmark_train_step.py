"""The claim of equal learning, in small, and what a benchmark leaves."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import tiny_trainer

from benchmarks import results, train_step
from benchmarks.train_step import BareStep, Setting, classic_step, difference, differences
from monet_cyclegan.cyclegan import CycleGAN

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 20
TINY = Setting(
    "resnet",
    size=32,
    batch=1,
    blocks=1,
    channels=4,
    disc_channels=4,
    device="cpu",
    precision="32-true",
    compile=False,
    channels_last=False,
)


@pytest.mark.parametrize("batch", [1, 2])  # 40 images: the histories, which draw by lot, are not full yet
def test_the_fast_path_follows_the_classic_loop_over_20_steps(batch: int):
    setting = replace(TINY, batch=batch)
    found = difference(BareStep(setting, 2e-6).step, classic_step(setting, 2e-6), setting.images(STEPS))
    assert found < 1e-3


def test_in_float64_it_follows_at_the_usual_learning_rate_too():
    """In float32 two classic loops that differ in the last digit don't: Adam makes whole steps of rounding errors."""
    torch.set_default_dtype(torch.float64)
    try:
        found = difference(BareStep(TINY).step, classic_step(TINY), TINY.images(STEPS))
        rounded = difference(classic_step(TINY, error=1e-7), classic_step(TINY), TINY.images(STEPS))
    finally:
        torch.set_default_dtype(torch.float32)
    assert found < 1e-4 < rounded


def test_channels_last_changes_nothing_but_rounding():
    setting = replace(TINY, channels_last=True)
    assert difference(BareStep(setting, 2e-6).step, classic_step(TINY, 2e-6), TINY.images(STEPS)) < 1e-3


@pytest.mark.parametrize("wrong", ["lambda_identity", "lambda_cycle", "lr"])
def test_another_algorithm_would_be_noticed(wrong: str):
    fast = BareStep(TINY, 2e-6)
    if wrong == "lr":
        for group in fast.opt_gen.param_groups:
            group["lr"] *= 20
    else:
        setattr(fast.model, wrong, 1.01 * getattr(fast.model, wrong))
    assert difference(fast.step, classic_step(TINY, 2e-6), TINY.images(STEPS)) > 1e-3


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`", "ignore:.*does not have many workers")
def test_a_bare_step_is_what_the_module_trains(tmp_path: Path):
    """So that "ours" and "bare" may be compared: the same weights after the same batches."""
    batches = TINY.images(3)
    fast = BareStep(TINY)
    model = TINY.model()
    trainer = tiny_trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    trainer.fit(model, torch.utils.data.DataLoader(batches, batch_size=None))
    for batch in batches:
        fast.step(batch["a"], batch["b"])
    assert isinstance(model, CycleGAN)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, fast.model.get_parameter(name), rtol=1e-5, atol=1e-7, msg=name)


def test_bfloat16_and_a_rounding_error_are_measured_beside_it():
    found = differences(replace(TINY, precision="bf16-mixed"), 3)
    assert list(found) == [
        f"{what}, lr {lr}" for lr in ("2e-06", "0.0002") for what in ("32-true", "bf16-mixed", "classic")
    ]
    assert found["32-true, lr 2e-06"] < found["bf16-mixed, lr 2e-06"] < 0.1


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "train_step.json"
    arguments = [
        "sizes=32,48",
        "batches=1,2",
        "blocks=1",
        "channels=2",
        "disc_channels=2",
        "compile=false",
        "device=cpu",
    ]
    with pytest.MonkeyPatch.context() as patch:
        more = ["rounds=2", "block=1", "equal_steps=1", "memory=false", f"output={path}"]
        patch.setattr(sys, "argv", ["train_step", *arguments, *more])
        train_step.main()
    return path


def test_each_combination_has_a_row_with_speed_and_ratio(written: Path):
    report = json.loads(written.read_text())
    rows = report["rows"]
    assert [(row["size"], row["batch"]) for row in rows] == [(32, 1), (32, 2), (48, 1), (48, 2)]
    for row in rows:
        assert set(row["seconds"]) == {"classic", "bare", "ours"}
        assert row["pairs_per_second"]["ours"] == pytest.approx(row["batch"] / row["seconds"]["ours"])
        assert 0 < row["share_of_matrix_rate"] < 1
    work = {(row["size"], row["batch"]): row["teraflops_per_step"] for row in rows}
    assert work[32, 2] == pytest.approx(2 * work[32, 1])
    assert "output=" not in report["command"]  # a path of the machine


def test_all_results_become_one_table(written: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results, "FOLDER", written.parent)
    table = results.table()
    report = json.loads(written.read_text())
    assert (
        f"`{report['command']}`, {report['date'][:10]}, {report['device']}, torch {torch.__version__.split('+')[0]}"
        in table
    )
    rows = [line for line in table.splitlines() if line.startswith("| resnet-1, 2 channels, 32 pixels, batch 1,")]
    assert len(rows) == 1
    assert "times the classic loop" in rows[0]


def test_the_committed_table_is_made_from_the_committed_results():
    assert results.TABLE.read_text() == results.table()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["contenders=classic"], "contenders must include ours"),
        (["networks=resnet,vgg"], "networks=vgg is not known: choose from resnet, unet"),
        (["device=abacus"], "device=abacus is not on this machine: choose cpu"),
    ],
)
def test_mistakes_are_one_line(arguments, complaint, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_step", *arguments])
    with pytest.raises(SystemExit):
        train_step.main()
    assert complaint in capsys.readouterr().err
