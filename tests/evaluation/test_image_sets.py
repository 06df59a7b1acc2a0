"""Which images of a place are scored, and what they go through before a network sees them."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import pytest
import torch
from conftest import make_images
from PIL import Image

from monet_cyclegan.data.pairs import to_tensor
from monet_cyclegan.data.transforms import eval_transform
from monet_cyclegan.errors import UserError
from monet_cyclegan.evaluation.image_sets import ImageSet, Preparation, matching, open_image_set, prepared_batches
from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.metrics.jpeg import jpeg_round_trip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

AS_IT_IS = Preparation(size=None, jpeg=False)


def noise(seed: int, width: int = 24, height: int = 24) -> np.ndarray:
    """Coarse noise, of which JPEG leaves something."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)


def encoded(image: Image.Image | np.ndarray, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, image_format, **options)
    return file.getvalue()


def put(folder: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return str(folder)


def tfrecord(images: Sequence[bytes]) -> bytes:
    """A TFRecord file of examples with an image and its name, written by hand."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    def field(value: bytes, number: int = 1) -> bytes:
        return varint(number << 3 | 2) + varint(len(value)) + value

    def checked(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return data + struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32)

    records = b""
    for index, image in enumerate(images):
        features = {b"image": image, b"image_name": f"{index:03d}".encode()}
        entries = [field(field(name) + field(field(field(value)), 2)) for name, value in features.items()]
        data = field(b"".join(entries))
        records += checked(struct.pack("<Q", len(data))) + checked(data)
    return records


def names(images: ImageSet) -> list[str]:
    return [images.source.name(index) for index in range(len(images))]


def prepared(
    images: ImageSet, preparation: Preparation = AS_IT_IS, batch_size: int = 4, indices: Sequence[int] | None = None
) -> list[Tensor]:
    return [image for batch in prepared_batches(images, preparation, batch_size, indices) for image in batch]


def refused(path: str, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        open_image_set("fake", path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- what is read ----


def test_folders_zips_and_tfrecords_of_the_same_jpegs_are_the_same_images(tmp_path):
    images = [noise(seed) for seed in range(5)]
    files = {f"{index:03d}.jpg": encoded(image, "JPEG", quality=75) for index, image in enumerate(images)}
    folder = put(tmp_path / "folder", files)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    records = put(tmp_path / "records", {"x.tfrec": tfrecord(list(files.values()))})
    expected = [torch.from_numpy(read_image(tmp_path / "folder" / name)).permute(2, 0, 1) for name in files]
    for path in (folder, str(tmp_path / "images.zip"), records):
        found = open_image_set("fake", path)
        assert names(found) == [f"{index:03d}" for index in range(5)]
        assert found.is_jpeg == (True,) * 5
        assert (found.sizes, found.whole, found.skipped) == ({(24, 24)}, True, ())
        assert all(map(torch.equal, prepared(found), expected))


def test_the_images_of_folders_in_folders_are_ordered_as_their_paths_are_as_texts(tmp_path):
    files = ["b/1.png", "b.png", "b-c.png", "2.png", "10.png", "B/x/y.png", "a/b/c/3.png", "é.png"]
    put(tmp_path, {name: encoded(noise(seed), "PNG") for seed, name in enumerate(files)})
    found = open_image_set("fake", str(tmp_path))
    ordered = sorted(files)
    assert names(found) == [name.removesuffix(".png") for name in ordered]
    pixels = [to_tensor(noise(files.index(name))) for name in ordered]
    assert all(map(torch.equal, prepared(found), pixels))


def test_images_of_every_kind_become_upright_rgb(tmp_path):
    picture = noise(0, 24, 16)
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by a quarter, clockwise
    alpha = Image.fromarray(np.dstack([picture, np.zeros(picture.shape[:2], np.uint8)]))
    files = {
        "alpha.png": encoded(alpha, "PNG"),
        "exif.png": encoded(Image.fromarray(picture), "PNG", exif=exif),
        "grey.png": encoded(Image.fromarray(picture[..., 0]), "PNG"),
        "plain.WEBP": encoded(picture, "WEBP", lossless=True),
        "words.png": encoded(Image.fromarray(picture[..., 0].astype(np.uint16) * 257), "PNG"),
    }
    found = open_image_set("fake", put(tmp_path, files))
    assert names(found) == ["alpha", "exif", "grey", "plain", "words"]
    assert found.sizes == {(16, 24), (24, 16)}
    assert found.suffixes == {".png", ".webp"}
    see_through, turned, grey, plain, words = (image.permute(1, 2, 0).numpy() for image in prepared(found))
    assert (see_through == 255).all()
    assert np.array_equal(turned, np.rot90(picture, -1))
    assert np.array_equal(grey, picture[..., :1].repeat(3, 2))
    assert np.array_equal(plain, picture)
    assert np.array_equal(words, grey)


def test_a_jpeg_is_told_by_its_content_not_its_name(tmp_path):
    files = {"a.png": encoded(noise(0), "JPEG"), "b.jpg": encoded(noise(1), "PNG"), "c.jpg": encoded(noise(2), "JPEG")}
    assert open_image_set("fake", put(tmp_path, files)).is_jpeg == (True, False, True)


def test_what_is_skipped_is_told_by_name_and_reason(tmp_path):
    whole = encoded(noise(0, 128, 128), "JPEG")
    files = {
        "0.jpg": whole,
        "cut.jpg": whole[: -len(whole) // 2],
        "empty.png": b"",
        "text.png": b"no picture",
        "z/9.jpg": whole,
        "notes.txt": b"",
        "z/sums.csv": b"",
    }
    found = open_image_set("fake", put(tmp_path, files))
    others, *broken = found.skipped
    assert names(found) == ["0", "z/9"]
    assert not found.whole
    assert others == f"{tmp_path}: files that are no images: 2"
    assert [reason.split(": ")[0] for reason in broken] == [
        str(tmp_path / name) for name in ("cut.jpg", "empty.png", "text.png")
    ]
    assert "damaged" in broken[0]
    assert all("image" in reason.partition(": ")[2] for reason in broken)
    assert len(prepared(found)) == 2


def test_files_that_are_no_images_leave_the_images_whole(tmp_path):
    files = {"a.png": encoded(noise(0), "PNG"), "b.png": encoded(noise(1), "PNG"), "notes.txt": b""}
    found = open_image_set("fake", put(tmp_path, files))
    assert found.whole
    assert len(found.skipped) == 1


# ---- what is refused ----


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"a.png": True}, "fake={} holds 1 readable image: scores need 2 or more"),
        ({"a.png": True, "b.png": False, "c.txt": False}, "fake={} holds 1 readable image: scores need 2 or more"),
        ({"a.png": False, "b.png": False}, "fake={} holds 0 readable images: scores need 2 or more"),
    ],
)
def test_fewer_than_two_readable_images_are_refused(tmp_path, files, line):
    path = put(tmp_path, {name: encoded(noise(0), "PNG") if whole else b"x" for name, whole in files.items()})
    assert refused(path) == line.format(path)


def test_a_place_without_images_is_refused_by_the_name_of_its_setting(tmp_path):
    (tmp_path / "empty").mkdir()
    picture = put(tmp_path / "texts", {"a.txt": b""}) + "/a.txt"
    for path in (tmp_path / "empty", tmp_path / "texts", tmp_path / "nowhere", picture):
        assert refused(str(path)).startswith(f"fake={path}: {path}")
    assert "no such folder" in refused(str(tmp_path / "nowhere"))
    assert "zip" in refused(picture)


# ---- a choice of images ----


def test_a_limit_takes_a_fixed_choice_in_the_order_of_paths(tmp_path):
    folder = str(make_images(tmp_path, 20, (4, 4)))
    chosen = names(open_image_set("fake", folder, limit=6, seed=3))
    assert len(set(chosen)) == 6
    assert chosen == sorted(chosen)
    assert chosen == names(open_image_set("fake", folder, limit=6, seed=3))
    assert chosen != names(open_image_set("fake", folder, limit=6, seed=4))
    assert chosen != [f"{index:03d}" for index in range(6)]
    assert set(chosen) < set(names(open_image_set("fake", folder, limit=7, seed=3)))


def test_only_a_limit_that_leaves_images_out_makes_a_set_a_part(tmp_path):
    folder = str(make_images(tmp_path, 5, (4, 4)))
    assert not open_image_set("fake", folder, limit=4).whole
    for limit in (5, 6, 10**12, None):
        found = open_image_set("fake", folder, limit=limit)
        assert found.whole
        assert len(found) == 5


# ---- images by the names of others ----


def test_sources_are_brought_to_the_order_of_what_was_made_from_them(tmp_path):
    files = {"2.png": encoded(noise(2), "PNG"), "a/1.jpg": encoded(noise(1), "JPEG"), "0.png": encoded(noise(0), "PNG")}
    sources = open_image_set("source", put(tmp_path / "source", files))
    made = open_image_set("fake", str(make_images(tmp_path / "fake" / "a", 2).parent))  # a/000 and a/001
    with pytest.raises(UserError, match=r"^source=.*source has no picture named a/000, which fake has, nor 1 more$"):
        matching(sources, made)
    made = open_image_set("fake", put(tmp_path / "made", {"a/1.png": files["0.png"], "2.png": files["0.png"]}))
    found = matching(sources, made)
    assert names(found) == names(made) == ["2", "a/1"]
    assert found.is_jpeg == (False, True)
    assert torch.equal(prepared(found)[0], to_tensor(noise(2)))


def test_a_single_missing_name_is_told(tmp_path):
    sources = open_image_set("source", str(make_images(tmp_path / "source", 2)))
    made = open_image_set("fake", str(make_images(tmp_path / "fake", 3)))
    with pytest.raises(UserError, match=r"has no picture named 002, which fake has$"):
        matching(sources, made)


# ---- what images go through ----


def test_without_a_size_images_stay_as_they_are():
    assert torch.equal(AS_IT_IS(noise(0, 28, 16), False), to_tensor(noise(0, 28, 16)))


def test_an_image_of_the_right_size_is_not_resampled():
    assert torch.equal(Preparation(24, jpeg=False)(noise(0), False), to_tensor(noise(0)))


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (21, 20)])
def test_of_other_images_the_short_side_is_fitted_and_the_centre_cut(width, height):
    image = np.zeros((height, width, 3), np.uint8)
    middle = slice(height // 2 - 10, height // 2 + 10), slice(width // 2 - 10, width // 2 + 10)
    image[middle] = [200, 100, 50]
    found = Preparation(10, jpeg=False)(image, False)
    assert found.shape == (3, 10, 10)
    assert torch.equal(
        found[:, 1:-1, 1:-1], torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)
    )


@pytest.mark.parametrize(
    ("size", "jpeg", "is_jpeg", "compressed"),
    [
        (None, "auto", True, False),
        (24, "auto", True, False),
        *((size, "auto", False, True) for size in (None, 16, 24)),
        *((size, True, is_jpeg, True) for size in (None, 16, 24) for is_jpeg in (True, False)),
        *((size, False, is_jpeg, False) for size in (None, 16, 24) for is_jpeg in (True, False)),
    ],
)
def test_images_are_compressed_last_all_or_none_or_those_that_are_no_jpegs(size, jpeg, is_jpeg, compressed):
    resized = to_tensor(noise(0) if size in (None, 24) else eval_transform(size)(noise(0), 0))
    expected = jpeg_round_trip(resized[None])[0] if compressed else resized
    assert not torch.equal(jpeg_round_trip(resized[None])[0], resized)  # it can be told
    assert torch.equal(Preparation(size, jpeg)(noise(0), is_jpeg), expected)


@pytest.mark.parametrize(
    ("size", "jpeg", "jpegs", "alone"),
    [
        (None, False, [True, False], True),
        (24, False, [True, False], True),
        (16, False, [True, True], False),
        (None, "auto", [True, True], True),
        (None, "auto", [True, False], False),
        (24, "auto", [True, True], True),
        (16, "auto", [True, True], False),
        (None, True, [True, True], False),
        (None, True, [False, False], False),
    ],
)
def test_images_are_left_alone_only_if_none_changes(tmp_path, size, jpeg, jpegs, alone):
    files = {f"{i}.x.png": encoded(noise(i), "JPEG" if is_jpeg else "PNG") for i, is_jpeg in enumerate(jpegs)}
    found = open_image_set("fake", put(tmp_path, files))
    preparation = Preparation(size, jpeg)
    assert preparation.leaves_alone(found) == alone
    same = all(map(torch.equal, prepared(found, preparation), prepared(found)))
    assert same == alone


def test_a_size_leaves_alone_only_sets_that_have_no_other(tmp_path):
    files = {"a.png": encoded(noise(0), "PNG"), "b.png": encoded(noise(1, 24, 28), "PNG")}
    found = open_image_set("fake", put(tmp_path, files))
    assert not Preparation(24, jpeg=False).leaves_alone(found)
    assert AS_IT_IS.leaves_alone(found)


# ---- batches ----


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_batches_hold_all_images_in_order_and_none_is_larger_than_asked(tmp_path, batch_size):
    found = open_image_set("fake", str(make_images(tmp_path, 11, (6, 5))))
    batches = list(prepared_batches(found, AS_IT_IS, batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 0 < len(batches[-1]) <= batch_size
    expected = [to_tensor(found.source.load(index)) for index in range(11)]
    assert torch.equal(torch.cat(batches), torch.stack(expected))


def test_another_size_starts_another_batch(tmp_path):
    widths = [8, 8, 12, 8, 8, 8, 8]
    for index, width in enumerate(widths):
        write_image(tmp_path / f"{index}.png", noise(index, width, 8))
    found = open_image_set("fake", str(tmp_path))
    batches = list(prepared_batches(found, AS_IT_IS, 3))
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 8, 8), (1, 3, 8, 12), (3, 3, 8, 8), (1, 3, 8, 8)]
    flat = [image for batch in batches for image in batch]
    assert all(torch.equal(image, to_tensor(noise(index, widths[index], 8))) for index, image in enumerate(flat))


def test_images_are_read_by_index_in_the_order_asked_for(tmp_path):
    found = open_image_set("fake", str(make_images(tmp_path, 6, (6, 5))))
    everything = prepared(found)
    order = [4, 0, 4, 5, 1]
    some = prepared(found, batch_size=2, indices=order)
    assert all(torch.equal(image, everything[index]) for image, index in zip(some, order, strict=True))
    assert prepared(found, indices=[]) == []
