"""Train a CycleGAN: python train.py experiment=unet_monet [key=value ...]; python train.py --help lists the groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from monet_cyclegan.launch import in_job, launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> float | tuple[float | None, ...] | None:
    """Train, and give a sweep its objectives."""
    with in_job(CONF, "train"):
        from monet_cyclegan.training import train  # torch takes seconds to import; a misspelt key shouldn't wait for it

        return train(cfg)


if __name__ == "__main__":
    launch(main, CONF, "train")
