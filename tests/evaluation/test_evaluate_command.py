"""evaluate.py as its users call it: folders or a checkpoint in; a table, scores.json and report.html out."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import zipfile
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hydra
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_images, tiny_model
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor, nn

from monet_cyclegan import CHECKPOINT_FORMAT, CHECKPOINT_KEY
from monet_cyclegan.checkpoint import build_generator, load_checkpoint
from monet_cyclegan.data.datamodule import UnpairedDataModule
from monet_cyclegan.data.transforms import eval_transform
from monet_cyclegan.evaluation.evaluate import evaluate, is_like_kaggle, mode
from monet_cyclegan.evaluation.scores import score
from monet_cyclegan.evaluation.subjects import open_folders
from monet_cyclegan.images import read_image
from monet_cyclegan.inference.export import export
from monet_cyclegan.inference.predict import predict
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.launch import in_job, launch
from monet_cyclegan.metrics.features import EfficientNetLite0Features, FeatureExtractor
from monet_cyclegan.metrics.jpeg import jpeg_round_trip
from monet_cyclegan.weights import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
SIDE = 24
EPS = [0.05, 0.1, 0.25]


class Thumbnails(FeatureExtractor):
    """4x4 pixels of each channel: features that tell images apart in no time. Counts the images that it was given."""

    title, is_standard, num_features, fingerprint = "thumbnail", False, 48, "thumbnails"
    seen = 0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()), requires_grad=False)

    def _features(self, images: Tensor) -> Tensor:
        Thumbnails.seen += len(images)
        return F.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1) * self.weight


class AsStandard(Thumbnails):
    title, is_standard = "Inception", True


THUMBNAILS = ["features=efficientnet_lite0", f"features._target_={__name__}.Thumbnails"]
USUAL = [*THUMBNAILS, f"size={SIDE}", "output=out", "cache=cache", "device=cpu"]


class Ended(NamedTuple):
    status: object
    out: str
    err: str


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_FULL_ERROR", "MONET_CYCLEGAN_TRACEBACKS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def command(monkeypatch, capfd) -> Callable[..., Ended]:
    """Run what evaluate.py runs in this process; arguments win over the usual ones."""

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
    def main(cfg: Any) -> None:
        with in_job(CONF, "evaluate"):
            evaluate(cfg)

    def run(*arguments: str) -> Ended:
        given = {argument.partition("=")[0] for argument in arguments}
        usual = [argument for argument in USUAL if argument.partition("=")[0] not in given]
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *usual, *arguments])
        status: object = 0
        try:
            launch(main, CONF, "evaluate")
        except SystemExit as end:
            status = end.code
        return Ended(status, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def defaults() -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("evaluate", USUAL)


@pytest.fixture
def scores(defaults) -> Callable[..., dict[str, Any]]:
    """Score in this process with these settings, and give what is in scores.json."""

    def run(*settings: str) -> dict[str, Any]:
        evaluate(OmegaConf.merge(defaults, OmegaConf.from_dotlist(list(settings))))
        return read_scores()

    return run


def read_scores() -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(Path("out/scores.json").read_text(encoding="utf-8"), parse_constant=refuse)


def picture(seed: int, width: int = SIDE, height: int = SIDE) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (3 + seed % 4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height))


def put(folder: str, names: Sequence[str], seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    for index, name in enumerate(names, start=seed):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(index, *size).save(path)
    return Path(folder)


def numbered(count: int, suffix: str = "png") -> list[str]:
    return [f"{index}.{suffix}" for index in range(count)]


@pytest.fixture
def folders() -> tuple[Path, Path]:
    """Five JPEGs in fake, six PNGs in real."""
    return put("fake", numbered(5, "jpg")), put("real", numbered(6), seed=50)


def zip_up(folder: str) -> None:
    with zipfile.ZipFile("images.zip", "w") as archive:
        for path in sorted(Path(folder).iterdir()):
            archive.write(path, path.name)


def pixels(paths: Sequence[Path]) -> Tensor:
    return torch.stack([torch.from_numpy(read_image(path)).permute(2, 0, 1) for path in paths])


def by_hand(fake: Tensor, real: Tensor) -> dict[str, Any]:
    """What scores.json should hold of the scores of images (N, 3, H, W)."""
    found = vars(score(Thumbnails()(fake), Thumbnails()(real), EPS))
    return {**found, "mifid": {str(eps): value for eps, value in found["mifid"].items()}}


def assert_scores(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-6, abs=1e-9), key


def captions(heading: str) -> list[str]:
    page = Path("out/report.html").read_text(encoding="utf-8")
    section = page.partition(f"<h2>{heading}</h2>")[2].partition("<h2>")[0]
    return [unescape(caption) for caption in re.findall("<figcaption>(.*?)</figcaption>", section)]


# ---- mistakes ----


def test_the_usual_arguments_are_no_mistake(command, folders):
    assert command("fake=fake", "real=real").status == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        # what to score
        ("", "fake= is missing: give fake=DIR real=DIR, or ckpt=FILE data.root=DIR"),
        ("fake=fake", "real= is missing: give fake=DIR real=DIR, or ckpt=FILE data.root=DIR"),
        ("real=real", "fake= is missing: give fake=DIR real=DIR, or ckpt=FILE data.root=DIR"),
        ("ckpt=x.ckpt fake=fake", "fake=fake and ckpt=x.ckpt don't go together: a checkpoint brings its own"),
        ("ckpt=x.ckpt real=real", "real=real and ckpt=x.ckpt don't go together: a checkpoint brings its own"),
        ("ckpt=x.ckpt source=real", "source=real and ckpt=x.ckpt don't go together: a checkpoint brings its own"),
        # places
        ("fake=nowhere real=real", "fake=nowhere: nowhere: no such folder"),
        ("fake=fake real=nowhere", "real=nowhere: nowhere: no such folder"),
        ("fake=fake real=real source=nowhere", "source=nowhere: nowhere: no such folder"),
        ("fake=one real=real", "fake=one holds 1 readable image: scores need 2 or more"),
        ("fake=fake real=one", "real=one holds 1 readable image: scores need 2 or more"),
        ("fake=fake real=real source=real/5.png", r"source=real/5.png: .* neither a folder nor a whole zip archive .*"),
        ("fake=empty real=real", r"fake=empty: empty is empty: .*"),
        ("ckpt=nowhere.ckpt", "no checkpoint at nowhere.ckpt"),
        ("ckpt=real/5.png", "real/5.png is not a checkpoint of this project, or only a part of one"),
        ("fake=fake real=real images=real/5.png", r"real/5.png/fake/.* can't be written .*"),
        ("fake=fake real=real images=taken", r"images=taken: taken/fake is there already, .*"),
        ("fake=real real=real source=fake", "source=fake has no picture named 5, which fake has"),
        # values
        ("fake=fake real=real jpeg=maybe", "jpeg=maybe is not known: choose auto, true or false"),
        ("fake=fake real=real jpeg=null", "jpeg=None is not known: choose auto, true or false"),
        ("fake=fake real=real limit=1", r"limit=1 .* 2.*"),
        ("fake=fake real=real limit=-5", r"limit=-5 .* 2.*"),
        ("fake=fake real=real eps=[]", r"eps=\[\] .*"),
        ("fake=fake real=real eps=0.1", r"eps=0.1 is not a list .*"),
        ("fake=fake real=real eps=[0.1,0,0.2]", r"eps=\[0.1, 0, 0.2\] is not a list of distances above 0"),
        ("fake=fake real=real eps=[a,b,c]", r"eps=\[a,b,c\] is not a list .*"),
        ("fake=fake real=real size=-3", "size=-3 is not 0 or more"),
        ("fake=fake real=real size=big", "size=big is not a number"),
        ("fake=fake real=real seed=-1", "seed=-1 is not 0 or more"),
        ("fake=fake real=real device=gpu", "device=gpu is not on this machine: choose .*"),
        # keys and groups
        ("fake=fake real=real sizee=3", r"there is no setting sizee, did you mean size\?"),
        ("fake=fake real=real features=x", r"there is no features=x \(choices: efficientnet_lite0, inception, none\)"),
    ],
)
def test_a_mistake_is_answered_in_one_line_with_status_2(command, folders, arguments, line):
    put("one", ["1.jpg"])
    Path("empty").mkdir()
    Path("taken/fake").mkdir(parents=True)
    ended = command(*arguments.split())
    assert (ended.status, ended.out) == (2, "")
    assert re.fullmatch(f"error: {line}\n", ended.err), ended.err
    assert not Path("out/scores.json").exists()


def test_without_features_nothing_is_scored(command, folders, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "USUAL", ["output=out"])
    ended = command("fake=fake", "real=real", "features=none")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "error: features=none scores nothing here: choose inception or efficientnet_lite0\n"


def test_weights_that_are_not_there_are_named_with_a_way_out(command, folders, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "USUAL", ["output=out"])
    ended = command("fake=fake", "real=real", "features=inception", "features.weights=x.pth")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("error: features.weights=x.pth does not exist; features=efficientnet_lite0 needs no")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "argument",
    [
        "jpeg=1",  # taken for false by the one, for true by the other
        "jpeg=0",
        "batch_size=0",  # scores nothing, with status 0
        "batch_size=null",
        "limit=abc",
        "limit=2.5",
        "size=0",
        "eps=null",
        "seed=null",
        "cache=null",
        "cache=real/1.png",
        "output=real/1.png/out",
        "held_out=true",  # without a checkpoint
        "real_held_out=true",
        "direction=photo_to_monet",
        "data.root=real",
    ],
)
def test_a_setting_that_cannot_be_used_is_answered_in_one_line(command, folders, argument):
    ended = command("fake=fake", "real=real", argument)
    assert ended.status == 2
    assert re.fullmatch(r"error: .*\n", ended.err)
    assert argument.partition("=")[0] in ended.err or argument.partition("=")[2] in ended.err


@pytest.mark.parametrize("eps", [[0.2], [0.1, 0.2], [0.05, 0.1, 0.2, 0.3]])
def test_there_may_be_any_number_of_thresholds(command, folders, eps):
    assert command("fake=fake", "real=real", f"eps={eps}".replace(" ", "")).status == 0
    assert [float(value) for value in read_scores()["mifid"]] == eps


# ---- scores ----


def test_scores_are_those_of_the_images_with_generated_pngs_compressed(scores):
    fake, real = put("fake", numbered(5)), put("real", numbered(7), seed=50)
    found = scores("fake=fake", "real=real")
    images = pixels([fake / name for name in numbered(5)]), pixels([real / name for name in numbered(7)])
    assert_scores(found, by_hand(jpeg_round_trip(images[0]), images[1]))
    assert found["fid"] != pytest.approx(by_hand(*images)["fid"], rel=1e-4)


@pytest.mark.parametrize(("jpeg", "compressed"), [("auto", [2, 3]), ("true", [0, 1, 2, 3]), ("false", [])])
def test_jpeg_says_which_generated_images_are_compressed_and_no_real_one_is(scores, jpeg, compressed):
    names = ["0.jpg", "1.jpg", "2.png", "3.webp"]
    fake, real = put("fake", names), put("real", numbered(6), seed=50)
    images = pixels([fake / name for name in names])
    images[compressed] = jpeg_round_trip(images[compressed])
    found = scores("fake=fake", "real=real", f"jpeg={jpeg}")
    assert_scores(found, by_hand(images, pixels([real / name for name in numbered(6)])))


def test_images_of_other_sizes_are_fitted_and_those_in_folders_found(scores):
    fake = put("fake", ["b/1.png", "a/c/2.png", "3.png"], size=(40, 30))
    real = put("real", numbered(6), seed=50, size=(10, 31))
    fit = eval_transform(SIDE)

    def fitted(paths: list[Path]) -> Tensor:
        return torch.stack([torch.from_numpy(fit(read_image(path), 0)).permute(2, 0, 1) for path in paths])

    found = scores("fake=fake", "real=real")
    images = fitted([fake / name for name in ("3.png", "a/c/2.png", "b/1.png")])
    assert_scores(found, by_hand(jpeg_round_trip(images), fitted([real / name for name in numbered(6)])))


def test_a_submission_is_scored_as_its_folder(scores, folders):
    zip_up("fake")
    expected, found = scores("fake=fake", "real=real"), scores("fake=images.zip", "real=real")
    for key in by_hand(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)):
        assert found[key] == expected[key], key


def test_a_set_against_itself_has_no_distances_and_is_called_copies(scores, folders, capsys):
    scores("fake=fake", "real=real")
    assert "copies" not in capsys.readouterr().out
    found = scores("fake=real", "real=real", "jpeg=false")
    assert "all generated images are copies" in capsys.readouterr().out
    assert found["memorization_distance"] < 1e-9
    assert found["fid"] < 1e-6
    assert found["kid"] <= 0


def test_two_runs_find_the_same(scores, folders):
    first, second = scores("fake=fake", "real=real"), scores("fake=fake", "real=real", "batch_size=2", "cache=other")
    assert {**first, "date": ""} == {**second, "date": ""}


def test_the_noise_floor_is_that_of_the_seed(scores, folders):
    floors = [scores("fake=fake", "real=real", f"seed={seed}")["noise_floor"] for seed in (0, 0, 3)]
    assert floors[0] == floors[1] != floors[2]
    assert (floors[0]["num_fake"], floors[0]["num_real"]) == (3, 3)


def test_features_of_real_images_are_computed_once(scores, folders):
    before = Thumbnails.seen
    scores("fake=fake", "real=real")
    assert Thumbnails.seen - before == 5 + 6
    scores("fake=fake", "real=real", "jpeg=true")
    assert Thumbnails.seen - before == 5 + 6 + 5
    scores("fake=fake", "real=real", f"size={SIDE - 4}")
    assert Thumbnails.seen - before == 5 + 6 + 5 + 5 + 6


# ---- what is written and printed ----


def test_scores_json_tells_all_that_is_known_of_the_measurement(scores, folders):
    found = scores("fake=fake", "real=real")
    assert found.keys() >= {
        *("mode", "comparable_with_kaggle", "features", "jpeg", "size", "fake", "real", "skipped", "noise_floor"),
        *("num_fake", "num_real", "fid", "kid", "kid_error", "kid_subsets", "kid_subsets_deviation", "subsets"),
        *("subset_size", "memorization_distance", "mifid", "torch_fidelity", "versions", "device", "date"),
    }
    assert (found["fake"], found["real"], found["size"], found["jpeg"]) == ("fake", "real", SIDE, "auto")
    assert (found["num_fake"], found["num_real"], found["device"]) == (5, 6, "cpu")
    assert found["features"] == {"title": "thumbnail", "standard": False, "fingerprint": "thumbnails"}
    assert list(found["mifid"]) == ["0.05", "0.1", "0.25"]
    assert found["noise_floor"]["mifid"].keys() == found["mifid"].keys()


@pytest.mark.parametrize(("num_fake", "num_real"), [(2, 6), (5, 2), (5, 3)])
def test_a_few_images_make_no_noise_floor_or_no_error_and_a_file_all_the_same(command, num_fake, num_real):
    put("fake", numbered(num_fake, "jpg"))
    put("real", numbered(num_real), seed=50)
    ended = command("fake=fake", "real=real")
    assert ended.status == 0
    assert ("noise floor" in ended.out) == (num_real > 3)
    found = json.loads(Path("out/scores.json").read_text())
    assert (found["num_fake"], found["num_real"]) == (num_fake, num_real)
    assert math.isfinite(found["fid"])


@pytest.mark.parametrize(("num_fake", "num_real"), [(2, 6), (5, 2), (5, 4), (5, 5)])
def test_a_score_that_is_not_a_number_leaves_the_file_valid(scores, num_fake, num_real):
    put("fake", numbered(num_fake, "jpg"))
    put("real", numbered(num_real), seed=50)
    found = scores("fake=fake", "real=real")
    assert None in (found["kid_error"], (found["noise_floor"] or {}).get("kid_error"))


def test_the_screen_shows_a_table_and_where_the_files_are(command, folders):
    ended = command("fake=fake", "real=real")
    found = read_scores()
    lines = [" ".join(re.findall(r"[^\s│┃]+", line)) for line in ended.out.splitlines()]
    assert lines[0] == "fake against real"
    assert f"FID {found['fid']:.2f} {found['noise_floor']['fid']:.2f}" in lines
    kid, error = found["kid"], found["kid_error"]
    assert any(line.startswith(f"KID {kid:.5f} ± {error:.5f} ") for line in lines)
    assert any(line.startswith(f"memorization distance d {found['memorization_distance']:.4f} ") for line in lines)
    for eps, value in found["mifid"].items():
        assert any(line.startswith(f"MiFID, eps {eps} {value:.2f} ") for line in lines)
    assert f"mode: {found['mode']}" in lines
    assert lines[-2:] == ["scores: out/scores.json", "report: out/report.html"]
    assert Path("out/report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "\x1b" not in ended.out


def test_what_is_skipped_is_told_by_name_and_reason(command, folders):
    for index in range(6):
        Path("fake", f"bad{index}.png").write_bytes(b"x")
    Path("real", "notes.txt").write_bytes(b"")
    ended = command("fake=fake", "real=real")
    skipped = read_scores()["skipped"]
    assert len(skipped) == 7
    assert [line.partition(": ")[0] for line in skipped[:6]] == [f"fake/bad{index}.png" for index in range(6)]
    assert skipped[6] == "real: files that are no images: 1"
    told = [line for line in ended.out.splitlines() if line.startswith("skipped ")]
    assert told == [*(f"skipped {reason}" for reason in skipped[:5]), "skipped 2 more, all are in scores.json"]
    assert "fake/bad5.png" in Path("out/report.html").read_text()


def test_names_are_shown_as_they_are(scores):
    names = ["<b>x&.png", "\"q'.png", "é 日本 [red].png"]
    put("fa ke", names)
    put("real", numbered(6), seed=50)
    found = scores('fake="fa ke"', "real=real", 'source="fa ke"')
    assert found["fake"] == "fa ke"
    stems = {name.removesuffix(".png") for name in names}
    for heading in ("Nearest to a real image", "Most changed"):
        assert {caption.rpartition(": ")[0] for caption in captions(heading)} == stems
    assert "<b>x" not in Path("out/report.html").read_text(encoding="utf-8")


def test_a_name_that_is_no_unicode_is_no_obstacle(scores, folders):
    content = Path("fake/0.jpg").read_bytes()
    try:
        Path(os.fsdecode(b"fake/\xff.jpg")).write_bytes(content)
    except OSError:
        pytest.skip("this file system has no such names")
    assert scores("fake=fake", "real=real")["num_fake"] == 6


def test_a_copy_among_the_generated_images_leads_the_nearest_pairs(scores):
    put("fake", [f"a{index}.jpg" for index in range(8)])
    put("real", numbered(6, "jpg"), seed=50)
    Path("fake/m.jpg").write_bytes(Path("real/4.jpg").read_bytes())
    scores("fake=fake", "real=real")
    shown = captions("Nearest to a real image")
    assert shown[0] == "m: d = 0.0000"
    distances = [float(caption.rpartition(" ")[2]) for caption in shown]
    assert distances == sorted(distances)
    assert len(shown) == 9
    assert distances[1] > 0.001


def test_sources_show_what_was_changed_most(scores, folders):
    Path("source").mkdir()
    for index, level in enumerate([40, 0, 80, 20, 60]):
        image = np.asarray(Image.open(f"fake/{index}.jpg")).astype(int) // 2 + 40
        Image.fromarray(image.astype(np.uint8)).save(f"fake/{index}.jpg", quality=100, subsampling=0)
        Image.fromarray((read_image(Path(f"fake/{index}.jpg")) + level).clip(0, 255).astype(np.uint8)).save(
            f"source/{index}.png"
        )
    put("source", ["more.png"])
    scores("fake=fake", "real=real", "source=source")
    assert [caption[0] for caption in captions("Most changed")] == ["2", "4", "0", "3", "1"]
    assert [caption[0] for caption in captions("Least changed")] == ["1", "3", "0", "4", "2"]
    assert captions("Least changed")[:2] == ["1: 0.0 of 255", "3: 20.0 of 255"]


# ---- torch-fidelity's command, whose scores test_fidelity compares ----


class InPlaceOfLite0(EfficientNetLite0Features):
    """What torch-fidelity has a command for, without its network."""

    title, num_features, fingerprint = Thumbnails.title, Thumbnails.num_features, Thumbnails.fingerprint
    _features = Thumbnails._features

    def __init__(self) -> None:
        FeatureExtractor.__init__(self)
        self.weight = nn.Parameter(torch.ones(()), requires_grad=False)


LITE0 = f"features._target_={__name__}.InPlaceOfLite0"
HOW = "to check by torch-fidelity keep them: images=DIR\n"


@pytest.mark.parametrize("case", ["limit", "zip", "resized", "compressed", "broken"])
def test_where_no_command_can_be_given_a_line_says_how_to_get_one(scores, folders, capsys, case):
    settings = {"fake": "fake", "real": "real"}
    if case == "limit":
        settings["limit"] = "4"
    elif case == "zip":
        zip_up("fake")
        settings["fake"] = "images.zip"
    elif case == "resized":
        settings["size"] = "20"
    elif case == "compressed":
        settings["jpeg"] = "true"
    else:
        Path("real/broken.png").write_bytes(b"x")
    given = [f"{key}={value}" for key, value in settings.items()]
    assert scores(*given, LITE0)["torch_fidelity"] is None
    assert HOW in capsys.readouterr().out
    assert "by torch-fidelity</h2>" not in Path("out/report.html").read_text(encoding="utf-8")

    shown = scores(*given, LITE0, "images=kept")["torch_fidelity"]
    printed = capsys.readouterr().out
    assert shown.endswith("--input1 kept/fake --input2 kept/real")
    assert HOW not in printed
    assert f"the same FID and KID over subsets by torch-fidelity:\n  {shown}\n" in printed
    assert shown in unescape(Path("out/report.html").read_text(encoding="utf-8"))


def test_images_are_kept_as_they_were_scored(scores):
    put("fake", ["a/1.jpg", "2.png", "3.jpg"], size=(30, 40))
    put("real", numbered(6), seed=50, size=(31, 20))
    first = scores("fake=fake", "real=real", "images=kept/there")
    kept = sorted(path.relative_to("kept/there").as_posix() for path in Path("kept").rglob("*.png"))
    assert kept == [
        *("fake/00000_2.png", "fake/00001_3.png", "fake/00002_a_1.png"),
        *(f"real/0000{index}_{index}.png" for index in range(6)),
    ]
    again = scores("fake=kept/there/fake", "real=kept/there/real", "size=null", "jpeg=false")
    for key in ("fid", "kid", "kid_subsets", "memorization_distance", "mifid", "num_fake", "num_real"):
        assert again[key] == first[key], key


def test_nothing_is_written_beside_images_of_another_run(command, folders):
    Path("kept/real").mkdir(parents=True)
    assert command("fake=fake", "real=real", "images=kept").status == 2
    assert not Path("kept/fake").exists()


# ---- a limit ----


def test_a_limit_takes_a_fixed_choice_of_the_generated_images_alone(scores):
    put("fake", numbered(12, "jpg"))
    put("real", numbered(6), seed=50)

    def chosen(index: int, *arguments: str) -> set[str]:
        found = scores("fake=fake", "real=real", "limit=5", f"images=kept{index}", *arguments)
        assert (found["num_fake"], found["num_real"]) == (5, 6)
        return {path.name.partition("_")[2] for path in Path(f"kept{index}/fake").iterdir()}

    first = chosen(0)
    assert chosen(1) == first
    assert chosen(2, "seed=1") != first
    everything, unlimited = (scores("fake=fake", "real=real", limit) for limit in ("limit=12", "limit=null"))
    assert {**everything, "date": "", "limit": ""} == {**unlimited, "date": "", "limit": ""}


# ---- what scores can be compared with ----


def the_mode(extractor: FeatureExtractor, **settings: Any) -> tuple[str, bool]:
    defaults = {"fake": "fake", "real": "real", "source": None, "limit": None, "seed": 0, "batch_size": 4}
    cfg = OmegaConf.create({**defaults, "size": 256, "jpeg": "auto", **settings})
    subjects = open_folders(cfg)
    return mode(cfg, extractor, subjects), is_like_kaggle(cfg, extractor, subjects)


COMPETITION = "Inception features of JPEGs of 256 pixels: as the competition, but for its hidden real set"
PAPERS = "Inception features of the images as they are: as torch-fidelity and most papers"


@pytest.mark.parametrize(
    ("kind", "side", "settings", "expected"),
    [
        ("png", (256, 300), {"jpeg": False}, "Inception features at 256 pixels, without JPEG: a protocol of your own"),
        ("jpg", (256, 300), {}, COMPETITION),
        ("jpg", 256, {}, f"{COMPETITION}, and as torch-fidelity"),
        ("png", 256, {}, COMPETITION),
        ("png", 300, {}, COMPETITION),
        ("png", 300, {"jpeg": True}, COMPETITION),
        ("jpg", 256, {"jpeg": True}, COMPETITION),
        ("jpg", 256, {"jpeg": False}, f"{COMPETITION}, and as torch-fidelity"),
        ("png", 256, {"jpeg": False}, PAPERS),
        ("png", 300, {"jpeg": False, "size": None}, PAPERS),
        ("jpg", 300, {"size": None}, PAPERS),
        ("png", 300, {"jpeg": False}, "Inception features at 256 pixels, without JPEG: a protocol of your own"),
        ("png", 256, {"size": 128}, "Inception features at 128 pixels, JPEG: a protocol of your own"),
        ("png", 300, {"size": None}, "Inception features at their own size, JPEG: a protocol of your own"),
    ],
)
def test_the_mode_says_what_scores_on_the_standard_features_can_be_compared_with(kind, side, settings, expected):
    of_fake, of_real = (side, side) if isinstance(side, int) else side
    put("fake", numbered(2, kind), size=(of_fake, of_fake))
    put("real", numbered(2, "jpg"), seed=50, size=(of_real, of_real))
    assert the_mode(AsStandard(), **settings) == (expected, expected.startswith(COMPETITION))


def test_resized_jpegs_are_not_called_jpegs_of_256_pixels_unless_they_are_compressed_again(scores):
    put("fake", numbered(3, "jpg"), size=(300, 300))
    put("real", numbered(6, "jpg"), seed=50, size=(256, 256))
    text, comparable = the_mode(AsStandard())
    scores("fake=fake", "real=real", "size=256", "images=kept")
    kept = pixels(sorted(Path("kept/fake").iterdir()))
    resized = torch.stack(
        [
            torch.from_numpy(eval_transform(256)(read_image(Path("fake", name)), 0)).permute(2, 0, 1)
            for name in numbered(3, "jpg")
        ]
    )
    assert torch.equal(kept, jpeg_round_trip(resized)) or not (comparable or text.startswith(COMPETITION))


@pytest.mark.parametrize("settings", [{}, {"jpeg": True}, {"jpeg": False}, {"size": None, "jpeg": False}, {"size": 64}])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_scores_on_other_features_are_never_called_comparable(kind, settings):
    put("fake", numbered(2, kind), size=(256, 256))
    put("real", numbered(2, kind), seed=50, size=(256, 256))
    text, comparable = the_mode(Thumbnails(), **settings)
    assert text == "thumbnail features: compare with scores on the same features only, neither Kaggle's nor papers'"
    assert not comparable


def test_the_report_and_scores_json_say_the_same_of_what_is_comparable(scores):
    put("fake", numbered(3), size=(256, 256))
    put("real", numbered(6), seed=50, size=(256, 256))
    for target, comparable in (("Thumbnails", False), ("AsStandard", True)):
        found = scores("fake=fake", "real=real", "size=256", f"features._target_={__name__}.{target}")
        assert found["comparable_with_kaggle"] == found["features"]["standard"] == comparable
        page = Path("out/report.html").read_text(encoding="utf-8")
        assert unescape(page).count(found["mode"]) == 1
        assert ('<li class="good">' in page) == comparable


# ---- translations of a checkpoint ----


def checkpoint(path: str, **data: Any) -> Path:
    """What a run leaves, as far as it is read: networks for squares of 4 pixels and their multiples."""
    network = {"_target_": "monet_cyclegan.networks.resnet.ResNetGenerator", "_partial_": True}
    model = {"generator": {**network, "num_residual_blocks": 1, "base_channels": 2}}
    config = {"data": {"names": {"a": "photo", "b": "monet"}, **data}, "model": model}
    mark = {"format": CHECKPOINT_FORMAT, "version": "0", "config": config, "overrides": []}
    torch.save({CHECKPOINT_KEY: mark, "state_dict": tiny_model(seed=7).state_dict()}, path)
    return Path(path)


def competition(root: str = "data", photos: int = 7, paintings: int = 6) -> Path:
    """The competition's folders, with images whose sides are no multiples of 4."""
    make_images(Path(root, "photo_jpg"), photos, (37, 45))
    make_images(Path(root, "monet_jpg"), paintings, (50, 41), seed=1)
    return Path(root)


