from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch

from monet_cyclegan.checkpoint_io import DurableCheckpointIO
from monet_cyclegan.errors import UserError
from monet_cyclegan.intact import BEFORE, LAST, damage, intact, latest

if TYPE_CHECKING:
    from pathlib import Path


def save(path: Path, step: int = 1) -> Path:
    DurableCheckpointIO().save_checkpoint({"step": step, "weights": torch.arange(1000)}, path)
    return path


def step_of(path: Path) -> int:
    return torch.load(path, weights_only=True)["step"]


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def flip(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)


def test_a_whole_checkpoint_has_no_damage(tmp_path):
    assert damage(save(tmp_path / "x.ckpt")) is None
    assert intact(tmp_path / "x.ckpt") == tmp_path / "x.ckpt"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99, 1.0])
def test_a_checkpoint_that_was_cut_off_anywhere_is_recognised(tmp_path, share):
    path = save(tmp_path / "x.ckpt")
    cut(path, min(int(path.stat().st_size * share), path.stat().st_size - 1))
    assert damage(path) == ("it is empty" if share == 0 else "it is only a part of a checkpoint, or none")


def test_a_single_wrong_bit_in_the_weights_is_recognised(tmp_path):
    path = save(tmp_path / "x.ckpt")
    place = path.read_bytes().index((500).to_bytes(8, "little") + (501).to_bytes(8, "little"))
    flip(path, place)
    assert damage(path) == "its archive/data/0 is not what was written"


def test_of_the_last_checkpoint_the_one_before_is_kept_and_of_no_other(tmp_path):
    for name in (LAST, "best.ckpt"):
        for step in (1, 2, 3):
            save(tmp_path / name, step)
    assert {path.name: step_of(path) for path in tmp_path.iterdir()} == {LAST: 3, BEFORE: 2, "best.ckpt": 3}


@pytest.mark.parametrize("harm", [lambda path: cut(path, 0), lambda path: cut(path, 700), lambda path: flip(path, 900)])
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before_and_a_line_says_so(tmp_path, capsys, harm):
    for step in (1, 2):
        save(tmp_path / LAST, step)
    harm(tmp_path / LAST)
    assert step_of(intact(tmp_path / LAST)) == 1
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert f"{LAST} can't be gone on with: it" in line
    assert line.endswith(f"going on with the one before it, {tmp_path / BEFORE}\n")


@pytest.mark.parametrize("name", [LAST, "best.ckpt"])
def test_a_damaged_checkpoint_without_another_is_one_line(tmp_path, name):
    cut(save(tmp_path / name), 700)
    with pytest.raises(UserError, match=rf"{name} can't be gone on with: it is only a part of a checkpoint, or none$"):
        intact(tmp_path / name)


def test_both_damaged_is_one_line(tmp_path):
    for step in (1, 2):
        save(tmp_path / LAST, step)
    cut(tmp_path / LAST, 700)
    (tmp_path / BEFORE).write_bytes(b"")
    with pytest.raises(UserError, match=r"last\.ckpt can't be gone on with"):
        intact(tmp_path / LAST)


def test_the_latest_run_is_the_one_that_wrote_last(tmp_path):
    assert latest(tmp_path) is None
    for age, run in ((300, "a"), (100, "b"), (200, "c")):
        path = save(tmp_path / run / "checkpoints" / LAST)
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert latest(tmp_path) == tmp_path / "b" / "checkpoints" / LAST
    assert latest(tmp_path, "c") == tmp_path / "c" / "checkpoints" / LAST
    assert latest(tmp_path, "d") is None


def test_a_run_that_lost_its_last_checkpoint_has_the_one_before(tmp_path):
    for step in (1, 2):
        save(tmp_path / "run" / "checkpoints" / LAST, step)
    (tmp_path / "run" / "checkpoints" / LAST).unlink()
    assert latest(tmp_path) == tmp_path / "run" / "checkpoints" / BEFORE


def test_what_is_written_is_read_back(tmp_path, monkeypatch, capsys):
    save(tmp_path / LAST, 1)

    def lose_the_end(file, *_):
        os.truncate(file, 800)

    monkeypatch.setattr("monet_cyclegan.checkpoint_io.os.fsync", lose_the_end)
    save(tmp_path / LAST, 2)
    said = f"{tmp_path / LAST} can't be written (written, but it is only a part of a checkpoint, or none)"
    assert capsys.readouterr().out == f"{said}; training goes on\n"
    assert step_of(tmp_path / LAST) == 1
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
