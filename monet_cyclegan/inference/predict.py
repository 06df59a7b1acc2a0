"""The command line of predict.py: files in, files out."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from monet_cyclegan.cli import parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.image_zip import QUALITY, verdict, zip_files
from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.inference.before_after import MOST_PAIRS, before_and_after
from monet_cyclegan.inference.controls import parse_look, parse_share
from monet_cyclegan.inference.hardware import pick_batch_size, pick_device, pick_devices, pick_precision, pick_tile
from monet_cyclegan.inference.inputs import COMPETITION_NAME, check_suffix, find_jobs, parts_of
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.pipeline import Outcome, Settings, translate_files
from monet_cyclegan.inference.summary import tell
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.inference.video import DEFAULT_SMOOTHING, VIDEO_SUFFIXES, translate_video
from monet_cyclegan.pictures import READABLE_SUFFIXES, decode_picture
from monet_cyclegan.progress import progress
from monet_cyclegan.untrusted.bounded import home_expanded, kind
from monet_cyclegan.weights import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    from monet_cyclegan.inference.inputs import Job

USAGE = """Translate pictures with the weights that come with the package, or with a trained checkpoint.

  python predict.py ckpt=monet input=photo.jpg output=painting.png
  python predict.py ckpt=best.ckpt input=photos output=paintings grid=true
  python predict.py ckpt=best.ckpt input=photo_jpg output=images.zip
  python predict.py ckpt=best.ckpt input=clip.mp4 output=painted.mp4

ckpt          the package's own weights, monet; a checkpoint that train.py wrote; or weights that an export wrote:
              .safetensors, .onnx, also at an address, https://host/model.safetensors#sha256=... (monet)
input         a picture, a folder with all that lie in it, a zip, a pattern such as 'photos/**/*.jpg', or a video
output        a file, a folder or a zip; names and formats stay, but GIFs become PNGs and HEICs JPEGs.
              images.zip is the competition's: a flat list of JPEGs
