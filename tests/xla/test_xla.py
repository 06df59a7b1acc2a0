"""The real module on an XLA device: for make test-xla, whose environment has torch_xla; skipped elsewhere."""

from __future__ import annotations

import csv
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback

pytest.importorskip("torch_xla", reason="needs torch_xla: make test-xla")

import on_cpu
import torch_xla.debug.metrics as met

from monet_cyclegan.callbacks.progress_bar import ProgressBar
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.penalties import R1, WGANGP
from monet_cyclegan.schedules import constant_then_linear

if TYPE_CHECKING:
    from pathlib import Path

EPOCHS, BATCHES = 3, 8


class Watch(Callback):
    """After each batch: graphs compiled and values read so far."""

    def __init__(self, save_after: int = -1, path: Path | None = None):
        self.compiled: list[int] = []
        self.read: list[int] = []
        self.devices: set[str] = set()
        self.save_after, self.path = save_after, path

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.compiled.append((met.metric_data("CompileTime") or [0])[0])
        self.read.append(met.counter_value("aten::_local_scalar_dense") or 0)
        self.devices.add(next(pl_module.parameters()).device.type)
        if pl_module.batches_done == self.save_after:
            trainer.save_checkpoint(self.path)


def train(folder: Path, watch: Watch, seed: int = 0, ckpt_path: Path | None = None, lazily: bool = False):
    """Dropout, points of the penalty, image history and a falling learning rate: all that could change a graph."""
    penalties = {"r1": R1(every_n_steps=2)} if lazily else {"gp": WGANGP()}
    model = tiny_model(
        seed,
        generator=partial(ResNetGenerator, num_residual_blocks=1, base_channels=2, dropout=0.5),
        optimizer=partial(torch.optim.Adam, betas=(0.5, 0.999)),
        penalties=penalties,
        schedule=constant_then_linear,
        pool_size=3,
    )
    options = {"accelerator": "tpu", "max_epochs": EPOCHS, "log_every_n_steps": 3, "limit_val_batches": 0}
    trainer = tiny_trainer(folder, [watch, ProgressBar(line_every_s=3600)], **options)
    weights_only = True if ckpt_path else None
    trainer.fit(model, tiny_data(folder, count_a=10), ckpt_path=ckpt_path, weights_only=weights_only)
    return {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("lazily", [False, True], ids=["a penalty each step", "a lazy penalty"])
def test_no_step_is_compiled_again_and_nothing_is_read_back_between_lines(tmp_path: Path, lazily: bool):
    watch = Watch()
    train(tmp_path, watch, lazily=lazily)
    assert watch.devices == {"xla"}
    assert len(watch.compiled) == EPOCHS * BATCHES
    for counts in (watch.compiled, watch.read):
        within_an_epoch = counts[2 - BATCHES : -1]  # at an epoch's end its losses are read, and it begins anew
        assert len({*within_an_epoch}) == 1
    assert watch.compiled[-1] <= watch.compiled[3] + 8  # in 20 batches


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path):
    path = tmp_path / "cut.ckpt"
    whole = train(tmp_path, Watch(save_after=11, path=path))
    watch = Watch()
    resumed = train(tmp_path, watch, seed=1, ckpt_path=path)
    assert len(watch.compiled) == EPOCHS * BATCHES - 11
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_train_py_trains_and_resumes_with_trainer_tpu(tmp_path: Path):
    tiny = [
        "data.count_a=6 data.count_b=6 data.val_count=2 data.size=32 data.load_size=32 data.crop_size=32",
        "model.generator.base_channels=4 model.discriminator.base_channels=4 trainer.max_epochs=1",
        "callbacks.best.rescore=false",
    ]
    run = tmp_path / "run"

    def start(*arguments: str) -> str:
        command = [sys.executable, on_cpu.__file__, "trainer=tpu", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    start("experiment=demo", f"hydra.run.dir={run}", *" ".join(tiny).split())
    assert "best val/swd" in start(f"ckpt_path={run}/checkpoints/last.ckpt", "trainer.max_epochs=2")
    with (run / "metrics.csv").open() as file:
        scores = [row["val/swd"] for row in csv.DictReader(file) if row["val/swd"]]
    assert len(scores) == 2
