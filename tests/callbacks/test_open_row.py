from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback

from monet_cyclegan import CHECKPOINT_KEY
from monet_cyclegan.callbacks.open_row import OpenRow
from monet_cyclegan.loggers import CSVLog

if TYPE_CHECKING:
    from pathlib import Path


class KilledError(Exception):
    pass


class KillAfter(Callback):
    def __init__(self, batches: int, path: Path):
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.batches_done == self.batches:
            trainer.save_checkpoint(self.path)
            raise KilledError


def train(folder: Path, *callbacks: Callback, every: int = 1, ckpt_path: Path | None = None) -> str:
    logger = CSVLog(folder / "run", ckpt_path)
    trainer = tiny_trainer(folder, [*callbacks], logger=logger, log_every_n_steps=every)
    loading = {"ckpt_path": ckpt_path, "weights_only": True} if ckpt_path else {}
    trainer.fit(tiny_model(), tiny_data(folder), **loading)
    return logger.path.read_text()


@pytest.mark.parametrize("batches", [1, 3, 4, 6, 9])
@pytest.mark.parametrize("every", [1, 3])
def test_the_log_of_a_run_killed_at_a_batchs_end_has_no_gap_and_no_double_row(tmp_path, batches, every):
    whole = train(tmp_path, OpenRow(), every=every)
    path = tmp_path / "cut.ckpt"
    with pytest.raises(KilledError):
        train(tmp_path, OpenRow(), KillAfter(batches, path), every=every)
    assert train(tmp_path, OpenRow(), every=every, ckpt_path=path) == whole


def test_without_it_a_row_is_missing(tmp_path):
    path = tmp_path / "cut.ckpt"
    whole = train(tmp_path)
    with pytest.raises(KilledError):
        train(tmp_path, KillAfter(3, path))
    assert len(train(tmp_path, ckpt_path=path).splitlines()) == len(whole.splitlines()) - 1


def test_a_checkpoint_at_an_epochs_end_leaves_no_row_open(tmp_path):
    class Save(Callback):
        def on_validation_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / "validated.ckpt")

        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / "ended.ckpt")

    train(tmp_path, OpenRow(), Save())
    for name in ("validated", "ended"):
        assert "open_row" not in torch.load(tmp_path / f"{name}.ckpt", weights_only=True).get(CHECKPOINT_KEY, {})
