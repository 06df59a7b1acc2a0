from __future__ import annotations

from functools import partial

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback
from torch import nn

from monet_cyclegan import CHECKPOINT_FORMAT, CHECKPOINT_KEY
from monet_cyclegan.callbacks.divergence import Divergence
from monet_cyclegan.callbacks.log_images import LogImages
from monet_cyclegan.callbacks.save_config import SaveConfig
from monet_cyclegan.checkpoint import build_generator, load_networks
from monet_cyclegan.data.datamodule import UnpairedDataModule
from monet_cyclegan.data.pairs import Position
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import image_grid, read_image
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.pretraining import MaskedPretraining, masked
from monet_cyclegan.resumable import load_to_go_on, load_to_start_from
from monet_cyclegan.schedules import cosine

EPOCHS = 3
BATCHES = 4  # an epoch: 7 photos to train on, two at a time
NETWORK = {
    "_target_": "monet_cyclegan.networks.resnet.ResNetGenerator",
    "num_residual_blocks": 1,
    "base_channels": 2,
    "dropout": 0.5,
}


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


class Losses(Callback):
    """Keeps each batch's loss and each validation's score."""

    def __init__(self):
        self.training, self.validations = [], []

    def on_train_batch_end(self, trainer, *_):
        self.training.append(trainer.callback_metrics["train/gen"].item())

    def on_validation_end(self, trainer, *_):
        self.validations.append(trainer.callback_metrics["val/masked_l1"].item())


def pretraining(seed=0, **options):
    """Every source of randomness of a step counts: masks and dropout."""
    torch.manual_seed(seed)
    defaults = {
        "generator": partial(ResNetGenerator, num_residual_blocks=1, base_channels=2, dropout=0.5),
        "optimizer": partial(torch.optim.AdamW, betas=(0.9, 0.99), weight_decay=0.05),
        "lr": 1e-2,
        "schedule": cosine,
        "patch_size": 4,
    }
    return MaskedPretraining(**{**defaults, **options})


def data(folder, kind=UnpairedDataModule, **options):
    made = tiny_data(folder, count_a=9, count_b=6, batch_size=2, **options)
    made.__class__ = kind
    return made


def saver(folder):
    config = {"data": {"names": {"a": "photo", "b": "monet"}}, "model": {"generator": NETWORK}}
    return SaveConfig(config, [], "", folder)


