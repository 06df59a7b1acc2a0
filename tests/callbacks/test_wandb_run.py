from __future__ import annotations

import json

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger

from monet_cyclegan.callbacks.log_images import LogImages
from monet_cyclegan.callbacks.wandb_run import KEY, WandbRun
from monet_cyclegan.loggers import CSVLog


def fit(folder, epochs, run_id=None, ckpt_path=None):
    """Train with W&B; give back the id of its run."""
    wandb = pytest.importorskip("wandb")
    logger = WandbLogger("tiny", save_dir=folder, id=run_id, resume="allow")
    callbacks = [
        ModelCheckpoint(folder, "last", enable_version_counter=False, save_on_train_epoch_end=True),
        LogImages(folder / "samples", num_images=2),
        WandbRun(folder / "last.ckpt", num_images=2),
    ]
    trainer = tiny_trainer(folder, callbacks, logger=logger, max_epochs=epochs)
    try:
        trainer.fit(tiny_model(), tiny_data(folder), ckpt_path=ckpt_path)
        return logger.experiment.id
    finally:
        wandb.finish()


def rows(folder):
    """Rows of all tables in the files of all runs, in the order written."""
    files = sorted(folder.glob("wandb/offline-run-*/files/media/table/*.json"), key=lambda file: file.stat().st_mtime)
    return [row for file in files for row in json.loads(file.read_text())["data"]]


@pytest.mark.slow
def test_a_run_offline_is_written_and_goes_on_under_its_id_after_a_resume(tmp_path, monkeypatch):
    for key, value in {"MODE": "offline", "SILENT": "true", "DATA_DIR": str(tmp_path / "artifacts")}.items():
        monkeypatch.setenv(f"WANDB_{key}", value)
    first = fit(tmp_path, epochs=2)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint[KEY] == first
    assert len(list(tmp_path.glob(f"wandb/offline-run-*-{first}/run-{first}.wandb"))) == 1
    assert [row[:2] for row in rows(tmp_path)] == [[1, 0], [1, 1], [2, 0], [2, 1]]
    grids = list(tmp_path.glob("wandb/offline-run-*/files/media/images/samples/*.png"))
    assert len(grids) == 4  # two directions, two epochs

    again = fit(tmp_path, epochs=3, run_id=checkpoint[KEY], ckpt_path=tmp_path / "last.ckpt")
    assert again == torch.load(tmp_path / "last.ckpt", weights_only=True)[KEY] == first
    assert [row[:2] for row in rows(tmp_path)][4:] == [[3, 0], [3, 1]]
    assert len(list(tmp_path.glob(f"wandb/offline-run-*-{first}/run-{first}.wandb"))) == 2

    artifacts = [path.read_bytes() for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert (tmp_path / "last.ckpt").read_bytes() in artifacts
    table = next(json.loads(data) for data in artifacts if data.startswith(b"{") and b'"_type": "table"' in data)
    assert table["columns"] == ["epoch", "image", "photo", "monet"]
    before, after = table["data"][0][2:]
    assert (before["width"], before["height"]) == (after["width"], after["height"]) == (16, 16)
    assert before["sha256"] != after["sha256"]


def test_without_weights_and_biases_nothing_is_done(tmp_path):
    callbacks = [WandbRun(tmp_path / "best.ckpt")]
    trainer = tiny_trainer(tmp_path, callbacks, max_epochs=1, logger=CSVLog(tmp_path))
    trainer.fit(tiny_model(), tiny_data(tmp_path))
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    assert KEY not in torch.load(tmp_path / "saved.ckpt", weights_only=True)
