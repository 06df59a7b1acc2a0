"""The page as its visitors and its enemies meet it: a real server and browser, and requests that no browser sends."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from browser import DESKTOP, PHONE, arrived, open_browser  # noqa: F401
from conftest import tiny_checkpoint
from PIL import Image

from monet_cyclegan.inference.export import export
from monet_cyclegan.inference.predict import predict

ROOT = Path(__file__).parents[2]
PATIENCE = 20  # seconds, for what mostly takes less than one

# The page's own command line; this also notes whom the server calls, and the network waits while a file is there.
SERVER = """
import os, sys, time
from pathlib import Path

notes = Path(os.environ["NOTES"])

def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event == "socket.connect" else arguments
        with (notes / "calls").open("a") as file:
            file.write(f"{address[0] if isinstance(address, tuple) else address}\\n")

sys.addaudithook(note)
from monet_cyclegan.cli import exit_with_one_line
from monet_cyclegan.inference import app, one_picture

class Slow(one_picture.Translator):
    def __call__(self, image):
        (notes / "runs").open("a").write("x")
        while (notes / "hold").exists():
            time.sleep(0.02)
        if (notes / "fault").exists():
            raise ValueError("a fault in /some/where")
        return super().__call__(image)

one_picture.Translator = Slow
exit_with_one_line()(app.serve)(sys.argv[1:])
"""


def any_port() -> int:
    """A free one, and not the first, which tests in other processes would take at the same time."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Server:
    """A process that serves the page."""

    def __init__(self, home: Path, *arguments: str, **environment: str) -> None:
        self.notes = home / "notes"
        self.notes.mkdir()
        self.temporary = home / "temporary"
        self.temporary.mkdir()
        self.errors = home / "errors"
        environ = {**os.environ, "NOTES": str(self.notes), "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, f"port={any_port()}", "device=cpu", *arguments],
                cwd=ROOT,
                env={**environ, **environment},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def wait(self) -> Server:
        """Until it can be asked."""
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: lines.put(self.process.stdout.readline()), daemon=True).start()
        line = lines.get(timeout=60)
        assert line.startswith("open http://127.0.0.1:"), self.log()
        self.url = line.split()[1]
        self.port = int(self.url.rpartition(":")[2])
        return self

    def log(self) -> str:
        return self.errors.read_text()

    def note(self, name: str) -> str:
        path = self.notes / name
        return path.read_text() if path.exists() else ""

    @contextlib.contextmanager
    def held(self):
        """Let translations wait meanwhile."""
        (self.notes / "hold").touch()
        try:
            yield
        finally:
            (self.notes / "hold").unlink()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """A request exactly as given, which a browser would tidy up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="Host" in named)
        for name, value in named.items():
            connection.putheader(name, value)
        if method == "POST" and "Content-Length" not in named:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def upload(server: Server, data: bytes, name: str = "in.png", **headers: str) -> Answer:
    head = f'--edge\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + b"\r\n--edge--\r\n"
    return ask(server, "POST", "/gradio_api/upload", body, Content_Type="multipart/form-data; boundary=edge", **headers)


def join(server: Server, file: dict, session: str, direction: str = "photo_to_monet", **headers: str) -> Answer:
    """Ask for a picture to be painted, as the page does after an upload."""
    config = json.loads(ask(server, "GET", "/config").body)
    photo = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "photo")
    event = next(call["id"] for call in config["dependencies"] if [photo, "change"] in call["targets"])
    message = {
        "data": [file, direction, 1, "painting", ""],
        "fn_index": event,
        "session_hash": session,
        "trigger_id": photo,
        "event_data": None,
    }
    return ask(
        server,
        "POST",
        "/gradio_api/queue/join",
        json.dumps(message).encode(),
        Content_Type="application/json",
        **headers,
    )


def file_data(path: str) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "in.png"}


def result(server: Server, session: str) -> dict:
    """The last message about a session's event."""
    answer = ask(server, "GET", f"/gradio_api/queue/data?session_hash={session}")
    messages = [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    return next(message for message in messages if message["msg"] == "process_completed")


def painted(server: Server, data: bytes, name: str, session: str) -> dict:
    """Upload and paint."""
    (path,) = json.loads(upload(server, data, name).body)
    assert join(server, file_data(path), session).status == 200
    return result(server, session)


def fetched(server: Server, file: dict) -> bytes:
    """A file of a result."""
    answer = ask(server, "GET", quote(urlsplit(file["url"]).path or file["url"], safe="/="))
    assert answer.status == 200
    return answer.body


def encoded(width: int = 40, height: int = 32, image_format: str = "PNG", seed: int = 0, **options) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, image_format, **options)
    return data.getvalue()


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


