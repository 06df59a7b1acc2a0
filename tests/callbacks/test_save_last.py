from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback

from monet_cyclegan.callbacks.save_last import SaveLast

if TYPE_CHECKING:
    from pathlib import Path


class Watch(Callback):
    """Notes after each batch and epoch how many batches the checkpoint on disk has."""

    def __init__(self, path: Path):
        self.path = path
        self.batches: list[int | None] = []
        self.epochs: list[int | None] = []

    def on_train_batch_end(self, *_):
        self.batches.append(batches_in(self.path))

    def on_train_epoch_end(self, *_):
        self.epochs.append(batches_in(self.path))


def batches_in(path: Path) -> int | None:
    return torch.load(path, weights_only=True)["global_step"] // 2 if path.exists() else None


def watched(tmp_path: Path, **options) -> Watch:
    path = tmp_path / "checkpoints" / "last.ckpt"
    watch = Watch(path)
    trainer = tiny_trainer(tmp_path, [SaveLast(path, **options), watch], max_epochs=3, limit_train_batches=3)
    trainer.fit(tiny_model(), tiny_data(tmp_path))
    return watch


def test_the_last_state_is_saved_after_each_epoch(tmp_path: Path):
    watch = watched(tmp_path)
    assert watch.epochs == [3, 6, 9]
    assert watch.batches == [None, None, None, 3, 3, 3, 6, 6, 6]


def test_within_an_epoch_it_is_saved_when_the_minutes_are_over_but_not_before_validation(tmp_path: Path):
    assert watched(tmp_path, every_n_minutes=0).batches == [1, 2, 2, 4, 5, 5, 7, 8, 8]


def test_the_end_of_training_is_saved_however_seldom_the_rest_is(tmp_path: Path):
    assert watched(tmp_path, every_n_epochs=2).epochs == [None, 6, 9]


def test_a_trial_run_of_one_batch_saves_nothing(tmp_path: Path):
    path = tmp_path / "last.ckpt"
    tiny_trainer(tmp_path, [SaveLast(path, every_n_minutes=0)], fast_dev_run=True).fit(
        tiny_model(), tiny_data(tmp_path)
    )
    assert not path.exists()
