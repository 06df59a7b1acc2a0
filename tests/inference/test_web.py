"""The folder of format=web: what lies in it, what is kept of earlier ones, and how its front end is built."""

from __future__ import annotations

import json
import os
import re
import threading
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference import web
from monet_cyclegan.inference.web import front_end, is_ours, largest_map, write_page
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.networks.unet import UNetGenerator
from monet_cyclegan.weights import Description

NETWORK = {"_target_": "monet_cyclegan.networks.resnet.ResNetGenerator"}
BOTH = ("photo_to_monet", "monet_to_photo")


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """No npm and no ONNX: what they would make is made up."""
    built = tmp_path / "built"
    built.mkdir()
    names = ("index.html", "main.js", "sw.js", *(f"{stem}.{end}" for stem in web.RUNTIMES.values() for end in WASM))
    for name in names:
        (built / name).write_text(name)
    monkeypatch.setattr(web, "front_end", lambda: built)

    def write(path: Path, _generator: object, description: Description, *, half: bool) -> float:
        path.write_text(f"{description.directions} {half}")
        return 0.0

    monkeypatch.setattr(web, "write_onnx", write)
    return built


WASM = ("mjs", "wasm")


def write(folder: Path, directions: tuple[str, ...] = BOTH, **options: object) -> str:
    generators = {name: ResNetGenerator(1, 2).eval() for name in directions}
    description = Description(NETWORK, directions, ("experiment=tiny",), "CC0-1.0")
    return write_page(folder, generators, description, **options)  # type: ignore[arg-type]


def told(folder: Path) -> dict:
    return json.loads((folder / "page.json").read_text())


def test_the_folder_says_what_is_in_it_and_the_line_how_to_look(quick, tmp_path):
    folder = tmp_path / "my page"
    line = write(folder, half=True)
    assert line.startswith(f"{folder}, 0.0 MB, ")
    assert f"python -m http.server --directory '{folder}', at http://localhost:8000" in line
    page = told(folder)
    assert (page["licence"], page["recipe"], page["samples"]) == ("CC0-1.0", ["experiment=tiny"], [])
    assert [entry["name"] for entry in page["directions"]] == [*BOTH]
    for entry in (*page["directions"], *page["runtimes"].values()):
        assert (folder / entry["file"]).stat().st_size == entry["bytes"]
    assert (folder / "photo_to_monet.onnx").read_text() == "('photo_to_monet',) True"
    assert {*page["files"]} == {path.name for path in folder.iterdir()}
    assert page["map_bytes"] == 12
    first, _, rest = (folder / "sw.js").read_text().partition("\n")
    assert rest == "sw.js"
    worker = json.loads(first.removeprefix("self.PAGE = ").removesuffix(";"))
    assert worker["version"] == page["version"]
    assert {*worker["shell"]} == {"./", "main.js", "page.json", *(f"{stem}.mjs" for stem in web.RUNTIMES.values())}