SECRET = b"the secret of this machine"


class Place(NamedTuple):
    """What lies beside the server."""

    ckpt: Path
    secret: Path
    picture: Path
    samples: Path


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Place:
    home = tmp_path_factory.mktemp("beside")
    (home / "samples").mkdir()
    for index in range(2):
        written(home / "samples" / f"sample {index}.png", encoded(seed=10 + index))
    return Place(
        tiny_checkpoint(home / "best.ckpt"),
        written(home / "secret.txt", SECRET),
        written(home / "secret.png", encoded(seed=77)),
        home / "samples",
    )


@pytest.fixture(scope="session")
def server(place, tmp_path_factory):
    """One whose environment has all that opens doors."""
    home = str(place.secret.parent)
    opening = {
        "GRADIO_ALLOWED_PATHS": f"{home},/",
        "GRADIO_ANALYTICS_ENABLED": "True",
        "GRADIO_DEBUG": "1",
        "GRADIO_DEFAULT_CONCURRENCY_LIMIT": "none",
        "GRADIO_EXAMPLES_CACHE": home,
        "GRADIO_LOCAL_DEV_MODE": "1",
        "GRADIO_MCP_SERVER": "True",
        "GRADIO_NUM_WORKERS": "2",
        "GRADIO_PROFILING": "1",
        "GRADIO_ROOT_PATH": "http://evil.example",
        "GRADIO_RUN_HISTORY": "True",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": "1",
        "GRADIO_SHARE": "True",
        "GRADIO_SSR_MODE": "True",
        "GRADIO_TEMP_DIR": home,
        "GRADIO_VIBE_MODE": "1",
        "GRADIO_WATCH_DIRS": home,
        "HTTP_PROXY": "http://192.0.2.1:1",
        "SPACE_ID": "somebody/something",
        "SYSTEM": "spaces",
    }
    arguments = [f"ckpt={place.ckpt}", "max_megabytes=1", "max_megapixels=2", "queue=1", f"samples={place.samples}"]
    started = Server(tmp_path_factory.mktemp("server"), *arguments, **opening)
    try:
        yield started.wait()
    finally:
        started.end()


def predicted(place: Place, data: bytes, name: str, folder: Path, *arguments: str) -> bytes:
    """What predict.py makes of a file."""
    source, target = written(folder / name, data), folder / "predicted" / name
    predict([f"ckpt={place.ckpt}", f"input={source}", f"output={target}", "device=cpu", "again=true", *arguments])
    return target.read_bytes()


# Without a browser


def test_a_picture_comes_back_as_predict_makes_it_without_its_place(server, place, tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x8298] = "Camera", "A. Person"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.0)})
    data = encoded(image_format="JPEG", quality=95, exif=exif.tobytes())
    (before, after), download, facts, _ = painted(server, data, "holiday.jpg", "place")["output"]["data"]
    assert download["value"]["orig_name"] == "holiday_monet.jpg"
    assert "40 x 32 pixels" in facts
    full = fetched(server, download["value"])
    assert full == predicted(place, data, "holiday.jpg", tmp_path)
    with Image.open(io.BytesIO(full)) as image:
        kept = image.getexif()
        assert (kept[0x010F], kept[0x8298]) == ("Camera", "A. Person")
        assert kept.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
        assert not kept.get_ifd(0x8825)
    for shown in (before, after):
        with Image.open(io.BytesIO(fetched(server, shown))) as image:
            assert (image.format, image.size, len(image.getexif()), dict(image.info)) == ("PNG", (40, 32), 0, {})


