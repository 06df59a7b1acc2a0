from __future__ import annotations

import re
import zipfile
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback

from monet_cyclegan import image_zip
from monet_cyclegan.callbacks import submission
from monet_cyclegan.callbacks.save_best import SaveBest
from monet_cyclegan.callbacks.submission import Submission
from monet_cyclegan.images import decode_image, to_float, to_uint8, write_image

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_zip, "COUNTS", range(7, 8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven photos of the competition's size, of which two are held out: coarse tiles, which JPEG keeps."""
    for index in range(7):
        tiles = np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        write_image(tmp_path / "a" / f"{index}.png", np.kron(tiles, np.ones((64, 64, 1), np.uint8)))
    return tmp_path


def fit(folder: Path, callbacks: list[Callback], **options):
    model = tiny_model()
    tiny_trainer(folder, callbacks, **options).fit(model, tiny_data(folder))
    return model


def translations(model, folder: Path) -> list[np.ndarray]:
    """What predict.py would make of the photos."""
    made = []
    for path in sorted((folder / "a").iterdir()):
        photo = to_float(torch.from_numpy(decode_image(path.read_bytes(), "").copy()).permute(2, 0, 1)[None])
        with torch.no_grad():
            made.append(to_uint8(model.evaluation_generators[0](photo))[0].permute(1, 2, 0).numpy())
    return made


def in_archive(path: Path) -> list[np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        return [decode_image(archive.read(name), name) for name in sorted(archive.namelist())]


def nearest(archived: np.ndarray, candidates: list[np.ndarray]) -> int:
    return int(np.argmin([np.abs(archived.astype(int) - candidate).mean() for candidate in candidates]))


def test_every_photo_is_translated_held_out_ones_too(folder: Path, capsys: pytest.CaptureFixture[str]):
    path = folder / "run" / "images.zip"
    model = fit(folder, [Submission(path, folder / "best.ckpt")])
    made = translations(model, folder)
    assert sorted(nearest(image, made) for image in in_archive(path)) == [*range(7)]  # each photo, once
    assert f"7 images in {path}, as the competition wants it" in capsys.readouterr().out


class Weigh(Callback):
    """Says that the first epoch is the best."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/score", float(trainer.current_epoch))


def test_the_best_checkpoint_translates_not_the_last(folder: Path):
    path = folder / "images.zip"
    best = SaveBest(folder / "checkpoints", "val/score", folder / "best.csv", "min", top_k=1, rescore=False)
    model = fit(folder, [Weigh(), best, Submission(path, folder / "checkpoints" / "best.ckpt")], max_epochs=3)
    last = translations(model, folder)
    with model.as_saved(folder / "checkpoints" / "best.ckpt"):
        expected = translations(model, folder)
    images = in_archive(path)
    assert sorted(nearest(image, expected) for image in images) == [*range(7)]
    order = [nearest(image, expected) for image in images]
    far = [np.abs(last[index].astype(int) - expected[index]).mean() for index in order]
    close = [np.abs(image.astype(int) - expected[index]).mean() for image, index in zip(images, order, strict=True)]
    beside = [np.abs(image.astype(int) - last[index]).mean() for image, index in zip(images, order, strict=True)]
    assert min(far) > 0  # the weights did change
    assert np.mean(close) < np.mean(beside)
    for left, right in zip(last, translations(model, folder), strict=True):
        assert np.array_equal(left, right)  # and the model in training is as it was


class Slow(Callback):
    """Lets half a minute pass in each batch, on the clock that the callback looks at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 0.0
        monkeypatch.setattr(submission, "time", SimpleNamespace(monotonic=lambda: self.now))

    def on_train_batch_end(self, *_):
        self.now += 30


def test_training_ends_while_there_is_time_for_the_archive(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    clock = Slow(monkeypatch)
    path = folder / "images.zip"
    # Of six minutes the archive takes one, and scoring two: three are left, which are six batches.
    late = Submission(path, folder / "best.ckpt", budget_minutes=6, reserved_minutes=2)
    model = fit(folder, [clock, late], max_epochs=-1)
    assert model.batches_done == 7  # the first that sees that it is too late
    assert clock.now <= 6 * 60
    assert len(in_archive(path)) == 7
    out = capsys.readouterr().out
    assert re.search(r"images.zip will take about 1\.0 minutes, and scoring 2: training has 3 minutes", out)
    assert out.count("no more time to train") == 1


def test_an_archive_that_would_be_refused_is_said_to_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(image_zip, "COUNTS", range(7000, 10001))
    fit(folder, [Submission(folder / "images.zip", folder / "best.ckpt")], max_epochs=1)
    assert "the competition would refuse it: 7 images, where the competition takes 7,000 to" in capsys.readouterr().out


def test_a_trial_run_of_one_batch_writes_none(folder: Path):
    fit(folder, [Submission(folder / "images.zip", folder / "best.ckpt")], fast_dev_run=True)
    assert not (folder / "images.zip").exists()
