"""What a page's server lets in and out: few addresses, one folder, and an environment that opens nothing."""

from __future__ import annotations

import ipaddress
import json
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

# All that the page itself asks for. gradio answers much more: it fetches foreign addresses, runs functions by name,
# keeps links to states, edits its own source where it was started so.
OPEN = {
    "GET": {
        "/",
        "/config",
        "/favicon.ico",
        "/manifest.json",
        "/pwa_icon",
        "/theme.css",
        "/gradio_api/queue/data",
        "/gradio_api/startup-events",
        "/gradio_api/upload_progress",
    },
    "POST": {"/gradio_api/queue/join", "/gradio_api/upload"},
}
OPEN_FOLDERS = ("/assets/", "/static/", "/gradio_api/heartbeat/")
FILES = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"

MAX_MESSAGE = 256 * 1024  # bytes of a request that is no upload
MULTIPART = 16 * 1024  # bytes of a form around its file
ROOM = 2_000_000_000  # bytes of pictures on the disk, above which no more are taken
KEPT = "samples"  # of the private folder: what the page itself offers, as long as it runs

# Beyond GRADIO_*: what makes gradio believe that it runs at Hugging Face, which opens the page to all.
SPACES = ("SYSTEM", "SPACE_ID", "SPACE_HOST", "SPACES_ZERO_GPU", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET")

HEADERS = {
    # gradio's page has scripts and styles within, but nothing of it may come from or go to another host.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Rules(NamedTuple):
    """What a guard holds to.

    Attributes:
        folder: the private one; no file outside of it is served or read.
        names: hosts by which the page may be called, in lower case; addresses and localhost always may.
        max_bytes: of an uploaded file.
        room: bytes that all files in the folder may take.
    """

    folder: Path
    names: frozenset[str] = frozenset()
    max_bytes: int = 30 * 2**20
    room: int = ROOM


class Refused(NamedTuple):
    """An answer without content."""

    status: int
    line: str


class Guard:
    """ASGI middleware in front of gradio, that answers what isn't allowed by `Rules`."""

    def __init__(self, app: Callable[..., Awaitable[None]], rules: Rules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page opens no WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        refused = refuse(scope, self.rules)
        if refused is None and scope["method"] == "POST" and scope["path"] != UPLOAD:
            body = await _read(receive)
            refused = refuse_message(body, self.rules.folder)
            receive = _again(body, receive)
        if refused is not None:
            await _answer(refused, send)
            return
        private = scope["path"].startswith(FILES)
        await self.app(scope, receive, lambda message: send(_with_headers(message, private)))


def refuse(scope: Scope, rules: Rules) -> Refused | None:
    """Why a request isn't answered, as far as its head tells; None if it is."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "")
    if not _is_ours(host, rules.names):
        # A foreign name that leads here is how other pages reach a server behind the user's back (DNS rebinding).
        return Refused(421, "this page isn't known under that name: start it with names=")
    origin = headers.get("origin")
    if origin is not None and not _same_origin(origin, host, rules.names):
        return Refused(403, "only this page itself may ask")
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    path = scope["path"]
    if method == "GET" and path.startswith(FILES):
        return None if _within(path[len(FILES) :], rules.folder) else Refused(403, "no such file")
    if path not in OPEN.get(method, ()) and not (method == "GET" and path.startswith(OPEN_FOLDERS)):
        return Refused(404, "nothing here")
    if path == UPLOAD:
        return _refuse_upload(headers.get("content-length", ""), rules)
    return None


def refuse_message(body: bytes | None, folder: Path) -> Refused | None:
    """Why a message (None: too long) isn't handed on: all files that it names must be in the folder."""
    if body is None:
        return Refused(413, "too long")
    if not body:
        return None
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return Refused(400, "no JSON")
    if not all(isinstance(path, str) and _within(path, folder) for path in _paths(message)):
        return Refused(403, "no such file")
    return None


def close_environment(environ: MutableMapping[str, str], host: str) -> list[str]:
    """Take out what gradio would listen to where it should listen to the command line only; returns their names.

    All of GRADIO_*: ALLOWED_PATHS, SHARE, SERVER_NAME, ROOT_PATH, MCP_SERVER, SSR_MODE, DEBUG, NODE_*, NUM_WORKERS,
    WATCH_*, VIBE_MODE, LOCAL_DEV_MODE, PROFILING, EXAMPLES_CACHE, ANALYTICS_*, RUN_HISTORY, ... win over, or add to,
    the arguments that the page gives.
    """
    found = sorted(name for name in environ if name.startswith("GRADIO_") or name in SPACES)
    for name in found:
        del environ[name]
    environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # gradio asks its own server whether it is there, which a proxy outside can't tell.
    around = {name: environ.get(name, "") for name in ("no_proxy", "NO_PROXY")}
    for name, value in around.items():
        environ[name] = ",".join(filter(None, (value or around["NO_PROXY"], "localhost", "127.0.0.1", "::1", host)))
    return found


@contextmanager
def private_folder(environ: MutableMapping[str, str]) -> Iterator[Path]:
    """A folder that only this user can open, where gradio and Python keep their files; it is gone in the end."""
    folder = Path(tempfile.mkdtemp(prefix="monet_cyclegan_")).resolve()  # mode 0700
    before = tempfile.tempdir
    environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        environ.pop("GRADIO_TEMP_DIR", None)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)  # once more, if a request was just writing


def remove_old(folder: Path, seconds: float) -> None:
    """Remove what wasn't written or asked for so long, also what an upload that broke off has left."""
    oldest = time.time() - seconds
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before itself
        if path.relative_to(folder).parts[0] != KEPT:
            with suppress(OSError):  # gone meanwhile, or a folder that isn't empty
                if path.lstat().st_mtime < oldest:
                    path.rmdir() if path.is_dir() else path.unlink()


def _is_ours(host: str, names: frozenset[str]) -> bool:
    name = _hostname(host)
    if name in ("localhost", *names):
        return True
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False


def _same_origin(origin: str, host: str, names: frozenset[str]) -> bool:
    """Whether a page of this server asks; a proxy in front of it may have another port."""
    netloc = urlsplit(origin).netloc.lower()
    return bool(netloc) and (netloc == host.lower() or _hostname(netloc) in names)


def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _within(path: str, folder: Path) -> bool:
    try:
        return Path(path).is_absolute() and ".." not in Path(path).parts and Path(path).resolve().is_relative_to(folder)
    except (OSError, ValueError):  # a zero byte, or a name that is too long
        return False


def _refuse_upload(length: str, rules: Rules) -> Refused | None:
    if not length.isdecimal():
        return Refused(411, "say how long it is")
    if int(length) > rules.max_bytes + MULTIPART:
        return Refused(413, f"larger than {rules.max_bytes / 2**20:g} MB")
    if _used(rules.folder) + int(length) > rules.room:
        return Refused(507, "no room for more pictures, try again later")
    return None


def _used(folder: Path) -> int:
    used = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            used += path.lstat().st_size
    return used


def _paths(message: Any) -> Iterator[Any]:
    """All that is called path, at any depth."""
    remaining = [message]
    while remaining:
        value = remaining.pop()
        if isinstance(value, dict):
            if value.get("path") is not None:
                yield value["path"]
            remaining += value.values()
        elif isinstance(value, list):
            remaining += value


async def _read(receive: Receive) -> bytes | None:
    """The body, None if it is too long."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_MESSAGE:
            return None
    return bytes(body)


def _again(body: bytes | None, receive: Receive) -> Receive:
    """A receiver of a body that was read, and then of whatever comes."""
    waiting = [{"type": "http.request", "body": body or b"", "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


async def _answer(refused: Refused, send: Send) -> None:
    headers = {**HEADERS, "content-type": "text/plain; charset=utf-8", "connection": "close"}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": encoded})
    await send({"type": "http.response.body", "body": refused.line.encode()})


def _with_headers(message: Message, private: bool) -> Message:
    if message["type"] != "http.response.start":
        return message
    added = {**HEADERS, "cache-control": "private, no-store"} if private else HEADERS
    kept = [(name, value) for name, value in message.get("headers", []) if name.decode("latin-1").lower() not in added]
    headers = [*kept, *((name.encode(), value.encode()) for name, value in added.items())]
    return {**message, "headers": headers}