TRAVERSALS = [
    "GET {secret}",
    "GET /../../../../../../../..{secret}",
    "GET /static/../../../../../../../../../../../../..{secret}",
    "GET /static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..{secret}",
    "GET /static/%252e%252e%252f%252e%252e%252f..{secret}",
    "GET /static//{secret}",
    "GET /assets/....//....//....//....//..{secret}",
    "GET /assets/..\\..\\..\\..\\..{secret}",
    "GET /assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e{secret}",
    "GET /svelte/../../../../../../../../../../..{secret}",
    "GET /theme.css/../../../../../..{secret}",
    "GET /gradio_api/file={secret}",
    "GET /gradio_api/file=/{secret}",
    "GET /gradio_api/file=%2F{secret_bare}",
    "GET /gradio_api/file={folder}/../../beside0{secret_name}",
    "GET /gradio_api/file={folder}/..%2f..%2f..%2f..%2f..%2f..{secret}",
    "GET /gradio_api/file={folder}/%252e%252e/%252e%252e/..{secret}",
    "GET /gradio_api/file=file://{secret}",
    "GET /gradio_api/file=\\\\127.0.0.1{secret}",
    "GET /gradio_api/file/{secret}",
    "GET /gradio_api/file={ckpt}",
    "GET /gradio_api/file=/proc/self/environ",
    "GET /gradio_api/file=/proc/self/cwd/pyproject.toml",
    "GET /gradio_api/file=/etc/passwd",
    "GET /gradio_api/file=pyproject.toml",
    "GET /gradio_api/file=http://127.0.0.1:{port}/config",
    "GET /gradio_api/file=http://192.0.2.1/",
    "GET /gradio_api/proxy=http://127.0.0.1:{port}/config",
    "GET /gradio_api/proxy=file://{secret}",
    "GET /gradio_api/custom_component/x/client/component/..%2f..{secret}",
    "GET /gradio_api/stream/..%2f..{secret}/1/1/playlist.m3u8",
    "GET /gradio_api/profiling/traces",
    "GET /gradio_api/vibe-code",
    "GET /gradio_api/runs",
    "GET /gradio_api/run-history/buckets",
    "GET /gradio_api/mcp/",
    "GET /gradio_api/dev/reload",
    "GET /gradio_api/openapi.json",
    "GET /monitoring",
    "GET /monitoring/summary",
    "GET /gradio_api/deep_link?session_hash=x",
    "POST /gradio_api/component_server",
    "POST /gradio_api/vibe-edit",
    "POST /gradio_api/process_recording",
    "POST /gradio_api/run/predict",
    "POST /gradio_api/call/v2/predict",
    "POST /gradio_api/api/predict",
    "POST /gradio_api/stream/x",
    "POST /login",
    "PUT /",
]


@pytest.mark.parametrize("request_line", TRAVERSALS)
def test_no_request_reaches_what_is_not_the_pages(server, place, request_line):
    (private,) = server.temporary.iterdir()
    method, _, path = request_line.partition(" ")
    path = path.format(
        secret=place.secret,
        secret_bare=str(place.secret)[1:],
        secret_name=place.secret.name,
        ckpt=place.ckpt,
        folder=private,
        port=server.port,
    )
    answer = ask(server, method, path)
    assert answer.status in (400, 403, 404)
    assert SECRET not in answer.body
    assert len(answer.body) < 200
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "file",
    [
        {"path": "{picture}", "meta": {"_type": "gradio.FileData"}},
        {"path": "{folder}/../../{picture}", "meta": {"_type": "gradio.FileData"}},
        {"path": "http://127.0.0.1:1/secret.png", "meta": {"_type": "gradio.FileData"}},
        {"path": "http://192.0.2.1/secret.png", "meta": {"_type": "gradio.FileData"}},
        {"root": [{"path": "{picture}"}]},
    ],
)
def test_no_message_makes_the_server_read_a_file_or_an_address(server, place, file):
    (private,) = server.temporary.iterdir()
    text = json.dumps(file).replace("{picture}", str(place.picture)).replace("{folder}", str(private))
    assert join(server, json.loads(text), "thief").status == 403


def test_a_link_in_a_message_is_not_followed(server):
    (path,) = json.loads(upload(server, encoded(seed=3)).body)
    file = {**file_data(path), "url": "http://192.0.2.1/secret.png"}
    assert join(server, file, "link").status == 200
    assert result(server, "link")["success"]
    assert "192.0.2.1" not in server.note("calls")


@pytest.mark.parametrize(
    "name", ["../../../evil.png", "/tmp/evil.png", "..\\..\\evil.png", "%2e%2e%2fevil.png", "..", "a/b"]
)
def test_an_upload_lands_in_the_private_folder_whatever_it_is_called(server, name):
    (private,) = server.temporary.iterdir()
    answer = upload(server, encoded(seed=4), name)
    assert answer.status in (200, 400, 500)
    if answer.status == 200:
        (path,) = json.loads(answer.body)
        assert Path(path).resolve().parent.parent == private.resolve()
    assert not list(private.parent.glob("*evil*"))


