"""The printed command of torch-fidelity, run as it is printed, finds the scores that it was printed with."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image
from test_image_sets import tfrecord
from torch_fidelity import registry

from monet_cyclegan.evaluation import fidelity
from monet_cyclegan.evaluation.evaluate import evaluate
from monet_cyclegan.metrics.features import EfficientNetLite0Features, FeatureExtractor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

CONF = Path(__file__).parents[2] / "conf"
LITE0, INCEPTION = "features=efficientnet_lite0", "features=inception"


def picture(seed: int, width: int, height: int) -> Image.Image:
    """Noise whose grain differs from picture to picture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (2 + seed % 7, 3 + seed % 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height))


def put(folder: Path, names: Sequence[str], seed: int = 0, size: tuple[int, int] | None = (32, 32)) -> str:
    """Write a picture under each name; without a size, each of another one."""
    for index, name in enumerate(names, start=seed):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(index, *(size or (30 + index % 5, 40 - index % 3))).save(path)
    return str(folder)


def scored(*overrides: str) -> dict[str, Any]:
    """Score as evaluate.py does, in this process, and give what is in scores.json."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", ["output=out", "cache=cache", "device=cpu", *overrides])
    evaluate(cfg)
    return json.loads(Path("out", "scores.json").read_text(encoding="utf-8"))


def run_as_printed(command: str) -> dict[str, float]:
    """Run in a shell, where python and fidelity are those beside this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "TORCH_HOME": "torch",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    more = " --cpu --json --silent --save-cpu-ram"
    done = subprocess.run(command + more, shell=True, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run the command's program and arguments in this process."""
    monkeypatch.setenv("TORCH_HOME", "torch")

    def run(command: str) -> dict[str, float]:
        python, _, module, *arguments = shlex.split(command)
        assert (python, module) == ("python", fidelity.__name__)
        registry.FEATURE_EXTRACTORS_REGISTRY.pop(fidelity.LITE0, None)
        monkeypatch.setattr(sys, "argv", ["fidelity", *arguments, "--cpu", "--json", "--silent", "--save-cpu-ram"])
        capsys.readouterr()
        fidelity.main()
        return json.loads(capsys.readouterr().out)

    yield run
    registry.FEATURE_EXTRACTORS_REGISTRY.pop(fidelity.LITE0, None)


def assert_same(found: dict[str, Any], reference: dict[str, float]) -> None:
    for ours, theirs in {
        "fid": "frechet_inception_distance",
        "kid_subsets": "kernel_inception_distance_mean",
        "kid_subsets_deviation": "kernel_inception_distance_std",
    }.items():
        # KID is small, and torch-fidelity computes it in float32.
        assert found[ours] == pytest.approx(reference[theirs], rel=1e-4, abs=2e-6), ours
    assert found["kid_subsets_deviation"] > 1e-4  # the subsets differ, so that another order of images would show


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---- as printed ----


def test_images_of_mixed_sizes_and_kinds_in_folders_of_odd_names(tmp_path):
    fake = ["10.jpg", "9.png", "b c/1.webp", "b c/d/2.bmp", "b-c.PNG", "é.jpeg", "$HOME.png"]
    put(tmp_path / 'it\'s "fake"', fake, size=None)
    put(tmp_path / "-real", [f"{index}.png" for index in range(8, 13)], seed=50, size=None)
    found = scored('fake="it\'s \\"fake\\""', "real=./-real", "size=null", "jpeg=false", LITE0)
    assert (found["num_fake"], found["num_real"], found["subset_size"]) == (7, 5, 5)
    assert_same(found, run_as_printed(found["torch_fidelity"]))


@pytest.mark.slow
def test_jpegs_on_inception_with_foreign_weights(inception_file):
    names = [f"{index}.jpg" for index in (10, 9, 1, 2, 30)]
    put(Path("fake"), names[:4])
    put(Path("real"), names, seed=50)
    found = scored("fake=fake", "real=real", "size=32", INCEPTION, f"features.weights={inception_file}")
    assert found["torch_fidelity"].startswith("fidelity ")
    assert "neither Kaggle's nor papers'" in found["mode"]
    assert not found["comparable_with_kaggle"]
    assert_same(found, run_as_printed(found["torch_fidelity"]))


# ---- the same command in this process ----


def test_jpegs_of_the_right_size_in_folders_in_folders_are_scored_as_they_lie(run_here):
    put(Path("fake"), ["x/1.jpg", "x.jpg", "x-1.jpg", "y/z/2.jpeg", "3.JPG"])
    put(Path("real"), ["1.jpg", "10.jpg", "2.jpg", "a/20.jpg", "a/3.jpg", "a.b/4.jpg", "B.jpg"], seed=50)
    found = scored("fake=fake", "real=real", "size=32", LITE0)
    assert_same(found, run_here(found["torch_fidelity"]))


def test_images_that_were_resized_and_compressed_are_compared_where_they_are_kept(run_here):
    put(Path("fake"), ["1.bmp", "2.bmp", "a/3.jpg", "a/10.webp", "a_4.webp"], size=None)
    put(Path("real"), [f"{index}.webp" for index in range(7)], seed=50, size=None)
    unkept = scored("fake=fake", "real=real", "size=24", LITE0)
    found = scored("fake=fake", "real=real", "size=24", "images=kept/here", LITE0)
    assert unkept["torch_fidelity"] is None
    assert "kept/here/fake" in found["torch_fidelity"]
    assert_same(found, run_here(found["torch_fidelity"]))
    assert [found[key] for key in ("fid", "kid")] == [unkept[key] for key in ("fid", "kid")]


def test_images_of_mixed_sizes_are_compared_where_they_are_kept(run_here):
    put(Path("fake"), ["1.png", "2.png", "3.png"], size=None)
    put(Path("real"), [f"{index}.png" for index in range(5)], seed=50, size=None)
    found = scored("fake=fake", "real=real", "size=null", "jpeg=true", "images=kept", LITE0)
    assert_same(found, run_here(found["torch_fidelity"]))


@pytest.mark.parametrize(
    "kind",
    [
        *("alpha", "exif", "words", "hidden", "hidden folder", "links", "tfrecord"),
        "hidden of another kind",
    ],
)
def test_no_command_is_printed_that_would_read_other_pixels(run_here, kind):
    put(Path("fake"), [f"{index}.png" for index in range(4)])
    put(Path("real"), [f"{index}.png" for index in range(6)], seed=50)
    path = Path("real", "3.png")
    if kind == "alpha":
        see_through = picture(53, 32, 32)
        see_through.putalpha(picture(4, 32, 32).convert("L"))
        see_through.save(path)
    elif kind == "exif":
        turned = picture(53, 32, 32)
        turned.getexif()[0x112] = 6
        turned.save(path, exif=turned.getexif())
    elif kind == "words":
        Image.fromarray(np.asarray(picture(53, 32, 32).convert("L")).astype(np.uint16) * 257).save(path)
    elif kind == "hidden":
        path.rename("real/.3.png")
    elif kind == "hidden of another kind":
        put(Path("real"), [".3.jpg"], seed=90)
    elif kind == "hidden folder":
        put(Path("real", ".ipynb_checkpoints"), ["3-checkpoint.png"], seed=90)
    elif kind == "links":
        Path("real").rename("files")
        Path("real").mkdir()
        for index in range(6):
            Path("real", f"{5 - index}.png").symlink_to(Path("files", f"{index}.png").absolute())
    else:
        images = [Path("real", f"{index}.png") for index in range(6)]
        Path("real", "images.tfrec").write_bytes(tfrecord([image.read_bytes() for image in images]))
        for image in images:
            image.unlink()
    found = scored("fake=fake", "real=real", "size=32", "jpeg=false", LITE0)
    if found["torch_fidelity"] is not None:
        assert_same(found, run_here(found["torch_fidelity"]))


# ---- the command ----


class Colours(FeatureExtractor):
    def _features(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3))