TRAINED = {"root": "data", "swap": False, "val_a": 4, "val_b": 0.5, "split_seed": 3}
DIRECTIONS = [("photo_to_monet", "photo_jpg", "monet_jpg"), ("monet_to_photo", "monet_jpg", "photo_jpg")]


@pytest.mark.parametrize(("direction", "source", "target"), DIRECTIONS)
def test_translations_are_scored_as_the_files_that_predict_writes(scores, direction, source, target):
    root = competition()
    checkpoint("x.ckpt", **TRAINED)
    predict(
        ["ckpt=x.ckpt", f"input={root / source}", "output=translated", f"direction={direction}", "precision=32-true"]
    )
    found = scores("ckpt=x.ckpt", f"direction={direction}", "size=null")
    expected = scores("fake=translated", f"real={root / target}", "jpeg=true", "size=null")
    for key in ("num_fake", "num_real", "fid", "kid", "kid_error", "kid_subsets", "memorization_distance", "mifid"):
        assert found[key] == pytest.approx(expected[key], rel=1e-9), key
    assert found["fake"] == f"x.ckpt ({direction}) on images of {root / source}"
    assert found["real"] == str(root / target)


@pytest.mark.parametrize("jpeg", ["auto", "true", "false"])
def test_photos_are_resized_then_translated_then_compressed(scores, jpeg):
    root = competition()
    checkpoint("x.ckpt", **TRAINED)
    scores("ckpt=x.ckpt", "size=27", f"jpeg={jpeg}", "images=kept")  # no multiple of 4
    translate, fit = Translator(build_generator(load_checkpoint("x.ckpt"), "photo_to_monet")), eval_transform(27)
    photos = sorted((root / "photo_jpg").iterdir())
    made = [torch.from_numpy(translate(fit(read_image(path), 0))).permute(2, 0, 1) for path in photos]
    expected = torch.stack(made) if jpeg == "false" else jpeg_round_trip(torch.stack(made))
    kept = sorted(Path("kept/fake").iterdir())
    assert torch.equal(pixels(kept), expected)
    assert [path.name for path in kept] == [f"0000{index}_00{index}.png" for index in range(7)]
    real = [
        torch.from_numpy(fit(read_image(path), 0)).permute(2, 0, 1) for path in sorted((root / "monet_jpg").iterdir())
    ]
    assert torch.equal(pixels(sorted(Path("kept/real").iterdir())), torch.stack(real))


