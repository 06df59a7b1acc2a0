"""The command line of predict.py: files in, files out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from monet_cyclegan.checkpoint import build_generator, directions, load_checkpoint
from monet_cyclegan.cli import parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import READABLE_SUFFIXES, image_grid, read_image, to_float, write_image
from monet_cyclegan.inference.translator import Outcome, Translator, translate_files

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULTS = {"ckpt": "", "input": "", "output": "", "direction": "", "grid": "", "device": "auto"}
GRID_IMAGES = 6
GRID_SIDE = 256


class Jobs(NamedTuple):
    """What to translate: each file and where its translation goes."""

    files: list[tuple[Path, Path]]
    skipped: int  # files in the input folder that aren't pictures


def predict(arguments: Sequence[str]) -> None:
    """Translate what ``key=value`` arguments name.

    ``ckpt``, ``input`` (a file or a folder) and ``output`` are needed; ``direction`` is photo_to_monet unless the
    checkpoint's domains have other names; ``grid`` names one picture of before and after; ``device`` is auto, cpu, cuda, ...

    Raises:
        UserError: anything that can't be used, or if no image could be translated.
    """
    options = parse_key_values(arguments, DEFAULTS)
    for key in ("ckpt", "input", "output"):
        if not options[key]:
            raise UserError(f"{key}= is missing: python predict.py ckpt=best.ckpt input=photo.jpg output=painting.png")
    checkpoint = load_checkpoint(options["ckpt"])
    direction = options["direction"] or next(iter(directions(checkpoint)))
    generator = build_generator(checkpoint, direction)
    jobs = find_jobs(Path(options["input"]), Path(options["output"]))
    translator = Translator(generator, pick_device(options["device"]))

    started = time.monotonic()
    outcomes = _translate_with_progress(translator, jobs, direction)
    seconds = time.monotonic() - started
    done = [outcome for outcome in outcomes if outcome.error is None]
    for outcome in outcomes:
        if outcome.error is not None:
            print(f"skipped {outcome.error}")
    if not done:
        raise UserError(f"none of the {len(outcomes)} images in {options['input']} could be translated")
    print(f"{direction}: {len(done)} of {len(outcomes)} images in {seconds:.1f} s: {options['output']}")
    if jobs.skipped:
        print(f"{jobs.skipped} files in {options['input']} are no pictures")
    if options["grid"]:
        write_image(Path(options["grid"]), before_and_after(done[:GRID_IMAGES], direction))
        print(f"before and after: {options['grid']}")


def find_jobs(source: Path, target: Path) -> Jobs:
    """Pair each input file with its output file; a folder keeps its structure.

    Raises:
        UserError: no such input, no pictures in it, or an output of another kind than the input.
    """
    if source.is_file():
        return Jobs([(source, target if target.suffix and not target.is_dir() else target / source.name)], 0)
    if not source.is_dir():
        raise UserError(f"input={source} does not exist: give a picture or a folder of pictures")
    if target.is_file() or target.suffix.lower() in READABLE_SUFFIXES:
        raise UserError(f"output={target} is a file but input={source} is a folder: give a folder for the output")
    inside = target.resolve()
    files = sorted(
        path for path in source.rglob("*") if path.is_file() and not path.resolve().is_relative_to(inside)
    )
    pictures = [path for path in files if path.suffix.lower() in READABLE_SUFFIXES]
    if not pictures:
        raise UserError(f"no pictures in input={source}: looked for {', '.join(sorted(READABLE_SUFFIXES))}")
    return Jobs([(path, target / path.relative_to(source)) for path in pictures], len(files) - len(pictures))


def pick_device(name: str) -> torch.device:
    """The device called ``name``; auto takes an accelerator if there is one.

    Raises:
        UserError: a device that this machine doesn't have.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    here = ["cpu", *([accelerator.type] if accelerator else [])]
    if name.partition(":")[0] not in here:
        raise UserError(f"device={name} is not on this machine: choose {' or '.join(['auto', *here])}")
    return torch.device(name)


def before_and_after(outcomes: Sequence[Outcome], direction: str) -> np.ndarray:
    """One picture: each image beside its translation, cut to squares of the same size."""
    before_name, _, after_name = direction.partition("_to_")
    pairs = [(_thumbnail(read_image(o.source)), _thumbnail(read_image(o.target))) for o in outcomes]
    before, after = (torch.stack(column) for column in zip(*pairs, strict=True))
    half = -(-len(pairs) // 2)
    if len(pairs) < 2:
        return image_grid({before_name: before, after_name: after})
    left = image_grid({before_name: before[:half], after_name: after[:half]})
    right = image_grid({before_name: before[-half:], after_name: after[-half:]})
    return np.concatenate([left, right], axis=1)


def _thumbnail(image: np.ndarray) -> torch.Tensor:
    """Cut the central square and scale it to GRID_SIDE: (3, S, S) in [-1, 1]."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = torch.from_numpy(image[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None]
    size = (GRID_SIDE, GRID_SIDE)
    return torch.nn.functional.interpolate(to_float(square), size, mode="bilinear", antialias=True)[0].clamp(-1, 1)


def _translate_with_progress(translator: Translator, jobs: Jobs, direction: str) -> list[Outcome]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(direction, total=len(jobs.files))
        outcomes = []
        for outcome in translate_files(translator, jobs.files):
            outcomes.append(outcome)
            progress.advance(task)
    return outcomes
