"""A folder with a page that translates pictures in the visitor's own browser: networks, runtime, and what is seen."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from monet_cyclegan.errors import UserError
from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.inference.onnx_generator import write_onnx
from monet_cyclegan.whole_file import whole_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from monet_cyclegan.weights import Description

MADE_BY = "monet_cyclegan"
SOURCES = Path(__file__).parent / "web_page"
RUNTIMES = {"wasm": "ort-wasm-simd-threaded", "webgpu": "ort-wasm-simd-threaded.asyncify"}
LARGE_SUFFIXES = {".wasm", ".onnx"}  # these the page keeps itself, once it has needed them
_SAMPLE_SIDE = 1024
_THUMBNAIL_SIDE = 240
_COMMANDS = (
    # The packages' own scripts aren't run: nothing here needs them.
    ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retry-mintimeout=1000"),
    ("npm", "run", "build"),
)


def write_page(
    folder: Path,
    generators: Mapping[str, nn.Module],
    description: Description,
    *,
    half: bool = False,
    samples: Sequence[Path] = (),
) -> str:
    """Fill a folder; an earlier page of ours is replaced. Returns a line that says how to look at it.

    Args:
        folder: where to.
        generators: by direction.
        description: of them.
        half: whether weights are stored in float16.
        samples: pictures that the page offers.

    Raises:
        UserError: it holds something else or can't be written, the front end can't be built, a network can't be
            exported, or a sample can't be read.
    """
    with whole_folder(folder, is_ours) as unfinished:
        shutil.copytree(front_end(), unfinished, dirs_exist_ok=True)
        for direction, generator in generators.items():
            write_onnx(
                unfinished / f"{direction}.onnx", generator, description._replace(directions=(direction,)), half=half
            )
        page = _describe(unfinished, description, _write_samples(unfinished, samples))
        page["map_bytes"] = max(map(largest_map, generators.values()))
        (unfinished / "page.json").write_text(json.dumps(page, indent=1), encoding="utf-8")
        worker = unfinished / "sw.js"
        told = {"version": page["version"], "shell": _shell(page["files"])}
        worker.write_text(f"self.PAGE = {json.dumps(told)};\n{worker.read_text(encoding='utf-8')}", encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.rglob("*")) / 1e6
    look = f"python -m http.server --directory {shlex.quote(str(folder))}"
    return f"{folder}, {size:.1f} MB, for any static host; look at it with: {look}, at http://localhost:8000"


def is_ours(folder: Path) -> bool:
    """Whether there is a page of ours, and nothing else that would be lost with it."""
    try:
        page = json.loads((folder / "page.json").read_text(encoding="utf-8"))
        files = {*page["files"]} if page["made_by"] == MADE_BY else set()
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return bool(files) and _files(folder) <= files


def front_end() -> Path:
    """The built front end, from the cache if these sources were built before.

    Raises:
        UserError: npm is missing or fails, or the cache can't be written.
    """
    sources = sorted(path for path in SOURCES.iterdir() if path.is_file())
    digest = hashlib.sha256()
    for path in sources:
        digest.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / MADE_BY / "web_page"
    built = cache / digest.hexdigest()[:16]
    if built.is_dir():
        return built
    if shutil.which("npm") is None:
        raise UserError("format=web builds its page with npm: install Node.js 18 or newer, from https://nodejs.org")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as scratch:
            for path in sources:
                shutil.copy(path, scratch)
            for command in _COMMANDS:
                _run(command, Path(scratch))
            _move(Path(scratch) / "dist", built)
    except OSError as error:
        raise UserError(f"{cache}: the page can't be built there ({error})") from error
    return built


def largest_map(generator: nn.Module) -> int:
    """Bytes for each pixel that the largest of a network's maps takes, by which the page limits a picture's size."""
    sizes = []
    hooks = [
        module.register_forward_hook(lambda _module, _given, output: sizes.append(output.numel()))
        for module in generator.modules()
    ]
    multiple = int(generator.size_multiple)  # type: ignore[arg-type]
    side = max(multiple, 64 // multiple * multiple)
    try:
        with torch.inference_mode():
            generator(torch.zeros(1, 3, side, side))
    finally:
        for hook in hooks:
            hook.remove()
    return 4 * max(sizes) // side**2


def _run(command: Sequence[str], folder: Path) -> None:
    program = shutil.which(command[0]) or command[0]  # by its whole name, which Windows needs
    result = subprocess.run(
        [program, *command[1:]], cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    if result.returncode:
        raise UserError(f"format=web: {' '.join(command[:2])} failed: {_why(result.stderr or result.stdout)}")


def _why(told: str) -> str:
    """The last line that gives a reason; npm ends with where its log is, and with general advice before that."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    lines = [line for line in lines if "complete log of this run" not in line]
    reasons = [line for line in lines if "reason:" in line or "[ERROR]" in line] or lines
    return reasons[-1].removeprefix("npm error ").removeprefix("npm ERR! ") if reasons else "it gave no reason"


def _move(built: Path, target: Path) -> None:
    """Put a folder where it is looked for, unless another export was faster."""
    try:
        built.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _write_samples(folder: Path, samples: Sequence[Path]) -> list[dict[str, str]]:
    """Each as a picture and a thumbnail, of nothing but pixels."""
    written = []
    for index, sample in enumerate(samples):
        picture = Image.fromarray(read_image(sample))
        entry = {}
        for name, side in (("file", _SAMPLE_SIDE), ("small", _THUMBNAIL_SIDE)):
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
            entry[name] = f"samples/{index:02d}{'_small' if name == 'small' else ''}.jpg"
            write_image(folder / entry[name], np.array(picture))
        written.append(entry)
    return written


def _describe(folder: Path, description: Description, samples: list[dict[str, str]]) -> dict[str, Any]:
    """What page.json says; its version is one of all that is in the folder."""
    files = _files(folder)
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(files)}

    def large(name: str) -> dict[str, Any]:
        return {"file": name, "bytes": (folder / name).stat().st_size, "digest": digests[name][:16]}

    page = {
        "made_by": MADE_BY,
        "directions": [{"name": name, **large(f"{name}.onnx")} for name in description.directions],
        "runtimes": {name: {**large(f"{stem}.wasm"), "glue": f"{stem}.mjs"} for name, stem in RUNTIMES.items()},
        "licence": description.licence,
        "recipe": list(description.recipe),
        "samples": samples,
        "files": sorted({*files, "page.json"}),
    }
    version = hashlib.sha256(json.dumps([page, digests], sort_keys=True).encode()).hexdigest()[:16]
    return {"version": version, **page}


def _shell(files: Sequence[str]) -> list[str]:
    """What the service worker keeps from the first visit on: all but itself and what is large."""
    kept = [name for name in files if Path(name).suffix not in LARGE_SUFFIXES and name not in ("sw.js", "index.html")]
    return ["./", *kept]  # the first for index.html, which some hosts send on to there


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
