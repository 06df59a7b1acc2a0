from __future__ import annotations

from functools import partial

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from monet_cyclegan.data.datamodule import UnpairedDataModule
from monet_cyclegan.data.pairs import Position
from monet_cyclegan.networks.batch_statistics import BatchStatisticsGAN
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.penalties import WGANGP
from monet_cyclegan.schedules import constant_then_linear

EPOCHS = 3
BATCHES = 4  # an epoch: 7 photos to train on, two at a time


class KilledError(Exception):
    pass


class KillAfter(Callback):
    """Save a checkpoint and die at the end of a batch, counted from the start of the run."""

    def __init__(self, batches, path):
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.batches_done == self.batches:
            trainer.save_checkpoint(self.path)
            raise KilledError


class KillAfterEpoch(Callback):
    """Die at the end of an epoch, after a ModelCheckpoint has saved it."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epochs:
            raise KilledError


class Draws(Callback):
    """Keeps what the batches were, so that a difference shows where it began, and what was validated after which."""

    def __init__(self):
        self.sums, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.sums.append((batch["a"].sum().item(), batch["b"].sum().item()))

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.validated.append(pl_module.batches_done)


def model(seed=0, **options):
    """Every source of randomness of a step counts: dropout, draws of the pools, points of the penalty."""
    return tiny_model(
        seed,
        **options,
        generator=partial(ResNetGenerator, num_residual_blocks=1, base_channels=2, dropout=0.5),
        penalties={"wgan_gp": WGANGP()},
        pool_size=2,
        ema_decay=0.9,
        schedule=constant_then_linear,
        lr=1e-2,
    )


def data(folder, workers=0, **options):
    return tiny_data(folder, count_a=9, count_b=6, batch_size=2, num_workers=workers, **options)


def fit(folder, callbacks=(), workers=0, ckpt_path=None, seed=0, datamodule=None, **options):
    """Train in fresh objects; a resumed model starts from other weights, all of which the checkpoint must replace."""
    trained, draws = model(seed, **options), Draws()
    trainer = tiny_trainer(folder, [*callbacks, draws], max_epochs=EPOCHS)
    datamodule = datamodule or data(folder, workers)
    try:
        trainer.fit(trained, datamodule, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    except KilledError:
        return None
    assert trained.batches_done == EPOCHS * BATCHES
    assert draws.validated == [done for done in (4, 8, 12) for _ in range(2) if done > 12 - len(draws.sums)]
    return final_state(trainer, trained), draws.sums


def final_state(trainer, trained):
    """Everything that training changes, flat: networks, averages, pools and optimizers."""
    found = {}

    def collect(prefix, value):
        if isinstance(value, dict):
            for key, item in value.items():
                collect(f"{prefix}.{key}", item)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                collect(f"{prefix}.{index}", item)
        else:
            found[prefix] = value

    collect("model", dict(trained.state_dict()))
    collect("optimizer", [optimizer.state_dict() for optimizer in trainer.optimizers])
    return found


def differences(left, right):
    assert left.keys() == right.keys()
    return [key for key, value in left.items() if not torch.equal(torch.as_tensor(value), torch.as_tensor(right[key]))]


def comparable(state):
    numbers = (torch.Tensor, int, float)
    return {key: torch.as_tensor(value) for key, value in state.items() if isinstance(value, numbers)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    state, draws = fit(tmp_path_factory.mktemp("whole"))
    return comparable(state), draws


def assert_goes_on_as_if_nothing_happened(resumed, uninterrupted):
    state, draws = resumed
    expected, expected_draws = uninterrupted
    assert draws == expected_draws[-len(draws) :]
    assert differences(comparable(state), expected) == []


def test_the_state_compared_holds_everything_that_training_changes(uninterrupted):
    state, _ = uninterrupted
    parts = ("gen_ab", "gen_ba", "disc_a", "disc_b", "ema_ab", "ema_ba", "pool_a", "pool_b")
    assert {key.split(".")[1] for key in state if key.startswith("model.")} == set(parts)
    assert state["model.pool_a._extra_state.images"].shape == (2, 3, 16, 16)
    for kind in ("exp_avg", "exp_avg_sq", "step"):
        assert any(key.startswith("optimizer.") and key.endswith(f".{kind}") for key in state)
    assert state["optimizer.0.param_groups.0.lr"] < 1e-2


def test_two_runs_with_the_same_seed_are_the_same(uninterrupted, tmp_path):
    assert_goes_on_as_if_nothing_happened(fit(tmp_path), uninterrupted)


def test_the_number_of_workers_changes_nothing(uninterrupted, tmp_path):
    assert_goes_on_as_if_nothing_happened(fit(tmp_path, workers=2), uninterrupted)


@pytest.mark.parametrize("batches", [1, 6, 7, BATCHES, BATCHES + 1, 2 * BATCHES, EPOCHS * BATCHES - 1])
def test_a_run_cut_off_after_a_batch_goes_on_to_the_same_weights(uninterrupted, tmp_path, batches):
    path = tmp_path / "cut.ckpt"
    assert fit(tmp_path, [KillAfter(batches, path)]) is None
    resumed = fit(tmp_path, ckpt_path=path, seed=1)
    assert len(resumed[1]) == EPOCHS * BATCHES - batches
    assert_goes_on_as_if_nothing_happened(resumed, uninterrupted)


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2), (2, 2)])
def test_the_number_of_workers_may_change_where_a_run_is_cut_off(uninterrupted, tmp_path, before, after):
    path = tmp_path / "cut.ckpt"
    assert fit(tmp_path, [KillAfter(6, path)], workers=before) is None
    assert_goes_on_as_if_nothing_happened(fit(tmp_path, workers=after, ckpt_path=path, seed=1), uninterrupted)


def test_a_run_from_the_devices_memory_goes_on_to_the_same_weights(tmp_path):
    path = tmp_path / "cut.ckpt"
    state, draws = fit(tmp_path, datamodule=data(tmp_path, cache="device"))
    assert fit(tmp_path, [KillAfter(6, path)], datamodule=data(tmp_path, cache="device")) is None
    resumed = fit(tmp_path, ckpt_path=path, seed=1, datamodule=data(tmp_path, workers=2, cache="device"))
    assert_goes_on_as_if_nothing_happened(resumed, (comparable(state), draws))


COMPARING = {"discriminator": partial(BatchStatisticsGAN, 1, 2, memory_size=3, spectral_norm=True)}


def test_a_run_whose_discriminators_remember_images_goes_on_to_the_same_weights(tmp_path):
    path = tmp_path / "cut.ckpt"
    state, draws = fit(tmp_path, **COMPARING)
    assert state["model.memories.fake_b._extra_state.weight"].tolist() == [1, 1, 1]
    assert fit(tmp_path, [KillAfter(6, path)], **COMPARING) is None
    resumed = fit(tmp_path, ckpt_path=path, seed=1, **COMPARING)
    assert_goes_on_as_if_nothing_happened(resumed, (comparable(state), draws))
    checkpoint = torch.load(path, weights_only=True)  # the negative control: another memory of one kind
    checkpoint["state_dict"]["memories.real_a._extra_state"]["moments"] *= 2
    torch.save(checkpoint, path)
    otherwise, _ = fit(tmp_path, ckpt_path=path, seed=1, **COMPARING)
    assert any("disc_a" in key for key in differences(comparable(otherwise), comparable(state)))


def last(folder):
    return ModelCheckpoint(folder, "last", enable_version_counter=False, save_on_train_epoch_end=True)


def test_a_run_cut_off_after_an_epoch_goes_on_to_the_same_weights(uninterrupted, tmp_path):
    assert fit(tmp_path, [last(tmp_path), KillAfterEpoch(2)]) is None
    resumed = fit(tmp_path, [last(tmp_path)], ckpt_path=tmp_path / "last.ckpt", seed=1)
    assert len(resumed[1]) == BATCHES
    assert_goes_on_as_if_nothing_happened(resumed, uninterrupted)


class LogEpoch(Callback):
    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/score", float(-trainer.current_epoch))


def test_a_run_goes_on_from_the_best_checkpoint_saved_after_validation(uninterrupted, tmp_path):
    def callbacks():
        best = ModelCheckpoint(tmp_path, "best", monitor="val/score", mode="min", enable_version_counter=False)
        return [LogEpoch(), best]

    assert fit(tmp_path, [*callbacks(), KillAfterEpoch(2)]) is None
    resumed = fit(tmp_path, callbacks(), ckpt_path=tmp_path / "best.ckpt", seed=1)
    assert len(resumed[1]) == BATCHES
    assert_goes_on_as_if_nothing_happened(resumed, uninterrupted)


class KillInValidation(Callback):
    """Save a checkpoint and die after a batch of the second validation."""

    def __init__(self, batch, path):
        self.batch, self.path = batch, path

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if pl_module.batches_done == 2 * BATCHES and dataloader_idx == self.batch:
            trainer.save_checkpoint(self.path)
            raise KilledError


@pytest.mark.parametrize("batch", [0, 1])
def test_a_run_cut_off_within_a_validation_goes_on_to_the_same_weights(uninterrupted, tmp_path, batch):
    path = tmp_path / "cut.ckpt"
    assert fit(tmp_path, [KillInValidation(batch, path)]) is None
    resumed = fit(tmp_path, ckpt_path=path, seed=1)
    assert len(resumed[1]) == BATCHES
    assert_goes_on_as_if_nothing_happened(resumed, uninterrupted)


def test_a_run_cut_off_twice_goes_on_to_the_same_weights(uninterrupted, tmp_path):
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
    assert fit(tmp_path, [KillAfter(2, first)]) is None
    assert fit(tmp_path, [KillAfter(7, second)], ckpt_path=first, seed=1) is None
    assert_goes_on_as_if_nothing_happened(fit(tmp_path, ckpt_path=second, seed=2), uninterrupted)


def test_a_finished_run_that_is_resumed_changes_nothing(uninterrupted, tmp_path):
    fit(tmp_path, [last(tmp_path)])
    state, draws = fit(tmp_path, [last(tmp_path)], ckpt_path=tmp_path / "last.ckpt", seed=1)
    assert draws == []
    expected, _ = uninterrupted
    assert [key for key in differences(comparable(state), expected) if key.startswith("model.")] == []


class Forgetful(UnpairedDataModule):
    """The negative control: the position in the data isn't taken over."""

    def load_state_dict(self, state_dict):
        assert Position(**state_dict).samples > 0


