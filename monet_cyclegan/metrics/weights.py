"""Pretrained weights from the network, fetched once."""

from __future__ import annotations

import hashlib
import http.client
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 20.0


class Weights(NamedTuple):
    """A file of weights: where it is to be had, under which name it is kept, and its SHA-256."""

    url: str
    file_name: str
    sha256: str


def fetch(weights: Weights) -> Path:
    """Give the file in torch's hub folder, downloaded with a progress bar and checked if it isn't there yet.

    Raises:
        OSError: it can't be reached.
        ValueError: what came isn't the file.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.file_name
    if path.is_file() and sha256(path) == weights.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)  # a network that swallows packets would hold a run up for minutes
    try:
        torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=weights.sha256)
    except http.client.HTTPException as error:  # of a line that broke off, or of a server that speaks something else
        raise OSError(f"{type(error).__name__} from {weights.url}") from error
    except RuntimeError as error:  # torch's word for a wrong hash
        raise ValueError(f"what {weights.url} sent is not the file with SHA-256 {weights.sha256}") from error
    finally:
        socket.setdefaulttimeout(before)
    return path


def sha256(path: Path) -> str:
    """Hash a file, 1 MB at a time."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block