def test_without_a_direction_a_checkpoint_goes_its_first(scores):
    competition()
    checkpoint("x.ckpt", **TRAINED)
    first, named = scores("ckpt=x.ckpt"), scores("ckpt=x.ckpt", "direction=photo_to_monet")
    assert {**first, "date": ""} == {**named, "date": ""}
    assert scores("ckpt=x.ckpt", "direction=monet_to_photo")["fid"] != first["fid"]


def test_a_checkpoint_can_translate_other_data(scores):
    competition("data")
    other = competition("other", 4, 6)
    checkpoint("x.ckpt", **TRAINED)
    found = scores("ckpt=x.ckpt", "data.root=other")
    assert (found["num_fake"], found["num_real"]) == (4, 6)
    folders = scores("ckpt=x.ckpt", f"data.a={other}/photo_jpg", f"data.b={other}/monet_jpg")
    assert {**folders, "date": ""} == {**found, "date": ""}
    assert scores("ckpt=x.ckpt")["num_fake"] == 7


@pytest.mark.parametrize("direction", ["photo_to_monet", "monet_to_photo"])
def test_weights_that_were_handed_on_are_scored_as_their_checkpoint_is(scores, direction):
    competition()
    whole = torch.load(checkpoint("x.ckpt", **TRAINED), weights_only=True)
    counts = {"trained_on": {"photo": 3, "monet": 3}, "held_out": {"photo": 4, "monet": 3}, "split_seed": 3}
    whole[CHECKPOINT_KEY]["record"] = {**Record().to_plain(), **counts}
    torch.save(whole, "x.ckpt")
    export(["ckpt=x.ckpt", "format=safetensors", "output=x.safetensors", "direction=both"])
    export(["ckpt=x.ckpt", "format=safetensors", "output=one.safetensors", f"direction={direction}"])
    for held_out in ("true", "false"):
        expected = scores("ckpt=x.ckpt", f"direction={direction}", f"held_out={held_out}")
        ignored = {"date": "", "fake": ""}
        arguments = ["data.root=data", f"held_out={held_out}"]
        for ckpt in (["ckpt=x.safetensors", f"direction={direction}"], ["ckpt=one.safetensors"]):
            assert {**scores(*ckpt, *arguments), **ignored} == {**expected, **ignored}


