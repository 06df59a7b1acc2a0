"""What this machine can compute on, and which settings pay on which device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lightning.pytorch.accelerators import AcceleratorRegistry
from omegaconf import OmegaConf

from monet_cyclegan.compilation import why_not
from monet_cyclegan.errors import UserError
from monet_cyclegan.precision import PRECISIONS, best_precision, multiplies_bfloat16

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omegaconf import DictConfig


class Speed(NamedTuple):
    """What the settings left at "auto" become."""

    precision: str
    compile: bool
    channels_last: bool
    benchmark: bool  # of cuDNN: try its algorithms for each size
    fused: bool  # one kernel for the whole step of an optimizer


_SECTIONS = {"precision": "trainer", "benchmark": "trainer", "compile": "model", "channels_last": "model",
             "fused": "model.optimizer"}  # fmt: skip


def available_accelerators() -> list[str]:
    """Lightning's names of what this machine can compute on."""
    names = AcceleratorRegistry.available_accelerators()
    return sorted(name for name in names if AcceleratorRegistry[name]["accelerator"].is_available())


def chosen_accelerator(asked: str) -> str:
    """The accelerator behind "auto" or "gpu", in Lightning's order: "tpu", "mps", "cuda" or "cpu".

    Raises:
        UserError: it isn't on this machine.
    """
    here = available_accelerators()
    wanted = {"auto": ("tpu", "mps", "cuda", "cpu"), "gpu": ("mps", "cuda")}.get(asked, (asked,))
    found = [name for name in wanted if name in here]
    if not found:
        raise UserError(f"trainer.accelerator={asked} is not on this machine: choose {' or '.join(here)}")
    return found[0]


def what_pays(accelerator: str) -> Speed:
    """The fastest settings on this machine's accelerator, as measured: see benchmarks/README.md.

    bfloat16 only where the hardware multiplies it, since it is slower than float32 elsewhere. On a CPU with channels
    last, compiled or not, nothing was gained.
    """
    if accelerator == "cuda":
        capability = torch.cuda.get_device_capability()
        native = multiplies_bfloat16("cuda")
        # Triton knows GPUs from Volta on; memory formats matter to the matrix units.
        return Speed(best_precision("cuda"), capability >= (7, 0), native, True, True)
    if accelerator == "cpu":
        return Speed(best_precision("cpu"), True, False, False, True)
    if accelerator == "tpu":
        # XLA is a compiler of its own, and multiplies float32 in bfloat16 on a TPU; Lightning has no bf16-mixed there.
        return Speed("32-true", False, False, False, False)
    return Speed("32-true", False, False, False, True)


def settle_speed(cfg: DictConfig) -> None:
    """Put what pays into the settings that are "auto", and train uncompiled where nothing can be compiled."""
    accelerator = chosen_accelerator(cfg.trainer.accelerator)
    pays = what_pays(accelerator)
    for key, section in _SECTIONS.items():
        settings = OmegaConf.select(cfg, section)
        if settings.get(key) == "auto":
            settings[key] = getattr(pays, key)
    if cfg.model.compile:
        reason = "XLA compiles by itself" if accelerator == "tpu" else why_not(torch.device(accelerator))
        if reason:
            print(f"model.compile={cfg.model.compile} is not possible here, training goes on without: {reason}")
            cfg.model.compile = False


def device_problems(cfg: DictConfig) -> Iterator[str]:
    """Devices that aren't there or don't fit together, and precisions that don't train well, a line for each."""
    accelerator = None
    try:
        accelerator = chosen_accelerator(cfg.trainer.accelerator)
    except UserError as error:
        yield str(error)
    devices: Any = cfg.trainer.devices
    count = len(devices) if OmegaConf.is_list(devices) else devices
    processes = "strategy" in cfg.trainer
    if count not in (1, "1") and not processes:
        yield f"trainer.devices={devices} needs processes that know of each other: add trainer=ddp"
    if count in (1, "1") and processes and cfg.trainer.get("num_nodes", 1) == 1:
        yield f"trainer.devices={devices} leaves trainer=ddp nobody to share with: leave trainer=ddp out"
    if accelerator == "cuda" and processes and isinstance(count, int) and count > torch.cuda.device_count():
        yield f"trainer.devices={devices} is more than the {torch.cuda.device_count()} on this machine"
    if isinstance(count, int) and count < 1 and count != -1:
        yield f"trainer.devices={devices} is not 1 or more, or -1 for all"
    if cfg.trainer.precision not in ("auto", *PRECISIONS):
        yield f"trainer.precision={cfg.trainer.precision} is not supported: choose auto or {' or '.join(PRECISIONS)}"
