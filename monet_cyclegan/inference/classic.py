"""Bring generators of junyanz/pytorch-CycleGAN-and-pix2pix along: their .pth becomes a safetensors file of ours.

python -m monet_cyclegan.inference.classic input=latest_net_G_A.pth output=monet.safetensors direction=photo_to_monet

The same network in other names: biases before an instance norm are left out, as it subtracts them again. `reverse=`
takes the generator of the other direction into the same file.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import torch

from monet_cyclegan.assembly import assemble, first_line
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.bounded import is_file
from monet_cyclegan.untrusted.pickle_walk import Claim, Harmful
from monet_cyclegan.untrusted.torch_archive import old_structure, structure
from monet_cyclegan.weights import Description, save_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

DEFAULTS = {"input": "", "reverse": "", "output": "", "direction": "photo_to_monet", "licence": "not stated"}
_BLOCKS = (6, 9)
_UNUSED = re.compile(r"running_mean|running_var|num_batches_tracked")  # old files have them, of norms without use
_MOST_KEYS = 5


def main(arguments: Sequence[str]) -> None:
    """Run the command line.

    Raises:
        UserError: anything that can't be used.
    """
    options = parse_key_values(arguments, DEFAULTS)
    for key in ("input", "output"):
        if not options[key]:
            raise UserError(f"{key}= is missing: input=latest_net_G_A.pth output=monet.safetensors")
    output, direction = Path(options["output"]).expanduser(), options["direction"]
    if output.suffix.lower() != ".safetensors":
        raise UserError(f"output={output} is no .safetensors file")
    before, found, after = direction.partition("_to_")
    if not (before and found and after):
        raise UserError(f"direction={direction} is not of the form photo_to_monet")
    files = {direction: options["input"], f"{after}_to_{before}": options["reverse"]}
    networks = {name: convert(load_state(Path(file).expanduser()), file) for name, file in files.items() if file}
    config = networks[direction][0]
    if any(other != config for other, _ in networks.values()):
        raise UserError(f"input={options['input']} and reverse={options['reverse']} are networks of different sizes")
    states = {name: state for name, (_, state) in networks.items()}
    for state in states.values():
        assemble(config, state)
    save_weights(output, Description(config, tuple(states), licence=options["licence"]), states)
    print(
        f"{', '.join(states)}: ResNet of {config['num_residual_blocks']} blocks, {config['base_channels']} channels, "
        f"in {output}; translate with: python predict.py ckpt={output} input=photos output=paintings"
    )


def load_state(path: Path) -> dict[str, Any]:
    """Read a .pth file's state dict, running nothing of it; UserError if it is none."""
    if not is_file(path):
        raise UserError(f"no file at {path}")
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            found = structure(file, size) if is_zipfile(file) else old_structure(file, size)
        _check_state(found, path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (Harmful, pickle.UnpicklingError) as error:
        raise UserError(f"{path} holds more than tensors, so it was not loaded: it may be harmful") from error
    except UserError:
        raise
    except Exception as error:  # torch's own errors differ by file
        raise UserError(f"{path} is no .pth file of weights: {first_line(error)}") from error


def _check_state(found: Any, path: Path) -> None:
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, Claim) for name, value in found.items()
    ):
        raise UserError(f"{path} is no state dict: it holds something else than named tensors")


def convert(state: dict[str, Tensor], name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and weights of our network from the state dict of theirs.

    Raises:
        UserError: keys or shapes that aren't those of their ResNet generator, which the line names.
    """
    given = {key.removeprefix("module."): value for key, value in state.items() if not _UNUSED.search(key)}
    for blocks in _BLOCKS:
        for second in (5, 6):  # with dropout the second convolution of a block comes one later
            names = _names(blocks, second)
            biases = {key.replace(".weight", ".bias") for key in names}
            if {*names} <= {*given} <= {*names} | biases and _last_bias(blocks) in given:
                config = {
                    "_target_": "monet_cyclegan.networks.resnet.ResNetGenerator",
                    "num_residual_blocks": blocks,
                    "base_channels": next(iter(given["model.1.weight"].shape), 0),
                }
                ours = {new: given[old] for old, new in names.items()}
                ours["decoder.6.bias"] = given[_last_bias(blocks)]
                return config, ours
    closest = min((_names(blocks, 5) for blocks in _BLOCKS), key=lambda names: len({*names} ^ {*given}))
    biases = {key.replace(".weight", ".bias") for key in closest}
    missing, more = sorted({*closest} - {*given}), sorted({*given} - {*closest} - biases)
    raise UserError(
        f"{name} is no generator of the classic repository's ResNet of 6 or 9 blocks with instance norm: "
        f"missing {_few(missing)}; unknown {_few(more)}"
    )


def _names(blocks: int, second: int) -> dict[str, str]:
    """Their weights' names, and ours."""
    names = {1: "encoder.0", 4: "encoder.3", 7: "encoder.6"}
    names |= {10 + blocks: "decoder.0", 13 + blocks: "decoder.3", 17 + blocks: "decoder.6"}
    pairs = {f"model.{index}.weight": f"{ours}.weight" for index, ours in names.items()}
    for block in range(blocks):
        for theirs, ours in ((1, 0), (second, 4)):
            pairs[f"model.{10 + block}.conv_block.{theirs}.weight"] = f"blocks.{block}.body.{ours}.weight"
    return pairs


def _last_bias(blocks: int) -> str:
    return f"model.{17 + blocks}.bias"


def _few(keys: list[str]) -> str:
    shown = ", ".join(keys[:_MOST_KEYS]) or "none"
    return f"{shown} and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else shown


if __name__ == "__main__":
    exit_with_one_line()(main)(sys.argv[1:])
