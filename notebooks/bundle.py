"""What kaggle.ipynb needs where there is no network: a folder, and the same as a zip to upload as a Kaggle dataset.

make kaggle-bundle [ckpt=best.ckpt] [inception=weights.pth] [pythons=3.11,3.12] [output=dist/kaggle_bundle]

It has our wheel, the wheels of all that it needs but for `IN_IMAGE`, each in the tested version, the three programs
with their settings, a file that says what is there, and, if they are given, a checkpoint's networks and Inception's
weights.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from monet_cyclegan import CHECKPOINT_KEY, __version__
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
MARKER = "monet_cyclegan_bundle.json"  # by which the notebooks find a bundle
APP = ("train.py", "predict.py", "evaluate.py", "conf", "hydra_plugins", "notebooks/show.py")
IN_IMAGE = ("torch", "torchvision", "numpy", "scipy", "opencv-python-headless", "wandb")
"""What Kaggle's image brings: large, or what everything else there was built for, so it is never replaced."""

SDISTS = ("antlr4-python3-runtime",)  # of which there are no wheels; they are pure Python
GLIBC = range(35, 16, -1)  # Kaggle's image has 2.35
DEFAULTS = {"output": Path("dist/kaggle_bundle"), "ckpt": "", "inception": "auto", "pythons": "3.11,3.12"}
EPOCH = 315532800  # the first second that a zip can hold: the same sources give the same bytes


class Needs(NamedTuple):
    """What our package stands on, for one version of Python."""

    pins: dict[str, str]
    """What goes into the bundle, and in which version."""
    image: dict[str, str]
    """What is left to the image, and which versions of it would do."""


class Fetch(Protocol):
    """Puts the wheels of pinned packages into a folder."""

    def __call__(self, pins: Mapping[str, str], python: str, folder: Path) -> None:
        """Add those that aren't there yet, for one version of Python."""


def needs(python: str, constraints: Path = ROOT / "constraints.txt") -> Needs:
    """Follow our package's requirements, as installed here, to what they need on Kaggle; asks no network.

    Raises:
        UserError: something that is needed isn't installed here, or has no tested version.
    """
    environment: dict[str, Any] = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    tested = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text and ((pin := Requirement(text)).marker is None or pin.marker.evaluate(environment)):
            tested[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")

    pins: dict[str, str] = {}
    image: dict[str, SpecifierSet] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [("monet-cyclegan", "")]
    while waiting:
        name, extra = waiting.pop()
        for text in _requirements(name):
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({**environment, "extra": extra}):
                continue
            needed = canonicalize_name(requirement.name)
            if needed in IN_IMAGE:
                image[needed] = image.get(needed, SpecifierSet()) & requirement.specifier
                continue
            if needed not in tested:
                raise UserError(f"{name} needs {needed}, of which constraints.txt has no version for Python {python}")
            pins[needed] = tested[needed]
            new = {(needed, wanted) for wanted in ("", *requirement.extras)} - seen
            seen |= new
            waiting += sorted(new)
    return Needs(dict(sorted(pins.items())), {name: _strictest(rules) for name, rules in sorted(image.items())})


def download(pins: Mapping[str, str], python: str, folder: Path) -> None:
    """Fetch wheels for CPython on Linux, and build those that nobody offers, which are pure Python."""
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC] + ["--platform=manylinux2014_x86_64"]
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    wheels = [f"{name}=={version}" for name, version in pins.items() if name not in SDISTS]
    _pip("download", "--no-deps", *target, f"--dest={folder}", *wheels)
    for name in SDISTS:
        if name in pins and not list(folder.glob(f"{name.replace('-', '_')}-*-none-any.whl")):
            _pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", f"{name}=={pins[name]}")


def build_our_wheel(folder: Path) -> Path:
    """Build it from a copy of its sources, since setuptools leaves folders behind; asks no network."""
    with tempfile.TemporaryDirectory() as copy:
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        shutil.copytree(ROOT / "monet_cyclegan", Path(copy, "monet_cyclegan"), ignore=_IGNORED)
        _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", f"--wheel-dir={folder}", copy)
    return next(folder.glob("monet_cyclegan-*.whl"))