def classic(root: str) -> Path:
    """CycleGAN's own layout, whose A are paintings: 6 and 3 held out, and 5 photos and 4 held out."""
    for seed, (name, count) in enumerate({"trainA": 6, "testA": 3, "trainB": 5, "testB": 4}.items()):
        make_images(Path(root, name), count, (33, 35), seed=seed)
    return Path(root)


def test_a_data_sets_own_test_images_are_scored_with_the_others_and_its_swap_is_kept(scores):
    classic("data")
    checkpoint("x.ckpt", **{**TRAINED, "swap": True, "val_a": 4, "val_b": 3})
    found = scores("ckpt=x.ckpt", "images=kept")
    assert (found["num_fake"], found["num_real"]) == (9, 9)
    assert pixels_of_kept("real") == pixels_in("data/trainA", "data/testA")
    assert scores("ckpt=x.ckpt", "data.root=data")["fid"] == found["fid"]
    swapped = scores("ckpt=x.ckpt", "data.swap=false", "held_out=true", "images=more")
    assert (swapped["num_fake"], swapped["num_real"]) == (3, 9)
    assert pixels_of_kept("real", "more") == pixels_in("data/trainB", "data/testB")


def fitted(path: Path) -> bytes:
    return eval_transform(SIDE)(read_image(path), 0).tobytes()


