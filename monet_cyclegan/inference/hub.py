"""A folder that a hub of models or of pages takes as it is: weights, card, page, and the code that they need."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from monet_cyclegan import __version__
from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.inference.before_after import MOST_PAIRS, before_and_after
from monet_cyclegan.inference.model_card import Contents, config_json, model_card
from monet_cyclegan.inference.own_modules import PACKAGE, ROOT, needed_files
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.weights import save_weights
from monet_cyclegan.whole_file import whole_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from monet_cyclegan.weights import Description

PAGE = f"{PACKAGE}.inference.app"
NETWORKS = tuple(f"{PACKAGE}.networks.{name}" for name in ("resnet", "unet"))  # found by name, which no import shows
REQUIREMENTS = ("torch", "numpy", "pillow", "safetensors", "rich", "gradio")
_SAMPLE_SIDE = 1024
TRIED_GRADIO = "6.31.0"  # where none is installed
APP = '''"""The page of these weights: python app.py, then open the address that it prints."""

import os
import sys
from pathlib import Path

os.chdir(Path(__file__).parent)

from monet_cyclegan.cli import exit_with_one_line
from monet_cyclegan.inference.app import serve

# A Space's machine is reached through a proxy, under this name; your own serves nobody else.
SPACE = [f"names={os.environ['SPACE_HOST']}", "host=0.0.0.0"] if "SPACE_HOST" in os.environ else []

if __name__ == "__main__":
    exit_with_one_line()(serve)(["ckpt=model.safetensors", "samples=samples", *SPACE, *sys.argv[1:]])
'''


def write_folder(
    folder: Path,
    generators: Mapping[str, nn.Module],
    description: Description,
    *,
    half: bool = False,
    samples: Sequence[Path] = (),
) -> str:
    """Fill a folder; an earlier one of ours is replaced. Returns a line that says what to do with it.

    Raises:
        UserError: it holds something else, can't be written, or a sample can't be read.
    """
    with whole_folder(folder, _is_ours) as unfinished:
        weights = unfinished / "model.safetensors"
        save_weights(weights, description, {name: net.state_dict() for name, net in generators.items()}, half=half)
        first = generators[description.directions[0]]
        if samples:
            _write_samples(unfinished, first, description.directions[0], samples)
        contents = Contents(
            sum(parameter.numel() for parameter in first.parameters()),
            hashlib.sha256(weights.read_bytes()).hexdigest(),
            int(first.size_multiple),  # type: ignore[arg-type]
            bool(samples),
            _installed("gradio") or TRIED_GRADIO,
        )
        _write(unfinished / "README.md", model_card(description, contents))
        _write(unfinished / "config.json", config_json(description, contents, __version__))
        _write(unfinished / "app.py", APP if samples else APP.replace(', "samples=samples"', ""))
        _write(unfinished / "requirements.txt", "\n".join(map(_requirement, REQUIREMENTS)) + "\n")
        for file in needed_files(PAGE, NETWORKS).values():
            _write(unfinished / file.relative_to(ROOT), file.read_text(encoding="utf-8"))
        _write(unfinished / PACKAGE / "LICENSE", _licence())
    size = sum(file.stat().st_size for file in folder.rglob("*")) / 1e6
    return f"{folder}, {size:.1f} MB, to be uploaded as it is; try it with: python {folder / 'app.py'}"


def _write_samples(folder: Path, generator: nn.Module, direction: str, samples: Sequence[Path]) -> None:
    """Pictures to try the page with, and one of the first few before and after."""
    translator = Translator(generator)
    pairs = []
    for index, sample in enumerate(samples):
        picture = Image.fromarray(read_image(sample))  # without the place that its file may tell
        picture.thumbnail((_SAMPLE_SIDE, _SAMPLE_SIDE), Image.Resampling.LANCZOS)
        image = np.array(picture)
        write_image(folder / "samples" / f"{index:02d}.jpg", image)
        if index < MOST_PAIRS:
            pairs.append((image, translator(image)))
    write_image(folder / "samples.jpg", before_and_after(pairs, direction))


def _is_ours(folder: Path) -> bool:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))["library"] == PACKAGE
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _requirement(name: str) -> str:
    """With this project's bounds."""
    try:
        wanted = [text.partition(";")[0].strip() for text in distribution("monet-cyclegan").requires or ()]
    except PackageNotFoundError:  # run from a folder of sources
        wanted = []
    return next((text for text in wanted if text.startswith(name) and not text[len(name)].isalnum()), name)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _licence() -> str:
    """The code's, which its copies have to bring along."""
    here = ROOT / "LICENSE"
    if here.is_file():
        return here.read_text(encoding="utf-8")
    return distribution("monet-cyclegan").read_text("licenses/LICENSE") or "MIT\n"
