"""Hand a generator on: python -m monet_cyclegan.inference.export ckpt=best.ckpt format=onnx output=monet.onnx.

ckpt       the package's own weights, a checkpoint that train.py wrote, or .safetensors: a file, or
           https://...#sha256=... (monet)
format     onnx, for other programs; safetensors, the weights alone; torch, a torch.export program for other runtimes;
           hub, a folder for a hub of models or of pages; web, a folder with a page that translates in the browser
output     the file or folder; for onnx and torch both directions are two files: monet_photo_to_monet.onnx
direction  photo_to_monet, monet_to_photo, or both; by default the first, and both for hub and web
precision  fp32, or fp16 for files of half the size
licence    of the weights, such as cc-by-4.0, which is then stated
samples    a folder of pictures, for hub and web: examples to try, and to show before and after
"""

from __future__ import annotations

import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import torch

from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.portable import export_program
from monet_cyclegan.pictures import READABLE_SUFFIXES
from monet_cyclegan.weights import DEFAULT_WEIGHTS, save_weights
from monet_cyclegan.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from monet_cyclegan.inference.models import Model
    from monet_cyclegan.weights import Description

DEFAULTS = {
    "ckpt": DEFAULT_WEIGHTS,
    "format": "",
    "output": "",
    "direction": "",
    "precision": "fp32",
    "licence": "",
    "samples": "",
}
SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors", "torch": ".pt2"}
FOLDERS = ("hub", "web")
PRECISIONS = ("fp32", "fp16")
MOST_SAMPLES = 12


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
    kind, output = options["format"], Path(options["output"]).expanduser()
    _check(options, output)
    samples = find_samples(options["samples"]) if options["samples"] else []
    model = open_model(options["ckpt"])
    directions = _directions(options["direction"], model, both=kind in FOLDERS)
    description = model.description._replace(
        directions=directions,
        recipe=tuple(map(without_folders, model.description.recipe)),
        licence=options["licence"] or model.description.licence,
    )
    write = _write_folder if kind in FOLDERS else _write_files
    write(kind, output, model, description, half=options["precision"] == "fp16", samples=samples)


def find_samples(folder: str) -> list[Path]:
    """The first pictures of a folder by name; UserError without any."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"samples={folder} is no folder of pictures")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in READABLE_SUFFIXES)
    if not found:
        raise UserError(f"samples={folder} holds no pictures: {', '.join(sorted(READABLE_SUFFIXES))}")
    return found[:MOST_SAMPLES]


def without_folders(override: str) -> str:
    """An override without the folders of whoever trained: data.root=/home/me/data/monets is data.root=monets."""
    key, equals, value = override.partition("=")
    return f"{key}={PurePath(value).name}" if equals and value.startswith(("/", "~", "\\")) else override


def _check(options: Mapping[str, str], output: Path) -> None:
    """Refuse what can't be before anything is opened."""
    kind, precision = options["format"], options["precision"]
    if kind not in (*SUFFIXES, *FOLDERS):
        raise UserError(f"format={kind} is not known: choose {', '.join((*SUFFIXES, *FOLDERS))}")
    if precision not in PRECISIONS:
        raise UserError(f"precision={precision} is not known: choose {' or '.join(PRECISIONS)}")
    if precision == "fp16" and kind == "torch":
        raise UserError("precision=fp16 is not for torch programs: other runtimes convert them themselves")
    if kind in SUFFIXES and output.suffix.lower() != SUFFIXES[kind]:
        raise UserError(f"output={output} is no {SUFFIXES[kind]} file, which format={kind} makes")
    if kind in FOLDERS and (output.is_file() or output.suffix.lower() in (*SUFFIXES.values(), ".zip", ".html")):
        raise UserError(f"output={output} is no folder, which format={kind} makes")
    if kind in SUFFIXES and options["samples"]:
        raise UserError(f"samples={options['samples']} is for format={' and format='.join(FOLDERS)}")
    if options["ckpt"].partition("#")[0].lower().endswith(".onnx"):
        raise UserError(f"ckpt={options['ckpt']} has no weights that could be exported again: give what it was made of")


def _write_folder(
    kind: str, folder: Path, model: Model, description: Description, *, half: bool, samples: Sequence[Path]
) -> None:
    generators = {direction: model.build(direction) for direction in description.directions}
    if kind == "hub":
        from monet_cyclegan.inference.hub import write_folder

        line = write_folder(folder, generators, description, half=half, samples=samples)
    else:
        from monet_cyclegan.inference.web import write_page

        line = write_page(folder, generators, description, half=half, samples=samples)
    print(f"{', '.join(description.directions)}: {line}")


def _write_files(
    kind: str, output: Path, model: Model, description: Description, *, half: bool, samples: Sequence[Path]
) -> None:
    directions = description.directions
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


def _directions(wanted: str, model: Model, *, both: bool) -> tuple[str, ...]:
    known = model.description.directions
    if (wanted == "both" and len(known) > 1) or (both and not wanted):
        return known
    if wanted and wanted not in known:
        choices = [*known, "both"] if len(known) > 1 else known
        raise UserError(f"direction={wanted} is not one of this checkpoint's: choose {' or '.join(choices)}")
    return (wanted or known[0],)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    exit_with_one_line()(export)(sys.argv[1:])