def pixels_in(*folders: str) -> set[bytes]:
    return {fitted(path) for folder in folders for path in Path(folder).iterdir()}


def pixels_of_kept(kind: str, folder: str = "kept") -> set[bytes]:
    return {read_image(path).tobytes() for path in Path(folder, kind).iterdir()}


@pytest.mark.parametrize("layout", [competition, classic])
@pytest.mark.parametrize("direction", ["photo_to_monet", "monet_to_photo"])
@pytest.mark.parametrize("seed", [3, 4])
def test_held_out_images_are_those_that_training_held_out(scores, layout, direction, seed):
    layout("data")
    settings = {**TRAINED, "split_seed": seed, "swap": layout is classic}
    if layout is classic:
        settings |= {"val_a": 4, "val_b": 3}
    checkpoint("x.ckpt", **settings)
    options = {key: settings[key] for key in ("val_a", "val_b", "split_seed")}
    data = UnpairedDataModule.from_root(
        "data",
        settings["swap"],
        names={"a": "photo", "b": "monet"},
        load_size=100,  # larger than any image: what is cached is shrunk to it
        crop_size=32,
        cache="none",
        **options,
    )
    data.setup("fit")
    assert data.val_sources is not None
    held_out, real = data.val_sources if direction == "photo_to_monet" else data.val_sources[::-1]
    found = scores("ckpt=x.ckpt", f"direction={direction}", "held_out=true", "jpeg=false", "images=kept")
    assert found["num_fake"] == len(held_out)
    assert "on held-out images of" in found["fake"]

    translate = Translator(build_generator(load_checkpoint("x.ckpt"), direction))
    expected = {translate(eval_transform(SIDE)(held_out.load(i), 0)).tobytes() for i in range(len(held_out))}
    assert len(expected) == len(held_out)
    assert pixels_of_kept("fake") == expected
    assert found["num_real"] == {"photo_jpg": 7, "monet_jpg": 6}.get(Path(found["real"]).name, 9)

    scores("ckpt=x.ckpt", f"direction={direction}", "held_out=true", "real_held_out=true", "images=kept_too")
    expected = {eval_transform(SIDE)(real.load(i), 0).tobytes() for i in range(len(real))}
    assert {read_image(path).tobytes() for path in Path("kept_too/real").iterdir()} == expected


