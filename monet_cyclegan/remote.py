"""Weights from the network: over https, of kinds that can't run code, of limited size, and with a known hash."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import torch

from monet_cyclegan import __version__
from monet_cyclegan.errors import UserError
from monet_cyclegan.progress import progress
from monet_cyclegan.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".safetensors", ".onnx")
MOST_BYTES = 2_000_000_000
TIMEOUT_S = 20.0  # without a byte
DEADLINE_S = 3600.0  # in all, for servers that send a byte now and then
_BLOCK = 1 << 18


class Remote(NamedTuple):
    """A file elsewhere: its address, its kind by suffix, and its SHA-256 in hexadecimal digits."""

    url: str
    suffix: str
    sha256: str


def parse_url(text: str) -> Remote:
    """Read ``https://host/path/model.safetensors#sha256=...``; UserError for any other address."""
    address, _, fragment = text.partition("#")
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname:
        raise UserError(f"ckpt={text} is not fetched: weights come over https:// only")
    suffix = PurePosixPath(unquote(parts.path)).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"ckpt={text} is not fetched: {' and '.join(SUFFIXES)} files can't run code, others may")
    match = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment.lower())
    if match is None:
        raise UserError(f"ckpt={text} needs the file's hash behind it: {address}#sha256= and 64 hexadecimal digits")
    return Remote(address, suffix, match[1])


def fetch_weights(remote: Remote) -> Path:
    """Give the file in torch's hub folder, downloaded if it isn't there yet.

    Raises:
        UserError: it can't be had, is too large, takes too long, or is another file.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{remote.sha256}{remote.suffix}"
    if path.is_file() and _sha256(path) == remote.sha256:
        return path
    digest = hashlib.sha256()
    with whole_file(path) as unfinished:
        with unfinished.open("wb") as file:
            for block in _download(remote.url):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != remote.sha256:
            raise UserError(f"{remote.url} sent another file: its SHA-256 is {digest.hexdigest()}, not {remote.sha256}")
    return path


class _HttpsOnly(HTTPRedirectHandler):
    """Follows redirections, which hubs use, but not to where anyone could change what is sent."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if urlsplit(newurl).scheme != "https":
            raise UserError(f"{req.full_url} leads to {newurl}: weights come over https:// only")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str) -> Iterator[bytes]:
    """The file in pieces, with a progress bar."""
    started = time.monotonic()
    request = Request(url, headers={"User-Agent": f"monet_cyclegan/{__version__}"})
    try:
        with build_opener(_HttpsOnly).open(request, timeout=TIMEOUT_S) as response:
            length = int(response.headers.get("Content-Length") or 0)
            _check_size(url, length)
            done = 0
            with progress(1, f"downloading {length / 1e6:.0f} MB" if length else "downloading") as show:
                while block := response.read1(_BLOCK):
                    done += len(block)
                    _check_size(url, done)
                    if time.monotonic() - started > DEADLINE_S:
                        raise UserError(f"{url} takes too long: {done / 1e6:.1f} MB in {DEADLINE_S:.0f} s")
                    yield block
                    show(done / max(length, done))
            if done < length:
                raise UserError(f"{url} broke off after {done:,} of {length:,} bytes: try again")
    except HTTPError as error:
        error.close()
        raise UserError(f"{url} can't be fetched: {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(f"{url} can't be fetched: {getattr(error, 'reason', None) or error}") from error


def _check_size(url: str, size: int) -> None:
    if size > MOST_BYTES:
        raise UserError(f"{url} is not fetched: more than {MOST_BYTES / 1e6:,.0f} MB")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
