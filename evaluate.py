"""Score images: python evaluate.py fake=DIR real=DIR, or ckpt=best.ckpt data.root=DIR; --help shows the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from monet_cyclegan.launch import in_job, launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Score what the config names."""
    with in_job(CONF, "evaluate"):
        from monet_cyclegan.evaluation.evaluate import evaluate  # torch takes seconds to import

        evaluate(cfg)


if __name__ == "__main__":
    launch(main, CONF, "evaluate")
