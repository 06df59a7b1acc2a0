"""predict.py as its users call it: files and folders in, files and folders out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_checkpoint
from PIL import Image

from monet_cyclegan import image_zip
from monet_cyclegan.checkpoint import build_generator, load_checkpoint
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import decode_image, read_image, write_image
from monet_cyclegan.inference.before_after import before_and_after
from monet_cyclegan.inference.hardware import pick_device, pick_devices
from monet_cyclegan.inference.pipeline import translate_files
from monet_cyclegan.inference.predict import DEFAULTS, USAGE, predict
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.inference.video import find_ffmpeg
from monet_cyclegan.precision import best_precision

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("run=1, é") / "best.ckpt")


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
        ("ckpt=", r"^ckpt= is missing: python predict\.py ckpt="),
        ("ckpt={ckpt} output=x", r"^input= is missing"),
        ("ckpt={ckpt} input={tmp}/a.png", r"^output= is missing"),
        ("ckp=x", r"^unknown key 'ckp', did you mean 'ckpt'\?"),
        ("photo.jpg", r"^arguments look like key=value, not 'photo\.jpg'"),
        ("ckpt={ckpt} input={tmp}/no output={tmp}/x", r"^input=\S+/no does not exist"),
        ("ckpt={ckpt} input={tmp}/empty output={tmp}/x", r"^no pictures in input=\S+/empty: looked for \.bmp"),
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/x.xyz", r"^output=\S+x\.xyz has no suffix .* choose one of \.bmp"),
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/a.png", r"^output=\S+a\.png would overwrite \S+a\.png"),
        ("ckpt={ckpt} input={tmp} output={tmp}", r"^output=\S+ would overwrite \S+a\.png"),
        ("ckpt={ckpt} input={tmp} output={tmp}/x.png", r"^output=\S+x\.png is a file but input=\S+ holds many"),
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
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/b.png strength=3", r"^strength=3 is not a number from 0 to 2$"),
        (
            "ckpt={ckpt} input={tmp}/a.png output={tmp}/b.png strength=nan",
            r"^strength=nan is not a number from 0",
        ),
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/b.png color=red", r"^color=red .* choose painting or photo$"),
        ("ckpt={ckpt} input={tmp}/a.png output={tmp}/b.png working_size=8", r"^working_size=8 is not .* from 16 on$"),
        ("ckpt={ckpt} input={tmp} output={tmp}/x format=psd", r"^format=psd can't be written: choose one of bmp, "),
        ("ckpt={ckpt} input={tmp} output={tmp}/x quality=0", r"^quality=0 is not a whole number from 1 to 100$"),
        ("ckpt={ckpt} input={tmp} output={tmp}/x again=maybe", r"^again needs true or false, not 'maybe'$"),
        ("ckpt={ckpt} input={tmp} output={tmp}/x devices=0", r"^devices=0 is neither auto nor a number from 1 on$"),
        ("ckpt={ckpt} input={tmp} output={tmp}/x tile=yes", r"^tile=yes is not known: choose auto, off or on$"),
        ("ckpt={ckpt} input={tmp} output={tmp}/x grid={tmp}/x/a.png", r"^grid=\S+x/a\.png would overwrite a transl"),
        ("ckpt={ckpt} input={tmp}/*.gif output={tmp}/x", r"^input=\S+\*\.gif matches no file$"),
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
    assert all(f"\n{key} " in USAGE for key in DEFAULTS)


def test_one_picture_is_shown_whole_beside_its_translation(ckpt, tmp_path):
    picture(tmp_path / "a.png", 60, 20)
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'a.png'}", f"output={tmp_path / 'b.png'}", "grid=true"])
    grid = read_image(tmp_path / "b_before_after.jpg")
    assert grid.shape[1] >= 2 * 60
    assert files(tmp_path) == {"a.png", "b.png", "b_before_after.jpg"}


@pytest.mark.parametrize(("output", "grid"), [("out", "out/before_after.jpg"), ("x.zip", "x_before_after.jpg")])
def test_grid_true_finds_a_place_of_its_own(ckpt, tmp_path, output, grid):
    for seed in range(2):
        picture(tmp_path / "in" / f"{seed}.png", seed=seed)
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / output}", "grid=true"])
    assert (tmp_path / grid).is_file()


@pytest.mark.parametrize(("count", "rows", "columns"), [(2, 2, 2), (3, 3, 2), (4, 2, 4), (5, 2, 4), (6, 3, 4)])
def test_the_grid_has_a_pair_for_each_image(count, rows, columns):
    grid = before_and_after([(np.zeros((18, 20, 3), np.uint8), np.zeros((22, 30, 3), np.uint8))] * count, "a_to_b")
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
    assert "the competition would refuse it: 3 images, where the competition takes 7,000 to 10,000" in out
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
    with pytest.raises(UserError, match=r"^none of the 2 images in \S+ could be translated$"):
        predict([f"ckpt={ckpt}", f"input={tmp_path}", f"output={tmp_path / 'images.zip'}"])
    assert files(tmp_path) == {"a.jpg", "b.jpg"}


def test_two_pictures_of_one_name_are_refused_in_an_archive(ckpt, tmp_path):
    for name in ("a.jpg", "a.png"):
        picture(tmp_path / name)
    with pytest.raises(UserError, match=r"a\.jpg and \S+a\.png would both become a\.jpg: rename one"):
        predict([f"ckpt={ckpt}", f"input={tmp_path}", f"output={tmp_path / 'images.zip'}"])


def test_a_zip_becomes_a_zip_with_the_same_structure(ckpt, tmp_path):
    for name in ("a.png", "deep/b.png"):
        picture(tmp_path / "in" / name)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("a.png", "deep/b.png"):
            archive.write(tmp_path / "in" / name, f"photos/{name}")
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'photos.zip'}", f"output={tmp_path / 'paintings.zip'}"])
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"])
    images = zipped(tmp_path / "paintings.zip")
    assert {*images} == {"photos/a.png", "photos/deep/b.png"}
    for name in ("a.png", "deep/b.png"):
        assert np.array_equal(images[f"photos/{name}"], read_image(tmp_path / "out" / name))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_interrupted_archive_goes_on_where_it_was(ckpt, tmp_path, monkeypatch, capsys):
    for index in range(12):
        picture(tmp_path / "in" / f"{index}.jpg", 16, 16, index)
    arguments = [f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'images.zip'}", "batch=1"]

    def interrupted(*given):
        for index, outcome in enumerate(translate_files(*given)):
            if index == 5:
                raise KeyboardInterrupt
            yield outcome

    with monkeypatch.context() as patch:
        patch.setattr("monet_cyclegan.inference.predict.translate_files", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(arguments)
    assert not (tmp_path / "images.zip").exists()
    predict(arguments)
    kept = re.search(r"kept from an earlier run with the same settings: (\d+)", capsys.readouterr().out)
    assert kept is not None
    assert 5 <= int(kept[1]) < 12
    assert len(zipped(tmp_path / "images.zip")) == 12


def test_a_folder_is_gone_on_with_unless_asked_to_begin_again(ckpt, tmp_path, capsys):
    for seed, name in enumerate(("a.jpg", "b.png", "c.webp")):
        picture(tmp_path / "in" / name, seed=seed)
    arguments = [f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"]
    predict(arguments)
    for more, done, kept in (([], 0, 3), (["again=true"], 3, 0), (["strength=0.5"], 3, 0), (["strength=0.5"], 0, 3)):
        capsys.readouterr()
        predict([*arguments, *more])
        out = capsys.readouterr().out
        assert f"{done} of 3 images" in out
        assert (f"with the same settings: {kept}" in out) == (kept > 0)


def test_another_network_does_not_keep_the_first_ones_pictures(ckpt, tmp_path, capsys):
    picture(tmp_path / "in" / "a.png")
    arguments = [f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"]
    predict(arguments)
    predict([*arguments, "direction=monet_to_photo"])
    assert "kept" not in capsys.readouterr().out


def test_the_summary_says_what_was_lost_and_what_is_no_picture(ckpt, tmp_path, capsys):
    folder = tmp_path / "in"
    picture(folder / "a.png")
    for name in ("b.png", "c.png"):
        Image.fromarray(np.full((20, 20), 1000, np.uint16)).save(folder / name)
    Image.new("CMYK", (20, 20)).save(folder / "d.jpg")
    for name in ("x.txt", "y.txt", "z.psd"):
        (folder / name).write_text("")
    predict([f"ckpt={ckpt}", f"input={folder}", f"output={tmp_path / 'out'}"])
    lines = capsys.readouterr().out.splitlines()
    assert f"16 bits became 8: {folder / 'b.png'} and 1 more" in lines
    assert f"CMYK became RGB: {folder / 'd.jpg'}" in lines
    assert f"files in {folder} that are no pictures: 3 (2 .txt, 1 .psd)" in lines


def test_many_bad_files_are_not_all_listed(ckpt, tmp_path, capsys):
    picture(tmp_path / "in" / "good.png")
    for index in range(30):
        (tmp_path / "in" / f"{index}.jpg").write_bytes(b"no picture")
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"])
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 21
    assert err[-1] == "skipped 10 more"


@pytest.mark.parametrize("arguments", [["strength=0"], ["strength=0", "working_size=16", "color=photo"]])
def test_no_strength_gives_the_photo_back(ckpt, tmp_path, arguments):
    picture(tmp_path / "a.png", 40, 30)
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'a.png'}", f"output={tmp_path / 'b.png'}", *arguments])
    assert np.array_equal(read_image(tmp_path / "b.png"), read_image(tmp_path / "a.png"))


def test_a_format_is_for_all_files_of_a_folder(ckpt, tmp_path):
    for name in ("a.jpg", "deep/b.bmp", "c.gif"):
        picture(tmp_path / "in" / name)
    predict([f"ckpt={ckpt}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", "format=PNG"])
    assert files(tmp_path / "out") == {"a.png", "deep/b.png", "c.png"}
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.format == "PNG"


def test_quality_makes_smaller_files(ckpt, tmp_path):
    picture(tmp_path / "a.png", 64, 64)
    sizes = []
    for quality in ("95", "30"):
        predict([f"ckpt={ckpt}", f"input={tmp_path / 'a.png'}", f"output={tmp_path / 'b.jpg'}", f"quality={quality}"])
        sizes.append((tmp_path / "b.jpg").stat().st_size)
    assert sizes[1] < sizes[0] / 2


def test_two_processes_share_the_pictures_and_one_tells(ckpt, tmp_path):
    for index in range(5):
        picture(tmp_path / "in" / f"{index}.png", seed=index)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no picture")
    command = [sys.executable, ROOT / "predict.py", f"ckpt={ckpt}", f"input={tmp_path / 'in'}", "device=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, f"output={tmp_path / 'two'}", "devices=2"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("5 of 6 images") == 1
    assert done.stderr.count("bad.jpg: not a") == 1
    subprocess.run([*command, f"output={tmp_path / 'one'}"], check=True, capture_output=True, env=environment)
    assert files(tmp_path / "two") == files(tmp_path / "one") == {f"{index}.png" for index in range(5)}
    for index in range(5):
        two, one = (read_image(tmp_path / folder / f"{index}.png") for folder in ("two", "one"))
        assert np.array_equal(two, one)


@pytest.mark.parametrize(("text", "name", "count"), [("1", "cpu", 1), ("2", "cpu", 2), ("auto", "cpu", 1)])
def test_a_cpu_counts_as_one_device_unless_more_processes_are_asked_for(text, name, count):
    assert pick_devices(text, torch.device(name)) == count


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=8:duration=1"]
    sound = ["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac"]
    subprocess.run([find_ffmpeg(), "-loglevel", "error", *picture, *sound, str(path)], check=True)
    return path


def test_a_clip_becomes_a_painted_clip_and_the_flicker_is_told(ckpt, clip, tmp_path, capsys):
    predict([f"ckpt={ckpt}", f"input={clip}", f"output={tmp_path / 'new' / 'painted.mp4'}", "strength=0.5"])
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"photo_to_monet: 8 frames \(1\.0 s, with its sound\) in \S+ s, \S+ a second: \S+painted", first)
    raw, smoothed = map(float, re.findall(r"([\d.]+) (?:as painted|smoothed)", second))
    assert smoothed < raw
    assert files(tmp_path) == {"new/painted.mp4"}


def test_a_clip_goes_into_a_folder_under_its_own_name(ckpt, clip, tmp_path):
    predict([f"ckpt={ckpt}", f"input={clip}", f"output={tmp_path / 'new'}", "smoothing=0", "working_size=16"])
    assert files(tmp_path) == {"new/clip.mp4"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("output={tmp}/x.png", r"^output=\S+x\.png is no video but input=\S+ is: choose one of \.avi, "),
        ("output={clip}", r"^output=\S+clip\.mp4 would overwrite \S+clip\.mp4: give another place$"),
        ("output={tmp} grid=true", r"^grid=true is for pictures, and input=\S+clip\.mp4 is a video$"),
        ("output={tmp} devices=2", r"^devices=2 is for pictures"),
        ("output={tmp} smoothing=1", r"^smoothing=1(\.0)? is not a number from 0 to below 1$"),
        ("output={tmp} smoothing=much", r"^smoothing=much is not a number from 0 to 1$"),
        ("output={tmp} input={tmp}/no.mp4", r"^input=\S+no\.mp4 does not exist"),
    ],
)
def test_a_mistake_with_a_clip_is_one_line_and_nothing_is_written(ckpt, clip, tmp_path, arguments, line):
    words = [word.format(tmp=tmp_path, clip=clip) for word in arguments.split()]
    with pytest.raises(UserError, match=line) as error:
        predict([f"ckpt={ckpt}", f"input={clip}", *words])
    assert "\n" not in str(error.value)
    assert files(tmp_path) == set()


def test_a_clip_too_small_for_the_network_is_one_line(ckpt, tmp_path):
    command = [find_ffmpeg(), "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=32x8:rate=8:duration=0.5"]
    subprocess.run([*command, str(tmp_path / "small.mp4")], check=True)
    with pytest.raises(UserError, match="32x8 pixels is too small"):
        predict([f"ckpt={ckpt}", f"input={tmp_path / 'small.mp4'}", f"output={tmp_path / 'out.mp4'}"])
    assert files(tmp_path) == {"small.mp4"}
