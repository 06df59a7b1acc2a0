"""The README's commands as written, on tiny images and with networks that are shrunk by further overrides."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ClassicGenerator, make_images

from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.inference.video import find_ffmpeg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# A table's commands stand in its last column. The benchmark, which needs a demo's checkpoint, is run by test_training;
# the pages, which need a browser and npm, by tests/web; scores of the package's weights need the competition's images.
ELSEWHERE = r"-m benchmarks|-m monet_cyclegan\.inference\.app|[^`]*format=web|evaluate\.py ckpt=monet [^`]*held_out"
COMMANDS = sorted(set(re.findall(rf"^\| .* \| `(python (?!{ELSEWHERE})[^`\n]+)`", README, re.M)))

PROGRAMS = ("train.py", "predict.py", "evaluate.py")
RUN = "outputs/unet_monet/TIME"
SHRUNK_DATA = [
    "data.load_size=32",
    "data.crop_size=32",
    "data.eval_size=32",
    "data.num_workers=0",
    "data.val_a=2",
    "data.val_b=2",
    "data.cache=none",
]
SHRUNK = [
    *SHRUNK_DATA,
    "features=efficientnet_lite0",
    "model.generator.base_channels=2",
    "model.discriminator.base_channels=2",
    "model.discriminator.num_layers=1",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1",
    "trainer.accelerator=cpu",
]


SEARCH = ["model/generator=unet", "model.generator.num_levels=3", "trainer.max_epochs=1", "hydra.sweeper.n_trials=1"]
TINY_DEMO = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "data.count_a=8", "data.count_b=8"]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def shrunk(words: list[str]) -> list[str]:
    """Further overrides that make a training command take seconds."""
    if "--cfg" in words:
        return []
    if "evaluate.py" in words:
        return [] if any(word.startswith("features=") for word in words) else ["features=efficientnet_lite0"]
    if "-m" in words:
        return [*SHRUNK, *SEARCH] if "experiment=unet_monet" in words else ["hydra.sweeper.n_trials=1", *TINY_DEMO]
    if any(word.startswith("ckpt_path=") for word in words):  # the rest comes from the checkpoint
        return ["trainer.max_epochs=2"]
    unet = {"experiment=unet_monet", "experiment=kaggle_5h", "experiment=outputs/unet_monet_search/best.yaml"} & {
        *words
    }
    if {"experiment=pretrain", "experiment=distill"} & {*words}:  # which have no discriminators
        return [*(text for text in SHRUNK if "discriminator" not in text), "trainer.max_epochs=1"]
    levels = ["model.generator.num_levels=3"] if unet else []
    one_pair = ["data.val_a=1", "data.val_b=1"] if "debug=overfit" in words else []
    return [*SHRUNK, *levels, *one_pair, "trainer.max_epochs=1"]


def in_repository(words: list[str]) -> list[str]:
    """The same command from another folder than the repository's."""
    return [sys.executable, *(str(ROOT / word) if word in PROGRAMS else word for word in words[1:])]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and with a run as the README's first training command leaves it."""
    folder = tmp_path_factory.mktemp("readme")
    for seed, images in enumerate(
        [
            "data/gan-getting-started/photo_jpg",
            "data/gan-getting-started/monet_jpg",
            "photos",
            "paintings",
            "translated",
        ]
    ):
        make_images(folder / images, 4, seed=seed)
    write_image(folder / "photo.jpg", read_image(folder / "photos" / "000.png"))
    torch.save(ClassicGenerator(6).state_dict(), folder / "latest_net_G_A.pth")
    picture = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=8:duration=0.5"]
    subprocess.run([find_ffmpeg(), "-loglevel", "error", *picture, "clip.mp4"], cwd=folder, check=True)
    words = ["python", "train.py", "experiment=unet_monet"]
    run(in_repository([*words, *shrunk(words), f"hydra.run.dir={RUN}"]), folder)
    words = ["python", "train.py", "-m", "experiment=unet_monet", "hparams_search=optuna"]
    run(in_repository([*words, *shrunk(words), "hydra.sweep.dir=outputs/unet_monet_search"]), folder)
    return folder


def test_there_are_commands_for_every_program_and_experiment():
    assert len(COMMANDS) >= 15
    text = "\n".join(COMMANDS)
    experiments = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")} - {"demo"}  # make demo runs it
    for needed in [*PROGRAMS, "data.explore", *(f"experiment={name}" for name in experiments)]:
        assert needed in text


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_works_as_written(command: str, trained: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    words = shlex.split(command)
    more = shrunk(words) if {"train.py", "evaluate.py"} & {*words} else []
    run(in_repository([*words, *more]), folder)
    made = re.search(r"output=(\S+)", command)
    if made:
        assert (folder / made.group(1)).exists()


def test_every_make_target_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text()
    documents = README + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^make ([a-z-]+)", documents, re.M)) | set(re.findall(r"`make ([a-z-]+)`", documents))
    assert targets >= {"demo", "test", "setup", "lint"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_every_file_and_folder_that_is_linked_exists():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_setting_that_is_named_exists(document: str):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from monet_cyclegan.launch import run_dir

    OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)
    text = (ROOT / document).read_text()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["experiment=unet_monet"])
        folders = compose("train", ["data=folders"])
    keys = set(re.findall(r"`((?:model|data|trainer)\.[a-z_.]+)(?==|`)", text))
    for key in keys - {"trainer.max_steps"}:  # which is named because it is refused
        node = folders if key in ("data.a", "data.b") else cfg
        parent, _, leaf = key.rpartition(".")
        assert leaf in OmegaConf.select(node, parent), key
