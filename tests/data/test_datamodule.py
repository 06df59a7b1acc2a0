from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_images, tiny_data, tiny_model, tiny_trainer
from lightning import Callback

from monet_cyclegan.data.datamodule import UnpairedDataModule
from monet_cyclegan.errors import UserError

OPTIONS = {"names": {"a": "photo", "b": "monet"}, "load_size": 20, "crop_size": 16, "num_workers": 0}


def training_batches(data, epochs=2):
    data.setup("fit")
    loader = data.train_dataloader()
    batches = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def held_out_names(data):
    return [[source.name(index) for index in range(len(source))] for source in data.val_sources]


class Seen(Callback):
    """Keeps the batches that reach the model, and the position saved with the checkpoint after each."""

    def __init__(self):
        self.train, self.val, self.positions, self.at_epoch_end = [], [[], []], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.train.append(batch)
        self.positions.append(trainer.datamodule.state_dict())

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.val[dataloader_idx].append(batch)

    def on_train_epoch_end(self, trainer, pl_module):
        self.at_epoch_end.append(trainer.datamodule.state_dict())


def test_training_batches_are_the_same_for_every_number_of_workers_and_every_cache(tmp_path):
    expected = training_batches(tiny_data(tmp_path, batch_size=2, cache="none"))
    assert len(expected) == 6
    for workers in (0, 2):
        for cache in ("ram", "disk", "none"):
            batches = training_batches(tiny_data(tmp_path, batch_size=2, cache=cache, num_workers=workers))
            for batch, other in zip(batches, expected, strict=True):
                assert batch["a"].dtype == torch.uint8
                assert torch.equal(batch["a"], other["a"])
                assert torch.equal(batch["b"], other["b"])


def test_batches_reach_the_model_as_floats_that_fill_the_range(tmp_path):
    seen = Seen()
    data = tiny_data(tmp_path, batch_size=2)
    tiny_trainer(tmp_path, [seen], max_epochs=1).fit(tiny_model(), data)
    for batch, raw in zip(seen.train, training_batches(data, epochs=1), strict=True):
        for name in "ab":
            assert batch[name].shape == (2, 3, 16, 16)
            torch.testing.assert_close(batch[name], raw[name] / 127.5 - 1, rtol=0, atol=0)
    values = torch.cat([batch["a"].flatten() for batch in seen.train])
    assert -1 <= values.min() < -0.5
    assert 0.5 < values.max() <= 1


def test_reading_data_draws_nothing_from_the_global_generators(tmp_path):
    data = tiny_data(tmp_path)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    training_batches(data), [list(loader) for loader in data.val_dataloader()]
    assert torch.equal(torch.rand(3), expected)


def test_validation_gives_each_held_out_image_once_in_order(tmp_path):
    seen = Seen()
    data = tiny_data(tmp_path, count_a=9, count_b=6, val_a=5, val_b=3)
    tiny_trainer(tmp_path, [seen], max_epochs=1).fit(tiny_model(), data)
    for name, source, batches in zip("ab", data.val_sources, seen.val, strict=True):
        assert all(set(batch) == {name} for batch in batches)
        images = torch.cat([batch[name] for batch in batches])
        fixed = dict(zip("ab", data.fixed_images(99), strict=True))[name]
        assert len(images) == len(source)
        assert len(torch.unique(images, dim=0)) == len(source)
        assert torch.equal(images[: len(fixed)], fixed)


def test_fixed_images_are_equally_many_of_both_domains(tmp_path):
    data = tiny_data(tmp_path, count_a=9, val_a=5, val_b=3)
    data.setup("fit")
    for count, expected in ((2, 2), (4, 3)):
        a, b = data.fixed_images(count)
        assert a.shape == b.shape == (expected, 3, 16, 16)
        assert a.dtype == torch.float32


def test_training_never_sees_a_held_out_image(tmp_path):
    data = tiny_data(tmp_path, count_a=9, count_b=6)
    data.setup("fit")
    for train, val in zip(data.train_sources, data.val_sources, strict=True):
        held_out = {val.name(index) for index in range(len(val))}
        assert not held_out & {train.name(index) for index in range(len(train))}
        assert len(held_out) == 2


def test_the_test_folders_of_a_layout_are_what_is_validated_on(tmp_path):
    for seed, (name, count) in enumerate({"trainA": 4, "trainB": 5, "testA": 3, "testB": 6}.items()):
        make_images(tmp_path / "root" / name, count, seed=seed)
    data = UnpairedDataModule.from_root(tmp_path / "root", val_a=0.1, val_b=4, cache="none", **OPTIONS)
    data.setup("fit")
    assert list(map(len, data.train_sources)) == [4, 5]
    assert list(map(len, data.val_sources)) == [3, 4]
    assert [source.location for source in data.val_sources] == [str(tmp_path / "root" / f"test{name}") for name in "AB"]

    swapped = UnpairedDataModule.from_root(tmp_path / "root", swap=True, cache="none", **OPTIONS)
    swapped.setup("fit")
    assert list(map(len, swapped.train_sources)) == [5, 4]
    assert list(map(len, swapped.val_sources)) == [6, 3]