def fit(folder, callbacks=(), ckpt_path=None, seed=0, datamodule=None):
    """Train in fresh objects; a resumed model starts from other weights, all of which the checkpoint must replace."""
    trained, losses = pretraining(seed), Losses()
    trainer = tiny_trainer(folder, [saver(folder), losses, *callbacks], max_epochs=EPOCHS)
    try:
        trainer.fit(trained, datamodule or data(folder), ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    except KilledError:
        return None
    assert trained.batches_done == EPOCHS * BATCHES
    (optimizer,) = trainer.optimizers
    moments = {
        f"{index}.{name}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    rate = {"lr": torch.tensor(optimizer.param_groups[0]["lr"])}
    return {**trained.state_dict(), **moments, **rate}, losses


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole"))


def differences(left, right):
    assert left.keys() == right.keys()
    return [key for key, value in left.items() if not torch.equal(value, right[key])]


def images(seed, number=2, height=16, width=16):
    return torch.rand(number, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_patches_are_black_as_a_whole_or_untouched():
    real = images(0, number=50, height=24, width=16)
    torch.manual_seed(0)
    found = masked(real, patch_size=8, fraction=0.4)
    hidden = (found == -1).all(dim=1)
    assert torch.equal(found[~hidden[:, None].expand_as(found)], real[~hidden[:, None].expand_as(real)])
    patches = hidden.unfold(1, 8, 8).unfold(2, 8, 8).flatten(3).float().mean(dim=3)  # (50, 3, 2)
    assert set(patches.unique().tolist()) == {0.0, 1.0}
    assert patches.mean().item() == pytest.approx(0.4, abs=0.08)  # 300 draws: deviation 0.03
    assert len(patches.unique(dim=0)) > 30


def test_patches_at_the_borders_may_be_cut_off():
    found = masked(images(0, number=1, height=10, width=13), patch_size=8, fraction=1.0)
    assert found.shape == (1, 3, 10, 13)
    assert (found == -1).all()


def test_the_loss_is_the_mean_absolute_difference_of_all_pixels():
    model = pretraining().eval()
    real_a, real_b, masked_a, masked_b = (images(seed) for seed in range(4))
    terms = model.restoration_losses(real_a, real_b, masked_a, masked_b)
    for name, real, hidden in (("a", real_a, masked_a), ("b", real_b, masked_b)):
        torch.testing.assert_close(terms[f"masked_{name}"], (model.gen_ab(hidden) - real).abs().mean())


def test_one_generator_learns_both_domains(uninterrupted):
    model = pretraining()
    assert model.gen_ab is model.gen_ba
    (group,) = model.configure_optimizers().param_groups
    assert len(group["params"]) == len(list(model.gen_ab.parameters()))
    state, losses = uninterrupted
    assert all(torch.equal(state[key], state[key.replace("gen_ab", "gen_ba")]) for key in state if "gen_ab" in key)
    assert sum(losses.training[-4:]) < 0.9 * sum(losses.training[:4])


def test_the_schedule_reaches_the_optimizer(uninterrupted):
    state, _ = uninterrupted
    assert state["lr"].item() == pytest.approx(1e-2 * cosine(11 / 12))


@pytest.mark.parametrize("batches", [1, 6, BATCHES, BATCHES + 1, EPOCHS * BATCHES - 1])
def test_a_run_cut_off_after_a_batch_goes_on_to_the_same_weights(uninterrupted, tmp_path, batches):
    path = tmp_path / "cut.ckpt"
    assert fit(tmp_path, [KillAfter(batches, path)]) is None
    load_to_go_on(str(path))
    state, losses = fit(tmp_path, ckpt_path=path, seed=1)
    expected, expected_losses = uninterrupted
    assert len(losses.training) == EPOCHS * BATCHES - batches
    assert losses.training == expected_losses.training[batches:]
    assert losses.validations == expected_losses.validations[-len(losses.validations) :]
    assert differences(state, expected) == []


class Forgetful(UnpairedDataModule):
    """The negative control: the position in the data isn't taken over."""

    def load_state_dict(self, state_dict):
        assert Position(**state_dict).samples > 0


def test_without_the_position_in_the_data_a_resumed_run_differs(uninterrupted, tmp_path):
    path = tmp_path / "cut.ckpt"
    assert fit(tmp_path, [KillAfter(6, path)]) is None
    state, _ = fit(tmp_path, ckpt_path=path, seed=1, datamodule=data(tmp_path, Forgetful))
    assert any("gen_ab" in key for key in differences(state, uninterrupted[0]))


def test_masks_are_others_in_each_batch_and_epoch_and_alike_in_each_validation(tmp_path):
    class Keeps(ResNetGenerator):
        def forward(self, images):
            (training if self.training else validation).append((images == -1).all(dim=1))
            return super().forward(images)

    training, validation = [], []
    model = pretraining(generator=partial(Keeps, num_residual_blocks=1, base_channels=2))
    tiny_trainer(tmp_path, max_epochs=2).fit(model, data(tmp_path))
    assert len({tuple(hidden.flatten().tolist()) for hidden in training}) == 2 * BATCHES
    half = len(validation) // 2
    assert half == 2  # a batch of each domain
    assert not torch.equal(validation[0], validation[1])
    for before, after in zip(validation[:half], validation[half:], strict=True):
        assert torch.equal(before, after)


def test_the_score_is_the_mean_of_both_domains_over_images(tmp_path):
    class Grey(nn.Module):
        size_multiple = 1

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            return 0 * images + self.weight

    model, datamodule = pretraining(generator=Grey, lr=0.0), data(tmp_path, val_a=3, val_b=2)  # batches of 2 and 1
    trainer = tiny_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, datamodule)
    whole = {}
    for name, loader in zip("ab", datamodule.val_dataloader(), strict=True):
        seen = torch.cat([datamodule.on_after_batch_transfer(batch, 0)[name] for batch in loader])
        whole[name] = seen.abs().mean().item()
    scores = trainer.callback_metrics
    assert scores["val/masked_l1_photo"].item() == pytest.approx(whole["a"], rel=1e-5)
    assert scores["val/masked_l1_monet"].item() == pytest.approx(whole["b"], rel=1e-5)
    assert scores["val/masked_l1"].item() == pytest.approx(sum(whole.values()) / 2, rel=1e-5)


def test_samples_show_what_was_masked_restored_and_there(tmp_path):
    model, datamodule = pretraining(), data(tmp_path)
    tiny_trainer(tmp_path, [LogImages(tmp_path / "samples", num_images=2)], max_epochs=1).fit(model, datamodule)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == [f"{name}_restored_epoch0001_batch0000004.png" for name in ("monet", "photo")]
    shown = model.showcase_held_out(2)
    assert torch.equal(shown["real_b"], datamodule.fixed_images(2)[1])
    assert 0 < (shown["masked_b"] == -1).float().mean() < 1
    assert torch.equal(shown["restored_b"], model.eval().gen_ab(shown["masked_b"]))
    columns = {"monet, masked": shown["masked_b"], "restored": shown["restored_b"], "monet": shown["real_b"]}
    assert (read_image(tmp_path / "samples" / names[0]) == image_grid(columns)).all()


def test_a_bad_step_changes_nothing_and_is_told(tmp_path, capsys):
    class BadBatch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.before = {key: value.clone() for key, value in pl_module.state_dict().items()}
            if batch_idx == 1:
                batch["a"].fill_(float("nan"))

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            same = all(torch.equal(value, self.before[key]) for key, value in pl_module.state_dict().items())
            assert same == (batch_idx == 1)

    tiny_trainer(tmp_path, [BadBatch(), Divergence()], max_epochs=1).fit(pretraining(), data(tmp_path))
    assert "train/masked_a is nan, step of the generators skipped" in capsys.readouterr().out


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    assert fit(folder, [KillAfter(2, folder / "x.ckpt")]) is None
    return folder / "x.ckpt"


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_cyclegan_starts_from_it_with_both_generators_and_discriminators_of_its_own(checkpoint, ema_decay):
    saved = load_to_start_from(str(checkpoint))
    model = tiny_model(ema_decay=ema_decay)
    before = {key: value.clone() for key, value in model.state_dict().items() if key.startswith("disc_")}
    load_networks(model, saved)
    for key, value in model.state_dict().items():
        part, _, name = key.partition(".")
        if part.startswith(("gen_", "ema_")):
            assert torch.equal(value, saved["state_dict"][f"gen_ab.{name.removeprefix('model.')}"])
        elif part.startswith("disc_"):
            assert torch.equal(value, before[key])
    assert next(model.gen_ab.parameters()) is not next(model.gen_ba.parameters())


def test_it_starts_from_a_cyclegan_without_its_discriminators_and_averages():
    cyclegan, model = tiny_model(seed=3), pretraining()
    load_networks(model, {"state_dict": cyclegan.state_dict()})
    assert torch.equal(next(model.gen_ab.parameters()), next(cyclegan.gen_ba.parameters()))


def test_its_checkpoint_can_be_opened_for_either_direction(checkpoint):
    saved = load_to_start_from(str(checkpoint))
    ab, ba = (build_generator(saved, direction) for direction in ("photo_to_monet", "monet_to_photo"))
    assert torch.equal(ab(images(0)), ba(images(0)))


def test_weights_of_discriminators_without_their_config_are_refused(checkpoint, tmp_path):
    saved = torch.load(checkpoint, weights_only=True)
    saved["state_dict"]["disc_a.body.0.weight"] = torch.zeros(1)
    torch.save(saved, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=r"the checkpoint has no model\.discriminator"):
        load_to_start_from(str(tmp_path / "x.ckpt"))


def test_a_config_of_discriminators_without_their_weights_is_refused(checkpoint, tmp_path):
    saved = torch.load(checkpoint, weights_only=True)
    assert saved[CHECKPOINT_KEY]["format"] == CHECKPOINT_FORMAT
    saved[CHECKPOINT_KEY]["config"]["model"]["discriminator"] = {
        "_target_": "monet_cyclegan.networks.patchgan.PatchGAN"
    }
    torch.save(saved, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="discriminator doesn't fit its config: missing"):
        load_to_start_from(str(tmp_path / "x.ckpt"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 0}, "patch_size must be at least 1, got 0"),
        ({"mask_fraction": 0.0}, r"mask_fraction must be above 0 and at most 1, got 0\.0"),
        ({"mask_fraction": 1.5}, r"mask_fraction must be above 0 and at most 1, got 1\.5"),
        ({"compile": "fast"}, "unknown compile=fast"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        pretraining(**options)
