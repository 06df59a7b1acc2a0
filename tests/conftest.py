"""A run in small: images in a folder, data, model and trainer, made without Hydra.

Tests import these by name: ``from conftest import tiny_model``.
"""

from __future__ import annotations

import io
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

# Before torch and OpenCV are loaded: images of 16 pixels aren't worth threads, and tests must not go to the network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
    "TORCHDYNAMO_DISABLE", "1"
)  # compiling takes longer than all that is compiled; see test_compilation
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

import albumentations as A
import numpy as np
import pytest
import torch
from lightning import Trainer
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from monet_cyclegan import CHECKPOINT_FORMAT, CHECKPOINT_KEY
from monet_cyclegan.cyclegan import CycleGAN
from monet_cyclegan.data.datamodule import UnpairedDataModule
from monet_cyclegan.images import write_image
from monet_cyclegan.losses import LSGANLoss
from monet_cyclegan.networks.patchgan import PatchGAN
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.training import _quieten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lightning import Callback

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def signals_are_given_back() -> Iterator[None]:
    """Begin with Python's own Ctrl-C, and hold that a test leaves it so: a later one would fail for it."""
    # Anew each time: a library may have put its own below Python's, where nobody sees it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    yield
    after = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert after is signal.default_int_handler, f"SIGINT was left to {after}"


def make_images(folder: Path, count: int, size: tuple[int, int] = (40, 32), seed: int = 0) -> Path:
    """Write ``count`` PNG files of noise, ``size`` being (width, height); returns the folder."""
    width, height = size
    for index in range(count):
        image = np.random.default_rng([seed, index]).integers(0, 256, (height, width, 3), dtype=np.uint8)
        write_image(folder / f"{index:03d}.png", image)
    return folder


def tiny_model(seed: int = 0, **overrides: Any) -> CycleGAN:
    """A CycleGAN for squares of 16 pixels or more; the same ``seed`` makes the same first weights."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "generator": partial(ResNetGenerator, num_residual_blocks=1, base_channels=2),
        "discriminator": partial(PatchGAN, num_layers=1, base_channels=2),
        "adversarial_loss": LSGANLoss(),
        "optimizer": partial(torch.optim.Adam, betas=(0.5, 0.999)),
        "pool_size": 2,
        "ema_decay": 0.9,
    }
    return CycleGAN(**{**options, **overrides})


def tiny_data(tmp_path: Path, count_a: int = 7, count_b: int = 5, **overrides: Any) -> UnpairedDataModule:
    """Squares of 16 pixels from ``tmp_path/a`` and ``tmp_path/b``, written at the first call; two of each held out."""
    for seed, (name, count) in enumerate({"a": count_a, "b": count_b}.items()):
        if not (tmp_path / name).exists():
            make_images(tmp_path / name, count, seed=seed)
    options: dict[str, Any] = {
        "names": {"a": "photo", "b": "monet"},
        "load_size": 20,
        "crop_size": 16,
        "augment": {"flip": A.HorizontalFlip(p=0.5)},
        "eval_batch_size": 2,
        "num_workers": 0,
        "cache_dir": str(tmp_path / "cache"),
        "val_a": 2,
        "val_b": 2,
    }
    return UnpairedDataModule.from_folders(tmp_path / "a", tmp_path / "b", **{**options, **overrides})


def tiny_trainer(tmp_path: Path, callbacks: Sequence[Callback] = (), **overrides: Any) -> Trainer:
    """A quiet trainer on the CPU: two epochs, and only the callbacks, loggers and checkpoints that it is given."""
    _quieten()
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": any("Checkpoint" in type(callback).__name__ for callback in callbacks),
        "enable_progress_bar": any("ProgressBar" in type(callback).__name__ for callback in callbacks),
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "default_root_dir": tmp_path,
    }
    return Trainer(callbacks=list(callbacks), **{**options, **overrides})


class UntrainedInception(FeatureExtractorInceptionV3):
    """torch-fidelity's network without its weights."""

    def __init__(self) -> None:
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("inception-v3-compat", ["2048"], feature_extractor_weights_path=nothing)

    def load_state_dict(self, state_dict: Any) -> None:
        assert state_dict == {}


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and statistics under which Inception's features are of order 1 and differ by image."""
    network = UntrainedInception()
    noise = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=noise)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.2, generator=noise)
            module.bias.data.uniform_(-0.2, 0.2, generator=noise)
            module.running_mean.uniform_(-0.2, 0.2, generator=noise)
            module.running_var.uniform_(0.5, 1.5, generator=noise)
    path = tmp_path_factory.mktemp("weights") / "random weights.pth"
    torch.save(network.state_dict(), path)
    return path


class ClassicBlock(nn.Module):
    def __init__(self, channels: int, dropout: bool) -> None:
        super().__init__()
        more = [nn.Dropout(0.5)] if dropout else []
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(True),
            *more,
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x):
        return x + self.conv_block(x)


class ClassicGenerator(nn.Module):
    """The classic repository's ResNet as its users have it: biases everywhere, one flat list of layers."""

    def __init__(self, blocks: int, channels: int = 4, dropout: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, channels, 7)]
        layers += [nn.InstanceNorm2d(channels), nn.ReLU(True)]
        for factor in (1, 2):
            width = channels * factor
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * width), nn.ReLU(True)]
        layers += [ClassicBlock(4 * channels, dropout) for _ in range(blocks)]
        for factor in (4, 2):
            width = channels * factor
            layers.append(nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1))
            layers += [nn.InstanceNorm2d(width // 2), nn.ReLU(True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(channels, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x)


def tiny_checkpoint(path: Path, overrides: Sequence[str] = ()) -> Path:
    """Write what predict.py and the export need of a run with `tiny_model`."""
    generator = {
        "_target_": "monet_cyclegan.networks.resnet.ResNetGenerator",
        "num_residual_blocks": 1,
        "base_channels": 2,
    }
    config = {"data": {"names": {"a": "photo", "b": "monet"}}, "model": {"generator": generator}}
    mark = {"format": CHECKPOINT_FORMAT, "version": "0", "config": config, "overrides": [*overrides]}
    torch.save({CHECKPOINT_KEY: mark, "state_dict": tiny_model().state_dict()}, path)
    return path
