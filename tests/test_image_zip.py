from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from monet_cyclegan import image_zip
from monet_cyclegan.errors import UserError
from monet_cyclegan.image_zip import problems, write_image_zip
from monet_cyclegan.images import decode_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pictures(count: int, side: int = 256) -> Iterator[tuple[str, np.ndarray]]:
    """Smooth pictures, each of its own colour, which JPEG keeps."""
    ramp = np.linspace(0, 80, side)[:, None, None].astype(np.uint8)
    for index in range(count):
        colour = np.array([17 * index % 150, 30, 90], dtype=np.uint8)
        yield f"{index:05d}", np.broadcast_to(ramp + colour, (side, side, 3))


@pytest.fixture
def few_are_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_zip, "COUNTS", range(3, 6))


@pytest.mark.usefixtures("few_are_enough")
def test_an_archive_holds_the_pictures_as_the_competition_wants_them(tmp_path: Path):
    path = tmp_path / "new" / "images.zip"
    assert write_image_zip(path, pictures(4)) == 4
    assert problems(path) == []
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["00000.jpg", "00001.jpg", "00002.jpg", "00003.jpg"]  # in the root, no folders
        for (_, expected), name in zip(pictures(4), archive.namelist(), strict=True):
            data = archive.read(name)
            assert np.abs(decode_image(data, name).astype(int) - expected).mean() < 2
            with Image.open(io.BytesIO(data)) as image:
                assert image.format == "JPEG"
                assert image.layer[0][1:3] == (2, 2)  # half as many samples of colour: 4:2:0
    assert [file.name for file in path.parent.iterdir()] == ["images.zip"]


def test_an_archive_that_stops_in_its_middle_leaves_the_one_before(tmp_path: Path):
    path = tmp_path / "images.zip"
    write_image_zip(path, pictures(2))
    before = path.read_bytes()

    def broken():
        yield from pictures(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_image_zip(path, broken())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["images.zip"]


def test_a_place_that_can_not_be_written_to_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"images\.zip: can't be written"):
        write_image_zip(tmp_path / "file" / "images.zip", pictures(1))


def test_what_the_competition_would_refuse_is_found(tmp_path: Path, few_are_enough: None):
    path = tmp_path / "images.zip"
    write_image_zip(path, pictures(2))
    assert problems(path) == ["2 images, where the competition takes 3 to 5"]
    write_image_zip(path, pictures(6))
    assert problems(path) == ["6 images, where the competition takes 3 to 5"]
    write_image_zip(path, pictures(3, side=128))
    assert problems(path) == ["00000.jpg has 128x128 pixels, not 256x256"]
    write_image_zip(path, pictures(3))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    assert problems(path) == ["00001.jpg: Bad CRC-32 for file '00001.jpg'"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_come_twice_are_found(tmp_path: Path, few_are_enough: None):
    path = tmp_path / "images.zip"
    write_image_zip(path, [*pictures(3), *pictures(1)])
    assert problems(path) == ["1 names come twice"]


def test_the_competition_takes_7000_to_10000():
    assert 6999 not in image_zip.COUNTS
    assert 7000 in image_zip.COUNTS
    assert 10_000 in image_zip.COUNTS
    assert 10_001 not in image_zip.COUNTS
