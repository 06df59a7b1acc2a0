"""The command line of predict.py: files in, files out."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from monet_cyclegan.checkpoint import build_generator, directions, load_checkpoint
from monet_cyclegan.cli import parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.image_zip import QUALITY, verdict, zip_files
from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.inference.before_after import MOST_PAIRS, before_and_after
from monet_cyclegan.inference.controls import parse_look
from monet_cyclegan.inference.hardware import pick_batch_size, pick_device, pick_devices, pick_precision
from monet_cyclegan.inference.inputs import COMPETITION_NAME, check_suffix, find_jobs, parts_of
from monet_cyclegan.inference.pipeline import Outcome, Settings, translate_files
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.pictures import READABLE_SUFFIXES, decode_picture
from monet_cyclegan.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import torch
    from torch import nn

    from monet_cyclegan.inference.inputs import Inputs, Job

USAGE = """Translate pictures with a trained checkpoint.

  python predict.py ckpt=best.ckpt input=photo.jpg output=painting.png
  python predict.py ckpt=best.ckpt input=photos output=paintings grid=true
  python predict.py ckpt=best.ckpt input=photo_jpg output=images.zip
  python predict.py ckpt=best.ckpt input=clip.mp4 output=painted.mp4

ckpt          checkpoint that train.py wrote
input         a picture, a folder with all that lie in it, a zip, a pattern such as 'photos/**/*.jpg', or a video
output        a file, a folder or a zip; names and formats stay, but GIFs become PNGs and HEICs JPEGs.
              images.zip is the competition's: a flat list of JPEGs
