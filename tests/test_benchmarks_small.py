"""The benchmarks of loaders, translation and waiting, on a handful of tiny pictures."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import data, large_picture, package_weights, predict, start_up
from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def run(module: Any, path: Path, *arguments: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module.__name__, *arguments, f"output={path}"])
        module.main()
    return json.loads(path.read_text())


def test_every_loader_is_timed_beside_torchvisions_and_every_cache_feeds_a_step(tmp_path: Path):
    sizes = ["images=4", "batch=2", "workers=0", "pairs=4", "repeats=1", "steps=2", "size=32", "channels=2"]
    report = run(data, tmp_path / "data.json", *sizes, "device=cpu")
    assert list(report["images_per_second"]) == ["torchvision", *data.CACHES]
    assert all(rate > 0 for rate in report["images_per_second"].values())
    assert list(report["steps"]) == [*data.CACHES]
    for found in report["steps"].values():
        assert 0 <= found["waiting"] < found["step"]
    assert len(report["summary"]) == 1 + 2 * len(data.CACHES)
    assert report["command"].endswith("device=cpu")


def test_translation_is_timed_from_files_to_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = run(predict, tmp_path / "predict.json", "images=2", "blocks=1", "channels=2", "repeats=2", "device=cpu")
    for name, times in report["seconds"].items():
        assert len(times) == 2
        assert report["images_per_second"][name] == pytest.approx(2 / (sum(times) / 2))
    ratio = report["images_per_second"]["ours"] / report["images_per_second"]["one by one"]
    assert f"{ratio:.2f} times one by one" in report["summary"][0][1]


def test_large_pictures_are_compared_with_those_in_one_piece(tmp_path: Path):
    sizes = ["width=96", "height=64", "compared=48", "blocks=1", "channels=4"]
    report = run(large_picture, tmp_path / "large.json", *sizes, "device=cpu", "precision=32-true")
    assert list(report["spent"]) == ["compared off", "compared on", "large on"]
    assert all(found["seconds"] > 0 and found["gigabytes"] > 0.1 for found in report["spent"].values())
    assert report["mean_difference"] < 0.01
    assert len(report["summary"]) == 2


def test_the_packages_weights_are_timed_by_whole_commands(tmp_path: Path):
    report = run(package_weights, tmp_path / "weights.json", "sizes=40x32", "rounds=1")
    ((what, figure),) = report["summary"]
    assert what == "ckpt=monet, a photo of 40x32"
    (spent,) = report["spent"]["40x32"]
    assert spent["seconds"] > 0.5  # Python and torch are in it
    assert 0.1 < spent["gigabytes"] < 2
    assert figure == f"{spent['seconds']:.1f} s, {spent['gigabytes']:.2f} GB"


def test_waiting_ends_at_the_line_that_is_waited_for_or_with_the_program(tmp_path: Path):
    mistake = ("train.py", "model.lrr=1")
    assert start_up.seconds(*mistake, folder=str(tmp_path), status=2) > 0
    to_line = start_up.seconds(*mistake, folder=str(tmp_path), status=2, until="no setting model.lrr")
    assert to_line > 0
    with pytest.raises(UserError, match="ended with status 2"):
        start_up.seconds(*mistake, folder=str(tmp_path), status=0)
    with pytest.raises(UserError, match="ended with status 2"):
        start_up.seconds(*mistake, folder=str(tmp_path), status=2, until="never said")


@pytest.mark.parametrize(
    ("module", "argument", "complaint"),
    [
        (data, "root=nowhere", "root=nowhere is no folder"),
        (predict, "images=0", "images and repeats must be 1 or more"),
        (predict, "device=abacus", "device=abacus"),
        (package_weights, "sizes=large", "sizes=large doesn't look like 1024x768"),
        (package_weights, "sizes=8x8", "each from 16 on"),
        (package_weights, "rounds=0", "rounds=0 is not 1 or more"),
    ],
)
def test_mistakes_are_one_line(module, argument, complaint, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [module.__name__, argument])
    with pytest.raises(SystemExit):
        module.main()
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1
