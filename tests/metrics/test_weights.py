from __future__ import annotations

import hashlib
import socket
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch

from monet_cyclegan.metrics import weights
from monet_cyclegan.metrics.weights import TIMEOUT_S, Weights, fetch, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 5000  # more than one block
HASH = hashlib.sha256(CONTENT).hexdigest()


class Request(NamedTuple):
    path: str
    timeout: float | None  # the process's default while it was served


class Server(ThreadingHTTPServer):
    """Sends the whole file at /whole, a part of it at /part, and nothing for long at /silent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[Request] = []
        self.finished = threading.Event()

    def weights(self, path: str = "whole", sha256: str = HASH) -> Weights:
        return Weights(f"http://127.0.0.1:{self.server_port}/{path}", "network.pth", sha256)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(Request(self.path, socket.getdefaulttimeout()))
        if self.path == "/silent":
            self.server.finished.wait(10)
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: 1000 if self.path == "/part" else None])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=partial(running.serve_forever, poll_interval=0.01))
        thread.start()
        yield running
        running.finished.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where files are kept, below a hub folder of the test's own."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_weights_are_downloaded_once(server, folder):
    path = fetch(server.weights())
    assert path == folder / "network.pth"
    assert path.read_bytes() == CONTENT
    assert fetch(server.weights()) == path
    assert [request.path for request in server.requests] == ["/whole"]
    assert list(folder.iterdir()) == [path]


def test_weights_that_are_there_need_no_network(folder):
    folder.mkdir(parents=True)
    (folder / "network.pth").write_bytes(CONTENT)
    assert fetch(Weights(f"http://127.0.0.1:{closed_port()}", "network.pth", HASH)).read_bytes() == CONTENT


@pytest.mark.parametrize(("path", "expected"), [("whole", "0" * 64), ("whole", HASH[:-1] + "g"), ("part", HASH)])
def test_another_file_than_the_expected_is_refused_and_not_kept(server, folder, path, expected):
    with pytest.raises(ValueError, match=f"/{path} sent is not the file with SHA-256 {expected}$"):
        fetch(server.weights(path, sha256=expected))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("cached", [CONTENT[:1000], b"", b"x" + CONTENT[1:]], ids=["part", "empty", "corrupt"])
def test_a_damaged_file_is_fetched_again(server, folder, cached):
    folder.mkdir(parents=True)
    (folder / "network.pth").write_bytes(cached)
    assert fetch(server.weights()).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_no_server_is_an_os_error_and_leaves_nothing(folder):
    with pytest.raises(OSError, match="refused"):
        fetch(Weights(f"http://127.0.0.1:{closed_port()}/whole", "network.pth", HASH))
    assert list(folder.iterdir()) == []


def test_a_missing_page_is_an_os_error_and_leaves_nothing(server, folder):
    with pytest.raises(OSError, match="404") as caught:
        fetch(server.weights("missing"))
    caught.value.close()
    assert list(folder.iterdir()) == []


def test_a_server_that_says_nothing_is_given_up(server, folder, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT_S", 0.1)
    with pytest.raises(OSError, match="timed out"):
        fetch(server.weights("silent"))
    assert list(folder.iterdir()) == []


@pytest.fixture(params=[None, 7.0])
def default_timeout(request: pytest.FixtureRequest) -> Iterator[float | None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(request.param)
    yield request.param
    socket.setdefaulttimeout(before)


def test_a_timeout_holds_while_a_file_is_downloaded_and_no_longer(server, default_timeout):
    fetch(server.weights())
    assert [request.timeout for request in server.requests] == [TIMEOUT_S]
    assert socket.getdefaulttimeout() == default_timeout


def test_no_timeout_is_left_behind_by_failures(server, default_timeout):
    with pytest.raises(ValueError, match="is not the file"):
        fetch(server.weights("part"))
    assert socket.getdefaulttimeout() == default_timeout
    with pytest.raises(OSError, match="refused"):
        fetch(Weights(f"http://127.0.0.1:{closed_port()}", "network.pth", HASH))
    assert socket.getdefaulttimeout() == default_timeout


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_a_hash_is_that_of_the_whole_file(tmp_path, size):
    content = (b"weights" * (size // 7 + 1))[:size]
    (tmp_path / "x").write_bytes(content)
    assert sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("answer", [b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc"])
def test_an_answer_that_is_no_http_or_breaks_off_is_an_os_error(folder, monkeypatch, answer):
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def serve(listener):
        client, _ = listener.accept()
        with client:
            client.recv(1000)
            client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(OSError, match="from http"):
            fetch(Weights(f"http://127.0.0.1:{listener.getsockname()[1]}/", "network.pth", HASH))
        thread.join()
    assert not list(folder.rglob("network.pth"))
