"""Hand a generator on: python -m monet_cyclegan.inference.export ckpt=best.ckpt format=onnx output=monet.onnx.

ckpt       checkpoint that train.py wrote, or .safetensors
format     onnx, for other programs; safetensors, the weights alone; torch, a torch.export program for other runtimes
output     the file; with both directions, files of both names for onnx and torch: monet_photo_to_monet.onnx
direction  photo_to_monet, monet_to_photo, or both; by default the first
precision  fp32, or fp16 for files of half the size
licence    of the weights, which the file then states
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.portable import export_program
from monet_cyclegan.weights import save_weights
from monet_cyclegan.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monet_cyclegan.inference.models import Model
    from monet_cyclegan.weights import Description

DEFAULTS = {"ckpt": "", "format": "", "output": "", "direction": "", "precision": "fp32", "licence": ""}
SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors", "torch": ".pt2"}
PRECISIONS = ("fp32", "fp16")


def export(arguments: Sequence[str]) -> None:
    """Run the command line.

    Raises:
        UserError: anything that can't be used.
    """
    if {"-h", "--help"} & {*arguments}:
        print(__doc__)
        return
    options = parse_key_values(arguments, DEFAULTS)
    for key in ("ckpt", "format", "output"):
        if not options[key]:
            raise UserError(f"{key}= is missing: ckpt=best.ckpt format=onnx output=monet.onnx")
    kind, precision = options["format"], options["precision"]
    if kind not in SUFFIXES:
        raise UserError(f"format={kind} is not known: choose {', '.join(SUFFIXES)}")
    if precision not in PRECISIONS:
        raise UserError(f"precision={precision} is not known: choose {' or '.join(PRECISIONS)}")
    if precision == "fp16" and kind == "torch":
        raise UserError("precision=fp16 is for onnx and safetensors: other runtimes convert torch programs themselves")
    output = Path(options["output"]).expanduser()
    if output.suffix.lower() != SUFFIXES[kind]:
        raise UserError(f"output={output} is no {SUFFIXES[kind]} file, which format={kind} makes")
    if Path(options["ckpt"]).suffix.lower() == ".onnx":
        raise UserError(f"ckpt={options['ckpt']} has no weights that could be exported again: give what it was made of")
    model = open_model(options["ckpt"])
    directions = _directions(options["direction"], model)
    description = model.description._replace(directions=directions)
    if options["licence"]:
        description = description._replace(licence=options["licence"])
    half = precision == "fp16"
    if kind == "safetensors":
        save_weights(output, description, {name: model.build(name).state_dict() for name in directions}, half=half)
        print(f"{', '.join(directions)}: {output}, {_megabytes(output)}")
        return
    for direction in directions:
        path = output if len(directions) == 1 else output.with_name(f"{output.stem}_{direction}{output.suffix}")
        compared = _write(kind, path, model, description._replace(directions=(direction,)), half)
        print(f"{direction}: {path}, {_megabytes(path)}{compared}")


def _write(kind: str, path: Path, model: Model, description: Description, half: bool) -> str:
    generator = model.build(description.directions[0])
    if kind == "onnx":
        from monet_cyclegan.inference.onnx_generator import write_onnx

        difference = write_onnx(path, generator, description, half=half)
        return f"; ONNX Runtime's pictures are at most {difference:.1e} of 1 from PyTorch's"
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        torch.export.save(export_program(generator), file)
    return "; predict.py doesn't read it, since loading such a file can run code"


def _directions(wanted: str, model: Model) -> tuple[str, ...]:
    known = model.description.directions
    if wanted == "both" and len(known) > 1:
        return known
    if wanted and wanted not in known:
        choices = [*known, "both"] if len(known) > 1 else known
        raise UserError(f"direction={wanted} is not one of this checkpoint's: choose {' or '.join(choices)}")
    return (wanted or known[0],)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    exit_with_one_line()(export)(sys.argv[1:])
