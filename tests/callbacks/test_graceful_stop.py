from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback

from monet_cyclegan.callbacks.graceful_stop import GracefulStop
from monet_cyclegan.errors import Interrupted

TESTS = Path(__file__).parents[1]

# A run of its own process. It says when a batch has begun, whose two steps a signal must not part, and waits there.
PROGRAM = """
import sys, time
from pathlib import Path
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback
from monet_cyclegan.callbacks.graceful_stop import GracefulStop
from monet_cyclegan.errors import Interrupted

folder, workers, wait_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

class Slow(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if pl_module.batches_done == 6:
            print("ready", flush=True)
            until = time.monotonic() + wait_s
            while time.monotonic() < until:
                time.sleep(0.05)

model, data = tiny_model(), tiny_data(folder, num_workers=workers)
try:
    tiny_trainer(folder, [Slow(), GracefulStop(folder / "last.ckpt")]).fit(model, data)
except Interrupted as stop:
    print(stop, model.batches_done, flush=True)
    raise SystemExit(130)
"""


def start(folder, workers, wait_s=1.0):
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", PROGRAM, str(folder), str(workers), str(wait_s)]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group, as a terminal's foreground job
    )
    assert process.stdout.readline() == "ready\n", process.communicate(timeout=30)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_a_run_after_its_batch_with_a_checkpoint_that_goes_on_to_the_same_weights(tmp_path, number):
    """A terminal's Ctrl-C and a cluster's scancel go to all processes of a run, those of its loaders too."""
    process = start(tmp_path, workers=2)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.count(f"{number.name}: saving {tmp_path / 'last.ckpt'}") == 1
    assert output == f"stopped by {number.name}; go on with: python train.py ckpt_path={tmp_path / 'last.ckpt'} 7\n"

    resumed, uninterrupted = tiny_model(seed=1), tiny_model()
    tiny_trainer(tmp_path).fit(resumed, tiny_data(tmp_path), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    tiny_trainer(tmp_path).fit(uninterrupted, tiny_data(tmp_path))
    assert resumed.batches_done == uninterrupted.batches_done == 10
    for parameter, expected in zip(resumed.parameters(), uninterrupted.parameters(), strict=True):
        assert torch.equal(parameter, expected)


def test_a_second_ctrl_c_ends_a_run_at_once(tmp_path):
    process = start(tmp_path, workers=0, wait_s=60)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    since = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert time.monotonic() - since < 20
    assert process.returncode != 0
    assert not (tmp_path / "last.ckpt").exists()


class SignalItself(Callback):
    """Sends a signal to this very process at some point of the first epoch."""

    def __init__(self, hook):
        self.sent = False
        setattr(self, hook, self._send)

    def _send(self, trainer, *_):
        if not self.sent and (not trainer.training or trainer.is_last_batch):
            self.sent = True
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_batch_start"])
def test_after_the_last_batch_of_an_epoch_a_run_goes_on_through_validation(tmp_path, hook):
    validated = []

    class Validated(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            validated.append(trainer.current_epoch)

    callbacks = [SignalItself(hook), Validated(), GracefulStop(tmp_path / "last.ckpt")]
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        tiny_trainer(tmp_path, callbacks).fit(tiny_model(), tiny_data(tmp_path))
    assert validated == [0]
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (checkpoint["global_step"], checkpoint["UnpairedDataModule"]) == (10, {"epoch": 1, "samples": 0})


@pytest.mark.parametrize("stopped", [True, False])
def test_the_signals_are_given_back_when_a_run_has_ended(tmp_path, stopped):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    callbacks = [SignalItself("on_train_batch_start")] if stopped else []
    try:
        trainer = tiny_trainer(tmp_path, [*callbacks, GracefulStop(tmp_path / "last.ckpt")], max_epochs=1)
        trainer.fit(tiny_model(), tiny_data(tmp_path))
    except Interrupted:
        assert stopped
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_without_a_signal_nothing_is_saved(tmp_path):
    tiny_trainer(tmp_path, [GracefulStop(tmp_path / "last.ckpt")]).fit(tiny_model(), tiny_data(tmp_path))
    assert not (tmp_path / "last.ckpt").exists()
