"""Which device translates, how exactly, and how many pictures at a time."""

from __future__ import annotations

import torch

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.translator import TILES
from monet_cyclegan.precision import PRECISIONS, best_precision


def pick_device(name: str) -> torch.device:
    """The device called ``name``; auto takes an accelerator if there is one.

    Raises:
        UserError: a device that this machine doesn't have.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    here = ["cpu"]
    if accelerator:
        here += [
            accelerator.type,
            *(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())),
        ]
    if name not in here:
        raise UserError(f"device={name} is not on this machine: choose {', '.join(here)} or auto")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> str:
    """The precision called ``name``; auto is the faster one.

    Raises:
        UserError: an unknown one.
    """
    if name not in ("auto", *PRECISIONS):
        raise UserError(f"precision={name} is not known: choose auto, {' or '.join(PRECISIONS)}")
    return best_precision(device.type) if name == "auto" else name


def pick_tile(name: str) -> str:
    """Whether pictures are translated in strips; UserError for an unknown word."""
    if name not in TILES:
        raise UserError(f"tile={name} is not known: choose {', '.join(TILES[:-1])} or {TILES[-1]}")
    return name


def pick_batch_size(text: str, device: torch.device) -> int:
    """How many pictures are translated together; a CPU gains nothing by it.

    Raises:
        UserError: neither auto nor a number from 1 on.
    """
    if text == "auto":
        return 1 if device.type == "cpu" else 32
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"batch={text} is neither auto nor a number from 1 on")
    return int(text)


def pick_devices(text: str, device: torch.device) -> int:
    """How many devices share the work.

    Raises:
        UserError: neither auto nor a number from 1 on, more than there are, or several although one was named.
    """
    here = torch.accelerator.device_count() if device.type != "cpu" else 1
    if text == "auto":
        return here if device.index is None else 1
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"devices={text} is neither auto nor a number from 1 on")
    count = int(text)
    if device.type != "cpu" and count > here:
        raise UserError(f"devices={count} are more than the {here} of this machine")
    if count > 1 and device.index is not None:
        raise UserError(f"device={device} is one, which devices={count} contradicts: leave out the number")
    return count
