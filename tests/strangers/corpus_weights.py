"""Weights from strangers: each case is a file, or what a file says, and what becomes of it at one of our doors."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import cases_archives
import cases_classic
import cases_files
import cases_onnx
import cases_overrides
import cases_safetensors
import cases_structures
import torch
from cases import Case

from monet_cyclegan.checkpoint import build_generator, directions, load_checkpoint, saved_config
from monet_cyclegan.inference import classic
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.intact import intact
from monet_cyclegan.launch import with_saved_overrides
from monet_cyclegan.resumable import load_to_go_on, load_to_start_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cases import Result

    Table = Sequence[tuple[str, Callable[[Path], Path], Result, str]]


def predict(path: Path) -> list[str]:
    """predict.py, the page and the export: open, build, translate."""
    model = open_model(str(path))
    generator = model.build(model.description.directions[0])
    with torch.inference_mode():
        made = generator(torch.zeros(1, 3, 32, 32))
    assert made.shape == (1, 3, 32, 32)
    return []


def evaluate(path: Path) -> list[str]:
    """evaluate.py's way to a translator."""
    checkpoint = load_checkpoint(path)
    assert isinstance(saved_config(checkpoint)["data"], dict)
    direction = next(iter(directions(checkpoint)))
    translator = Translator(build_generator(checkpoint, direction), torch.device("cpu"))
    translator.translate_batch(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    return []


def bring_along(path: Path) -> list[str]:
    """The command for classic files."""
    with contextlib.redirect_stdout(io.StringIO()):
        classic.main([f"input={path}", f"output={path.with_name('out.safetensors')}"])
    return []


def take_overrides(path: Path) -> list[str]:
    """train.py's first look at ckpt_path=."""
    with contextlib.redirect_stdout(io.StringIO()):
        with_saved_overrides([f"ckpt_path='{path}'"])
    return []


def go_on(path: Path) -> list[str]:
    """train.py ckpt_path=, to Lightning."""
    load_to_go_on(str(path))
    return []


def start_from(path: Path) -> list[str]:
    """train.py init_from=."""
    load_to_start_from(str(path))
    return []


def look_for_damage(path: Path) -> list[str]:
    """What ckpt_path= asks before anything else."""
    intact(path)
    return []


DOORS: dict[str, Callable[[Path], Sequence[str]]] = {
    "predict.py ckpt=": predict,
    "evaluate.py ckpt=": evaluate,
    "inference.classic input=": bring_along,
    "train.py ckpt_path=, its overrides": take_overrides,
    "train.py ckpt_path=": go_on,
    "train.py ckpt_path=, damage": look_for_damage,
    "train.py init_from=": start_from,
}


def _cases(door: str, table: Table, **options: Any) -> list[Case]:
    return [Case(name, door, make, DOORS[door], result, says, **options) for name, make, result, says in table]


CASES: list[Case] = [
    *_cases("predict.py ckpt=", cases_archives.CHECKPOINTS),
    *_cases("predict.py ckpt=", cases_files.not_files("x.ckpt")),
    *_cases("predict.py ckpt=", cases_files.not_files("x.safetensors")),
    *_cases("predict.py ckpt=", cases_files.not_files("x.onnx")),
    *_cases("predict.py ckpt=", cases_structures.CHECKPOINTS),
    *_cases("predict.py ckpt=", cases_safetensors.TABLE),
    *_cases("predict.py ckpt=", cases_onnx.TABLE),
    *_cases("evaluate.py ckpt=", cases_structures.SHORT),
    *_cases("evaluate.py ckpt=", cases_archives.SHORT),
    *_cases("inference.classic input=", cases_classic.CLASSIC),
    *_cases("train.py ckpt_path=, its overrides", cases_overrides.TABLE),
    *_cases("train.py ckpt_path=", cases_structures.TRAINING),
    *_cases("train.py ckpt_path=, damage", cases_archives.DAMAGE),
    *_cases("train.py init_from=", cases_structures.START),
]
