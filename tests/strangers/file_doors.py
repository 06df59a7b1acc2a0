"""Where pictures and data of strangers come in: each door takes what a user names, and tells what it left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from monet_cyclegan import image_zip
from monet_cyclegan.cli import parse_key_values
from monet_cyclegan.data.cache import cached
from monet_cyclegan.data.files import Archive, open_files
from monet_cyclegan.data.sources import EncodedSource, find_domains, open_source
from monet_cyclegan.data.survey import survey
from monet_cyclegan.evaluation.image_sets import open_image_set
from monet_cyclegan.images import read_image
from monet_cyclegan.inference import Translator, translate_files
from monet_cyclegan.inference.inputs import find_jobs, parts_of
from monet_cyclegan.pictures import decode_picture, read_mark, read_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DEFAULTS = {"output": "", "count": 6, "share": 0.5, "swap": False}


class Negative(torch.nn.Module):
    """A generator that is as fast as one can be."""

    size_multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(-torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.weight


def decode(path: Path) -> list[str]:
    """A picture's bytes, decoded as predict.py does."""
    picture = decode_picture(path.read_bytes(), path.name, heic=True)
    assert picture.pixels.shape[0] * picture.pixels.shape[1] > 0
    return []


def size(path: Path) -> list[str]:
    """What the page asks first."""
    read_size(path.read_bytes(), path.name)
    return []


def read(path: Path) -> list[str]:
    """A picture by its name."""
    read_image(path)
    return []


def mark(path: Path) -> list[str]:
    """The mark of an output that is there already; whatever it is, it is none of ours."""
    assert read_mark(path) == ""
    return []


def predict(path: Path) -> list[str]:
    """predict.py input=PATH output=a folder beside it."""
    return predict_into(path, path.parent / "painted")


def predict_into(path: Path, target: Path) -> list[str]:
    """predict.py input=PATH output=TARGET; nothing may be written anywhere else."""
    inputs = find_jobs(str(path), target)
    place = (parts_of(target) if target.suffix == ".zip" else target).resolve()
    assert all((job.target.parent.resolve() / job.target.name).is_relative_to(place) for job in inputs.jobs)
    outcomes = list(translate_files(Translator(Negative()), inputs.jobs))
    made = [outcome.target for outcome in outcomes if outcome.error is None]
    assert all(path.is_file() for path in made)
    if target.suffix == ".zip":
        assert image_zip.zip_files(target, place, made) == len(made)
        assert len(Archive(target).names()) == len(made)  # which refuses names that lead out of it
    return [outcome.error for outcome in outcomes if outcome.error is not None]


def train(path: Path) -> list[str]:
    """What training does with a folder, a zip or TFRecords: all images are read, into memory."""
    source = open_source(open_files(path))
    names = [source.name(index) for index in range(len(source))]
    assert len({*names}) == len(names)
    images = cached(source, "ram", 16, path.parent)
    assert all(images.load(index).shape[2] == 3 for index in range(len(images)))
    return []


def train_disk(path: Path) -> list[str]:
    """The same with a cache on disk, in the folder .cache of the path."""
    source = open_source(open_files(path))
    images, expected = cached(source, "disk", 16, path / ".cache"), cached(source, "none", 16, path)
    assert all(np.array_equal(images.load(index), expected.load(index)) for index in range(len(source)))
    return []


def train_root(path: Path) -> list[str]:
    """data.root=PATH"""
    domains = find_domains(path)
    assert min(len(domains.train_a), len(domains.train_b)) > 0
    return []


def explore(path: Path) -> list[str]:
    """The data report."""
    source = open_source(open_files(path))
    assert isinstance(source, EncodedSource)
    return [*survey("A", source).unreadable.values()]


def evaluate(path: Path) -> Sequence[str]:
    """evaluate.py fake=PATH"""
    return open_image_set("fake", str(path)).skipped


def submit(path: Path) -> list[str]:
    """What the competition would say to an archive; here it takes any number of pictures."""
    everything = range(10**9)
    counts, image_zip.COUNTS = image_zip.COUNTS, everything
    try:
        return image_zip.problems(path)
    finally:
        image_zip.COUNTS = counts


def command_line(path: Path) -> list[str]:
    """key=value arguments, one a line of a file."""
    parse_key_values(path.read_text(encoding="utf-8", errors="surrogateescape").split("\n"), _DEFAULTS)
    return []
