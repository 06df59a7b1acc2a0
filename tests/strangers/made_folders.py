"""Folders as strangers leave them: links, pipes, locked and vanishing files, odd names."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import file_doors as doors
from made_archives import archive
from made_pictures import encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NOBODY = 65534
GOOD = encoded("PNG")
BAD_NAMES = (
    b"a\nb.png",
    b"a\x1b[31mb.png",
    b"\xff\xfe.png",
    b"a\tb\rc.png",
    b"n" * 251 + b".png",
    b"-rf.png",
    b" .png",
    b"..\\x.png",
    b"C:x.png",
)


def photo_folder(folder: Path) -> Path:
    """A folder of two good pictures."""
    (folder / "photos").mkdir()
    for name in ("1.png", "2.png"):
        (folder / "photos" / name).write_bytes(GOOD)
    return folder / "photos"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bind_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's name is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 * 10**9)


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def inner_folder(path: Path) -> None:
    path.mkdir()
    (path / "inner.png").write_bytes(GOOD)


def locked(path: Path) -> None:
    path.write_bytes(GOOD)
    path.chmod(0)


def content(data: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(data), None)[1]


# What may be called x.jpg, and what is said of it.
THINGS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (pipe, r"x\.jpg: Not a file with contents"),
    "a socket": (bind_socket, r"x\.jpg: (No such device|Not a file)"),
    "a link to nothing": (link_to("gone.jpg"), r"x\.jpg: No such file"),
    "a link to itself": (link_to("x.jpg"), r"x\.jpg: Too many levels of symbolic links"),
    "a link to a device": (link_to("/dev/zero"), r"x\.jpg: Not a file with contents"),
    "a link to a terminal": (link_to("/dev/tty"), r"x\.jpg: (Not a file with contents|No such)"),
    "a link to memory": (link_to("/proc/self/mem"), r"x\.jpg: "),
    "a link to a file without an end": (link_to("/proc/self/pagemap"), r"x\.jpg: not a "),
    "a file of 50 GB": (large, r"x\.jpg: 50,000,000,000 bytes are more than"),
    "an empty file": (content(b""), r"x\.jpg: not a "),
    "a web page": (content(b"<html>404</html>"), r"x\.jpg: not a "),
    "a picture cut off": (content(GOOD[:50]), r"x\.jpg: damaged"),
}
FINE: dict[str, Callable[[Path], None]] = {
    "a folder": inner_folder,
    "a PNG": content(GOOD),
    "a link to a picture elsewhere": lambda path: (
        path.parents[1].joinpath("y.png").write_bytes(GOOD),
        path.symlink_to("../y.png"),
    )[1],
}


def with_thing(thing: Callable[[Path], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        photos = photo_folder(folder)
        thing(photos / "x.jpg")
        return photos

    return make


def alone(thing: Callable[[Path], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "alone").mkdir()
        thing(folder / "alone" / "x.jpg")
        return folder / "alone" / "x.jpg"

    return make


def loops(folder: Path) -> Path:
    """Links that lead back, two in each folder: a walk along them takes longer than there is time."""
    photos = photo_folder(folder)
    (photos / "inner").mkdir()
    for place in (photos, photos / "inner"):
        (place / "up").symlink_to(photos)
        (place / "here").symlink_to(place)
    return photos


def odd_names(folder: Path) -> Path:
    photos = photo_folder(folder)
    for name in BAD_NAMES:
        with open(os.fsencode(photos) + b"/" + name, "wb") as file:  # noqa: PTH123 - as bytes
            file.write(GOOD)
    return photos


def odd_names_of_text(folder: Path) -> Path:
    photos = photo_folder(folder)
    for name in BAD_NAMES:
        with open(os.fsencode(photos) + b"/" + name, "wb") as file:  # noqa: PTH123
            file.write(b"text")
    return photos


def two_cases(folder: Path) -> Path:
    photos = photo_folder(folder)
    for name in ("a.png", "A.png", "a.PNG"):
        (photos / name).write_bytes(GOOD)
    return photos


def clashing(folder: Path) -> Path:
    photos = photo_folder(folder)
    (photos / "x.gif").write_bytes(encoded("GIF"))
    (photos / "x.gif.png").write_bytes(GOOD)
    return photos


def deep(folder: Path) -> Path:
    photos = photo_folder(folder)
    place = photos
    for _ in range(15):
        place = place / ("d" * 200)
        place.mkdir()
    (place / "x.png").write_bytes(GOOD)
    return photos


def locked_folder(folder: Path) -> Path:
    photos = photo_folder(folder)
    (photos / "locked").mkdir()
    (photos / "locked").chmod(0)
    return photos


@contextmanager
def nobody() -> Iterator[None]:
    """Permissions don't hold for root: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def as_nobody(door: Callable[[Path], Sequence[str]]) -> Callable[[Path], Sequence[str]]:
    def open_(path: Path) -> Sequence[str]:
        for parent in path.parents:  # pytest's folders are its own user's
            if parent.stat().st_uid == os.getuid() and parent != parent.parent:
                parent.chmod(parent.stat().st_mode | 0o055)
        (path if path.is_dir() else path.parent).parent.joinpath("painted").mkdir(mode=0o777)
        path.parent.joinpath("painted").chmod(0o777)
        with nobody():
            return door(path)

    return open_


def vanishing(door: Callable[[Path], Sequence[str]], listings: int) -> Callable[[Path], Sequence[str]]:
    """A file is there when a door lists it (for the last time), and not when it is read."""

    def open_(path: Path) -> Sequence[str]:
        from monet_cyclegan.data.files import Folder

        names, left = Folder.names, listings

        def listed(self: Folder) -> list[str]:
            nonlocal left
            found, left = names(self), left - 1
            if not left:
                (self.path / "2.png").unlink()
            return found

        Folder.names = listed  # type: ignore[method-assign]
        try:
            return door(path)
        finally:
            Folder.names = names  # type: ignore[method-assign]

    return open_


def below(name: str, door: Callable[[Path], Sequence[str]] = doors.predict) -> Callable[[Path], Sequence[str]]:
    """What the user names is below what was made."""
    return lambda path: door(path / name)


def into(name: str) -> Callable[[Path], Sequence[str]]:
    return lambda path: doors.predict_into(path, path.parent / name)


def blocked_output(thing: Callable[[Path], None]) -> Callable[[Path], Path]:
    """The output holds something in the place of a translation."""

    def make(folder: Path) -> Path:
        photos = photo_folder(folder)
        (folder / "painted").mkdir()
        thing(folder / "painted" / "1.png")
        return photos

    return make


def linked_output(folder: Path) -> Path:
    """The translation's place is a link to its own input."""
    photos = photo_folder(folder)
    (folder / "painted").mkdir()
    (folder / "painted" / "1.png").symlink_to(photos / "1.png")
    return photos


def zip_beside(folder: Path) -> Path:
    (folder / "x.zip").write_bytes(archive())
    return folder / "x.zip"
