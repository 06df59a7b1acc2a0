"""Every file in conf/ composes, names what exists and, where it is part of a model or an experiment, trains a batch."""

from __future__ import annotations

import copy
import re
import warnings
from importlib import import_module
from pathlib import Path

import optuna
import pytest
import torch
import yaml
from conftest import make_images, tiny_model
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, GridSampler

from monet_cyclegan import CHECKPOINT_FORMAT, CHECKPOINT_KEY
from monet_cyclegan.config import _ANY_TYPE, _SHARES
from monet_cyclegan.errors import UserError
from monet_cyclegan.search.space import as_text, parse_space
from monet_cyclegan.training import open_teachers, train

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
FILES = sorted(CONF.rglob("*.yaml"))

# Shrinks any run to pictures of 16 pixels and networks of two channels.
TINY = [
    "trainer=cpu",
    "debug=fast_dev_run",
    "features=none",
    "objective=val/swd",
    "data.load_size=20",
    "data.crop_size=16",
    "data.eval_batch_size=2",
    "model.generator.base_channels=2",
    "model.discriminator.base_channels=2",
]
RESNET, UNET = "model.generator.num_residual_blocks=1", "model.generator.num_levels=2"
VIT = ["model.generator.num_blocks=1", "model.generator.embed_dim=12", "model.generator.mlp_dim=12"]
PATCHES = "model.discriminator.num_layers=1"
SCENES = ["data.count_a=2", "data.count_b=2", "data.val_count=2", "data.size=32"]


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml") if file.stem != "base")


def groups() -> list[str]:
    """Those of a run; Hydra's own come with a search."""
    found = {file.parent.relative_to(CONF).as_posix() for file in FILES}
    return sorted(group for group in found if group != "." and not group.startswith("hydra"))