def test_translations_are_shown_beside_their_sources(scores):
    competition()
    checkpoint("x.ckpt", **TRAINED)
    scores("ckpt=x.ckpt", "limit=3")
    assert len(captions("Nearest to a real image")) == len(captions("Most changed")) == 3
    assert captions("Most changed") == captions("Least changed")[::-1]
    assert all(float(caption.split()[1]) > 1 for caption in captions("Most changed"))


def test_translations_by_the_standard_features_are_scored_as_the_competition_does_only_if_compressed(scores):
    competition(photos=3, paintings=6)
    checkpoint("x.ckpt", **TRAINED)
    standard = ["ckpt=x.ckpt", "size=256", f"features._target_={__name__}.AsStandard"]
    assert scores(*standard)["mode"] == COMPETITION
    found = scores(*standard, "jpeg=false")
    assert found["mode"] == "Inception features at 256 pixels, without JPEG: a protocol of your own"
    assert (found["comparable_with_kaggle"], found["torch_fidelity"]) == (False, None)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("ckpt=s.ckpt", "ckpt=s.ckpt was trained on no files: give data.root=DIR, or data.a=DIR and data.b=DIR"),
        ("ckpt=s.ckpt held_out=true", r"ckpt=s.ckpt was trained on no files: .*"),
        (
            "ckpt=s.ckpt data.root=data held_out=true",
            "ckpt=s.ckpt doesn't say what it held out: data.val_a=None, data.split_seed=None",
        ),
        ("ckpt=y.safetensors", r"ckpt=y.safetensors was trained on no files: .*"),
        (
            "ckpt=y.safetensors data.root=data held_out=true",
            "ckpt=y.safetensors doesn't say what it held out: data.val_a=None, data.split_seed=0",
        ),
        ("ckpt=manet data.root=data", "no checkpoint at manet; the package's own weights are monet"),
        ("ckpt=x.ckpt direction=up", "direction=up is not one of .*: choose photo_to_monet or monet_to_photo"),
        ("ckpt=x.ckpt data.root=nowhere", r"nowhere does not exist: .*"),
        ("ckpt=x.ckpt data.a=nowhere data.b=data", "nowhere: no such folder"),
        ("ckpt=x.ckpt data.a=one data.b=data/photo_jpg", "data=one holds 1 readable image: scores need 2 or more"),
    ],
)
def test_a_mistake_with_a_checkpoint_is_answered_in_one_line(command, capfd, arguments, line):
    competition()
    put("one", ["1.jpg"])
    checkpoint("x.ckpt", **TRAINED)
    checkpoint("s.ckpt", count_a=3, count_b=3, size=32, val_count=2)  # data=synthetic
    export(["ckpt=x.ckpt", "format=safetensors", "output=y.safetensors"])  # of before there were records
    capfd.readouterr()
    ended = command(*arguments.split())
    assert (ended.status, ended.out) == (2, "")
    assert re.fullmatch(f"error: {line}\n", ended.err), ended.err