def test_without_the_position_in_the_data_a_resumed_run_differs(uninterrupted, tmp_path):
    path = tmp_path / "cut.ckpt"
    assert fit(tmp_path, [KillAfter(6, path)]) is None
    forgetful = data(tmp_path)
    forgetful.__class__ = Forgetful
    state, draws = fit(tmp_path, ckpt_path=path, seed=1, datamodule=forgetful)
    expected, expected_draws = uninterrupted
    assert len(draws) == 6
    assert draws[:2] != expected_draws[6:8]
    assert any("gen_ab" in key for key in differences(comparable(state), expected))


@pytest.mark.parametrize("part", ["pool_a._extra_state", "ema_ab", "gen_ba", "disc_b"])
def test_a_part_that_a_checkpoint_did_not_restore_would_be_noticed(uninterrupted, tmp_path, part):
    path = tmp_path / "cut.ckpt"
    assert fit(tmp_path, [KillAfter(6, path)]) is None
    checkpoint = torch.load(path, weights_only=True)
    for key, value in checkpoint["state_dict"].items():
        if key.startswith(part):
            checkpoint["state_dict"][key] = {"images": 0 * value["images"]} if "_extra" in key else 0.9 * value
    torch.save(checkpoint, path)
    state, _ = fit(tmp_path, ckpt_path=path, seed=1)
    assert differences(comparable(state), uninterrupted[0]) != []