@pytest.fixture
def composed(tmp_path):
    """Compose as train.py does, for a run in tmp_path."""

    def make(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", [f"paths.run={tmp_path / 'run'}", *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(copy.deepcopy(cfg))
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    yield make
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize("choice", [f"{group}={option}" for group in groups() for option in options(group)])
def test_each_option_of_each_group_composes(composed, choice):
    cfg = composed("data=synthetic", choice) if not choice.startswith("data") else composed(choice)
    missing = OmegaConf.missing_keys(cfg)
    assert missing == ({"data.a", "data.b"} if choice == "data=folders" else set())
    assert OmegaConf.to_yaml(cfg, resolve=not missing)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_each_experiment_composes_with_each_way_to_run_it(composed, experiment):
    for group in ("trainer", "logger", "debug"):
        for option in options(group):
            cfg = composed(f"experiment={experiment}", f"{group}={option}")
            OmegaConf.to_container(cfg, resolve=True)
            assert cfg.name == experiment


@pytest.mark.parametrize("part", ["sampler", "pruner"])
def test_each_part_of_a_search_composes_and_is_what_optuna_has(composed, part):
    base = {"sampler": BaseSampler, "pruner": BasePruner}[part]
    for option in options(f"hydra/sweeper/{part}"):
        composed("data=synthetic", "hparams_search=optuna", f"hydra/sweeper/{part}={option}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made = instantiate(HydraConfig.get().sweeper[part])
        assert isinstance(made, base) or made.func is GridSampler


@pytest.mark.parametrize("search", options("hparams_search"))
def test_what_a_search_varies_exists(composed, search):
    choices = [f"hparams_search={search}", *(["experiment=demo_search"] if search == "demo" else ["data=synthetic"])]
    composed(*choices)
    space = parse_space(HydraConfig.get().sweeper.params, [])
    for key, distribution in space.distributions.items():
        ends = getattr(distribution, "choices", None) or (distribution.low, distribution.high)
        for value in ends:
            composed(*choices, *space.fixed, f"{key}={as_text(value)}")


def targets() -> set[str]:
    return {match for file in FILES for match in re.findall(r"_target_: ([\w.]+)", file.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("target", sorted(targets()))
def test_each_target_exists(target):
    assert callable(locate(target))


def locate(target: str) -> object:
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(target)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CONF).as_posix())
def test_each_file_names_its_package_where_it_writes_to_all_of_the_config(file):
    text = file.read_text(encoding="utf-8")
    everywhere = file.parent.name in ("experiment", "debug", "local", "hparams_search")
    assert text.startswith("# @package _global_\n") == everywhere
    assert isinstance(yaml.safe_load(text), dict)


def test_exceptions_from_the_rule_of_types_name_settings_that_exist(composed):
    cfg = composed("data=synthetic")
    assert all(OmegaConf.select(cfg, key) is not None for key in _ANY_TYPE | _SHARES)


def train_tiny(cfg: DictConfig) -> None:
    """Train one batch and validate one, without checkpoints."""
    train(cfg)
    assert (Path(cfg.paths.run) / "config.yaml").is_file()
    assert not Path(cfg.paths.checkpoints).exists()


def kaggle_images(folder: Path) -> Path:
    make_images(folder / "photo_jpg", 6)
    make_images(folder / "monet_jpg", 5, seed=1)
    return folder


@pytest.mark.parametrize(
    "experiment", [name for name in options("experiment") if name not in ("finetune", "distill", "pretrain")]
)
def test_each_experiment_trains(composed, tmp_path, experiment):
    cfg = composed(f"experiment={experiment}")
    images = [f"data.root={kaggle_images(tmp_path)}", "data.val_a=2", "data.val_b=2"] if "root" in cfg.data else SCENES
    depth = UNET if "num_levels" in cfg.model.generator else RESNET
    size = ["data.eval_size=16"] if cfg.data.eval_size else []
    train_tiny(composed(f"experiment={experiment}", *TINY, *images, depth, PATCHES, *size))


def tiny_checkpoint(path: Path) -> Path:
    network = {"_target_": "monet_cyclegan.networks.resnet.ResNetGenerator", "_partial_": True}
    disc = {"_target_": "monet_cyclegan.networks.patchgan.PatchGAN", "_partial_": True}
    model = {
        "generator": {**network, "num_residual_blocks": 1, "base_channels": 2},
        "discriminator": {**disc, "num_layers": 1, "base_channels": 2},
    }
    mark = {
        "format": CHECKPOINT_FORMAT,
        "version": "0",
        "config": {"data": {"names": {"a": "photo", "b": "monet"}}, "model": model},
        "overrides": [],
    }
    torch.save({CHECKPOINT_KEY: mark, "state_dict": tiny_model(seed=7).state_dict()}, path)
    return path


def test_the_finetune_experiment_trains_the_checkpoints_networks(composed, tmp_path):
    arguments = ["experiment=finetune", *TINY, f"data.root={kaggle_images(tmp_path)}", "data.val_a=2", "data.val_b=2"]
    with pytest.raises(UserError, match="init_from is missing"):
        train(composed(*arguments))
    cfg = composed(*arguments, f"init_from={tmp_path / 'x.ckpt'}")
    tiny_checkpoint(tmp_path / "x.ckpt")
    train_tiny(cfg)
    assert cfg.model.generator.num_residual_blocks == 1


def test_the_distill_experiment_teaches_a_compact_student(composed, tmp_path):
    tiny = [argument for argument in TINY if "discriminator" not in argument]
    images = [f"data.root={kaggle_images(tmp_path)}", "data.val_a=2", "data.val_b=2"]
    arguments = ["experiment=distill", *tiny, *images, "objective=val/distill_l1", RESNET]
    with pytest.raises(UserError, match="teacher is missing: this experiment needs teacher="):
        train(composed(*arguments))
    tiny_checkpoint(tmp_path / "x.ckpt")
    train_tiny(composed(*arguments, f"teacher={tmp_path / 'x.ckpt'}"))


def test_a_teacher_without_a_student_or_of_other_domains_or_sizes_is_a_line(composed, tmp_path):
    tiny_checkpoint(tmp_path / "x.ckpt")
    teacher = f"teacher={tmp_path / 'x.ckpt'}"
    with pytest.raises(UserError, match=r"x\.ckpt is for models that learn from one: add experiment=distill"):
        open_teachers(composed("data=synthetic", teacher))
    with pytest.raises(UserError, match="direction=a_to_b is not one of this checkpoint's"):
        open_teachers(composed("experiment=distill", "data.names={a: a, b: b}", teacher))
    with pytest.raises(UserError, match=r"data\.crop_size=66 must be a multiple of 4 for teacher="):
        open_teachers(composed("experiment=distill", "data.crop_size=66", teacher))


def test_the_pretrain_experiment_trains_what_a_run_can_start_from(composed, tmp_path, capsys):
    tiny = [argument for argument in TINY if not argument.startswith(("model.discriminator", "objective"))]
    images = [f"data.root={kaggle_images(tmp_path)}", "data.val_a=2", "data.val_b=2", "data.batch_size=2"]
    arguments = ["experiment=pretrain", *tiny, *images, UNET, *VIT, "model.patch_size=4", "model.compile=false"]
    train_tiny(composed(*arguments))
    whole = [argument for argument in arguments if not argument.startswith("debug")]
    cfg = composed(*whole, "data.num_workers=0", "trainer.max_epochs=1", f"paths.run={tmp_path / 'whole'}")
    assert 0 < train(cfg) < 2
    assert "start a run from it with: python train.py init_from=" in capsys.readouterr().out
    folder = Path(cfg.paths.run)
    assert len(list((folder / "samples").glob("*_restored_epoch0001_*.png"))) == 2
    best = folder / "checkpoints" / "best.ckpt"
    assert (folder / "checkpoints" / "last.ckpt").is_file()

    start = ["data=synthetic", *TINY, *SCENES, PATCHES]
    cyclegan = composed(*start, f"init_from={best}", f"paths.run={tmp_path / 'next'}")
    train_tiny(cyclegan)
    assert cyclegan.model.generator["_target_"].endswith("ViTUNetGenerator")
    assert cyclegan.model.discriminator.num_layers == 1
    with pytest.raises(UserError, match=r"was trained with generator, not generator and discriminator: .* init_from="):
        train(composed(*start, f"ckpt_path={best}"))


@pytest.mark.parametrize(
    "choices",
    [
        # Each option of each part of the model at least once; a part that is not named is the demo's.
        ["model/generator=unet", UNET, "model/discriminator=patchgan", PATCHES, "model/adversarial_loss=lsgan"],
        ["model/generator=resnet", RESNET, "model/discriminator=multiscale", PATCHES, "model/adversarial_loss=hinge"],
        ["model/discriminator=pixel", "model/adversarial_loss=vanilla", RESNET],
        ["model/discriminator=batch_statistics", "model.discriminator.head_channels=2", RESNET, PATCHES],
        ["model/discriminator=projected", "data.crop_size=20", RESNET],
        ["model/generator=unet_small", UNET, PATCHES],
        ["model/generator=resnet_small", RESNET, PATCHES],
        ["model/generator=vit_unet", UNET, *VIT, PATCHES],
        ["model/generator=vit_unet_small", UNET, *VIT, PATCHES],
        ["model/generator=compact", RESNET, PATCHES],
        ["model/adversarial_loss=two_objectives", "model.discriminator.num_heads=2", RESNET, PATCHES],
        ["model/augment=diff_augment", "model.lambda_consistency=1", "model.cycle_noise=0.1", RESNET, PATCHES],
        ["model/augment=adaptive", RESNET, PATCHES],
        ["model.lambda_cycle=0", "model.lambda_consistency=1", "model.consistency_squared=true", RESNET, PATCHES],
        ["model/perceptual=vgg", "model.lambda_perceptual=1", "data.crop_size=20", RESNET, PATCHES],
        ["model/style=vgg", "model.lambda_style=1", "data.crop_size=20", RESNET, PATCHES],
        ["model/perceptual=none", "model/style=none", RESNET, PATCHES],
        ["model/augment=none", "model.generator.norm_eps=0.1", RESNET, PATCHES],
        ["model/adversarial_loss=wgan", "model/penalties=wgan_gp", "model/clip=none", RESNET, PATCHES],
        ["model/penalties=[r1,zero_centered]", "model/clip=adaptive", "model/schedule=constant", RESNET, PATCHES],
        ["model/penalties=none", "model/clip=norm", "model/schedule=cosine", RESNET, PATCHES],
        [
            "model/schedule=constant_then_linear",
            "model.ema_decay=0",
            "model.pool_size=0",
            "model.lambda_identity=1",
            RESNET,
            PATCHES,
        ],
    ],
)
def test_each_option_of_the_model_trains(composed, choices):
    train_tiny(composed("data=synthetic", *TINY, *SCENES, *choices))


def test_every_option_of_the_model_is_among_those_that_train():
    source = Path(__file__).read_text(encoding="utf-8")
    parts = [group for group in groups() if group.startswith("model/")]
    chosen = {
        (part, option) for part, found in re.findall(r'"(model/\w+)=\[?([\w,]+)', source) for option in found.split(",")
    }
    assert {(part, option) for part in parts for option in options(part)} <= chosen


@pytest.mark.slow
@pytest.mark.parametrize("choice", options("features"))
def test_each_option_of_features_scores_what_was_trained(composed, tmp_path, inception_file, choice):
    weights = [f"features.weights='{inception_file}'"] if choice == "inception" else []
    objective = ["objective=val/mifid"] if choice != "none" else []
    tiny = [argument for argument in TINY if not argument.startswith("debug")]
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.check_val_every_n_epoch=1"]
    choices = [f"features={choice}", *weights, *objective, "logger=csv"]
    train(composed("data=synthetic", *tiny, *SCENES, RESNET, PATCHES, *short, "data.num_workers=0", *choices))
    metrics = (tmp_path / "run" / "metrics.csv").read_text(encoding="utf-8")
    assert ("val/mifid" in metrics) == (choice != "none")


@pytest.mark.parametrize("debug", ["limit", "overfit", "profiler"])
def test_each_way_to_debug_runs(composed, tmp_path, debug):
    tiny = [argument for argument in TINY if not argument.startswith("debug")]
    short = [f"debug={debug}", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1"]
    rare = ["data.num_workers=0", "trainer.check_val_every_n_epoch=1"]
    train(composed("data=synthetic", *tiny, *SCENES, RESNET, PATCHES, *short, *rare))
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    assert bool(list((tmp_path / "run").glob("*profile*.txt"))) == (debug == "profiler")


def test_what_the_dockerfile_copies_exists_and_reaches_the_builder():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = [source for line in re.findall(r"^COPY (.+)", text, re.MULTILINE) for source in line.split()[:-1]]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert {
        "train.py",
        "predict.py",
        "evaluate.py",
        "conf",
        "hydra_plugins",
        "monet_cyclegan",
        "pyproject.toml",
        "constraints.txt",
    } <= {*copied}
    for source in copied:
        assert (ROOT / source).exists()
        assert Path(source).parts[0] in allowed


def test_the_dockerfile_takes_a_python_that_the_package_allows_and_a_pinned_uv():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    python = re.search(r"^FROM python:3\.(\d+)-slim$", text, re.MULTILINE)
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert python
    assert oldest
    assert int(python[1]) >= int(oldest[1])
    assert re.search(r"^uv==[\d.]+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert "--constraint constraints.txt" in text