def test_a_swapped_training_set_by_another_name_is_still_swapped_and_another_one_has_to_say(command, scores):
    classic("data")
    checkpoint("x.ckpt", **{**TRAINED, "swap": True, "val_a": 4, "val_b": 3})
    assert scores("ckpt=x.ckpt")["fid"] == scores("ckpt=x.ckpt", "data.root=./data")["fid"]
    Path("data").rename("other")
    ended = command("ckpt=x.ckpt", "data.root=other")
    assert ended.status == 2
    assert "add data.swap=true, or false" in ended.err
    assert command("ckpt=x.ckpt", "data.root=other", "data.swap=true").status == 0


def test_one_folder_of_two_is_said_to_be_missing(command):
    competition()
    checkpoint("x.ckpt", **TRAINED)
    ended = command("ckpt=x.ckpt", "data.a=data/photo_jpg")
    assert ended.status == 2
    assert "trained on no files" not in ended.err
    assert "data.b" in ended.err


def test_images_too_small_for_the_network_are_refused_in_one_line(command):
    competition()
    checkpoint("x.ckpt", **TRAINED)
    ended = command("ckpt=x.ckpt", "size=3")
    assert ended.status == 2
    assert ended.err.count("\n") == 1


# ---- the program ----


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    program = [sys.executable, str(ROOT / "evaluate.py"), *arguments]
    return subprocess.run(program, env=environment, capture_output=True, encoding="utf-8", timeout=100, check=False)