def test_synthetic_data_hold_out_pairs_of_one_scene():
    data = UnpairedDataModule.synthetic(count_a=3, count_b=2, size=32, val_count=2, val_a=2, val_b=2, **OPTIONS)
    data.setup("fit")
    assert [len(source) for source in (*data.train_sources, *data.val_sources)] == [3, 2, 2, 2]
    photo, painting = data.fixed_images(2)
    assert torch.corrcoef(torch.stack([photo[0].flatten(), painting[0].flatten()]))[0, 1] > 0.5


def test_a_limit_cuts_training_and_held_out_images_and_leaves_the_split_between_them_alone(tmp_path):
    whole, data = tiny_data(tmp_path, count_a=12, count_b=5), tiny_data(tmp_path, limit=1)
    whole.setup("fit")
    data.setup("fit")
    assert [len(source) for source in (*data.train_sources, *data.val_sources)] == [1, 1, 1, 1]
    for few, all_ in zip(
        (*data.train_sources, *data.val_sources), (*whole.train_sources, *whole.val_sources), strict=True
    ):
        assert few.name(0) in {all_.name(index) for index in range(len(all_))}


def test_sources_are_opened_once(tmp_path):
    data = tiny_data(tmp_path)
    data.setup("fit")
    sources = data.train_sources
    data.setup("validate")
    assert data.train_sources is sources


@pytest.mark.parametrize("crop_size", [21, 0, -4])
def test_a_crop_that_does_not_fit_is_refused(tmp_path, crop_size):
    with pytest.raises(UserError, match=rf"data\.crop_size={crop_size} does not fit into data\.load_size=20"):
        tiny_data(tmp_path, crop_size=crop_size)


def test_validations_may_see_larger_squares_than_training_does(tmp_path):
    data = tiny_data(tmp_path, eval_size=20)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["a"].shape[2:] == (16, 16)
    assert [next(iter(loader))[name].shape[2:] for name, loader in zip("ab", data.val_dataloader(), strict=True)] == [
        (20, 20)
    ] * 2
    assert [images.shape[2:] for images in data.fixed_images(1)] == [(20, 20)] * 2
    assert tiny_data(tmp_path).eval_size == 16


@pytest.mark.parametrize("eval_size", [0, 21])
def test_validations_see_no_more_than_there_is_of_an_image(tmp_path, eval_size):
    with pytest.raises(UserError, match=rf"data\.eval_size={eval_size} is .*from 1 pixel to data\.load_size=20"):
        tiny_data(tmp_path, eval_size=eval_size)


@pytest.mark.parametrize("key", ["batch_size", "eval_batch_size"])
def test_an_empty_batch_is_refused(tmp_path, key):
    with pytest.raises(UserError, match=rf"data\.{key}=0 is not a batch"):
        tiny_data(tmp_path, **{key: 0})


@pytest.mark.parametrize(("key", "count"), [("val_a", 7), ("val_b", 5)])
def test_holding_out_everything_is_refused_with_the_setting_to_change(tmp_path, key, count):
    with pytest.raises(UserError, match=rf"data\.{key}={count} can't be held out of the {count} images"):
        tiny_data(tmp_path, **{key: count}).setup("fit")


def test_the_position_counts_samples_within_an_epoch_and_epochs_at_its_end(tmp_path):
    seen = Seen()
    data = tiny_data(tmp_path, batch_size=2)  # 5 photos to train on: 3 batches
    tiny_trainer(tmp_path, [seen]).fit(tiny_model(), data)
    assert seen.positions == [{"epoch": epoch, "samples": samples} for epoch in (0, 1) for samples in (2, 4, 6)]
    assert seen.at_epoch_end == [{"epoch": 1, "samples": 0}, {"epoch": 2, "samples": 0}]


def test_a_loaded_position_is_where_reading_goes_on(tmp_path):
    whole = training_batches(tiny_data(tmp_path, batch_size=2))
    data = tiny_data(tmp_path, batch_size=2)
    data.load_state_dict({"epoch": 1, "samples": 4})
    assert data.state_dict() == {"epoch": 1, "samples": 4}
    data.setup("fit")
    (tail,) = list(data.train_dataloader())
    assert torch.equal(tail["a"], whole[5]["a"])
    assert torch.equal(tail["b"], whole[5]["b"])


def test_an_image_that_can_not_be_read_is_named(tmp_path):
    make_images(tmp_path / "a", 4)
    (tmp_path / "a" / "002.png").write_bytes(b"not an image")
    for cache in ("ram", "disk"):
        with pytest.raises(UserError, match=r"002\.png"):
            tiny_data(tmp_path, cache=cache).setup("fit")


def test_images_smaller_than_the_crop_are_enlarged(tmp_path):
    make_images(tmp_path / "a", 4, (9, 7))
    for batch in training_batches(tiny_data(tmp_path), epochs=1):
        assert batch["a"].shape == (1, 3, 16, 16)
    assert np.unique(batch["a"].numpy()).size > 10
