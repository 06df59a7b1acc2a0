"""The command line of predict.py: files in, files out."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from monet_cyclegan.checkpoint import build_generator, directions, load_checkpoint
from monet_cyclegan.cli import parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.image_zip import problems, write_image_zip
from monet_cyclegan.images import READABLE_SUFFIXES, image_grid, read_image, to_float, write_image
from monet_cyclegan.inference.pipeline import Outcome, Translated, translate_each, translate_files
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.precision import PRECISIONS, best_precision
from monet_cyclegan.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

USAGE = """Translate pictures with a trained checkpoint.

  python predict.py ckpt=best.ckpt input=photo.jpg output=painting.png
  python predict.py ckpt=best.ckpt input=photos output=paintings grid=before_after.png
  python predict.py ckpt=best.ckpt input=photo_jpg output=images.zip

ckpt       checkpoint that train.py wrote
input      a picture, or a folder with pictures in it and in its folders
output     a file or a folder; names and formats stay, but GIFs become PNGs; or the competition's images.zip of JPEGs
direction  photo_to_monet or monet_to_photo; by default the first of the checkpoint's own two
grid       a picture of the first few before and after
device     auto (an accelerator if there is one), cpu, cuda, cuda:1, mps
precision  auto, 32-true, or bf16-mixed, which is faster where the hardware multiplies it, and off by less than a level
batch      pictures of one size that are translated together; auto is 1 on a CPU and 32 elsewhere"""
DEFAULTS = {
    "ckpt": "",
    "input": "",
    "output": "",
    "direction": "",
    "grid": "",
    "device": "auto",
    "precision": "auto",
    "batch": "auto",
}
GRID_IMAGES = 6
GRID_SIDE = 256


class Jobs(NamedTuple):
    """What to translate: each file and where its translation goes."""

    files: list[tuple[Path, Path]]
    skipped: int  # files in the input folder that aren't pictures


def predict(arguments: Sequence[str]) -> None:
    """Translate what ``key=value`` arguments name, see `USAGE`.

    Raises:
        UserError: anything that can't be used, or if no image could be translated.
    """
    if {"-h", "--help"} & {*arguments}:
        print(USAGE)
        return
    options = parse_key_values(arguments, DEFAULTS)
    for key in ("ckpt", "input", "output"):
        if not options[key]:
            raise UserError(f"{key}= is missing: python predict.py ckpt=best.ckpt input=photo.jpg output=painting.png")
    ckpt, source, target, grid = (Path(options[key]).expanduser() for key in ("ckpt", "input", "output", "grid"))
    if options["grid"]:
        _check_suffix("grid", grid)
    into_zip = target.suffix.lower() == ".zip"
    if into_zip and options["grid"]:
        raise UserError(f"grid={grid} shows files, which output={target} has none of: leave out one of them")
    jobs = find_zip_jobs(source, target) if into_zip else find_jobs(source, target)
    device = pick_device(options["device"])
    precision, batch_size = pick_precision(options["precision"], device), pick_batch_size(options["batch"], device)
    checkpoint = load_checkpoint(ckpt)
    direction = options["direction"] or next(iter(directions(checkpoint)))
    translator = Translator(build_generator(checkpoint, direction), device, precision)

    started = time.monotonic()
    outcomes: list[Outcome] = []
    if into_zip:
        _fill_zip(target, translate_each(translator, jobs.files, batch_size), outcomes, len(jobs.files), direction)
    else:
        each = ([outcome] for outcome in translate_files(translator, jobs.files, batch_size))
        for (outcome,) in track(each, len(jobs.files), direction):
            outcomes.append(outcome)
    seconds = time.monotonic() - started
    done = [outcome for outcome in outcomes if outcome.error is None]
    if len(outcomes) == 1 and not done:
        raise UserError(str(outcomes[0].error))
    for outcome in outcomes:
        if outcome.error is not None:
            print(f"skipped {outcome.error}", file=sys.stderr)
    if not done:
        raise UserError(f"none of the {len(outcomes)} images in {source} could be translated")
    where = done[0].target if len(outcomes) == 1 and not into_zip else target
    rate = f", {len(done) / seconds:.1f} a second" if len(done) > 1 else ""
    print(f"{direction}: {len(done):,} of {len(outcomes):,} images in {seconds:.1f} s{rate}: {where}")
    if into_zip:
        refused = "; ".join(problems(target))
        print(f"the competition would refuse {target}: {refused}" if refused else "it is as the competition wants it")
    if jobs.skipped:
        print(f"files in {source} that are no pictures: {jobs.skipped}")
    if options["grid"]:
        write_image(grid, before_and_after(done[:GRID_IMAGES], direction))
        print(f"before and after: {grid}")


def find_jobs(source: Path, target: Path) -> Jobs:
    """Pair each input file with its output file; a folder keeps its structure, and hidden files are left out.

    Raises:
        UserError: no such input, no pictures in it, an output of another kind than the input, or in its place.
    """
    if source.is_file():
        to_file = target.suffix and not target.is_dir()
        if to_file:
            _check_suffix("output", target)
        jobs = Jobs([(source, target if to_file else target / _output_name(source))], 0)
    elif source.is_dir():
        jobs = _folder_jobs(source, target)
    else:
        raise UserError(f"input={source} does not exist: give a picture or a folder of pictures")
    overwritten = {path.resolve() for path, _ in jobs.files} & {path.resolve() for _, path in jobs.files}
    if overwritten:
        raise UserError(f"output={target} would overwrite {min(overwritten)}: give another place")
    return jobs


def find_zip_jobs(source: Path, target: Path) -> Jobs:
    """Pair each picture of a folder with its name in an archive: x.jpg, or folder_x.jpg from a folder inside.

    Raises:
        UserError: no folder, no pictures in it, or two of a name.
    """
    if not source.is_dir():
        raise UserError(f"output={target} holds many pictures: give a folder as the input, not input={source}")
    files, skipped = _pictures_in(source, target)
    names = ["_".join(path.relative_to(source).with_suffix(".jpg").parts) for path in files]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UserError(f"output={target} would have two pictures of the name {twice[0]}: rename one in {source}")
    return Jobs([(path, Path(name)) for path, name in zip(files, names, strict=True)], skipped)


def _fill_zip(
    target: Path, translated: Iterable[Translated], outcomes: list[Outcome], total: int, direction: str
) -> None:
    """Write those that could be translated, and add to ``outcomes`` what became of each."""

    def images() -> Iterator[tuple[str, np.ndarray]]:
        for (each,) in track(([each] for each in translated), total, direction):
            outcomes.append(Outcome(each.source, target / each.target, each.error))
            if each.image is not None:
                yield each.target.stem, each.image
        if all(outcome.error is not None for outcome in outcomes):
            raise UserError(f"none of the {total} images could be translated: {outcomes[0].error}")

    write_image_zip(target, images())


def _folder_jobs(source: Path, target: Path) -> Jobs:
    if target.is_file() or target.suffix.lower() in READABLE_SUFFIXES:
        raise UserError(f"output={target} is a file but input={source} is a folder: give a folder for the output")
    pictures, skipped = _pictures_in(source, target)
    jobs = [(path, target / path.relative_to(source).parent / _output_name(path)) for path in pictures]
    return Jobs(jobs, skipped)


def _pictures_in(source: Path, target: Path) -> tuple[list[Path], int]:
    """Pictures of a folder and of those in it, and how many files are none; the last run's output is no input."""
    inside = target.resolve()
    apart = inside != source.resolve()
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
        and not (apart and path.resolve().is_relative_to(inside))
    ]
    pictures = [path for path in files if path.suffix.lower() in READABLE_SUFFIXES]
    if not pictures:
        raise UserError(f"no pictures in input={source}: looked for {', '.join(sorted(READABLE_SUFFIXES))}")
    return pictures, len(files) - len(pictures)


