"""A server of curves that can't be reached stops no run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import SHRUNK

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import make_images

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.faults
def test_without_its_server_a_wandb_run_stays_on_the_disk_and_training_goes_on(tmp_path):
    for seed, name in enumerate("ab"):
        make_images(tmp_path / name, 7, seed=seed)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "online",
        "WANDB_BASE_URL": "http://127.0.0.1:9",  # where nobody listens
        "WANDB_API_KEY": "0" * 40,
        "WANDB_INIT_TIMEOUT": "2",
    }
    data = [f"data.a={tmp_path / 'a'}", f"data.b={tmp_path / 'b'}"]
    options = ["logger=wandb", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}"]
    command = [sys.executable, str(ROOT / "train.py"), *SHRUNK, *data, *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "W&B can't be reached, so the run's curves stay on the disk" in done.stdout
    (offline,) = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert f"wandb sync {offline}" in done.stdout
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