def make_bundle(
    output: Path,
    pythons: Sequence[str] = ("3.11", "3.12"),
    ckpt: Path | None = None,
    inception: Path | None = None,
    fetch: Fetch = download,
) -> dict[str, Any]:
    """Write the folder, whole or not at all, and ``<output>.zip``; returns what `MARKER` holds.

    Raises:
        UserError: what lies there isn't a bundle, something can't be had, or a file isn't what it should be.
    """
    if output.exists() and not (output / MARKER).is_file():
        raise UserError(f"output={output} exists and is no bundle, so it is not replaced: give another folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as unfinished:
        folder = Path(unfinished) / output.name
        wheels = folder / "wheels"
        wheels.mkdir(parents=True)
        build_our_wheel(wheels)
        image: dict[str, str] = {}
        for python in pythons:
            needed = needs(python)
            fetch(needed.pins, python, wheels)
            image |= needed.image
        for name in APP:
            source, target = ROOT / name, folder / "app" / Path(name).name
            if source.is_dir():
                shutil.copytree(source, target, ignore=_IGNORED)
            else:
                target.parent.mkdir(exist_ok=True)
                shutil.copy(source, target)
        contents: dict[str, Any] = {
            "version": __version__,
            "pythons": list(pythons),
            "needs": image,
            "checkpoint": _add_networks(ckpt, folder) if ckpt else None,
            "inception": _add_inception(inception, folder) if inception else None,
        }
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        contents["files"] = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
        (folder / MARKER).write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
        archive = Path(unfinished) / "bundle.zip"
        _write_zip(archive, folder)
        if output.exists():
            shutil.rmtree(output)
        folder.replace(output)
        archive.replace(output.with_name(f"{output.name}.zip"))
    return contents


def inception_file(value: str) -> Path | None:
    """The file that ``inception=`` means: a path, "none", or "auto" for one that an evaluation downloaded, if any.

    Raises:
        UserError: the file isn't there, or isn't the one that the competition's score is computed with.
    """
    from monet_cyclegan.metrics.features import INCEPTION_WEIGHTS  # loads torch, which takes seconds
    from monet_cyclegan.metrics.weights import sha256

    if value == "none":
        return None
    if value == "auto":
        import torch

        path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_WEIGHTS.file_name
        return path if path.is_file() and sha256(path) == INCEPTION_WEIGHTS.sha256 else None
    path = Path(value).expanduser()
    if not path.is_file():
        raise UserError(f"inception={path} does not exist: give a copy of {INCEPTION_WEIGHTS.url}, or none")
    if sha256(path) != INCEPTION_WEIGHTS.sha256:
        raise UserError(f"inception={path} is not {INCEPTION_WEIGHTS.url}: its SHA-256 differs")
    return path


def report(output: Path, contents: Mapping[str, Any]) -> str:
    """What went in, how large it is, and what it expects of the image."""
    sizes: Mapping[str, int] = contents["files"]
    groups: dict[str, list[int]] = {}
    wheels: dict[str, list[int]] = {}
    for name, size in sizes.items():
        groups.setdefault(name.split("/")[0], []).append(size)
        if name.endswith(".whl"):
            wheels.setdefault(Path(name).name.split("-")[0], []).append(size)
    largest = sorted(wheels, key=lambda name: -sum(wheels[name]))[:5]
    total = f"{output}, and {output.name}.zip beside it: {_mb(sizes.values())}, for Python"
    lines = [f"{total} {' and '.join(contents['pythons'])} on x86-64 Linux"]
    lines += [f"  {name:<16}{_mb(group):>9}  {len(group)} files" for name, group in groups.items()]
    lines.append(f"largest wheels: {', '.join(f'{name} {_mb(wheels[name])}' for name in largest)}")
    lines.append(f"left to Kaggle's image: {', '.join(f'{name}{rule}' for name, rule in contents['needs'].items())}")
    if not contents["inception"]:
        lines.append("no inception=FILE: scores there will be on EfficientNet-Lite0, comparable with each other only")
    if not contents["checkpoint"]:
        lines.append("no ckpt=FILE: training there will start from nothing")
    return "\n".join(lines)


@exit_with_one_line()
def main(argv: Sequence[str]) -> None:
    """Write the bundle that the arguments describe, and say what is in it."""
    values = parse_key_values(argv, DEFAULTS)
    pythons = [python.strip() for python in values["pythons"].split(",")]
    if not all(re.fullmatch(r"3\.\d+", python) for python in pythons):
        raise UserError(f"pythons={values['pythons']} must be versions with commas between them, such as 3.11,3.12")
    ckpt = Path(values["ckpt"]).expanduser() if values["ckpt"] else None
    contents = make_bundle(values["output"], pythons, ckpt, inception_file(values["inception"]))
    print(report(values["output"], contents))


_IGNORED = shutil.ignore_patterns("__pycache__", "local")  # conf/local is the user's own


def _requirements(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        raise UserError(f"{name} is not installed here, so its requirements aren't known: run make setup") from None


def _strictest(rules: SpecifierSet) -> str:
    """Leave out lower bounds below the highest, and upper ones above the lowest."""
    lower = sorted((rule for rule in rules if rule.operator in (">", ">=")), key=lambda rule: Version(rule.version))[
        -1:
    ]
    upper = sorted((rule for rule in rules if rule.operator == "<"), key=lambda rule: Version(rule.version))[:1]
    others = [rule for rule in rules if rule.operator not in (">", ">=", "<")]
    return ",".join(str(rule) for rule in (*lower, *upper, *others))


def _pip(*arguments: str) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pip", *arguments, "--quiet"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or ["ERROR: no reason given"]
        raise UserError(f"pip {arguments[0]} failed: {errors[-1].removeprefix('ERROR: ')}")


def _add_networks(path: Path, folder: Path) -> str:
    """Keep of a checkpoint what ``init_from=`` and predict.py need: half of it is optimizers and image history."""
    import torch

    from monet_cyclegan.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    state = {key: value for key, value in checkpoint["state_dict"].items() if not key.startswith("pool_")}
    torch.save({CHECKPOINT_KEY: checkpoint[CHECKPOINT_KEY], "state_dict": state}, folder / "networks.ckpt")
    return "networks.ckpt"


def _add_inception(path: Path, folder: Path) -> str:
    shutil.copy(path, folder / "inception.pth")
    return "inception.pth"


def _write_zip(path: Path, folder: Path) -> None:
    """Pack a folder, uncompressed, since wheels and checkpoints don't get smaller."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                info = zipfile.ZipInfo(file.relative_to(folder).as_posix())  # dated 1980
                info.external_attr = 0o644 << 16
                with file.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, 1 << 20)


def _mb(sizes: Iterable[int]) -> str:
    return f"{sum(sizes) / 1e6:.1f} MB"


if __name__ == "__main__":
    main(sys.argv[1:])
