"""Time, memory and exactness of large pictures: in strips, and in one piece.

python -m benchmarks.large_picture width=6000 height=4000

Each runs in a process of its own, from file to file as predict.py does it, whose peak of resident memory is taken. In
one piece a picture of `compared` pixels a side is translated, where that fits, and in strips as well, both in float32,
so that they can be compared pixel by pixel. Without ckpt= it is a ResNet of random weights.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.results import DEFAULT_OUTPUT, write
from monet_cyclegan.checkpoint import build_generator, load_checkpoint
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.data.files import Folder
from monet_cyclegan.data.synthetic import synthetic_domains
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.inference import Translator, translate_files
from monet_cyclegan.inference.hardware import pick_device
from monet_cyclegan.inference.inputs import Job
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.precision import best_precision

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from torch import nn

DEFAULTS = {
    "ckpt": Path(),
    "width": 6000,
    "height": 4000,
    "compared": 1024,
    "blocks": 9,
    "channels": 64,
    "precision": "auto",
    "device": "auto",
    "output": DEFAULT_OUTPUT,
}


class Spent(NamedTuple):
    """What one picture took."""

    seconds: float
    gigabytes: float  # the process's peak of resident memory


def generator(options: dict[str, Any]) -> nn.Module:
    """The checkpoint's, or one of random weights, always the same."""
    if options["ckpt"] != Path():
        return build_generator(load_checkpoint(options["ckpt"]))
    torch.manual_seed(0)
    return ResNetGenerator(options["blocks"], options["channels"], upsampling="resize")


def translate(options: dict[str, Any], source: Path, target: Path, tile: str, answer: Connection) -> None:
    """Run in a process of its own."""
    device = pick_device(options["device"])
    precision = best_precision(device.type) if options["precision"] == "auto" else options["precision"]
    translator = Translator(generator(options), device, precision, tile)
    start = time.perf_counter()
    (outcome,) = translate_files(translator, [Job(Folder(source.parent), source.name, target)])
    seconds = time.perf_counter() - start
    answer.send(outcome.error or Spent(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def measure(options: dict[str, Any], source: Path, target: Path, tile: str) -> Spent:
    """What a picture takes in strips (tile=on) or in one piece (off); UserError if it can't be translated."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=translate, args=(options, source, target, tile, there))
    process.start()
    there.close()
    try:
        answer = here.recv()
    except EOFError:
        raise UserError(f"the process that translated {source.name} with tile={tile} ended without a word") from None
    finally:
        process.join()
    if isinstance(answer, str):
        raise UserError(answer)
    return answer


@exit_with_one_line()
def main() -> None:
    """Measure, print and write JSON."""
    options = parse_key_values(sys.argv[1:], DEFAULTS)
    if min(options["width"], options["height"], options["compared"]) < 16:
        raise UserError("width, height and compared must be 16 or more")
    device = pick_device(options["device"])
    photo = Image.fromarray(synthetic_domains(1, 1, 256, 0, 1).train_a.load(0))
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"compared": (options["compared"],) * 2, "large": (options["width"], options["height"])}
        sources = {name: Path(folder) / f"{name}.jpg" for name in sizes}
        for name, size in sizes.items():
            write_image(sources[name], np.array(photo.resize(size, Image.Resampling.LANCZOS)))
        spent, made = {}, {}
        for name, tile in (("compared", "off"), ("compared", "on"), ("large", "on")):
            made[name, tile] = Path(folder) / f"{name}_{tile}.png"
            exact = options | {"precision": "32-true"}
            spent[name, tile] = measure(exact if name == "compared" else options, sources[name], made[name, tile], tile)
            seconds, gigabytes = spent[name, tile]
            print(f"{'x'.join(map(str, sizes[name]))}, tile={tile}: {seconds:.1f} s, {gigabytes:.2f} GB", flush=True)
        whole, strips = (read_image(made["compared", tile]).astype(int) for tile in ("off", "on"))
    difference = float(np.abs(whole - strips).mean())
    side, precision = options["compared"], options["precision"]
    network = (
        options["ckpt"].name
        if options["ckpt"] != Path()
        else f"ResNet-{options['blocks']}, {options['channels']} channels"
    )
    one_piece, in_strips, large = (spent[key] for key in spent)
    megapixels = options["width"] * options["height"] / 1e6
    lines = [
        (
            f"{network}, {megapixels:.0f} megapixels in strips, precision={precision}",
            f"{large.seconds:.0f} s, {large.gigabytes:.2f} GB",
        ),
        (
            f"the same network, {side}x{side} pixels in float32, in one piece being 1",
            f"{in_strips.seconds:.1f} s ({in_strips.seconds / one_piece.seconds:.2f}), {in_strips.gigabytes:.2f} GB "
            f"({in_strips.gigabytes / one_piece.gigabytes:.2f}), {difference:.4f} levels of 255 apart",
        ),
    ]
    print(*(f"{what}: {figure}" for what, figure in lines), sep="\n")
    figures = {
        "spent": {f"{name} {tile}": found._asdict() for (name, tile), found in spent.items()},
        "mean_difference": difference,
    }
    print(write("large_picture", lines, figures, device.type, ("torch", "pillow"), options["output"]))


if __name__ == "__main__":
    main()
