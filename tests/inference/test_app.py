"""The page's command line, its doors and its limits, without a browser and without gradio's server."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import io
import json
import os
import socket
import stat
import tempfile
import threading
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_checkpoint, tiny_model
from PIL import Image

from monet_cyclegan.errors import UserError
from monet_cyclegan.images import write_image
from monet_cyclegan.inference.app import address_line, check_gradio, free_port, own_names, serve
from monet_cyclegan.inference.app_doors import (
    HEADERS,
    KEPT,
    MAX_MESSAGE,
    Guard,
    Rules,
    close_environment,
    private_folder,
    refuse,
    refuse_message,
    remove_old,
)
from monet_cyclegan.inference.app_studio import Choices, Settings, Shelf, Studio, find_samples, title_of
from monet_cyclegan.inference.controls import Look
from monet_cyclegan.inference.one_picture import Painted, Painter, Recent, check_size, translated_name
from monet_cyclegan.inference.predict import predict
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.pictures import Picture, read_size


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt")


def encoded(width: int = 24, height: int = 20, image_format: str = "PNG", seed: int = 0, **options) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, image_format, **options)
    return data.getvalue()


def painter(
    built: list[str] | None = None, limit: int = 10**8, seconds: float = 60, max_megapixels: int = 50
) -> Painter:
    def build(direction: str):
        if built is not None:
            built.append(direction)
        return tiny_model().gen_ab

    stopping = threading.Event()
    return Painter(build, torch.device("cpu"), "32-true", "auto", max_megapixels, Recent(limit, seconds), stopping)


@pytest.fixture
def studio(tmp_path):
    rules = Rules(tmp_path / "private", max_bytes=2**17)
    rules.folder.mkdir()
    (tmp_path / "a.png").write_bytes(encoded())
    return Studio(Settings(painter(), ("photo_to_monet", "b_to_a"), "T", (tmp_path / "a.png",), rules, 1, 60))


def dropped(studio: Studio, name: str = "in.png", data: bytes | None = None) -> Path:
    path = studio.settings.rules.folder / "0123" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encoded() if data is None else data)
    return path


def choices(direction="photo_to_monet", strength=1, color="painting", size="") -> Choices:
    return Choices(direction, strength, color, size)


def silent(part: float) -> None:
    """Take progress."""


# The command line


def test_help_is_the_modules_text(capsys):
    serve(["--help"])
    out = capsys.readouterr().out
    assert "max_megapixels" in out
    assert "passwords" in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("ckpt=", r"^ckpt= is missing: python -m monet_cyclegan\.inference\.app ckpt="),
        ("ckp=x", r"^unknown key 'ckp', did you mean 'ckpt'\?"),
        ("share=true", r"^unknown key 'share'"),
        ("ckpt=x port=high", r"^port=high is neither auto nor a number from 1 to 65535$"),
        ("ckpt=x port=70000", r"^port=70000 is neither"),
        ("ckpt=x host=192.0.2.1", r"^host=192\.0\.2\.1 is not an address of this machine$"),
        ("ckpt=x queue=0", r"^queue=0 is not above 0$"),
        ("ckpt=x max_megabytes=-1", r"^max_megabytes=-1 is not above 0$"),
        ("ckpt=x max_megabytes=many", r"^max_megabytes needs a whole number, not 'many'$"),
        ("ckpt=x keep_minutes=nan", r"^keep_minutes=nan is not above 0$"),
        ("ckpt=x max_megapixels=1000", r"^max_megapixels=1000 is above 200, the most there is$"),
        ("ckpt=x samples=/nowhere", r"^samples=/nowhere is no folder$"),
        ("ckpt=/nowhere/x.ckpt port=auto", r"/nowhere/x\.ckpt"),
        ("ckpt={ckpt} port=auto direction=up", r"^direction=up .* choose photo_to_monet or monet_to_photo$"),
        ("ckpt={ckpt} port=auto device=tpu", r"^device=tpu is not on this machine"),
        ("ckpt={ckpt} port=auto precision=8", r"^precision=8 is not known"),
        ("ckpt={ckpt} port=auto tile=maybe", r"^tile=maybe is not known"),
    ],
)
def test_a_mistake_is_one_clear_line(ckpt, arguments, line):
    with pytest.raises(UserError, match=line):
        serve(arguments.format(ckpt=ckpt).split())


def test_a_busy_port_is_named_and_auto_takes_another():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"^port={port} can't be used on 127\.0\.0\.1 \(.*\): try port=auto$"):
            free_port("127.0.0.1", str(port))
        assert free_port("127.0.0.1", "auto") != port


@pytest.mark.parametrize(
    ("version", "line"), [("6.15.2", "gradio 6.15.2 has known holes"), ("7.0.0b1", "gradio 7.0.0")]
)
def test_a_gradio_whose_doors_are_not_known_is_refused(monkeypatch, version, line):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(UserError, match=f"^{line}.*pip install 'monet-cyclegan\\[app\\]'"):
        check_gradio()


def test_without_gradio_a_line_says_what_to_install(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UserError, match=r"^the page needs pip install 'monet-cyclegan\[app\]'$"):
        serve(["ckpt=x", "port=auto"])


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("127.0.0.1", "open http://127.0.0.1:7860"),
        ("localhost", "open http://localhost:7860"),
        ("::1", "open http://[::1]:7860"),
        ("0.0.0.0", "open http://127.0.0.1:7860 (and so may all who can reach this machine)"),
    ],
)
def test_the_line_with_the_address_says_who_can_reach_it(host, line):
    assert address_line(host, 7860) == line


def test_a_direction_becomes_a_title():
    assert title_of("photo_to_monet") == "Photo to Monet"
    assert title_of("aerial_photo_to_map") == "Aerial photo to Map"


# Doors


def asked(method="GET", path="/", host="127.0.0.1:7860", **headers) -> dict:
    named = [(b"host", host.encode())]
    named += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "headers": named}


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (asked(), None),
        (asked("HEAD"), None),
        (asked(path="/assets/index.js"), None),
        (asked("POST", "/gradio_api/queue/join", origin="http://127.0.0.1:7860"), None),
        (asked(host="localhost:7860"), None),
        (asked(host="[::1]:7860"), None),
        (asked(host="192.168.1.5:7860"), None),
        (asked(host="paint.example.org", origin="https://paint.example.org"), None),
        (asked(host="evil.example:7860"), 421),
        (asked(host=""), 421),
        (asked(host="[::1"), 421),
        (asked(origin="http://evil.example"), 403),
        (asked(origin="http://127.0.0.1:9999"), 403),
        (asked(origin="null"), 403),
        (asked(origin=""), 403),
        (asked("PUT"), 404),
        (asked("DELETE", "/gradio_api/upload"), 404),
        (asked(path="/gradio_api/proxy=http://evil.example"), 404),
        (asked(path="/monitoring"), 404),
        (asked(path="/gradio_api/deep_link"), 404),
        (asked("POST", "/gradio_api/component_server"), 404),
        (asked("POST", "/gradio_api/run/predict"), 404),
        (asked(path="/gradio_api/file=http://evil.example/a"), 403),
        (asked(path="/gradio_api/file=/etc/passwd"), 403),
        (asked(path="/gradio_api/file={folder}/../secret"), 403),
        (asked(path="/gradio_api/file={folder}x/secret"), 403),
        (asked(path="/gradio_api/file=\0"), 403),
        (asked(path="/gradio_api/file={folder}/link"), 403),
        (asked(path="/gradio_api/file={folder}/a/b.png"), None),
        (asked("POST", "/gradio_api/upload"), 411),
        (asked("POST", "/gradio_api/upload", content_length="-5"), 411),
        (asked("POST", "/gradio_api/upload", content_length="50000"), 413),
        (asked("POST", "/gradio_api/upload", content_length="1000"), None),
        (asked("POST", "/gradio_api/upload", content_length="9500"), 507),
    ],
)
def test_the_guard_answers_what_is_not_the_pages(tmp_path, scope, status):
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "old.png").write_bytes(bytes(1000))
    rules = Rules(folder, frozenset({"paint.example.org"}), max_bytes=10_000, room=10_000)
    refused = refuse({**scope, "path": scope["path"].replace("{folder}", str(folder))}, rules)
    assert (refused.status if refused else None) == status


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ({"data": [{"path": "{folder}/a.png", "url": "http://127.0.0.1/x"}, 1, "painting"]}, None),
        ({"data": [None]}, None),
        ({"data": [{"path": "/etc/passwd"}]}, 403),
        ({"data": [{"path": "{folder}/../a"}]}, 403),
        ({"data": [{"path": "http://192.0.2.1/a.png"}]}, 403),
        ({"data": [[[{"deep": {"path": "relative.png"}}]]]}, 403),
        ({"data": [{"path": ["/etc/passwd"]}]}, 403),
        ({"path": 5}, 403),
    ],
)
def test_messages_name_files_of_the_folder_only(tmp_path, message, status):
    body = json.dumps(message).replace("{folder}", str(tmp_path)).encode()
    refused = refuse_message(body, tmp_path)
    assert (refused.status if refused else None) == status


def test_messages_are_json_of_some_length(tmp_path):
    assert refuse_message(b"{", tmp_path).status == 400
    assert refuse_message(b"[" * 100_000, tmp_path).status == 400
    assert refuse_message(None, tmp_path).status == 413
    assert refuse_message(b"", tmp_path) is None


def answers(app, scope: dict, folder: Path, *parts: bytes) -> list[dict]:
    """What comes out of a guard in front of ``app``."""
    sent: list[dict] = []
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(app, Rules(folder))(scope, receive, send))
    return sent


async def echo(scope, receive, send):
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Frame-Options", b"ALLOWALL")]})
    await send({"type": "http.response.body", "body": body})


def test_the_guard_hands_messages_on_whole_and_adds_its_headers(tmp_path):
    start, body = answers(echo, asked("POST", "/gradio_api/queue/join"), tmp_path, b'{"a":', b" 1}")
    assert body["body"] == b'{"a": 1}'
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert headers == HEADERS
    assert "default-src 'self'" in headers["content-security-policy"]


def test_the_guard_ends_messages_that_are_too_long(tmp_path):
    parts = [bytes(MAX_MESSAGE // 2)] * 3
    assert answers(echo, asked("POST", "/gradio_api/queue/join"), tmp_path, *parts)[0]["status"] == 413


def test_the_guard_lets_no_cache_keep_pictures(tmp_path):
    start = answers(echo, asked(path=f"/gradio_api/file={tmp_path}/a.png"), tmp_path)[0]
    assert (b"cache-control", b"private, no-store") in start["headers"]


def test_the_guard_opens_no_websocket(tmp_path):
    sent = answers(echo, {**asked(), "type": "websocket"}, tmp_path)
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_the_environment_opens_no_door():
    environ = {
        "GRADIO_ALLOWED_PATHS": "/",
        "GRADIO_SHARE": "True",
        "GRADIO_ANALYTICS_ENABLED": "True",
        "GRADIO_SOMETHING_NEW": "1",
        "SYSTEM": "spaces",
        "SPACE_ID": "a/b",
        "HOME": "/home",
        "NO_PROXY": "intern",
    }
    found = close_environment(environ, "127.0.0.5")
    assert {"GRADIO_ALLOWED_PATHS", "GRADIO_SHARE", "GRADIO_SOMETHING_NEW", "SPACE_ID", "SYSTEM"} <= {*found}
    assert environ["HOME"] == "/home"
    assert environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert {name for name in environ if name.startswith("GRADIO_")} == {"GRADIO_ANALYTICS_ENABLED"}
    assert "SYSTEM" not in environ
    assert environ["no_proxy"] == environ["NO_PROXY"] == "intern,localhost,127.0.0.1,::1,127.0.0.5"


def test_files_lie_in_a_folder_of_this_user_alone_that_goes_in_the_end():
    environ: dict[str, str] = {}
    before = tempfile.tempdir
    with contextlib.suppress(RuntimeError), private_folder(environ) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert environ["GRADIO_TEMP_DIR"] == tempfile.gettempdir() == str(folder)
        (folder / "a").mkdir()
        (folder / "a" / "picture.png").write_bytes(b"x")
        raise RuntimeError("ended")
    assert not folder.exists()
    assert not environ
    assert tempfile.tempdir == before


def test_what_is_old_goes_and_what_is_in_use_or_offered_stays(tmp_path):
    for name in ("old/a.png", "unfinished", "used/b.png", f"{KEPT}/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (0, 0))
        os.utime((tmp_path / name).parent, (0, 0))
    (tmp_path / "used" / "b.png").touch()
    remove_old(tmp_path, 60)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} == {"used/b.png", f"{KEPT}/c.png"}
    os.utime(tmp_path / "old", (0, 0))
    remove_old(tmp_path, 60)
    assert not (tmp_path / "old").exists()


def test_the_page_is_known_under_given_names_and_the_machines():
    assert {"a.org", "b.org"} < own_names("A.org, b.org,")
    assert "" not in own_names("")


# From bytes to a translation


def test_a_translation_has_predicts_pixels(ckpt, studio, tmp_path):
    write_image(tmp_path / "in.png", np.random.default_rng(1).integers(0, 256, (33, 21, 3), dtype=np.uint8))
    data = (tmp_path / "in.png").read_bytes()
    for name, chosen in {"plain": choices(), "mixed": choices(strength=0.4, color="photo", size="")}.items():
        arguments = [f"strength={chosen.strength}", f"color={chosen.color}", "precision=32-true", "device=cpu"]
        predict([f"ckpt={ckpt}", f"input={tmp_path / 'in.png'}", f"output={tmp_path / name}.png", *arguments])
        shown = studio.welcome(dropped(studio, data=data), chosen, "s", silent)
        with Image.open(shown.download) as ours, Image.open(tmp_path / f"{name}.png") as theirs:
            assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_the_network_runs_once_for_all_looks_at_a_picture_and_generators_are_built_when_asked_for(monkeypatch):
    runs, built = [], []
    translate = Translator.__call__
    monkeypatch.setattr(Translator, "__call__", lambda self, image: runs.append(image.shape) or translate(self, image))
    ours = painter(built)
    assert built == []
    for look in (Look(), Look(0.5), Look(1, "photo")):
        ours.paint(encoded(), "other name.png", "photo_to_monet", look)
    assert (runs, built) == ([(20, 24, 3)], ["photo_to_monet"])
    ours.paint(encoded(), "a.png", "photo_to_monet", Look(working_size=32))
    ours.paint(encoded(), "a.png", "monet_to_photo", Look())
    ours.paint(encoded(seed=1), "a.png", "photo_to_monet", Look())
    assert len(runs) == 4
    assert built == ["photo_to_monet", "monet_to_photo"]


def test_pictures_that_wait_for_the_same_translation_get_one(monkeypatch):
    runs, entered, go_on = [], threading.Event(), threading.Event()
    translate = Translator.__call__

    def held(self, image):
        runs.append(1)
        entered.set()
        go_on.wait(10)
        return translate(self, image)

    monkeypatch.setattr(Translator, "__call__", held)
    ours = painter()
    threads = [threading.Thread(target=partial(ours.paint, encoded(), "a.png", "x", Look())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    assert ours.busy
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert runs == [1]
    assert not ours.busy


def kept(side: int) -> Painted:
    return Painted(Picture(np.zeros((side, side, 3), np.uint8)), np.zeros((side, side, 3), np.uint8), 1.0)


def test_the_last_translations_are_kept_within_bytes_and_seconds():
    now = [0.0]
    recent = Recent(13_000, 60, lambda: now[0])
    recent.put(("a",), kept(30))  # 5,400 bytes
    recent.put(("b",), kept(30))
    assert recent.get(("a",)) is not None  # the younger one now
    recent.put(("c",), kept(30))
    assert recent.get(("b",)) is None
    assert len(recent) == 2
    recent.put(("large",), kept(60))
    assert len(recent) == 2
    assert recent.get(("large",)) is None
    recent.put(("d",), kept(30))
    now[0] = 50
    assert recent.get(("d",)) is not None
    now[0] = 105
    assert recent.get(("d",)) is not None
    now[0] = 166
    recent.forget()
    assert len(recent) == 0


def png_header(width: int, height: int) -> bytes:
    """A picture that says it is large, in a few bytes."""
    data = bytearray(encoded(1, 1))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "name", "line"),
    [
        (b"no picture", "a.jpg", r"^a\.jpg: not a BMP, GIF, JPEG, PNG, TIFF or WEBP image$"),
        (b"", "a.jpg", r"^a\.jpg: not a "),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg", r"^a\.svg: not a "),
        (b"\0\0\0\x18ftypheic", "a.heic", r"^a\.heic: HEIC isn't opened here, save it as JPEG or PNG$"),
        (b"\0\0\0\x18ftypheic", "a.jpg", r"^a\.jpg: not a "),
        (png_header(8000, 8000), "a.png", r"^a\.png: 8000x8000 are 64 megapixels, at most 50$"),
        (png_header(60_000, 60_000), "a.png", r"^a\.png: larger than 200 megapixels$"),
        (encoded(8, 8), "a.png", r"^a\.png: an image of 8x8 pixels is too small, 16x16 is the least$"),
        (encoded()[:300], "a.png", r"^a\.png: damaged or unsupported image"),
    ],
)
def test_what_cannot_be_painted_is_one_line(studio, data, name, line):
    with pytest.raises(UserError, match=line):
        studio.welcome(dropped(studio, name, data), choices(), "s", silent)


def test_a_large_header_is_refused_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(
        "monet_cyclegan.inference.one_picture.decode_picture", lambda *arguments: pytest.fail("decoded")
    )
    with pytest.raises(UserError, match="megapixels"):
        painter(max_megapixels=1).paint(encoded(1200, 1000), "a.png", "photo_to_monet", Look())
    assert check_size(encoded(1000, 1000), "a.png", 1) == (1000, 1000)


def test_what_does_not_fit_in_memory_is_one_line(monkeypatch):
    def full(self, image):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Translator, "__call__", full)
    with pytest.raises(UserError, match=r"^a\.png: 24x20 pixels don't fit in memory, choose a smaller working size$"):
        painter().paint(encoded(), "a.png", "photo_to_monet", Look())


def test_a_large_picture_stops_between_strips_when_the_page_closes():
    ours = painter()
    ours.tile = "on"
    parts: list[float] = []
    ours.paint(encoded(64, 64), "a.png", "photo_to_monet", Look(), parts.append)
    assert parts[-1] == 1
    ours.stopping.set()
    with pytest.raises(UserError, match="closed"):
        ours.paint(encoded(64, 64, seed=1), "a.png", "photo_to_monet", Look())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("holiday.jpg", "holiday_monet.jpg"),
        ("Holiday.JPEG", "Holiday_monet.JPEG"),
        ("a.b.webp", "a.b_monet.webp"),
        ("moving.gif", "moving_monet.png"),
        ("scan.jfif", "scan_monet.png"),
        ("none", "none_monet.png"),
    ],
)
def test_a_translation_has_the_name_and_format_of_its_picture(name, expected):
    assert translated_name(name, "photo_to_monet") == expected


# What the page's events get


def test_all_that_belongs_to_a_picture_is_kept_but_for_the_place(studio):
    exif = Image.Exif()
    exif[0x010F], exif[0x8298], exif[0x0112] = "Camera & Co", "A. Person", 6
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.0)})
    data = encoded(image_format="JPEG", exif=exif.tobytes(), dpi=(300, 300))
    assert b"N\0" in data
    shown = studio.welcome(dropped(studio, "a.jpg", data), choices(), "s", silent)
    with Image.open(shown.download) as image:
        found = image.getexif()
        assert (found[0x010F], found[0x8298]) == ("Camera & Co", "A. Person")
        assert found.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
        assert not found.get_ifd(0x8825)
        assert image.size == (20, 24)  # upright
        assert image.info["dpi"] == (300, 300)
    for path in (shown.before, shown.after):
        with Image.open(path) as image:
            assert (image.format, image.size, dict(image.info), len(image.getexif())) == ("PNG", (20, 24), {}, 0)


def test_transparency_is_kept_and_what_is_lost_is_told(studio):
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 24), dtype=np.uint16)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    assert "16 bits became 8" in studio.welcome(dropped(studio, "a.png", data.getvalue()), choices(), "s", silent).facts
    data = io.BytesIO()
    rgba = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(data, "PNG")
    shown = studio.welcome(dropped(studio, "b.png", data.getvalue()), choices(), "s", silent)
    with Image.open(shown.download) as image:
        assert np.array_equal(np.asarray(image)[..., 3], rgba[..., 3])
    shown = studio.welcome(dropped(studio, "b.jpg", data.getvalue()), choices(), "s", silent)
    assert "JPEG has no transparency, so white shows" in shown.facts


def test_previews_are_small_and_downloads_are_not(studio, monkeypatch):
    monkeypatch.setattr("monet_cyclegan.inference.app_studio.PREVIEW", 30)
    shown = studio.welcome(dropped(studio, data=encoded(60, 40)), choices(), "s", silent)
    sizes = [read_size(path.read_bytes(), path.name) for path in (shown.before, shown.after, shown.download)]
    assert sizes == [(30, 20), (30, 20), (60, 40)]


def test_a_large_picture_is_first_painted_smaller(studio, monkeypatch):
    monkeypatch.setattr("monet_cyclegan.inference.app_studio.COMFORTABLE", 32)
    monkeypatch.setattr("monet_cyclegan.inference.app_studio.SIZES", ("", "32"))
    upload = dropped(studio, data=encoded(60, 40))
    assert studio.welcome(upload, choices(), "s", silent).size == "32"
    assert studio.repaint(upload, choices(), "s", silent).size == ""
    assert studio.welcome(dropped(studio, data=encoded(60, 32)), choices(), "s", silent).size == ""


@pytest.mark.parametrize(
    ("chosen", "line"),
    [
        (choices(direction="a_to_b"), "^direction=a_to_b is not known: choose photo_to_monet or b_to_a$"),
        (choices(direction={"path": "/etc/passwd"}), "^direction="),
        (choices(strength=3), "^strength=3 is not a number from 0 to 2$"),
        (choices(strength="<b>"), "^strength=<b>"),
        (choices(color="red"), "^color=red is not known"),
        (choices(color=["painting"]), "^color="),
        (choices(size="100000"), "^working size 100000 is not offered: choose 512, 768, 1024 or its own$"),
        (choices(size=512), "^working size"),
    ],
)
def test_what_a_browser_says_is_not_believed(studio, chosen, line):
    with pytest.raises(UserError, match=line):
        studio.repaint(dropped(studio), chosen, "s", silent)


def test_files_outside_of_the_folder_or_gone_or_too_large_are_not_read(studio, tmp_path):
    (tmp_path / "secret.png").write_bytes(encoded())
    (studio.settings.rules.folder / "link.png").symlink_to(tmp_path / "secret.png")
    for path in (tmp_path / "secret.png", studio.settings.rules.folder / "link.png", Path("relative.png")):
        with pytest.raises(UserError, match=r"^the picture is not one that was dropped here$"):
            studio.welcome(path, choices(), "s", silent)
    with pytest.raises(UserError, match=r"^the picture is no longer here: choose it again$"):
        studio.welcome(studio.settings.rules.folder / "gone.png", choices(), "s", silent)
    with pytest.raises(UserError, match=r"^big\.png: larger than 0\.125 MB$"):
        studio.welcome(dropped(studio, "big.png", bytes(2**17 + 1)), choices(), "s", silent)


def test_a_visitor_has_a_few_results_under_names_that_cannot_be_guessed(tmp_path):
    shelf = Shelf(tmp_path)
    first, second, third = (shelf.place("a") for _ in range(3))
    other = shelf.place("b")
    assert [path.exists() for path in (first, second, third, other)] == [False, True, True, True]
    assert all(len(path.name) == 32 for path in (second, third, other))


def test_a_sample_is_as_if_it_had_been_dropped(studio):
    copy = studio.sample(0)
    assert copy.name == "a.png"
    assert studio.welcome(copy, choices(), "s", silent).download.name == "a_monet.png"


def test_samples_are_the_first_pictures_of_a_folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "c.webp", "d.png", "e.png", "f.png"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_samples(str(tmp_path))] == ["a.PNG", "b.jpg", "c.webp", "d.png", "e.png"]
    assert find_samples("") == ()


def test_a_picture_in_use_is_not_old(studio):
    upload = dropped(studio)
    os.utime(upload, (0, 0))
    studio.repaint(upload, choices(), "s", silent)
    assert time.time() - upload.stat().st_mtime < 60


def test_nothing_is_written_any_more_once_the_page_is_closed(studio):
    upload = dropped(studio)
    studio.welcome(upload, choices(), "s", silent)
    studio.close()
    for work in (lambda: studio.repaint(upload, choices(strength=0.5), "s", silent), lambda: studio.sample(0)):
        with pytest.raises(UserError, match=r"^the page is being closed$"):
            work()
    assert len([*studio.shelf.folder.iterdir()]) == 1
    assert not (studio.settings.rules.folder / "chosen").exists()
