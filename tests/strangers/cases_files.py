"""Cases of files as such: what isn't one, and what isn't of the kind that its name says."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_weights as made

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = tuple[str, Callable[[Path], Path], Any, str]


def wrote(name: str, data: bytes | Callable[[], bytes], folder: Path) -> Path:
    """Write a file of bytes."""
    path = folder / name
    path.write_bytes(data() if callable(data) else data)
    return path


def file(name: str, data: bytes | Callable[[], bytes]) -> Callable[[Path], Path]:
    """What writes it."""
    return partial(wrote, name, data)


def saving(content: Callable[[], Any], name: str = "x.ckpt", **options: Any) -> Callable[[Path], Path]:
    """What saves a content by torch.save."""
    return lambda folder: made.saved(content(), folder / name, **options)


def folder_called(name: str, folder: Path) -> Path:
    (folder / name).mkdir()
    return folder / name


def pipe_called(name: str, folder: Path) -> Path:
    os.mkfifo(folder / name)
    return folder / name


def _link(name: str, target: str, folder: Path) -> Path:
    (folder / name).symlink_to(target)
    return folder / name


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("storages")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"\0" * 4))
    return buffer.getvalue()


FOREIGN: dict[str, bytes | Callable[[], bytes]] = {
    "nothing in it": b"",
    "one byte": b"P",
    "text": b"weights, honestly\n" * 30,
    "a page of HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "a JPEG's beginning": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + b"\x00" * 500,
    "gzip": gzip.compress(b"x" * 1000, mtime=0),
    "7z's beginning": b"7z\xbc\xaf\x27\x1c\x00\x04" + b"\x01" * 100,
    "tar": _tar,
    "zeros": b"\0" * 5000,
    "ones": b"\xff" * 5000,
    "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
}
_SAID = {
    ".ckpt": r"x\.ckpt is not a checkpoint of this project, or only a part of one$",
    ".safetensors": r"x\.safetensors is no whole safetensors file",
    ".onnx": r"x\.onnx is no ONNX file that can be run",
}


def not_files(name: str) -> list[Row]:
    """What has a name of its kind, and isn't of it."""
    suffix, said = Path(name).suffix, r"^no (weights|checkpoint) at "
    rows: list[Row] = [
        (f"{what} called {suffix}", file(name, data), "refused", _SAID[suffix]) for what, data in FOREIGN.items()
    ]
    rows += [
        (f"a folder called {suffix}", partial(folder_called, name), "refused", said),
        (f"a pipe called {suffix}", partial(pipe_called, name), "refused", said),
        (f"a link to /dev/zero called {suffix}", partial(_link, name, "/dev/zero"), "refused", said),
        (f"a link to nowhere called {suffix}", partial(_link, name, "nowhere"), "refused", said),
        (f"a link to itself called {suffix}", partial(_link, name, name), "refused", said),
        (f"no file called {suffix}", lambda folder: folder / name, "refused", said),
        (
            f"a name of 10,000 characters with {suffix}",
            lambda folder: folder / f"{'x' * 10_000}{suffix}",
            "refused",
            said,
        ),
        (f"a name with a line break and {suffix}", lambda folder: folder / f"x\n\x1b[2J{suffix}", "refused", said),
        (f"a name with NUL and {suffix}", lambda folder: folder / f"x\0{suffix}", "refused", said),
        (f"a link to a right checkpoint called {suffix}", partial(_linked_checkpoint, name), *_other(suffix)),
    ]
    return rows


def _other(suffix: str) -> tuple[Any, str]:
    return ("read", "") if suffix == ".ckpt" else ("refused", _SAID[suffix])


def _linked_checkpoint(name: str, folder: Path) -> Path:
    made.saved(made.checkpoint(), folder / "right.ckpt")
    return _link(name, "right.ckpt", folder)