direction     photo_to_monet or monet_to_photo; by default the first of the checkpoint's own two
strength      from 0, the photo, over 1, the painting, to 2, which exaggerates it (1)
color         painting; or photo, which keeps the photo's colours under the painting's brushwork (painting)
working_size  shorter side in pixels at which pictures are translated; a smaller one makes broader strokes (their own)
format        of all output files: jpg, png, webp, tif or bmp (as they are)
quality       of JPEG and WebP, 1 to 100 (95)
grid          true, or a file: a picture of the first few before and after
again         true translates what is there from an earlier run, too; else it is kept (false)
smoothing     of videos against flicker, from 0 to below 1 (0.8)
tile          auto: large pictures in strips, with the same result; off, or on for all
device        auto (an accelerator if there is one), cpu, cuda, cuda:1, mps
devices       how many of them share the work, auto for all (1)
precision     auto, 32-true, or bf16-mixed, which is faster where hardware multiplies it, and off by less than a level
batch         pictures of one size that are translated together; auto is 1 on a CPU and 32 elsewhere"""
DEFAULTS = {
    "ckpt": DEFAULT_WEIGHTS,
    "input": "",
    "output": "",
    "direction": "",
    "strength": "1",
    "color": "painting",
    "working_size": "",
    "format": "",
    "quality": "95",
    "grid": "",
    "again": False,
    "smoothing": str(DEFAULT_SMOOTHING),
    "tile": "auto",
    "device": "auto",
    "devices": "1",
    "precision": "auto",
    "batch": "auto",
}
FILE_FORMAT = 1  # of what is written; files of another one are made again


class Setup(NamedTuple):
    """What translates."""

    generator: nn.Module
    direction: str
    device: torch.device
    precision: str
    tile: str
    batch_size: int


def predict(arguments: Sequence[str]) -> None:
    """Translate what ``key=value`` arguments name, see `USAGE`.

    Raises:
        UserError: anything that can't be used, or if no picture could be translated.
    """
    if {"-h", "--help"} & {*arguments}:
        print(USAGE)
        return
    options = parse_key_values(arguments, DEFAULTS)
    for key in ("ckpt", "input", "output"):
        if not options[key]:
            raise UserError(f"{key}= is missing: python predict.py ckpt=monet input=photo.jpg output=painting.png")
    source, target = options["input"], home_expanded(options["output"])
    if Path(source).suffix.lower() in VIDEO_SUFFIXES:
        predict_video(options, home_expanded(source), target)
    else:
        predict_pictures(options, source, target)


def predict_pictures(options: Mapping[str, Any], source: str, target: Path) -> None:
    """Translate one picture or many, and tell what became of them."""
    settings = parse_settings(options, competition=target.name == COMPETITION_NAME)
    inputs = find_jobs(source, target, parse_format(options["format"]))
    grid = grid_path(options["grid"], target)
    if grid in {job.target for job in inputs.jobs}:
        raise UserError(f"grid={grid} would overwrite a translation: give another file")
    setup = prepare(options)
    devices = pick_devices(options["devices"], setup.device)
    if not options["again"]:
        settings = settings._replace(fingerprint=fingerprint(setup, settings))

    started = time.monotonic()
    with progress(len(inputs.jobs), setup.direction) as show:
        outcomes = (
            list(run_here(setup, inputs.jobs, settings, show))
            if devices == 1
            else run_on(setup, devices, inputs.jobs, settings, show)
        )
    if outcomes is None:  # another process has them all, and tells
        return
    tell(setup.direction, outcomes, time.monotonic() - started, inputs.others, source, target)
    if grid:
        write_image(grid, before_and_after(_pairs(inputs.jobs, outcomes), setup.direction))
        print(f"before and after: {grid}")
    if target.suffix.lower() == ".zip":
        _fill_zip(target, outcomes)


def predict_video(options: Mapping[str, Any], source: Path, target: Path) -> None:
    """Translate a clip, and tell how much it flickers.

    Raises:
        UserError: no such clip, an output that is none, or settings that only pictures have.
    """
    if kind(source) != "file":
        raise UserError(f"input={source} does not exist: give a picture, a folder, a zip, a video or a pattern")
    if target.suffix.lower() not in VIDEO_SUFFIXES:
        if target.suffix and kind(target) != "folder":
            choices = ", ".join(sorted(VIDEO_SUFFIXES))
            raise UserError(f"output={target} is no video but input={source} is: choose one of {choices}, or a folder")
        target = target / source.name
    if source.resolve() == target.resolve():
        raise UserError(f"output={target} would overwrite {source}: give another place")
    for key in ("grid", "format", "devices"):
        if options[key] != DEFAULTS[key]:
            raise UserError(f"{key}={options[key]} is for pictures, and input={source} is a video")
    look, smoothing = parse_look(options), parse_share("smoothing", options["smoothing"])
    setup = prepare(options)
    translator = Translator(setup.generator, setup.device, setup.precision, setup.tile)

    def paint(frames: np.ndarray) -> np.ndarray:
        shown = np.stack([look.shown(frame) for frame in frames])
        painted = translator.translate_batch(torch.from_numpy(shown).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return np.stack([look.finished(*pair) for pair in zip(frames, painted.cpu().numpy(), strict=True)])

    started = time.monotonic()
    with progress(1, setup.direction) as show:
        report = translate_video(
            paint, source, target, setup.batch_size, smoothing, lambda done, total: show(done / max(total, done, 1))
        )
    seconds = time.monotonic() - started
    sound = "with its sound" if report.sound else "without sound"
    print(
        f"{setup.direction}: {report.frames:,} frames ({report.seconds:.1f} s, {sound}) in {seconds:.1f} s, "
        f"{report.frames / seconds:.1f} a second: {target}"
    )
    flicker = report.flicker
    print(
        f"flicker, in levels of 255 between a frame and the last one moved along: {flicker.raw:.2f} as painted, "
        f"{flicker.smoothed:.2f} smoothed; the source has {flicker.source:.2f}"
    )


def prepare(options: Mapping[str, Any]) -> Setup:
    """What translates: the network on its device.

    Raises:
        UserError: anything of these that can't be.
    """
    device = pick_device(options["device"])
    precision, tile = pick_precision(options["precision"], device), pick_tile(options["tile"])
    batch_size = pick_batch_size(options["batch"], device)
    model = open_model(options["ckpt"])
    direction = options["direction"] or model.description.directions[0]
    return Setup(model.build(direction), direction, device, precision, tile, batch_size)


def run_here(setup: Setup, jobs: Sequence[Job], settings: Settings, show: Callable[[float], None]) -> Iterator[Outcome]:
    """Translate all by one device, telling ``show`` how many are done."""
    done = 0
    translator = Translator(setup.generator, setup.device, setup.precision, setup.tile, lambda part: show(done + part))
    for outcome in translate_files(translator, jobs, setup.batch_size, settings):
        yield outcome
        done += 1
        show(done)


def run_on(
    setup: Setup, devices: int, jobs: Sequence[Job], settings: Settings, show: Callable[[float], None]
) -> list[Outcome] | None:
    """Share the work between devices of a kind; only the first process gets what became of it."""
    from monet_cyclegan.inference.several_devices import Predictor, translate_on_devices  # Lightning takes seconds

    def build(device: torch.device) -> Translator:
        return Translator(setup.generator, device, setup.precision, setup.tile)

    predictor = Predictor(build, setup.generator, jobs, setup.batch_size, settings, show)
    return translate_on_devices(predictor, setup.device.type, devices)


def parse_settings(options: Mapping[str, str], *, competition: bool) -> Settings:
    """The look and the quality; the competition's archive has the quality of its own files.

    Raises:
        UserError: a value that can't be.
    """
    look, quality = parse_look(options), options["quality"]
    if not (quality.isdecimal() and 1 <= int(quality) <= 100):
        raise UserError(f"quality={quality} is not a whole number from 1 to 100")
    return Settings(look, QUALITY, chroma=False) if competition else Settings(look, int(quality))


def parse_format(name: str) -> str:
    """The suffix of all output files, or "" if each keeps its own; UserError for one that can't be written."""
    suffix = f".{name.lower().lstrip('.')}" if name else ""
    if suffix and suffix not in READABLE_SUFFIXES:
        choices = ", ".join(sorted(known.lstrip(".") for known in READABLE_SUFFIXES))
        raise UserError(f"format={name} can't be written: choose one of {choices}")
    return suffix