def _output_name(source: Path) -> str:
    """The input's name; x.gif, whose 256 colours spoil a painting, becomes x.gif.png, which clashes with no x.png."""
    return f"{source.name}.png" if source.suffix.lower() == ".gif" else source.name


def _check_suffix(key: str, path: Path) -> None:
    if path.suffix.lower() not in READABLE_SUFFIXES:
        choices = ", ".join(sorted(READABLE_SUFFIXES))
        raise UserError(f"{key}={path} has no suffix that can be written: choose one of {choices}")


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


def before_and_after(outcomes: Sequence[Outcome], direction: str) -> np.ndarray:
    """One picture: each image beside its translation, cut to squares of the same size."""
    before_name, _, after_name = direction.partition("_to_")
    pairs = [(_thumbnail(read_image(o.source)), _thumbnail(read_image(o.target))) for o in outcomes]
    before, after = (torch.stack(column) for column in zip(*pairs, strict=True))
    if len(pairs) < 4:
        return image_grid({before_name: before, after_name: after})
    half = len(pairs) // 2  # two blocks side by side; an odd last pair is left out
    left = image_grid({before_name: before[:half], after_name: after[:half]})
    right = image_grid({before_name: before[half : 2 * half], after_name: after[half : 2 * half]})
    return np.concatenate([left, right], axis=1)


def _thumbnail(image: np.ndarray) -> torch.Tensor:
    """Cut the central square and scale it to GRID_SIDE: (3, S, S) in [-1, 1]."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = torch.from_numpy(image[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None]
    size = (GRID_SIDE, GRID_SIDE)
    return torch.nn.functional.interpolate(to_float(square), size, mode="bilinear", antialias=True)[0].clamp(-1, 1)
