"""Which pictures are meant, and where their translations go: files, folders, patterns and zips."""

from __future__ import annotations

import glob
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from monet_cyclegan.data.files import Archive, Folder, open_files
from monet_cyclegan.errors import UserError, one_line
from monet_cyclegan.pictures import HEIC_SUFFIXES, READABLE_SUFFIXES
from monet_cyclegan.untrusted.bounded import home_expanded, kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from monet_cyclegan.data.files import Files

PICTURE_SUFFIXES = READABLE_SUFFIXES | HEIC_SUFFIXES
_SEPARATORS = os.sep + (os.altsep or "")
COMPETITION_NAME = "images.zip"  # what the competition wants to be handed in


class Job(NamedTuple):
    """One picture, and where its translation goes."""

    files: Files
    name: str
    target: Path

    @property
    def source(self) -> str:
        """What messages call the picture."""
        return one_line(self.files.where(self.name))

    def read(self) -> bytes:
        """The file's bytes; UserError that names it if they can't be read."""
        return self.files.read(self.name)


class Inputs(NamedTuple):
    """The pictures, and how many other files lie among them, by suffix."""

    jobs: list[Job]
    others: Counter[str]


def find_jobs(source: str, target: Path, suffix: str = "") -> Inputs:
    """Pair each picture with its output file; the structure of folders is kept, and hidden files are left out.

    Args:
        source: a picture, a folder, a zip, or a pattern such as photos/**/*.jpg.
        target: a file for a picture, else a folder; or a zip, for whose pictures `parts_of` gives the place.
        suffix: of all output files, such as ".png"; by default each keeps its own.

    Raises:
        UserError: no such input, no pictures in it, an output of another kind than the input, or in its place.
    """
    path = home_expanded(source)
    found = kind(path)
    if found == "file" and not _is_zip(path):
        inputs = Inputs([_single_job(path, target, suffix)], Counter())
    elif found in ("file", "folder"):
        inputs = _many_jobs(open_files(path), None, source, target, suffix)
    elif found == "other":
        raise UserError(f"input={source} is no file or folder, but a pipe or a device")
    elif glob.has_magic(source):
        root, names = _matches(str(path))
        inputs = _many_jobs(Folder(root), names, source, target, suffix)
    else:
        raise UserError(f"input={source} does not exist: give a picture, a folder, a zip, a video or a pattern")
    _refuse_clashes(inputs.jobs, target)
    return inputs


def parts_of(archive: Path) -> Path:
    """The folder in which the pictures of an archive wait for each other; it outlives an interruption."""
    return archive.with_name(f".{archive.name}.parts")


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _single_job(path: Path, target: Path, suffix: str) -> Job:
    if _is_zip(target):
        raise UserError(f"output={target} holds many pictures: give a folder, a zip or a pattern, not input={path}")
    if target.suffix and kind(target) != "folder":
        check_suffix("output", target)
        place = target
    else:
        place = target / _output_name(path.name, suffix)
    return Job(Folder(path.parent), path.name, place)


def _many_jobs(files: Files, names: list[str] | None, source: str, target: Path, suffix: str) -> Inputs:
    if not _is_zip(target) and (kind(target) == "file" or target.suffix.lower() in PICTURE_SUFFIXES):
        raise UserError(f"output={target} is a file but input={source} holds many pictures: give a folder or a zip")
    if isinstance(files, Archive) and _real(target) == _real(files.path):
        raise UserError(f"output={target} would overwrite its own input: give another place")
    inside = _real(target)  # the last run's output is no input, unless it lies right among them
    apart = isinstance(files, Folder) and inside != _real(files.path)
    listed = [
        name
        for name in (files.names() if names is None else names)
        if not (apart and _real(files.path / name).is_relative_to(inside))  # type: ignore[attr-defined]
    ]
    pictures = [name for name in listed if Path(name).suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise UserError(f"no pictures in input={source}: looked for {', '.join(sorted(PICTURE_SUFFIXES))}")
    place = _places(target, suffix)
    others = Counter(map(_suffix_to_tell, {*listed} - {*pictures}))
    return Inputs([Job(files, name, place(name)) for name in pictures], others)


def _suffix_to_tell(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return (suffix if suffix.isprintable() and len(suffix) <= 20 else "of odd names") or "without a suffix"


def _places(target: Path, suffix: str) -> Callable[[str], Path]:
    """Where the translation of a name goes."""
    if target.name == COMPETITION_NAME:  # a flat list of JPEGs
        return lambda name: parts_of(target) / "_".join(Path(name).with_suffix(".jpg").parts)
    folder = parts_of(target) if _is_zip(target) else target
    return lambda name: folder / Path(name).parent / _output_name(Path(name).name, suffix)


def _output_name(name: str, suffix: str) -> str:
    """The input's name; x.gif, whose 256 colours spoil a painting, becomes x.gif.png, which clashes with no x.png."""
    if suffix:
        return Path(name).with_suffix(suffix).name
    own = Path(name).suffix.lower()
    return f"{name}.png" if own == ".gif" else f"{name}.jpg" if own in HEIC_SUFFIXES else name


def _matches(pattern: str) -> tuple[Path, list[str]]:
    """The files that a pattern names, relative to the folder before its first wildcard."""
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    found = {path.relative_to(root).as_posix() for path in _expand(pattern) if kind(path) == "file"}
    if not found:
        raise UserError(f"input={pattern} matches no file")
    return root, sorted(found)


def _expand(pattern: str) -> Iterator[Path]:
    """What a pattern names; unlike glob's, ** follows no links to folders, which would lead in circles."""
    before, stars, after = pattern.partition("**")
    separate = stars and (not before or before[-1] in _SEPARATORS) and (not after or after[0] in _SEPARATORS)
    if not separate:
        yield from map(Path, glob.glob(pattern))  # noqa: PTH207 - it takes absolute ones too
        return
    rest = after.lstrip(_SEPARATORS) or "*"
    for start in glob.glob(before) if before else [""]:  # noqa: PTH207
        for folder, inner, _ in os.walk(start or "."):
            inner[:] = [name for name in inner if not name.startswith(".")]
            yield from _expand(os.path.join(glob.escape(folder if start else os.path.relpath(folder)), rest))  # noqa: PTH118


def _refuse_clashes(jobs: Iterable[Job], target: Path) -> None:
    sources = {_real(job.files.path / job.name) for job in jobs if isinstance(job.files, Folder)}
    overwritten = sources & {_real(job.target) for job in jobs}
    if overwritten:
        raise UserError(f"output={target} would overwrite {min(overwritten)}: give another place")
    first: dict[Path, Job] = {}
    for job in jobs:
        other = first.setdefault(job.target, job)
        if other is not job:
            raise UserError(f"{other.source} and {job.source} would both become {job.target.name}: rename one")


def _real(path: Path) -> Path:
    """The path without links; unlike Path.resolve it takes links that lead in circles."""
    return Path(os.path.realpath(path))


def check_suffix(key: str, path: Path) -> None:
    """Refuse a file whose suffix names no format that can be written, with a UserError."""
    if path.suffix.lower() not in READABLE_SUFFIXES:
        choices = ", ".join(sorted(READABLE_SUFFIXES))
        raise UserError(f"{key}={path} has no suffix that can be written: choose one of {choices}")
