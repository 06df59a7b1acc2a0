"""predict.py as its users call it: files and folders in, files and folders out."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_model

from monet_cyclegan import CHECKPOINT_FORMAT, CHECKPOINT_KEY, image_zip
from monet_cyclegan.checkpoint import build_generator, load_checkpoint
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import decode_image, read_image, write_image
from monet_cyclegan.inference.pipeline import Outcome
from monet_cyclegan.inference.predict import USAGE, before_and_after, find_jobs, find_zip_jobs, pick_device, predict
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.precision import best_precision

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    generator = {
        "_target_": "monet_cyclegan.networks.resnet.ResNetGenerator",
        "num_residual_blocks": 1,
        "base_channels": 2,
    }
    config = {"data": {"names": {"a": "photo", "b": "monet"}}, "model": {"generator": generator}}
    mark = {"format": CHECKPOINT_FORMAT, "version": "0", "config": config, "overrides": []}
    path = tmp_path_factory.mktemp("run=1, é") / "best.ckpt"
    torch.save({CHECKPOINT_KEY: mark, "state_dict": tiny_model().state_dict()}, path)
    return path


def picture(path: Path, width: int = 20, height: int = 18, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, pixels)
    return path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("direction", ["photo_to_monet", "monet_to_photo"])
def test_a_file_becomes_what_the_generator_makes_of_it(ckpt, tmp_path, direction):
    source = picture(tmp_path / "in.png", 21, 33)
    generator = build_generator(load_checkpoint(ckpt), direction)
    arguments = [f"ckpt={ckpt}", f"input={source}", f"output={tmp_path / 'out.png'}", f"direction={direction}"]
    predict([*arguments, "device=cpu"])
    expected = Translator(generator, precision=best_precision("cpu"))(read_image(source))
    assert np.array_equal(read_image(tmp_path / "out.png"), expected)
    predict([*arguments, "device=cpu", "precision=32-true"])
    expected = Translator(generator)(read_image(source))
    assert np.array_equal(read_image(tmp_path / "out.png"), expected)


def test_without_a_direction_photos_become_paintings(ckpt, tmp_path, capsys):
    source = picture(tmp_path / "in.png")
    predict([f"ckpt={ckpt}", f"input={source}", f"output={tmp_path / 'a.png'}"])
    predict([f"ckpt={ckpt}", f"input={source}", f"output={tmp_path / 'b.png'}", "direction=photo_to_monet"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert "photo_to_monet: 1 of 1 images" in capsys.readouterr().out


def test_a_file_goes_into_a_folder_under_its_own_name(ckpt, tmp_path):
    source = picture(tmp_path / "in.jpg")
    predict([f"ckpt={ckpt}", f"input={source}", f"output={tmp_path / 'new'}"])
    (tmp_path / "v1.5").mkdir()  # what looks like a suffix belongs to a folder that exists
    predict([f"ckpt={ckpt}", f"input={source}", f"output={tmp_path / 'v1.5'}"])
    assert files(tmp_path) == {"in.jpg", "new/in.jpg", "v1.5/in.jpg"}


def test_a_folder_keeps_structure_names_sizes_and_formats(ckpt, tmp_path):
    sizes = {"a.jpg": (20, 18), "a.png": (17, 41), "deep er/b=1,2 é.webp": (16, 16), "x.y/c.TIFF": (31, 19)}
    for name, size in sizes.items():
        picture(tmp_path / "in" / name, *size)
    picture(tmp_path / "in" / ".ipynb_checkpoints" / "hidden.jpg")
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"])
    assert files(tmp_path / "out") == {*sizes}
    for name, (width, height) in sizes.items():
        assert read_image(tmp_path / "out" / name).shape == (height, width, 3)


def test_a_gif_becomes_a_png_beside_all_others(ckpt, tmp_path):
    for name in ("a.gif", "a.png", "a.bmp"):
        picture(tmp_path / "in" / name)
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"])
    assert files(tmp_path / "out") == {"a.gif.png", "a.png", "a.bmp"}
    assert len(np.unique(read_image(tmp_path / "out" / "a.gif.png").reshape(-1, 3), axis=0)) > 256


def test_an_output_inside_of_the_input_is_no_input_of_the_next_run(ckpt, tmp_path):
    picture(tmp_path / "in" / "a.png")
    for _ in range(2):
        predict([f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'in' / 'out'}"])
    assert files(tmp_path / "in") == {"a.png", "out/a.png"}


def test_what_cannot_be_translated_is_named_and_the_rest_is_done(ckpt, tmp_path, capsys):
    picture(tmp_path / "in" / "good.png")
    picture(tmp_path / "in" / "tiny.png", 8, 8)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.txt").write_text("text")
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"])
    out, err = capsys.readouterr()
    assert files(tmp_path / "out") == {"good.png"}
    assert [line.split(":")[0].rpartition("/")[2] for line in err.splitlines()] == ["bad.jpg", "tiny.png"]
    assert "1 of 3 images" in out
    assert "no pictures: 1" in out


def test_a_folder_of_which_nothing_can_be_translated_is_an_error(ckpt, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"^none of the 2 images in \S+ could be translated$"):
        predict([f"ckpt={ckpt}", f"input={tmp_path}", f"output={tmp_path / 'out'}"])


def test_a_single_bad_file_is_one_line(ckpt, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"bad\.jpg: not a "):
        predict([f"ckpt={ckpt}", f"input={tmp_path / 'bad.jpg'}", f"output={tmp_path / 'out.png'}"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("", r"^ckpt= is missing: python predict\.py ckpt="),
        ("ckpt={ckpt} output=x", r"^input= is missing"),
        ("ckpt={ckpt} input={tmp}/a.png", r"^output= is missing"),
        ("ckp=x", r"^unknown key 'ckp', did you mean 'ckpt'\?"),
        ("photo.jpg", r"^arguments look like key=value, not 'photo\.jpg'"),
        ("ckpt={ckpt} input={tmp}/no output={tmp}/x", r"^input=\S+/no does not exist"),
        ("ckpt={ckpt} input={tmp}/empty output={tmp}/x", r"^no pictures in input=\S+/empty: looked for \.bmp"),
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/x.xyz", r"^output=\S+x\.xyz has no suffix .* choose one of \.bmp"),
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/a.png", r"^output=\S+a\.png would overwrite \S+a\.png"),
        ("ckpt={ckpt} input={tmp} output={tmp}", r"^output=\S+ would overwrite \S+a\.png"),
        ("ckpt={ckpt} input={tmp} output={tmp}/x.png", r"^output=\S+x\.png is a file but input=\S+ is a folder"),
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/b.png grid={tmp}/g", r"^grid=\S+/g has no suffix"),
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/b.png direction=up", r"^direction=up .* choose photo_to_monet or"),
        (
            "ckpt={ckpt} input={tmp}/a.png output={tmp}/b.png device=tpu",
            r"^device=tpu is not on this machine: choose cpu",
        ),
        (
            "ckpt={ckpt} input={tmp}/a.png output={tmp}/b.png precision=fp8",
            r"^precision=fp8 .* auto, 32-true or bf16-m",
        ),
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/b.png batch=0", r"^batch=0 is neither auto nor a number from 1"),
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/b.zip", r"^output=\S+b\.zip holds many pictures: give a folder"),
        ("ckpt={ckpt} input={tmp} output={tmp}/b.zip grid={tmp}/g.png", r"^grid=\S+g\.png shows files"),
        ("ckpt={tmp}/a.png input={tmp}/a.png output={tmp}/b.png", r"a\.png is not a checkpoint of this project"),
        ("ckpt={tmp}/no.ckpt input={tmp}/a.png output={tmp}/b.png", r"^no checkpoint at \S+no\.ckpt$"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(ckpt, tmp_path, arguments, line):
    picture(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=line) as error:
        predict([word.format(ckpt=ckpt, tmp=tmp_path) for word in arguments.split()])
    assert "\n" not in str(error.value)
    assert files(tmp_path) == {"a.png"}


def test_help_explains_every_key(capsys):
    predict(["--help"])
    assert capsys.readouterr().out == f"{USAGE}\n"
    assert all(
        f"\n{key} " in USAGE for key in ("ckpt", "input", "output", "direction", "grid", "device", "precision", "batch")
    )


def test_an_output_that_is_the_input_by_another_name_is_refused(tmp_path):
    picture(tmp_path / "in" / "x.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(UserError, match=r"^output=\S+link would overwrite \S+x\.png: give another place$"):
        find_jobs(tmp_path / "in", tmp_path / "link")


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 2), (3, 3, 2), (4, 2, 4), (5, 2, 4), (6, 3, 4)])
def test_the_grid_has_a_pair_for_each_image(tmp_path, count, rows, columns):
    outcomes = [
        Outcome(picture(tmp_path / f"{i}.png", seed=i), picture(tmp_path / "o" / f"{i}.jpg", 30, 22, seed=i), None)
        for i in range(count)
    ]
    grid = before_and_after(outcomes, "photo_to_monet")
    gap, title = 256 // 32, 2 * (256 // 32) + 256 // 12
    blocks = columns // 2
    assert grid.shape == (title + rows * (256 + gap), blocks * (gap + 2 * (256 + gap)), 3)


def test_the_grid_shows_each_picture_beside_its_translation(ckpt, tmp_path):
    for seed, name in enumerate(("a.png", "b.png")):
        picture(tmp_path / "in" / name, seed=seed)
    grid = tmp_path / "new" / "grid.png"
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", f"grid={grid}"])
    image, gap, title = read_image(grid), 8, 37
    second = image[title + 256 + gap :][:256]
    for left, folder in ((gap, "in"), (2 * gap + 256, "out")):
        shown = second[:, left : left + 256].reshape(-1, 3).mean(0)
        square = read_image(tmp_path / folder / "b.png")[:, 1:19].reshape(-1, 3).mean(0)
        assert np.abs(shown - square).max() < 4


def test_the_device_is_one_of_this_machine():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda", "mps", "xpu"}
    for name in ("cuda:99", "gpu", "cpu:x", ""):
        with pytest.raises(UserError, match=rf"^device={name} is not on this machine: choose cpu.* or auto$"):
            pick_device(name)


def test_the_script_works_from_any_folder_and_loads_no_training_code(ckpt, tmp_path):
    picture(tmp_path / "a b.png")
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['predict.py', {f'ckpt={ckpt}'!r}, 'input=a b.png', 'output=out/c=1.png']\n"
        f"runpy.run_path({str(ROOT / 'predict.py')!r}, run_name='__main__')\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & {'lightning', 'hydra', 'wandb', 'albumentations'})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert files(tmp_path) == {"a b.png", "out/c=1.png"}
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:] == [""]


def test_the_script_ends_with_status_2_on_a_mistake():
    done = subprocess.run([sys.executable, ROOT / "predict.py", "ckp=1"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: unknown key 'ckp'")


def zipped(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        return {name: decode_image(archive.read(name), name) for name in archive.namelist()}


def test_a_folder_becomes_the_competitions_archive(ckpt, tmp_path, capsys, monkeypatch):
    for seed, name in enumerate(("a.jpg", "b.png", "more/a.jpg")):
        picture(tmp_path / "in" / name, 256, 256, seed)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no picture")
    target = tmp_path / "new" / "images.zip"
    arguments = [f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={target}", "batch=2"]
    predict(arguments)
    images = zipped(target)
    assert list(images) == ["a.jpg", "b.jpg", "more_a.jpg"]
    assert {image.shape for image in images.values()} == {(256, 256, 3)}
    out, err = capsys.readouterr()
    assert "3 of 4 images" in out
    assert "bad.jpg: not a" in err
    assert f"the competition would refuse {target}: 3 images, where the competition takes 7,000 to 10,000" in out
    monkeypatch.setattr(image_zip, "COUNTS", range(3, 4))
    predict(arguments)
    assert "as the competition wants it" in capsys.readouterr().out
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'files'}"])
    for name, image in (("a.jpg", images["a.jpg"]), ("b.png", images["b.jpg"])):
        own = read_image(tmp_path / "files" / name).astype(int)
        assert np.abs(image - own).mean() < np.abs(images["more_a.jpg"] - own).mean()


def test_no_archive_is_left_where_nothing_could_be_translated(ckpt, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"^none of the 2 images could be translated: \S+a\.jpg: not a"):
        predict([f"ckpt={ckpt}", f"input={tmp_path}", f"output={tmp_path / 'images.zip'}"])
    assert files(tmp_path) == {"a.jpg", "b.jpg"}


def test_two_pictures_of_one_name_are_refused_in_an_archive(tmp_path):
    for name in ("a.jpg", "a.png"):
        picture(tmp_path / name)
    with pytest.raises(UserError, match=r"two pictures of the name a\.jpg: rename one in"):
        find_zip_jobs(tmp_path, tmp_path / "images.zip")
