"""Folders on disk and folders inside zip archives, listed and read alike, without unpacking anything."""

from __future__ import annotations

import os
import re
import threading
import zipfile
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.bounded import kind, open_file, read_file
from monet_cyclegan.untrusted.zips import check_zip, find_member, open_member, read_member

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_LONGEST_NAME = 4096  # that any system has; a longer one, from an archive, is sorted as it is


class Files(ABC):
    """The files of one place, named by their path relative to it, with forward slashes.

    Hidden files and macOS's `__MACOSX` are never listed, and neither is a name that leads out of the place. What is
    listed may be no file that can be read, such as a pipe or a broken link: reading it tells.
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
    def read(self, name: str) -> bytes:
        """Read a file whole; UserError that names it if it can't be, or has more bytes than a picture."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Count the bytes of a file; UserError that names it if it isn't there any more."""

    @abstractmethod
    def stamp(self, name: str) -> str:
        """Make a text that changes when the file changes, without reading it; UserError as for `size`."""

    def where(self, name: str) -> str:
        """Name a file in messages."""
        return f"{self.location}/{name}"


class Folder(Files):
    """A folder on disk.

    Links to files are followed, and those to folders where one is given or entered; `names` walks into none, so that
    it always ends.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.location = str(path)
        found = kind(self.path)
        if found != "folder":
            raise UserError(f"{path}: {'no such folder' if found == 'nothing' else 'is not a folder'}")

    def entries(self) -> list[str]:  # noqa: D102
        try:
            with os.scandir(self.path) as found:
                children = [f"{child.name}/" if child.is_dir() else child.name for child in found]
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}") from error
        return sorted(filter(_is_listed, children), key=_natural)

    def names(self) -> list[str]:  # noqa: D102
        found = (
            Path(folder, file).relative_to(self.path).as_posix()
            for folder, _, files in os.walk(self.path, onerror=_refuse)
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
            with open_file(self.path / name) as file:
                yield file
        except OSError as error:
            raise self._told(name, error) from error

    def read(self, name: str) -> bytes:  # noqa: D102
        try:
            return read_file(self.path / name)
        except OSError as error:
            raise self._told(name, error) from error

    def size(self, name: str) -> int:  # noqa: D102
        return self._stat(name).st_size

    def stamp(self, name: str) -> str:  # noqa: D102
        stat = self._stat(name)
        return f"{stat.st_size} {stat.st_mtime_ns}"

    def _stat(self, name: str) -> os.stat_result:
        try:
            return (self.path / name).stat()
        except OSError as error:
            raise self._told(name, error) from error

    def _told(self, name: str, error: OSError) -> UserError:
        return UserError(f"{self.where(name)}: {error.strerror or error}")


class Archive(Files):
    """A folder inside a zip archive, or all of the archive.

    Picklable and fork-safe: every thread of every process opens the archive for itself, at its first use.
    """

    def __init__(self, path: Path | str, prefix: str = "") -> None:
        self.path = Path(path)
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.location = f"{path}/{self.prefix}".rstrip("/")
        self._handles: dict[tuple[int, int], zipfile.ZipFile] = {}
        check_zip(self.path)

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
        with open_member(self._archive(), self.prefix + name, self.where(name)) as file:
            yield file

    def read(self, name: str) -> bytes:  # noqa: D102
        return read_member(self._archive(), self.prefix + name, self.where(name))

    def size(self, name: str) -> int:  # noqa: D102
        return self._info(name).file_size

    def stamp(self, name: str) -> str:  # noqa: D102
        info = self._info(name)
        return f"{info.file_size} {info.CRC}"

    def _archive(self) -> zipfile.ZipFile:
        # A handle has one position in its file: after a fork, parent and workers would move it under each other's feet.
        key = (os.getpid(), threading.get_ident())
        if key not in self._handles:
            try:
                self._handles[key] = zipfile.ZipFile(self.path)
            except (OSError, zipfile.BadZipFile) as error:  # it was another a moment ago
                raise UserError(f"{self.path}: neither a folder nor a whole zip archive ({error})") from error
        return self._handles[key]

    def _info(self, name: str) -> zipfile.ZipInfo:
        return find_member(self._archive(), self.prefix + name, self.where(name))

    def _infos(self) -> list[zipfile.ZipInfo]:
        infos = self._archive().infolist()
        return [info for info in infos if info.filename.startswith(self.prefix) and info.filename != self.prefix]

    def _relative(self, info: zipfile.ZipInfo) -> str:
        return info.filename[len(self.prefix) :]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}


def open_files(path: Path | str) -> Files:
    """Open a folder or a .zip archive; UserError for anything else."""
    return Archive(path) if kind(Path(path)) == "file" else Folder(path)


def _refuse(error: OSError) -> None:
    """Not leave a folder out that can't be looked into, as os.walk would."""
    raise UserError(f"{error.filename}: {error.strerror}") from error


def _is_listed(name: str) -> bool:
    parts = name.rstrip("/").split("/")
    return all(part and not part.startswith(".") and part != "__MACOSX" for part in parts)  # ".." starts with a dot


def _natural(name: str) -> tuple[str, str]:
    padded = re.sub(r"[0-9]+", lambda digits: digits[0].zfill(20), name) if len(name) <= _LONGEST_NAME else name
    return padded, name