def grid_path(value: str, target: Path) -> Path | None:
    """Where the picture of pictures goes, beside or into the output; UserError for a file that can't be written."""
    if value.lower() in ("", "false"):
        return None
    if value.lower() != "true":
        check_suffix("grid", home_expanded(value))
        return home_expanded(value)
    if target.suffix and kind(target) != "folder":
        return target.with_name(f"{target.stem}_before_after.jpg")
    return target / "before_after.jpg"


def fingerprint(setup: Setup, settings: Settings) -> str:
    """A text that changes with everything that a translation depends on, but for its picture."""
    digest = hashlib.blake2b(f"{FILE_FORMAT} {setup.precision} {settings}".encode(), digest_size=16)
    for name, tensor in setup.generator.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _pairs(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first pictures beside their translations."""
    made = [(job, outcome) for job, outcome in zip(jobs, outcomes, strict=True) if outcome.error is None]
    return [
        (decode_picture(job.read(), job.source, heic=True).on_white(), read_image(outcome.target))
        for job, outcome in made[:MOST_PAIRS]
    ]


def _fill_zip(target: Path, outcomes: Sequence[Outcome]) -> None:
    """Move the parts into their archive."""
    folder = parts_of(target)
    zip_files(target, folder, [outcome.target for outcome in outcomes if outcome.error is None])
    shutil.rmtree(folder)
    if target.name == COMPETITION_NAME:
        print(verdict(target))