@pytest.mark.parametrize("name", ["page.html", "drawing.svg", "script.js"])
def test_what_is_uploaded_never_runs_in_a_browser(server, name):
    (path,) = json.loads(upload(server, b"<script>alert(1)</script>", name).body)
    answer = ask(server, "GET", f"/gradio_api/file={path}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "private, no-store"


def test_an_upload_over_the_limit_is_refused_with_the_limit(server):
    slightly = upload(server, bytes(2**20 + 100))
    assert slightly.status == 413
    assert b"maximum allowed size of 1048576 bytes" in slightly.body
    assert upload(server, b"x", Content_Length="99999999")[::2] == (413, b"larger than 1 MB")
    assert upload(server, encoded(), Transfer_Encoding="chunked", Content_Length="x").status in (400, 411)
    (private,) = server.temporary.iterdir()
    assert max(path.stat().st_size for path in private.rglob("*") if path.is_file()) <= 2**20


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
    ],
)
def test_other_pages_can_neither_ask_nor_read(server, headers, status):
    for answer in (
        upload(server, encoded(), **headers),
        join(server, file_data("x"), "x", **headers),
        ask(server, "GET", "/config", **headers),
    ):
        assert answer.status == status
        assert len(answer.body) < 100
        if headers.get("Origin") in ("http://evil.example", "null") and "Host" not in headers:
            assert "access-control-allow-origin" not in answer.headers


def test_the_server_listens_on_one_address_and_calls_nobody(server):
    assert ask(server, "GET", "/").status == 200
    if sys.platform == "linux":  # where all of 127.x.x.x is this machine
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", server.port), timeout=5)
    assert {*server.note("calls").split()} <= {"127.0.0.1", "localhost"}
    assert {path.name for path in server.temporary.iterdir()} == {next(server.temporary.iterdir()).name}
    assert "GRADIO_ALLOWED_PATHS" in server.log()


def test_one_who_knows_a_path_only_gets_pictures_that_were_given_to_him(server):
    (private,) = server.temporary.iterdir()
    assert ask(server, "GET", f"/gradio_api/file={private}/results").status == 403  # no lists
    assert ask(server, "GET", f"/gradio_api/file={private}").status == 403


def test_a_message_that_is_none_is_refused(server):
    for body, status in ((b"{", 400), (b"[" * 100_000, 400), (bytes(300_000), 413), (b"[]", 422)):
        answer = ask(server, "POST", "/gradio_api/queue/join", body, Content_Type="application/json")
        assert answer.status == status


def test_what_nobody_expected_is_told_to_the_server_alone(server):
    (server.notes / "fault").touch()
    try:
        message = painted(server, encoded(seed=5), "in.png", "fault")
    finally:
        (server.notes / "fault").unlink()
    assert message["output"]["error"] == "something went wrong here; whoever runs this page finds in its log what"
    assert "a fault in /some/where" not in json.dumps(message)
    assert "ValueError: a fault in /some/where" in server.log()


def test_what_a_visitor_sent_is_never_shown_to_him_as_html(server):
    (path,) = json.loads(upload(server, encoded(seed=6)).body)
    assert join(server, file_data(path), "html", direction="<img src=x>").status == 200
    assert result(server, "html")["output"]["error"].startswith("direction=&lt;img src=x&gt; is not known")
    assert join(server, {**file_data(path), "orig_name": 5}, "type").status == 200
    assert result(server, "type")["output"] == {"error": None}  # gradio's own, without a word


# With a browser


def wait_for(found, seconds: float = PATIENCE):
    """What comes true in the end."""
    from selenium.common.exceptions import WebDriverException

    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(WebDriverException):
            value = found()
            if value:
                return value
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def element(browser, selector: str):
    return browser.find_element("css selector", selector)


def visit(browser, server: Server) -> None:
    browser.get(server.url)
    wait_for(lambda: element(browser, "#photo input[type=file]"))


def drop(browser, path: Path) -> None:
    element(browser, "#photo input[type=file]").send_keys(str(path))


def source(browser) -> str:
    """Where the picture on the wall comes from, once it is there."""
    images = browser.find_elements("css selector", "#slider img")
    loaded = [browser.execute_script("return arguments[0].naturalWidth", image) for image in images]
    return images[1].get_attribute("src") if len(loaded) == 2 and all(loaded) else ""


def paint(browser, path: Path) -> str:
    drop(browser, path)
    wait_for(lambda: element(browser, "#download").is_displayed())
    return wait_for(lambda: source(browser))


