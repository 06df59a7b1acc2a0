"""Where the images of the two domains come from: folders, zip archives and TFRecord files."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from monet_cyclegan.data.files import Archive, Files, Folder, open_files
from monet_cyclegan.data.tfrecord import Example, index_records, read_example
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import decode_image
from monet_cyclegan.pictures import READABLE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

_LONGEST_NAME = 60  # characters, of up to 4 bytes, where file systems take 255 with what is put behind it
TFRECORD_SUFFIXES = frozenset({".tfrec", ".tfrecord"})


class Source(ABC):
    """The images of one domain, in a fixed order."""

    location: str
    """Where the images lie, for messages."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Name an image: the same in every run, and unlike all others here."""

    @abstractmethod
    def load(self, index: int) -> np.ndarray:
        """Load an image as (H, W, 3) uint8 RGB; UserError that names it if it can't be read."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash what can be known without reading the images: another hex digest means that they may have changed."""


class DerivedSource(Source):
    """Another view of a source, with its names and its order unless a subclass says otherwise."""

    def __init__(self, source: Source):
        self.source = source
        self.location = source.location

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:  # noqa: D102
        return self.source.name(index)

    def fingerprint(self) -> str:  # noqa: D102
        return self.source.fingerprint()


class EncodedSource(Source):
    """Images that lie somewhere as encoded files."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Read the encoded image; UserError that names it if it can't be read."""

    @abstractmethod
    def where(self, index: int) -> str:
        """Name an image in messages, so that a person finds it."""

    def load(self, index: int) -> np.ndarray:  # noqa: D102
        return decode_image(self.read(index), self.where(index))


class _ImageFiles(EncodedSource):
    def __init__(self, files: Files) -> None:
        self.location = files.location
        self._files = files
        self._paths = _with_suffix(files, READABLE_SUFFIXES)
        stems = [str(PurePosixPath(path).with_suffix("")) for path in self._paths]
        self._names = stems if len(set(stems)) == len(stems) else self._paths

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        return self._names[index]

    def read(self, index: int) -> bytes:
        return self._files.read(self._paths[index])

    def where(self, index: int) -> str:
        return self._files.where(self._paths[index])

    def fingerprint(self) -> str:
        return _fingerprint(self._files, self._paths)


class FolderSource(_ImageFiles):
    """The image files of a folder and of all folders in it, in natural order."""

    def __init__(self, folder: Path | str) -> None:
        super().__init__(Folder(folder))


class ZipSource(_ImageFiles):
    """The image files of a zip archive, or of the folder `prefix` in it, in natural order."""

    def __init__(self, archive: Path | str, prefix: str = "") -> None:
        super().__init__(Archive(archive, prefix))


class TFRecordSource(EncodedSource):
    """The images in a folder's TFRecord files; within a compressed zip archive each read unpacks a file up to there."""

    def __init__(self, folder: Path | str | Files) -> None:
        self._files = folder if isinstance(folder, Files) else open_files(folder)
        self.location = self._files.location
        self._paths = _with_suffix(self._files, TFRECORD_SUFFIXES)
        self._records = {}
        for path in self._paths:
            with self._files.open(path) as file:
                self._records[path] = index_records(file, self._files.size(path), self._files.where(path))
        self._index = [(path, number) for path in self._paths for number in range(len(self._records[path]))]
        if not self._index:
            raise UserError(f"{self.location}: its {len(self._paths)} TFRecord files hold no record")

    def __len__(self) -> int:
        return len(self._index)

    def name(self, index: int) -> str:  # noqa: D102
        return self._names[index]

    def read(self, index: int) -> bytes:  # noqa: D102
        return self._example(index).image

    def where(self, index: int) -> str:  # noqa: D102
        path, number = self._index[index]
        return f"{self._files.where(path)}: record {number}"

    def fingerprint(self) -> str:  # noqa: D102
        return _fingerprint(self._files, self._paths)

    def _example(self, index: int) -> Example:
        path, number = self._index[index]
        with self._files.open(path) as file:
            return read_example(file, self._records[path], number, self._files.where(path))

    @cached_property
    def _names(self) -> list[str]:
        names = [name for path in self._paths for name in self._image_names(path)]
        counts = Counter(names)
        fallbacks = (f"{path}:{number}" for path, number in self._index)
        return [name if name and counts[name] == 1 else f for name, f in zip(names, fallbacks, strict=True)]

    def _image_names(self, path: str) -> Iterator[str | None]:
        with self._files.open(path) as file:
            for number in range(len(self._records[path])):
                try:
                    name = read_example(file, self._records[path], number, path).image_name
                except UserError:  # a damaged record still needs a name; it is reported when its image is read
                    name = None
                yield name if name is not None and _is_file_name(name) else None


