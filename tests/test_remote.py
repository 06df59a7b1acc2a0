"""Weights by address, from a real server with a certificate of the test's own, and by name."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import make_images, tiny_checkpoint

from monet_cyclegan import remote, weights
from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.export import export
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.predict import predict
from monet_cyclegan.remote import fetch_weights, parse_url
from monet_cyclegan.weights import find_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 5000
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Answers by the first part of a path: whole, part, unsized, endless, drip, silent, missing, moved, downgraded."""

    daemon_threads = True

    def __init__(self, content: bytes = CONTENT) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.requests: list[str] = []
        self.finished = threading.Event()

    def url(self, kind: str, sha256: str | None = None, suffix: str = ".safetensors") -> str:
        digest = sha256 or hashlib.sha256(self.content).hexdigest()
        return f"https://localhost:{self.server_port}/{kind}/model{suffix}#sha256={digest}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        self.server.requests.append(kind)
        content = self.server.content
        if kind == "silent":
            self.server.finished.wait(10)
            return
        if kind == "missing":
            self.send_error(404)
            return
        if kind in ("moved", "downgraded"):
            scheme = "https" if kind == "moved" else "http"
            self.send_response(302)
            self.send_header("Location", f"{scheme}://localhost:{self.server.server_port}/whole/other-name")
            self.end_headers()
            return
        self.send_response(200)
        if kind in ("whole", "part", "huge"):
            self.send_header("Content-Length", str(10**12 if kind == "huge" else len(content)))
        self.end_headers()
        try:
            if kind == "drip":
                for byte in content[:1000]:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
            elif kind == "endless":
                while not self.server.finished.is_set():
                    self.wfile.write(content)
            elif kind != "huge":
                self.wfile.write(content[: 1000 if kind == "part" else None])
        except OSError:
            pass  # the client has had enough

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    told = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", *kind, *files, *told], check=True, capture_output=True)
    return folder


@pytest.fixture
def server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with Server() as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
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


def test_predict_translates_with_weights_from_an_address_and_fetches_them_once(server, tmp_path, capsys):
    file = tmp_path / "m.safetensors"
    export([f"ckpt={tiny_checkpoint(tmp_path / 'x.ckpt')}", "format=safetensors", f"output={file}"])
    make_images(tmp_path / "photos", 1)
    server.content = file.read_bytes()
    for name, ckpt in (("near", str(file)), ("far", server.url("whole")), ("kept", server.url("moved"))):
        predict([f"ckpt={ckpt}", f"input={tmp_path / 'photos'}", f"output={tmp_path / name}"])
    pictures = {(tmp_path / name / "000.png").read_bytes() for name in ("near", "far", "kept")}
    assert len(pictures) == 1
    assert server.requests == ["whole"]


@pytest.mark.parametrize("kind", ["whole", "unsized", "moved"])
def test_the_whole_file_is_kept_under_its_hash(server, folder, kind):
    path = fetch_weights(parse_url(server.url(kind)))
    assert path.read_bytes() == CONTENT
    assert [*folder.iterdir()] == [path] == [folder / f"{HASH}.safetensors"]


def test_a_damaged_copy_is_fetched_again(server, folder):
    folder.mkdir(parents=True)
    (folder / f"{HASH}.onnx").write_bytes(CONTENT[:-1])
    assert fetch_weights(parse_url(server.url("whole", suffix=".onnx"))).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "sha256", "line"),
    [
        ("whole", "0" * 64, rf"sent another file: its SHA-256 is {HASH}, not 0{{64}}$"),
        ("part", HASH, r"broke off after 1,000 of 1,280,000 bytes: try again$"),
        ("missing", HASH, r"can't be fetched: 404 Not Found$"),
        ("downgraded", HASH, r"leads to http://localhost\S+: weights come over https:// only$"),
        ("huge", HASH, r"is not fetched: more than 2,000 MB$"),
    ],
)
def test_what_is_not_the_file_is_one_line_and_not_kept(server, folder, kind, sha256, line):
    with pytest.raises(UserError, match=rf"^https://localhost:\d+/{kind}/model.safetensors {line}"):
        fetch_weights(parse_url(server.url(kind, sha256)))
    assert not list(folder.iterdir())


def test_a_file_without_end_is_given_up_at_the_limit(server, folder, monkeypatch):
    monkeypatch.setattr(remote, "MOST_BYTES", 10_000_000)
    with pytest.raises(UserError, match=r"is not fetched: more than 10 MB$"):
        fetch_weights(parse_url(server.url("endless")))
    assert not list(folder.iterdir())


def test_a_server_that_says_nothing_is_given_up(server, monkeypatch):
    monkeypatch.setattr(remote, "TIMEOUT_S", 0.1)
    with pytest.raises(UserError, match=r"can't be fetched: .*timed out$"):
        fetch_weights(parse_url(server.url("silent")))


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(server, monkeypatch):
    monkeypatch.setattr(remote, "DEADLINE_S", 0.1)
    with pytest.raises(UserError, match=r"takes too long: 0\.0 MB in 0 s$"):
        fetch_weights(parse_url(server.url("drip")))


def test_a_certificate_that_nobody_vouches_for_is_refused(server, folder, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UserError, match=r"can't be fetched: .*certificate"):
        fetch_weights(parse_url(server.url("whole")))
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://host/m.safetensors", "weights come over https:// only"),
        ("ftp://host/m.safetensors", "weights come over https:// only"),
        ("file:///etc/m.safetensors", "weights come over https:// only"),
        ("https:///m.safetensors", "weights come over https:// only"),
        ("https://host/best.ckpt", r"\.safetensors and \.onnx files can't run code, others may"),
        ("https://host/m.safetensors/m.pt2", r"\.safetensors and \.onnx files can't run code"),
        ("https://host/m.safetensors", r"hash behind it: https://host/m\.safetensors#sha256= and 64 hexadecimal"),
        ("https://host/m.onnx#sha256=12", "needs the file's hash"),
        ("https://host/m.onnx#md5=" + "0" * 64, "needs the file's hash"),
    ],
)
def test_other_addresses_are_refused_before_anything_is_sent(url, line):
    with pytest.raises(UserError, match=line):
        open_model(url)


def test_an_address_may_have_a_query_and_capitals():
    assert parse_url(f"https://host/M.ONNX?download=true#SHA256={HASH.upper()}") == (
        "https://host/M.ONNX?download=true",
        ".onnx",
        HASH,
    )


def test_a_name_means_the_packages_own_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path / "pretrained")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^no checkpoint at monet; the package's own weights are none so far$"):
        find_weights("monet")
    packaged = tmp_path / "pretrained" / "monet.safetensors"
    export([f"ckpt={tiny_checkpoint(tmp_path / 'x.ckpt')}", "format=safetensors", f"output={packaged}"])
    assert find_weights("monet") == packaged
    assert open_model("monet").description.directions == ("photo_to_monet",)
    with pytest.raises(UserError, match=r"^no checkpoint at manet; the package's own weights are monet$"):
        find_weights("manet")


def test_a_file_here_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "monet.safetensors").touch()
    (tmp_path / "monet").touch()
    assert str(find_weights("monet")) == "monet"
