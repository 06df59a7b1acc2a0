"""Checkpoints come from strangers, too: what they may do, and that what they hold comes back as it was."""

from __future__ import annotations

import copy
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import tiny_model
from torch import nn

from monet_cyclegan import CHECKPOINT_FORMAT, CHECKPOINT_KEY
from monet_cyclegan.checkpoint import build_generator, directions, load_checkpoint, load_networks, network_config
from monet_cyclegan.errors import UserError

GENERATOR = {
    "_target_": "monet_cyclegan.networks.resnet.ResNetGenerator",
    "_partial_": True,
    "num_residual_blocks": 1,
    "base_channels": 2,
}


def checkpoint_of(model: nn.Module, **generator: object) -> dict:
    """What a run with this model writes, as far as this module reads it."""
    config = {
        "data": {"names": {"a": "photo", "b": "monet"}},
        "model": {"generator": {**GENERATOR, **generator}},
    }
    mark = {"format": CHECKPOINT_FORMAT, "version": "0.1.0", "config": config, "overrides": []}
    return {CHECKPOINT_KEY: mark, "state_dict": copy.deepcopy(model.state_dict())}


def trained(**options: object) -> nn.Module:
    """A model whose averages, generators and directions all differ."""
    model = tiny_model(**options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture
def saved(tmp_path):
    def save(content: object) -> str:
        torch.save(content, tmp_path / "x.ckpt")
        return str(tmp_path / "x.ckpt")

    return save


@pytest.mark.parametrize(("direction", "name"), [(None, "ab"), ("photo_to_monet", "ab"), ("monet_to_photo", "ba")])
def test_the_averaged_generator_comes_back_bit_for_bit(saved, direction, name):
    model = trained(ema_decay=0.9)
    generator = build_generator(load_checkpoint(saved(checkpoint_of(model))), direction)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    expected = getattr(model, f"ema_{name}").model
    assert torch.equal(generator(images), expected(images))
    assert same(generator, expected)
    assert not same(generator, getattr(model, f"gen_{name}"))
    assert not generator.training


def test_without_averages_the_generator_itself_is_used():
    model = trained(ema_decay=0.0)
    checkpoint = checkpoint_of(model)
    assert same(build_generator(checkpoint), model.gen_ab)
    assert same(build_generator(checkpoint, "monet_to_photo"), model.gen_ba)


def test_directions_have_the_names_of_the_runs_domains():
    checkpoint = checkpoint_of(tiny_model())
    checkpoint[CHECKPOINT_KEY]["config"]["data"]["names"] = {"a": "horse", "b": "zebra"}
    assert directions(checkpoint) == {"horse_to_zebra": "ab", "zebra_to_horse": "ba"}


def test_an_unknown_direction_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"^direction=monet is not .* choose photo_to_monet or monet_to_photo$"):
        build_generator(checkpoint_of(tiny_model()), "monet")


class Payload:
    def __init__(self, path: os.PathLike[str]):
        self.path = os.fspath(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickled_payload_does_not_run(saved, tmp_path):
    victim = tmp_path / "ran"
    path = saved({**checkpoint_of(tiny_model()), "extra": Payload(victim)})
    with pytest.raises(UserError, match="holds more than tensors and plain values, so it was not loaded"):
        load_checkpoint(path)
    assert not victim.exists()
    torch.load(path, weights_only=False)  # the payload is a real one
    assert victim.exists()


def test_a_pickled_payload_in_the_old_format_does_not_run(tmp_path):
    victim, path = tmp_path / "ran", tmp_path / "x.ckpt"
    path.write_bytes(pickle.dumps(Payload(victim)))
    with pytest.raises(UserError, match="is not a checkpoint of this project"):
        load_checkpoint(path)
    assert not victim.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.nn.Linear",
        "monet_cyclegan.networks.unet.torch.load",
        "monet_cyclegan.networks.resnet.torch",
        "monet_cyclegan.networks.resnet.Tensor",
        "monet_cyclegan.networks.layers.nn.Linear",
        "monet_cyclegan.networks.ResNetGenerator.__init__",
        "monet_cyclegan.networks..resnet.ResNetGenerator",
        "monet_cyclegan.networks.nothing.ResNetGenerator",
        "monet_cyclegan.data.download.main",
        "ResNetGenerator",
        "",
        {"_target_": "os.system", "command": "true"},
        ["os.system"],
        None,
    ],
)
def test_only_networks_of_this_project_are_called(target):
    with pytest.raises(
        UserError, match=r"^the checkpoint asks for the network .* not one of monet_cyclegan\.networks$"
    ):
        build_generator(checkpoint_of(tiny_model(), _target_=target))


@pytest.mark.parametrize("key", ["base_channels", "norm", "dropout", "_args_"])
@pytest.mark.parametrize(
    "value", [{"_target_": "os.mkdir", "path": "x"}, [{"_target_": "os.abort"}], [3], "${oc.env:HOME}"]
)
def test_a_network_has_plain_values_only(key, value):
    checkpoint = checkpoint_of(tiny_model(), **{key: value})
    for use in (build_generator, lambda checkpoint: network_config(checkpoint, "generator")):
        with pytest.raises(
            UserError, match=rf"^the checkpoint's model\.generator\.{key} is [^\n]+, not a plain value$"
        ):
            use(checkpoint)


