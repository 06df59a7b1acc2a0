"""Each option that keeps state: a run with it that is killed in an epoch's middle goes on as if it hadn't been."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from harness import Harness

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.faults

BLOCKS, LAYERS = (
    "model.generator.num_residual_blocks",
    "model.discriminator.num_layers",
)  # left out where there are none
OPTIONS: dict[str, tuple[str, ...]] = {
    # generators
    "a ResNet with resize-convolutions": ("model.generator.upsampling=resize",),
    "a ResNet without norm": ("model.generator.norm=none",),
    "a ResNet with an image skip": ("model.generator.norm=none", "model.generator.image_skip=true"),
    "a ResNet with dropout": ("model.generator.dropout=0.5",),
    "a U-Net": ("model/generator=unet", BLOCKS, "model.generator.num_levels=2"),
    "a U-Net with dropout": (
        "model/generator=unet",
        BLOCKS,
        "model.generator.num_levels=2",
        "model.generator.dropout=0.5",
    ),
    # discriminators
    "spectral norm": ("model.discriminator.spectral_norm=true", "model.discriminator.norm=none"),
    "discriminators at two scales": ("model/discriminator=multiscale",),
    "discriminators of pixels": ("model/discriminator=pixel", LAYERS),
    "discriminators that remember images": (
        "model/discriminator=batch_statistics",
        "model.discriminator.memory_size=3",
    ),
    "discriminators of a frozen network's features": (
        "model/discriminator=projected",
        LAYERS,
        "data.load_size=24",
        "data.crop_size=20",
    ),
    # losses and penalties
    "hinge loss": ("model/adversarial_loss=hinge",),
    "WGAN-GP": ("model/adversarial_loss=wgan", "model/penalties=[wgan_gp]", "model.optimizer.betas=[0.0,0.9]"),
    "lazy R1": ("model/penalties=[r1]", "model.penalties.r1.every_n_steps=2"),
    "two penalties": ("model/penalties=[r1,zero_centered]", "model.penalties.r1.every_n_steps=3"),
    # the optimisation
    "adaptive clipping": ("model/clip=adaptive",),
    "norm clipping": ("model/clip=norm",),
    "a cosine schedule": ("model/schedule=cosine",),
    "another learning rate for discriminators": ("model.lr_disc=1e-3",),
    "AdamW": ("model.optimizer._target_=torch.optim.AdamW",),
    "SGD with momentum": (
        "model.optimizer._target_=torch.optim.SGD",
        "~model.optimizer.betas",
        "+model.optimizer.momentum=0.9",
    ),
    "no moving average": ("model.ema_decay=0",),
    "no image history": ("model.pool_size=0",),
    "channels last": ("model.channels_last=true",),
    "bfloat16": ("trainer.precision=bf16-mixed",),
    # the data
    "images on the device": ("data.cache=device",),
    "images on the disk": ("data.cache=disk",),
    "colour jitter and rotation": ("data.augment.color_jitter.p=1.0", "data.augment.rotate.p=1.0"),
    "two loader processes": ("data.num_workers=2",),
    # what watches
    "two validations an epoch apart": ("trainer.check_val_every_n_epoch=2",),
    "few rows of the log": ("trainer.log_every_n_steps=2",),
}


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    made = Harness(tmp_path_factory.mktemp("options"))
    yield made
    made.close()


@pytest.mark.parametrize("option", OPTIONS)
def test_a_run_with_it_goes_on_as_if_it_had_not_been_killed(harness: Harness, option: str):
    number = list(OPTIONS).index(option)
    whole, killed, settings = f"whole{number}", f"killed{number}", OPTIONS[option]
    assert harness.run(whole, *settings)["status"] == 0, harness.log(whole)
    died = harness.run(killed, *settings, die_at=["between the generators' step and the discriminators'", 5])
    assert died["status"] == -signal.SIGKILL, harness.log(killed)
    assert harness.go_on(killed, *settings)["status"] == 0, harness.log(killed)
    assert harness.differences(killed, whole) == [], harness.log(killed)
    assert harness.differences(whole) != []  # the option does something