def complaint(browser) -> str:
    """The text of the message in the corner."""
    return wait_for(lambda: element(browser, "[data-testid='toast-text']").text)


class Wire:
    """The network as the browser's developer tools show it."""

    def __init__(self, browser) -> None:
        import websocket

        address = browser.capabilities["goog:chromeOptions"]["debuggerAddress"]
        host, _, port = address.partition(":")
        connection = http.client.HTTPConnection(host, int(port))
        connection.request("GET", "/json")
        pages = [page for page in json.load(connection.getresponse()) if page["type"] == "page"]
        connection.close()
        self.socket = websocket.create_connection(pages[0]["webSocketDebuggerUrl"], suppress_origin=True)
        self.socket.send(json.dumps({"id": 1, "method": "Network.enable"}))

    def requests(self) -> list[str]:
        """All addresses that were asked for."""
        import websocket

        self.socket.settimeout(0.5)
        found = []
        with contextlib.suppress(websocket.WebSocketTimeoutException):
            while True:
                message = json.loads(self.socket.recv())
                if message.get("method") == "Network.requestWillBeSent":
                    found.append(message["params"]["request"]["url"])
        self.socket.close()
        return found


def test_a_picture_is_dropped_painted_looked_at_and_downloaded(server, place, open_browser, tmp_path):  # noqa: F811
    browser = open_browser(DESKTOP)
    wire = Wire(browser)
    visit(browser, server)
    data = encoded(seed=20)
    runs = len(server.note("runs"))
    first = paint(browser, written(tmp_path / "in.png", data))
    assert browser.title == element(browser, "h1").text == "Photo to Monet"
    assert "40 x 32 pixels · painted in" in element(browser, "#facts").text
    assert browser.execute_script("return document.documentElement.scrollHeight") <= DESKTOP[1]
    assert downloaded(browser, "in_monet.png") == predicted(place, data, "in.png", tmp_path)

    # Other looks at it are had without the network.
    element(browser, "#color input[value=photo]").click()
    second = wait_for(lambda: source(browser) not in ("", first) and source(browser))
    number = element(browser, "#strength input[type=number]")
    browser.execute_script("arguments[0].value = 0.5; arguments[0].dispatchEvent(new Event('input'))", number)
    wait_for(lambda: source(browser) not in ("", first, second))
    assert len(server.note("runs")) == runs + 1
    expected = predicted(place, data, "in.png", tmp_path, "color=photo", "strength=0.5")
    assert downloaded(browser, "in_monet.png") == expected

    element(browser, "#direction input[value=monet_to_photo]").click()
    wait_for(lambda: len(server.note("runs")) == runs + 2)
    arguments = ("color=photo", "strength=0.5", "direction=monet_to_photo")
    assert wait_for(lambda: downloaded(browser, "in_photo.png")) == predicted(
        place, data, "in.png", tmp_path, *arguments
    )

    asked = [urlsplit(url) for url in wire.requests()]
    assert len(asked) > 20
    assert {url.netloc for url in asked if url.scheme not in ("data", "blob")} == {urlsplit(server.url).netloc}
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def downloaded(browser, name: str) -> bytes:
    """What the button gives."""
    element(browser, "#download").click()
    path = Path(browser.downloads) / name
    wait_for(lambda: arrived(path))
    data = path.read_bytes()
    path.unlink()
    return data


def test_mistakes_are_one_line_on_the_page(server, open_browser, tmp_path):  # noqa: F811
    browser = open_browser(DESKTOP)
    bomb = bytearray(encoded(16, 16))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    tracebacks = server.log().count("Traceback")
    for name, data, line in (
        ("none.jpg", b"no picture", "none.jpg: not a BMP, GIF, JPEG, PNG, TIFF or WEBP image"),
        ("&lt;i&gt;.png", b"x", "&lt;i&gt;.png: not a"),
        ("bomb.png", bytes(bomb), "bomb.png: larger than 200 megapixels"),
        ("small.png", encoded(8, 8), "small.png: an image of 8x8 pixels is too small, 16x16 is the least"),
        ("pixels.png", gray(2000, 1500), "pixels.png: 2000x1500 are 3 megapixels, at most 2"),
        ("large.png", bytes(2**20 + 2**17), "large.png"),
    ):
        visit(browser, server)
        drop(browser, written(tmp_path / name, data))
        assert line in complaint(browser)
        assert "\n" not in complaint(browser)
    assert server.log().count("Traceback") == tracebacks


