"""Folders on disk and folders inside zip archives, listed and read alike, without unpacking anything."""

from __future__ import annotations

import os
import re
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class Files(ABC):
    """The files of one place, named by their path relative to it, with forward slashes.

    Hidden files and macOS's `__MACOSX` are never listed, and neither is a name that leads out of the place.
    """

    location: str

    @abstractmethod
    def entries(self) -> list[str]:
        """List what lies directly here; a folder's name ends in a slash."""

    @abstractmethod
    def names(self) -> list[str]:
        """List all files here and below, in natural order: 2.jpg comes before 10.jpg."""

    @abstractmethod
    def folder(self, name: str) -> Files:
        """Step into the folder `name`."""

    @abstractmethod
    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file as a context manager; UserError that names it if it can't be opened or read."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Count the bytes of a file."""

    @abstractmethod
    def stamp(self, name: str) -> str:
        """Make a text that changes when the file changes, without reading it."""

    def where(self, name: str) -> str:
        """Name a file in messages."""
        return f"{self.location}/{name}"


class Folder(Files):
    """A folder on disk."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.location = str(path)
        if not self.path.is_dir():
            raise UserError(f"{path}: {'is not a folder' if self.path.exists() else 'no such folder'}")

    def entries(self) -> list[str]:  # noqa: D102
        children = (f"{child.name}/" if child.is_dir() else child.name for child in self.path.iterdir())
        return sorted(filter(_is_listed, children), key=_natural)

    def names(self) -> list[str]:  # noqa: D102
        found = (
            Path(folder, file).relative_to(self.path).as_posix()
            for folder, _, files in os.walk(self.path)
            for file in files
        )
        return sorted(filter(_is_listed, found), key=_natural)

    def folder(self, name: str) -> Folder:  # noqa: D102
        return Folder(self.path / name.rstrip("/"))

    def where(self, name: str) -> str:  # noqa: D102
        return str(self.path / name)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:  # noqa: D102
        try:
            with (self.path / name).open("rb") as file:
                yield file
        except OSError as error:
            raise UserError(f"{self.where(name)}: {error.strerror or error}") from error

    def size(self, name: str) -> int:  # noqa: D102
        return (self.path / name).stat().st_size

    def stamp(self, name: str) -> str:  # noqa: D102
        stat = (self.path / name).stat()
        return f"{stat.st_size} {stat.st_mtime_ns}"


class Archive(Files):
    """A folder inside a zip archive, or all of the archive.

    Picklable and fork-safe: every thread of every process opens the archive for itself, at its first use.
    """

    def __init__(self, path: Path | str, prefix: str = "") -> None:
        self.path = Path(path)
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.location = f"{path}/{self.prefix}".rstrip("/")
        self._handles: dict[tuple[int, int], zipfile.ZipFile] = {}
        if any(info.flag_bits & 1 for info in self._infos()):
            raise UserError(f"{path}: is encrypted, unpack it with its password and give the folder")

    def entries(self) -> list[str]:  # noqa: D102
        paths = (self._relative(info) for info in self._infos())
        children = {path[: path.find("/") + 1] or path for path in paths}
        return sorted(filter(_is_listed, children), key=_natural)

    def names(self) -> list[str]:  # noqa: D102
        found = {self._relative(info) for info in self._infos() if not info.is_dir()}
        return sorted(filter(_is_listed, found), key=_natural)

    def folder(self, name: str) -> Archive:  # noqa: D102
        return Archive(self.path, self.prefix + name)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:  # noqa: D102
        try:
            with self._archive().open(self.prefix + name) as file:
                yield file
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise UserError(f"{self.where(name)}: {error}") from error

    def size(self, name: str) -> int:  # noqa: D102
        return self._archive().getinfo(self.prefix + name).file_size

    def stamp(self, name: str) -> str:  # noqa: D102
        info = self._archive().getinfo(self.prefix + name)
        return f"{info.file_size} {info.CRC}"

    def _archive(self) -> zipfile.ZipFile:
        # A handle has one position in its file: after a fork, parent and workers would move it under each other's feet.
        key = (os.getpid(), threading.get_ident())
        if key not in self._handles:
            try:
                self._handles[key] = zipfile.ZipFile(self.path)
            except (OSError, zipfile.BadZipFile) as error:
                raise UserError(f"{self.path}: neither a folder nor a whole zip archive ({error})") from error
        return self._handles[key]

    def _infos(self) -> list[zipfile.ZipInfo]:
        infos = self._archive().infolist()
        return [info for info in infos if info.filename.startswith(self.prefix) and info.filename != self.prefix]

    def _relative(self, info: zipfile.ZipInfo) -> str:
        return info.filename[len(self.prefix) :]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}


def open_files(path: Path | str) -> Files:
    """Open a folder or a .zip archive; UserError for anything else."""
    return Archive(path) if Path(path).is_file() else Folder(path)


def _is_listed(name: str) -> bool:
    parts = name.rstrip("/").split("/")
    return all(part and not part.startswith(".") and part != "__MACOSX" for part in parts)  # ".." starts with a dot


def _natural(name: str) -> tuple[str, str]:
    return re.sub(r"[0-9]+", lambda digits: digits[0].zfill(20), name), name