def test_samples_are_small_upright_and_tell_nothing(quick, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "a secret camera"
    sample = tmp_path / "sample.jpg"
    Image.fromarray(np.zeros((600, 2000, 3), np.uint8)).save(sample, exif=exif)
    write(tmp_path / "page", samples=[sample])
    (entry,) = told(tmp_path / "page")["samples"]
    for name, size in (("file", (307, 1024)), ("small", (72, 240))):
        path = tmp_path / "page" / entry[name]
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", size)
        assert not any(word in path.read_bytes() for word in (b"Exif", b"secret"))


def test_the_version_is_one_of_all_that_is_in_it(quick, tmp_path):
    versions = []
    for change in (None, None, "main.js", "ort-wasm-simd-threaded.wasm"):
        if change:
            (quick / change).write_text("changed")
        write(tmp_path / "page")
        versions.append(told(tmp_path / "page")["version"])
    assert versions[0] == versions[1]
    assert len({*versions}) == 3


def test_an_earlier_page_is_replaced_as_a_whole(quick, tmp_path):
    folder = tmp_path / "page"
    write(folder)
    write(folder, BOTH[1:])
    assert [path.name for path in folder.glob("*.onnx")] == ["monet_to_photo.onnx"]
    assert {path.name for path in tmp_path.iterdir()} == {"page", "built"}


@pytest.mark.parametrize("name", ["holiday.jpg", "page.json", ".git/config", "samples/my own.jpg"])
def test_what_is_not_ours_is_never_overwritten(quick, tmp_path, name):
    folder = tmp_path / "page"
    if name != "page.json":
        write(folder)  # with a file of the user's in it
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text('{"made_by": "somebody"}')
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert not is_ours(folder)
    with pytest.raises(UserError, match="page holds something else already"):
        write(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("text", ["[]", "no json", "{}", '{"made_by": "monet_cyclegan", "files": 1}'])
def test_a_strange_description_is_not_ours(tmp_path, text):
    (tmp_path / "page.json").write_text(text)
    assert not is_ours(tmp_path)


def test_of_what_fails_nothing_is_left(quick, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise UserError("no")

    monkeypatch.setattr(web, "write_onnx", refuse)
    with pytest.raises(UserError, match=r"^no$"):
        write(tmp_path / "page")
    assert [path.name for path in tmp_path.iterdir()] == ["built"]


@pytest.mark.parametrize(
    ("generator", "expected"),
    [
        (ResNetGenerator(1, 8), 4 * 8),
        (ResNetGenerator(1, 2), 4 * 3),
        (UNetGenerator(5, 16, max_channels=16), 4 * 32 // 4),
    ],
)
def test_the_largest_map_is_measured(generator, expected):
    assert largest_map(generator.eval()) >= expected
    assert largest_map(generator) <= 4 * expected
    assert not any(module._forward_hooks for module in generator.modules())
    assert torch.is_grad_enabled()


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A cache folder of its own, and an npm that does what the given shell lines say; counts its calls."""
    if os.name == "nt":
        pytest.skip("the stand-in for npm is a shell script")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def stand_in(lines: str) -> Path:
        script = tmp_path / "bin" / "npm"
        script.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path / "calls"}\n{lines}\n')
        script.chmod(0o755)
        return tmp_path / "calls"

    return stand_in


BUILDS = "if [ $1 = run ]; then sleep 0.2; mkdir dist; cp index.html dist; fi"


def test_the_front_end_is_built_once(npm, tmp_path):
    calls = npm(BUILDS)
    built = front_end()
    assert (built / "index.html").read_text() == (web.SOURCES / "index.html").read_text()
    assert built.parent == tmp_path / "cache" / "monet_cyclegan" / "web_page"
    assert front_end() == built
    assert calls.read_text().split() == ["ci", "run"]
    assert [*built.parent.iterdir()] == [built]


def test_changed_sources_are_built_anew(npm, tmp_path, monkeypatch):
    npm(BUILDS)
    first = front_end()
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "index.html").write_text("new")
    monkeypatch.setattr(web, "SOURCES", sources)
    assert (front_end() / "index.html").read_text() == "new"
    assert first.is_dir()


def test_two_exports_at_once_build_beside_each_other(npm):
    npm(BUILDS)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(front_end())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]
    assert [*found[0].parent.iterdir()] == [found[0]]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            "echo 'npm error code ENOTFOUND' >&2\n"
            "echo 'npm error network request to https://host/x failed, reason: getaddrinfo ENOTFOUND host' >&2\n"
            "echo 'npm error network In most cases you are behind a proxy' >&2\n"
            "echo 'npm error A complete log of this run can be found in: /x.log' >&2\nexit 1",
            r"npm ci failed: network request to https://host/x failed, reason: getaddrinfo ENOTFOUND host$",
        ),
        ("echo 'npm ERR! the lock file is stale' >&2\nexit 1", "npm ci failed: the lock file is stale$"),
        ("[ $1 = ci ] || { echo broken; exit 3; }", "npm run failed: broken$"),
        ("exit 1", "npm ci failed: it gave no reason$"),
        ("", "can't be built there"),  # says that all is well, and makes nothing
    ],
)
def test_what_npm_fails_at_is_one_line_and_nothing_stays(npm, tmp_path, lines, why):
    npm(lines)
    with pytest.raises(UserError, match=why) as error:
        front_end()
    assert "\n" not in str(error.value)
    assert not [*(tmp_path / "cache" / "monet_cyclegan" / "web_page").iterdir()]


def test_without_npm_the_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^format=web builds its page with npm: install Node\.js 18 or newer"):
        front_end()


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, npm):
    npm(BUILDS)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="the page can't be built there"):
        front_end()


def test_packages_are_pinned_and_fetched_from_wherever_npm_is_set_to():
    package = json.loads((web.SOURCES / "package.json").read_text())
    lock = json.loads((web.SOURCES / "package-lock.json").read_text())
    assert package["private"]
    assert {**package["dependencies"], **package["devDependencies"]} == {
        "onnxruntime-web": "1.30.0",
        "esbuild": "0.28.2",
    }
    entries = {name: entry for name, entry in lock["packages"].items() if name}
    assert entries
    assert all(entry["integrity"].startswith("sha512-") for entry in entries.values())
    assert "://" not in (web.SOURCES / "package-lock.json").read_text()
    for name, version in {**package["dependencies"], **package["devDependencies"]}.items():
        assert entries[f"node_modules/{name}"]["version"] == version


def test_the_page_needs_no_other_host_and_nothing_inline():
    html = (web.SOURCES / "index.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]+)"', html)
    assert policy
    rules = dict(rule.split(maxsplit=1) for rule in policy[1].split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self' 'wasm-unsafe-eval'",
        "worker-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not re.search(r"\s(style|on\w+)=|<style|<script(?![^>]*\ssrc=)", html)
    for source in web.SOURCES.iterdir():
        addresses = {*re.findall(r"https?://[^\s\"'`<]+", source.read_text())}
        assert addresses <= {"http://localhost:8000", "http://www.w3.org/2000/svg"}, source.name


def test_all_sources_are_package_data_and_no_folder_is():
    tomllib = pytest.importorskip("tomllib")
    root = Path(web.__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    names = [path.relative_to(root / "monet_cyclegan").as_posix() for path in web.SOURCES.iterdir() if path.is_file()]
    assert "inference/web_page/package-lock.json" in names
    assert all(any(fnmatch(name, pattern) for pattern in patterns["monet_cyclegan"]) for name in names)
    assert not any("**" in pattern for pattern in patterns["monet_cyclegan"])