def words(features: FeatureExtractor, weights: str | None = None, **changes: Any) -> list[str]:
    options: dict[str, Any] = {"fake": "f", "real": "r", "subset_size": 7, "suffixes": frozenset(), "one_size": True}
    command = fidelity.command(features, weights, **{**options, **changes})
    assert command is not None
    return shlex.split(command)


@pytest.fixture(scope="module")
def lite0() -> EfficientNetLite0Features:
    return EfficientNetLite0Features()


def test_features_that_torch_fidelity_cannot_have_have_no_command():
    assert fidelity.command(Colours(), None, "f", "r", 7, frozenset({".png"}), True) is None


def test_a_command_names_extractor_and_folders_in_this_order(lite0):
    found = words(lite0, fake="a b", real="c'd")
    assert found[:5] == ["python", "-m", "monet_cyclegan.evaluation.fidelity", "--feature-extractor", fidelity.LITE0]
    assert found[found.index("--input1") + 1] == "a b"
    assert found[found.index("--input2") + 1] == "c'd"
    assert found[found.index("--kid-subset-size") + 1] == "7"
    assert {"--fid", "--kid", "--samples-find-deep", "--no-cache"} < {*found}


@pytest.mark.parametrize("suffixes", [[".png"], [".jpg", ".jpeg"], [".jpg", ".png"]])
def test_kinds_of_files_that_are_found_anyway_are_not_named(lite0, suffixes):
    assert "--samples-find-ext" not in words(lite0, suffixes=frozenset(suffixes))


def test_other_kinds_of_files_are_named_with_all_others(lite0):
    found = words(lite0, suffixes=frozenset({".webp", ".jpg", ".bmp"}))
    assert found[found.index("--samples-find-ext") + 1] == "bmp,jpg,webp"


def test_images_of_several_sizes_go_one_by_one(lite0):
    assert "--batch-size" not in words(lite0)
    found = words(lite0, one_size=False)
    assert found[found.index("--batch-size") + 1] == "1"