direction     photo_to_monet or monet_to_photo; by default the first of the checkpoint's own two
strength      from 0, the photo, to 1, the painting (1)
color         painting; or photo, which keeps the photo's colours under the painting's brushwork (painting)
working_size  shorter side in pixels at which pictures are translated; a smaller one makes broader strokes (their own)
format        of all output files: jpg, png, webp, tif or bmp (as they are)
quality       of JPEG and WebP, 1 to 100 (95)
grid          true, or a file: a picture of the first few before and after
again         true translates what is there from an earlier run, too; else it is kept (false)
smoothing     of videos against flicker, from 0 to 1 (0.8)
tile          auto: large pictures in strips, with the same result; off, or on for all
device        auto (an accelerator if there is one), cpu, cuda, cuda:1, mps
devices       how many of them share the work, auto for all (1)
precision     auto, 32-true, or bf16-mixed, which is faster where hardware multiplies it, and off by less than a level
batch         pictures of one size that are translated together; auto is 1 on a CPU and 32 elsewhere"""
DEFAULTS = {
    "ckpt": "",
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
    "smoothing": "0.8",
    "tile": "auto",
    "device": "auto",
    "devices": "1",
    "precision": "auto",
    "batch": "auto",
}
FILE_FORMAT = 1  # of what is written; files of another one are made again
MOST_LINES = 20


class Work(NamedTuple):
    """What is to be translated, and by what."""

    generator: nn.Module
    precision: str
    jobs: list[Job]
    batch_size: int
    settings: Settings


class Summary(NamedTuple):
    """What is told in the end."""

    direction: str
    outcomes: list[Outcome]
    seconds: float


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
            raise UserError(f"{key}= is missing: python predict.py ckpt=best.ckpt input=photo.jpg output=painting.png")
    source, target = options["input"], Path(options["output"]).expanduser()
    settings = parse_settings(options, competition=target.name == COMPETITION_NAME)
    inputs = find_jobs(source, target, parse_format(options["format"]))
    grid = grid_path(options["grid"], target)
    device = pick_device(options["device"])
    devices = pick_devices(options["devices"], device)
    precision, batch_size = pick_precision(options["precision"], device), pick_batch_size(options["batch"], device)
    checkpoint = load_checkpoint(Path(options["ckpt"]).expanduser())
    direction = options["direction"] or next(iter(directions(checkpoint)))
    generator = build_generator(checkpoint, direction)
    if not options["again"]:
        settings = settings._replace(fingerprint=fingerprint(generator, precision, settings))

    started = time.monotonic()
    with progress(len(inputs.jobs), direction) as show:
        work = Work(generator, precision, inputs.jobs, batch_size, settings)
        outcomes = list(run_here(work, device, show)) if devices == 1 else run_on(work, device.type, devices, show)
    if outcomes is None:  # another process has them all, and tells
        return
    tell(Summary(direction, outcomes, time.monotonic() - started), inputs, source, target)
    if grid:
        write_image(grid, before_and_after(_pairs(inputs.jobs, outcomes), direction))
        print(f"before and after: {grid}")
    if target.suffix.lower() == ".zip":
        _fill_zip(target, outcomes)


def run_here(work: Work, device: torch.device, show: Callable[[float], None]) -> Iterator[Outcome]:
    """Translate all by one device, telling ``show`` how many are done."""
    translator = Translator(work.generator, device, work.precision)
    for done, outcome in enumerate(translate_files(translator, work.jobs, work.batch_size, work.settings), 1):
        yield outcome
        show(done)


def run_on(work: Work, kind: str, devices: int, show: Callable[[float], None]) -> list[Outcome] | None:
    """Share the work between devices of a kind; only the first process gets what became of it."""
    from monet_cyclegan.inference.several_devices import Predictor, translate_on_devices  # Lightning takes seconds

    def build(device: torch.device) -> Translator:
        return Translator(work.generator, device, work.precision)

    predictor = Predictor(build, work.generator, work.jobs, work.batch_size, work.settings, show)
    return translate_on_devices(predictor, kind, devices)


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
        check_suffix("grid", Path(value).expanduser())
        return Path(value).expanduser()
    if target.suffix and not target.is_dir():
        return target.with_name(f"{target.stem}_before_after.jpg")
    return target / "before_after.jpg"


def fingerprint(generator: nn.Module, precision: str, settings: Settings) -> str:
    """A text that changes with everything that a translation depends on, but for its picture."""
    digest = hashlib.blake2b(f"{FILE_FORMAT} {precision} {settings}".encode(), digest_size=16)
    for name, tensor in generator.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def tell(summary: Summary, inputs: Inputs, source: str, target: Path) -> None:
    """Print what was done, what was lost, and what was skipped and why.

    Raises:
        UserError: nothing could be translated.
    """
    direction, outcomes, seconds = summary
    good = [outcome for outcome in outcomes if outcome.error is None]
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if len(outcomes) == 1 and failed:
        raise UserError(str(failed[0].error))
    for outcome in failed[:MOST_LINES]:
        print(f"skipped {outcome.error}", file=sys.stderr)
    if len(failed) > MOST_LINES:
        print(f"skipped {len(failed) - MOST_LINES} more", file=sys.stderr)
    if not good:
        raise UserError(f"none of the {len(outcomes)} images in {source} could be translated")
    done = sum(not outcome.kept for outcome in good)
    where = good[0].target if len(outcomes) == 1 else target
    rate = f", {done / seconds:.1f} a second" if done > 1 else ""
    print(f"{direction}: {done:,} of {len(outcomes):,} images in {seconds:.1f} s{rate}: {where}")
    if len(good) > done:
        print(f"kept from an earlier run with the same settings: {len(good) - done:,} (again=true makes them anew)")
    notes = [(note, outcome) for outcome in good for note in outcome.notes]
    for note, count in Counter(note for note, _ in notes).most_common():
        first = next(outcome for text, outcome in notes if text == note)
        print(f"{note}: {first.source}{f' and {count - 1:,} more' if count > 1 else ''}")
    if inputs.others:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in inputs.others.most_common(5))
        print(f"files in {source} that are no pictures: {sum(inputs.others.values()):,} ({kinds})")


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
