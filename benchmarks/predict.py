"""Pictures per second from files to files, beside one-by-one eager translation with the same network.

python -m benchmarks.predict images=40 ckpt=outputs/resnet_monet/TIME/checkpoints/best.ckpt

The reference is what most projects ship: a loop that opens a file, translates it in float32 and saves it. Ours is
what predict.py runs. Without ckpt= it is a ResNet of random weights, whose pictures take as long. JPEGs of 256 pixels;
both take turns.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

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
from monet_cyclegan.inference.hardware import pick_batch_size, pick_device
from monet_cyclegan.inference.inputs import Job
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.precision import best_precision

if TYPE_CHECKING:
    from torch import nn

DEFAULTS = {
    "ckpt": Path(),
    "images": 24,
    "blocks": 9,
    "channels": 64,
    "repeats": 3,
    "device": "auto",
    "output": DEFAULT_OUTPUT,
}


@torch.no_grad()
def one_by_one(generator: nn.Module, jobs: list[tuple[Path, Path]], device: torch.device) -> None:
    """Open, translate, save: eager, float32, batch 1."""
    for source, target in jobs:
        pixels = torch.from_numpy(np.array(Image.open(source).convert("RGB"))).permute(2, 0, 1)[None].to(device)
        painted = generator(pixels.float() / 127.5 - 1)
        array = ((painted[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(target, quality=95, subsampling=0)


def ours(generator: nn.Module, jobs: list[tuple[Path, Path]], device: torch.device) -> None:
    """What predict.py runs."""
    translator = Translator(generator, device, best_precision(device.type))
    files = [Job(Folder(source.parent), source.name, target) for source, target in jobs]
    outcomes = translate_files(translator, files, pick_batch_size("auto", device))
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if errors:
        raise UserError(errors[0])


@exit_with_one_line()
def main() -> None:
    """Measure, print and write JSON."""
    options = parse_key_values(sys.argv[1:], DEFAULTS)
    if options["images"] < 1 or options["repeats"] < 1:
        raise UserError("images and repeats must be 1 or more")
    device = pick_device(options["device"])
    generator: nn.Module = (
        build_generator(load_checkpoint(options["ckpt"]))
        if options["ckpt"] != Path()
        else ResNetGenerator(options["blocks"], options["channels"])
    )
    generator.to(device).eval()
    contenders = {"one by one": one_by_one, "ours": ours}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        photos = synthetic_domains(options["images"], 1, 256, 0, 1).train_a
        sources = [Path(folder) / "photos" / f"{index:05d}.jpg" for index in range(options["images"])]
        for index, path in enumerate(sources):
            write_image(path, photos.load(index))
        for repeat in range(-1, options["repeats"]):
            for name, run in contenders.items():
                jobs = [(source, Path(folder) / name / source.name) for source in sources]
                start = time.perf_counter()
                run(generator, jobs if repeat >= 0 else jobs[:2], device)  # the first time warms up
                if repeat >= 0:
                    seconds[name].append(time.perf_counter() - start)
                    print(f"{name}: {len(jobs) / seconds[name][-1]:.2f} images/s", flush=True)
        pairs = (
            [read_image(Path(folder) / name / source.name).astype(int) for name in contenders] for source in sources
        )
        difference = float(np.mean([np.abs(theirs - own).mean() for theirs, own in pairs]))
    rates = {name: options["images"] / statistics.median(times) for name, times in seconds.items()}
    ratio = rates["ours"] / rates["one by one"]
    network = (
        options["ckpt"].name if options["ckpt"] != Path() else f"ResNet-{options['blocks']}, {options['channels']}"
    )
    print(f"{rates['ours']:.2f} images/s, {ratio:.2f} times one by one, {difference:.2f} levels of 255 apart")
    lines = [
        (
            f"{network} channels, 256 pixels, files to files",
            f"{rates['ours']:.2f} images/s, {ratio:.2f} times one by one, {difference:.2f} levels of 255 apart",
        )
    ]
    print(
        write(
            "predict",
            lines,
            {"images_per_second": rates, "seconds": seconds, "mean_difference": difference},
            device.type,
            ("torch",),
            options["output"],
        )
    )


if __name__ == "__main__":
    main()