def test_a_networks_config_comes_back_as_it_was_saved():
    checkpoint = checkpoint_of(tiny_model(), norm=None, dropout=0.5)
    assert network_config(checkpoint, "generator") == {**GENERATOR, "norm": None, "dropout": 0.5}
    with pytest.raises(UserError, match=r"^the checkpoint has no model\.discriminator$"):
        network_config(checkpoint, "discriminator")


def test_a_discriminator_is_a_network_of_this_project_too():
    checkpoint = checkpoint_of(tiny_model())
    model = checkpoint[CHECKPOINT_KEY]["config"]["model"]
    model["discriminator"] = {"_target_": "monet_cyclegan.networks.patchgan.PatchGAN", "num_layers": 2}
    assert network_config(checkpoint, "discriminator") == model["discriminator"]
    for stranger in ({"_target_": "os.abort"}, {"num_layers": 2}):
        model["discriminator"] = stranger
        with pytest.raises(UserError, match=r"not one of monet_cyclegan\.networks$"):
            network_config(checkpoint, "discriminator")


@pytest.mark.parametrize("change", [{"base_channels": 3}, {"num_residual_blocks": 2}, {"colour": "blue"}])
def test_weights_that_fit_no_network_are_one_line(change):
    with pytest.raises(UserError, match=r"^the checkpoint's generator doesn't fit its config: [^\n]+$"):
        build_generator(checkpoint_of(tiny_model(), **change))


def test_a_missing_file_is_answered_with_its_neighbours(saved, tmp_path):
    path = saved({})
    with pytest.raises(UserError, match=r"^no checkpoint at \S+best\.ckpt; there are \S+x\.ckpt$") as error:
        load_checkpoint(tmp_path / "best.ckpt")
    assert str(error.value).endswith(path)
    with pytest.raises(UserError, match=r"^no checkpoint at \S+y\.ckpt$"):
        load_checkpoint(tmp_path / "nowhere" / "y.ckpt")


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        3,
        {"state_dict": {}},
        torch.zeros(2),
        {CHECKPOINT_KEY: 3, "state_dict": {}},
        {CHECKPOINT_KEY: None, "state_dict": {}},
        {CHECKPOINT_KEY: checkpoint_of(nn.Identity())[CHECKPOINT_KEY]},
    ],
)
def test_somebody_elses_checkpoint_is_refused(saved, content):
    with pytest.raises(UserError, match=r"^\S+x\.ckpt is not a checkpoint of this project: it holds no "):
        load_checkpoint(saved(content))


@pytest.mark.parametrize(
    "change",
    [
        {"format": None},
        {"format": "1"},
        {"config": None},
        {"config": {}},
        {"config": {"data": {"names": {"a": "photo"}}, "model": {"generator": {}}}},
        {"config": {"data": {"names": {"a": "photo", "b": "monet"}}, "model": {}}},
        {"config": {"data": {"names": {"a": "photo", "b": "monet"}}, "model": {"generator": "resnet"}}},
        {"overrides": None},
        {"overrides": "seed=3"},
        {"overrides": [3]},
    ],
)
def test_a_checkpoint_with_a_damaged_config_is_refused(saved, change):
    checkpoint = checkpoint_of(tiny_model())
    checkpoint[CHECKPOINT_KEY].update(change)
    with pytest.raises(UserError, match=r"^\S+x\.ckpt is not a checkpoint of this project: it holds no "):
        load_checkpoint(saved(checkpoint))
    for key in change:
        del checkpoint[CHECKPOINT_KEY][key]
    with pytest.raises(UserError, match="is not a checkpoint of this project"):
        load_checkpoint(saved(checkpoint))


def test_a_newer_format_is_refused_with_the_version_that_wrote_it(saved):
    checkpoint = checkpoint_of(tiny_model())
    checkpoint[CHECKPOINT_KEY].update(format=CHECKPOINT_FORMAT + 1, version="9.9")
    with pytest.raises(
        UserError, match=r"^\S+ was written by a newer version, 9\.9, in format 2; this one reads up to 1"
    ):
        load_checkpoint(saved(checkpoint))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_one_line(saved, tmp_path, share):
    path = tmp_path / "cut.ckpt"
    content = Path(saved(checkpoint_of(tiny_model()))).read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"^\S+cut\.ckpt is not a checkpoint of this project, or only a part of one$"):
        load_checkpoint(path)


def test_another_zip_archive_is_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(UserError, match=r"^\S+photos\.zip is not a checkpoint of this project: [^\n]+$"):
        load_checkpoint(tmp_path / "photos.zip")


@pytest.mark.parametrize("before", [0.9, 0.0])
@pytest.mark.parametrize("after", [0.9, 0.0])
def test_fine_tuning_takes_all_networks_over(before, after):
    old, new = trained(ema_decay=before), tiny_model(seed=5, ema_decay=after)
    load_networks(new, checkpoint_of(old))
    for name in ("gen_ab", "gen_ba", "disc_a", "disc_b"):
        assert same(getattr(new, name), getattr(old, name))
    if after:
        for name in ("ab", "ba"):
            source = getattr(old, f"ema_{name}").model if before else getattr(old, f"gen_{name}")
            assert same(getattr(new, f"ema_{name}").model, source)


def test_fine_tuning_leaves_the_pools_empty():
    old, new = trained(), tiny_model(seed=5)
    old.pool_a.query(torch.ones(2, 3, 16, 16))
    empty = copy.deepcopy(new.pool_a.state_dict())
    load_networks(new, checkpoint_of(old))
    assert str(new.pool_a.state_dict()) == str(empty)
    assert str(old.pool_a.state_dict()) != str(empty)
