"""A program with the project's sweeper whose runs take no time: it stands in for train.py where many are needed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig

from monet_cyclegan.errors import Interrupted, Pruned, UserError
from monet_cyclegan.images import write_image
from monet_cyclegan.launch import in_job, launch
from monet_cyclegan.study_storage import load_trial

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).parent / "conf"
os.environ["REPOSITORY"] = str(Path(__file__).parents[2])  # whose conf/ tiny.yaml takes the sweeper from


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="tiny")
def main(cfg: DictConfig) -> float | tuple[float, ...]:
    with in_job(CONF, "tiny"):
        return parabola(cfg)


def parabola(cfg: DictConfig) -> float | tuple[float, ...]:
    """Its lowest point is x=0.3; each step of the run reports the value plus what is left to learn."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "attempts").open("a") as attempts:
        attempts.write(f"{os.getpid()}\n")
    write_image(folder / "samples" / "a_to_b_epoch0001.png", np.full((8, 8, 3), min(int(cfg.x * 255), 255), np.uint8))
    value = abs(cfg.x - 0.3) ** cfg.shape.power + cfg.offset
    report = cfg.callbacks.report_trial
    trial = load_trial(report.storage, report.study_name, report.number, hydra.utils.instantiate(report.pruner))
    several = len(trial.study.directions) > 1
    for step in range(1, cfg.steps + 1):
        time.sleep(cfg.seconds)
        if cfg.trouble and cfg.x > 0.5:
            raise {
                "memory": MemoryError("out of memory"),
                "user": UserError("x is a mistake"),
                "stop": Interrupted("SIGTERM", "python train.py ckpt_path=x"),
            }[cfg.trouble]
        if not several:
            trial.report(value + 1 / step, step)
            if trial.should_prune():
                raise Pruned(f"score {value:.3g} at evaluation {step}")
    return (value, cfg.x) if several else value


if __name__ == "__main__":
    launch(main, CONF, "tiny")
