from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import torch

from monet_cyclegan.checkpoint_io import DurableCheckpointIO

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_saved_is_loaded_and_nothing_else_is_left(tmp_path: Path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    DurableCheckpointIO().save_checkpoint({"weights": torch.arange(5)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.arange(5))
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_failure_while_writing_leaves_the_checkpoint_before(tmp_path: Path):
    path = tmp_path / "last.ckpt"
    DurableCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises((AttributeError, TypeError, RuntimeError, ValueError)):
        DurableCheckpointIO().save_checkpoint({"weights": torch.zeros(1000), "step": lambda: 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_is_told_and_remembered_until_the_checkpoint_is_written(tmp_path: Path, monkeypatch, capsys):
    io, path = DurableCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        io.save_checkpoint({"step": 2}, path)
    assert capsys.readouterr().out == f"{path} can't be written (No space left on device); training goes on\n"
    assert io.unsaved == {path: "No space left on device"}
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    io.save_checkpoint({"step": 3}, path)
    assert io.unsaved == {}


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path):
    (tmp_path / ".last.ckpt.12345.unfinished").touch()
    (tmp_path / ".best.ckpt.12345.unfinished").touch()
    DurableCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert {file.name for file in tmp_path.iterdir()} == {"last.ckpt", ".best.ckpt.12345.unfinished"}


def test_a_process_killed_while_saving_leaves_a_whole_checkpoint(tmp_path: Path):
    path = tmp_path / "last.ckpt"
    program = (
        "import torch, itertools\n"
        "from monet_cyclegan.checkpoint_io import DurableCheckpointIO\n"
        "for step in itertools.count():\n"
        "    checkpoint = {'step': step, 'w': torch.full((2_000_000,), step)}\n"
        f"    DurableCheckpointIO().save_checkpoint(checkpoint, {str(path)!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    process.wait()
    checkpoint = torch.load(path, weights_only=True)
    assert (checkpoint["w"] == checkpoint["step"]).all()