def test_the_script_runs_from_any_folder_and_without_a_network(folders):
    done = run_script("fake=fake", "real=real", f"size={SIDE}", "features=efficientnet_lite0")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    (folder,) = Path("outputs/evaluation").iterdir()
    found = json.loads((folder / "scores.json").read_text())
    assert (found["features"]["title"], found["num_fake"]) == ("EfficientNet-Lite0", 5)
    assert "neither Kaggle's nor papers'" in done.stdout
    assert f"report: {folder / 'report.html'}\n" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"scores.json", "report.html"}
    assert {path.name for path in Path().iterdir()} == {"fake", "real", "outputs", ".cache"}


def test_help_shows_how_it_is_called_and_runs_nothing(command):
    ended = command("--help")
    assert (ended.status, ended.err) == (0, "")
    assert "python evaluate.py fake=FOLDER real=FOLDER" in ended.out
    assert "features: inception, efficientnet_lite0\n" in ended.out
    assert not list(Path().iterdir())


def test_every_setting_that_help_shows_exists(command, defaults):
    shown = re.findall(r"python evaluate\.py (.+)", command("--help").out)
    keys = {word.partition("=")[0] for line in shown for word in line.split() if "=" in word}
    assert keys >= {"fake", "real", "ckpt", "data.root", "held_out", "jpeg", "size", "features"}
    for key in keys:
        parent, _, leaf = key.rpartition(".")
        assert leaf in (OmegaConf.select(defaults, parent) if parent else defaults)


def test_several_sets_can_be_scored_in_one_call(command, folders):
    ended = command("fake=fake,real", "real=real", "output=out/${fake}", "hydra.sweep.dir=sweep", "--multirun")
    assert ended.status == 0, ended.err
    fids = [json.loads(Path("out", name, "scores.json").read_text())["fid"] for name in ("fake", "real")]
    assert fids[0] > fids[1]