def gray(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("L", (width, height), 128).save(data, "PNG")
    return data.getvalue()


def test_who_finds_the_queue_full_is_told_and_the_others_get_their_own(server, place, open_browser, tmp_path):  # noqa: F811
    browser = open_browser(DESKTOP)
    visit(browser, server)
    pictures = [encoded(seed=30), encoded(seed=31)]
    runs = len(server.note("runs"))
    with server.held():
        for index, data in enumerate(pictures):
            (path,) = json.loads(upload(server, data, f"{index}.png").body)
            assert join(server, file_data(path), f"visitor {index}".replace(" ", "")).status == 200
            wait_for(lambda: len(server.note("runs")) == runs + 1)  # the first is at work, the second waits
        drop(browser, written(tmp_path / "late.png", encoded(seed=32)))
        assert "This application is currently busy. Please try again." in complaint(browser)
    for index, data in enumerate(pictures):
        download = result(server, f"visitor{index}")["output"]["data"][1]["value"]
        assert fetched(server, download) == predicted(place, data, f"{index}.png", tmp_path)


def test_the_page_fits_a_phone_by_day_and_night(server, open_browser, tmp_path):  # noqa: F811
    browser = open_browser(PHONE)
    for scheme, dark in (("light", False), ("dark", True)):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        visit(browser, server)
        widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
        assert browser.execute_script(widths) == [PHONE[0], PHONE[0]]
        paint(browser, written(tmp_path / "in.png", encoded(300, 100)))
        assert browser.execute_script(widths) == [PHONE[0], PHONE[0]]
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(","))) < 150) == dark


def test_a_sample_is_painted_when_it_is_clicked(server, place, open_browser, tmp_path):  # noqa: F811
    browser = open_browser(DESKTOP)
    visit(browser, server)
    wait_for(lambda: len(browser.find_elements("css selector", "#samples img")) == 2)
    browser.find_elements("css selector", "#samples button")[1].click()
    wait_for(lambda: source(browser))
    data = (place.samples / "sample 1.png").read_bytes()
    assert downloaded(browser, "sample 1_monet.png") == predicted(place, data, "sample 1.png", tmp_path)


# In the end


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def short(request, place, tmp_path):
    """A server that keeps nothing for long, and the signal that ends it."""
    started = Server(tmp_path, f"ckpt={place.ckpt}", "keep_minutes=0.1").wait()
    yield started, request.param
    if started.process.poll() is None:
        started.end()


def test_pictures_go_after_a_while_and_the_rest_at_the_end(short):
    server, number = short
    (private,) = server.temporary.iterdir()
    assert private.stat().st_mode & 0o777 == 0o700
    assert painted(server, encoded(), "in.png", "s")["success"]
    assert len([path for path in private.rglob("*.png") if "samples" not in path.parts]) == 4
    wait_for(lambda: not [path for path in private.rglob("*.png") if "samples" not in path.parts])
    (path,) = json.loads(upload(server, encoded(seed=1)).body)
    assert hashlib.sha256(Path(path).read_bytes()).digest() == hashlib.sha256(encoded(seed=1)).digest()
    with server.held():
        join(server, file_data(path), "late")
        wait_for(lambda: len(server.note("runs")) == 2)  # even in the middle of a translation
        began = time.monotonic()
        status = server.end(number)
    assert time.monotonic() - began < 10
    assert status == (130 if number == signal.SIGINT else 0)
    assert "Traceback" not in server.log()
    assert "ERROR" not in server.log()
    assert list(server.temporary.iterdir()) == []


def test_a_hubs_folder_serves_its_page_by_its_own_code(tmp_path):
    ckpt, folder = tiny_checkpoint(tmp_path / "best.ckpt"), tmp_path / "hub"
    export([f"ckpt={ckpt}", "format=hub", f"output={folder}"])
    ckpt.unlink()
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(folder)!r}); sys.argv = ['app.py', 'port={any_port()}']\n"
        "import monet_cyclegan; print(monet_cyclegan.__file__, flush=True)\n"
        f"runpy.run_path({str(folder / 'app.py')!r}, run_name='__main__')"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert Path(process.stdout.readline().strip()).parent == folder / "monet_cyclegan"
        address = urlsplit(process.stdout.readline().split()[1])
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE)
        connection.request("GET", "/")
        page = connection.getresponse().read()
        connection.close()
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert b"Photo to Monet" in page