def _is_file_name(name: str) -> bool:
    """Whether a stranger's name may become a file's: it leads to no other folder, and can be written and shown."""
    return len(name) <= _LONGEST_NAME and name.isprintable() and not name.startswith(".") and not {*"/\\:"} & {*name}


class Domains(NamedTuple):
    """The images to learn from, and those kept back; A are photos and B paintings."""

    train_a: Source
    train_b: Source
    val_a: Source | None = None
    val_b: Source | None = None


class _Layout(NamedTuple):
    train_a: str
    train_b: str
    val_a: str | None = None
    val_b: str | None = None


_LAYOUTS = (  # earlier ones win
    _Layout("photo_jpg/", "monet_jpg/"),
    _Layout("photo_tfrec/", "monet_tfrec/"),
    _Layout("trainA/", "trainB/", "testA/", "testB/"),
)
_GET_THE_DATA = "kaggle competitions download -c gan-getting-started -p data"


def find_domains(root: Path | str, swap: bool = False) -> Domains:
    """Find both domains in a folder, in a zip archive or in the one fitting archive that lies in a folder.

    Where there is no `root` but a `root.zip`, as a download leaves it, that is taken.

    Known are the competition's `photo_jpg monet_jpg` and `photo_tfrec monet_tfrec`, and CycleGAN's
    `trainA trainB testA testB`, all of them also one folder further down. `swap` exchanges A and B, as the classic
    monet2photo needs it, whose A is Monet.

    Raises:
        UserError: if there is no such place, no known layout in it, or a domain without images.
    """
    root, archive = Path(root), Path(f"{Path(root)}.zip")
    if not root.exists() and archive.is_file():
        root = archive
    if not root.exists():
        raise UserError(
            f"{root} does not exist: get the data with `{_GET_THE_DATA}`, "
            "or run without any with `python train.py experiment=demo`"
        )
    files = open_files(root)
    found = _find_layout(files) or _find_layout_in_archives(files)
    if found is None:
        layouts = ", ".join(f"{layout.train_a} with {layout.train_b}" for layout in _LAYOUTS)
        raise UserError(f"{files.location}: {_contents(files)}, but no known layout: {layouts}, or a .zip of these")
    place, layout = found
    entries = place.entries()
    a, b = (open_source(place.folder(name)) for name in (layout.train_a, layout.train_b))
    val_a, val_b = (
        open_source(place.folder(name)) if name in entries else None for name in (layout.val_a, layout.val_b)
    )
    return Domains(b, a, val_b, val_a) if swap else Domains(a, b, val_a, val_b)


def open_folders(a: Path | str, b: Path | str) -> Domains:
    """Take any two folders, or zip archives, of images or TFRecord files; UserError if there are none."""
    return Domains(open_source(open_files(a)), open_source(open_files(b)))


def _find_layout(files: Files) -> tuple[Files, _Layout] | None:
    entries = files.entries()
    folders = [entry for entry in entries if entry.endswith("/")]
    places = [files, files.folder(folders[0])] if len(folders) == 1 else [files]
    for place in places:
        for layout in _LAYOUTS:
            if {layout.train_a, layout.train_b} <= set(place.entries()):
                return place, layout
    return None


def _find_layout_in_archives(files: Files) -> tuple[Files, _Layout] | None:
    if not isinstance(files, Folder):
        return None
    archives = [Archive(files.path / name) for name in files.entries() if name.lower().endswith(".zip")]
    fitting = [found for archive in archives if (found := _find_layout(archive))]
    if len(fitting) > 1:
        raise UserError(
            f"{files.location}: give one of its archives: {', '.join(place.location for place, _ in fitting)}"
        )
    return fitting[0] if fitting else None


def open_source(files: Files) -> Source:
    """The images, or TFRecord files of images, of a place; UserError if there are none."""
    suffixes = {PurePosixPath(name).suffix.lower() for name in files.names()}
    if suffixes & TFRECORD_SUFFIXES and not suffixes & READABLE_SUFFIXES:
        return TFRecordSource(files)
    return ZipSource(files.path, files.prefix) if isinstance(files, Archive) else FolderSource(files.location)


def _with_suffix(files: Files, suffixes: frozenset[str]) -> list[str]:
    paths = [name for name in files.names() if PurePosixPath(name).suffix.lower() in suffixes]
    if not paths:
        wanted = " ".join(sorted(suffixes))
        raise UserError(f"{files.location} {_contents(files)}: there is no file in it that ends in {wanted}")
    return paths


def _contents(files: Files) -> str:
    entries = files.entries()
    more = f" and {len(entries) - 5} more" if len(entries) > 5 else ""
    return f"holds {', '.join(entries[:5])}{more}" if entries else "is empty"


def _fingerprint(files: Files, paths: list[str]) -> str:
    lines = "\n".join(f"{path}\t{files.stamp(path)}" for path in paths)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
