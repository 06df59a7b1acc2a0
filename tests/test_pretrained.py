"""The weights that come with the package: as a user gets at them, and what their card says of them."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch

from monet_cyclegan.callbacks.alarms import chroma_cosine, luminance_correlation
from monet_cyclegan.images import read_image, to_float
from monet_cyclegan.inference import app
from monet_cyclegan.inference.export import export
from monet_cyclegan.inference.predict import predict
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.weights import DEFAULT_WEIGHTS, PRETRAINED, find_weights, load_generator, read_description

ROOT = Path(__file__).parents[1]
WEIGHTS = PRETRAINED / "monet.safetensors"
PHOTOS = sorted((ROOT / "docs" / "photos").glob("*.jpg"))
CARD = " ".join((ROOT / "MODEL_CARD.md").read_text(encoding="utf-8").split())


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return to_float(torch.from_numpy(image).permute(2, 0, 1)[None])


def test_they_have_both_directions_and_a_licence_and_are_small():
    description = read_description(find_weights(DEFAULT_WEIGHTS))
    assert description.directions == ("photo_to_monet", "monet_to_photo")
    assert description.licence == "mit"
    assert description.recipe == ("experiment=release_monet",)
    assert WEIGHTS.stat().st_size < 2e6
    assert sorted(file.name for file in PRETRAINED.iterdir()) == ["monet.safetensors"]


def test_wheels_bring_them_along():
    tomllib = pytest.importorskip("tomllib")
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert any(fnmatch("pretrained/monet.safetensors", pattern) for pattern in patterns["monet_cyclegan"])


@pytest.mark.parametrize("direction", ["photo_to_monet", "monet_to_photo"])
@pytest.mark.parametrize("photo", PHOTOS, ids=[photo.stem for photo in PHOTOS])
def test_a_picture_stays_what_it_is_and_becomes_another(photo: Path, direction: str):
    translator = Translator(load_generator(WEIGHTS, direction))
    before = read_image(photo)
    after = translator(before)
    assert after.shape == before.shape
    assert luminance_correlation(as_tensor(before), as_tensor(after)).item() > 0.8
    assert chroma_cosine(as_tensor(before), as_tensor(after)).item() > 0.7
    change = np.abs(after.astype(float) - before).mean()
    assert 3 < change < 40  # levels of 255


def test_predict_paints_with_them_unless_told_otherwise(tmp_path: Path):
    predict([f"input={PHOTOS[0]}", f"output={tmp_path / 'default.png'}", "device=cpu"])
    predict(["ckpt=monet", f"input={PHOTOS[0]}", f"output={tmp_path / 'named.png'}", "device=cpu"])
    assert np.array_equal(read_image(tmp_path / "default.png"), read_image(tmp_path / "named.png"))
    assert not np.array_equal(read_image(tmp_path / "named.png"), read_image(PHOTOS[0]))


def test_the_command_works_in_a_folder_of_ones_own(tmp_path: Path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PHOTOS[0].read_bytes())
    command = [sys.executable, str(ROOT / "predict.py"), "ckpt=monet", "input=photo.jpg", "output=painting.jpg"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_image(tmp_path / "painting.jpg").shape == read_image(photo).shape


def test_an_export_hands_them_on_unless_told_otherwise(tmp_path: Path):
    export(["format=safetensors", "direction=both", f"output={tmp_path / 'again.safetensors'}"])
    before, after = read_description(WEIGHTS), read_description(tmp_path / "again.safetensors")
    assert after.directions == before.directions
    assert after.licence == before.licence
    assert after.record == before.record


def test_the_page_of_ones_own_machine_paints_with_them_unless_told_otherwise():
    _, directions = app.open_painter({**app.DEFAULTS, "device": "cpu"}, app.Stop())
    assert directions == ("photo_to_monet", "monet_to_photo")


@pytest.mark.parametrize("direction", ["photo_to_monet", "monet_to_photo"])
def test_torch_hub_has_them(direction: str):
    generator = torch.hub.load(str(ROOT), direction, source="local")
    image = torch.rand(1, 3, 32, 48) * 2 - 1
    expected = load_generator(WEIGHTS, direction)(image)
    torch.testing.assert_close(generator(image), expected)
    assert not generator.training


def test_the_card_says_what_the_weights_do():
    description = read_description(WEIGHTS)
    record = description.record
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in CARD
    assert f"{WEIGHTS.stat().st_size / 1e6:.1f} MB" in CARD
    scores = record.scores
    assert scores["val/kid"] < 0.03
    row = re.search(r"\*\*photo to Monet\*\*[^|]+\| ([\d.]+) ± ([\d.]+) \| [^|]+ \| ([\d.]+) \|", CARD)
    assert row
    kid, error, fid = map(float, row.groups())  # of the weights as they are in the file, in float16
    assert kid == pytest.approx(scores["val/kid"], abs=2e-4)
    assert error == pytest.approx(scores["val/kid_error"], abs=2e-4)
    assert fid == pytest.approx(scores["val/fid"], abs=0.2)
    assert f"{record.pairs // 8:,} steps" in CARD
    assert f"{record.seconds / 3600:.1f} hours" in CARD
    assert f"{record.trained_on['photo']:,} photos" in CARD
    assert f"{record.trained_on['monet']} paintings" in CARD
    assert f"python train.py {' '.join(description.recipe)}" in CARD
