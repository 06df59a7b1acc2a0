from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from monet_cyclegan import pictures
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import (
    decode_image,
    image_grid,
    read_image,
    to_float,
    to_uint8,
    write_image,
)
from monet_cyclegan.pictures import encode_jpeg, read_size

if TYPE_CHECKING:
    from pathlib import Path


def encode(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def noise(height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int = 24, width: int = 32) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=-1).astype(np.uint8)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )


def test_every_uint8_value_survives_the_way_to_float_and_back():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(values)), values)
    assert to_float(values)[[0, 255]].tolist() == [-1.0, 1.0]


def test_to_uint8_rounds_to_the_nearest_and_clamps():
    assert to_uint8(torch.tensor([-3.0, -1.0, 0.009, 0.99, 3.0])).tolist() == [0, 0, 129, 254, 255]


def test_half_precision_is_not_rounded_twice():
    images = torch.linspace(-1, 1, 200, dtype=torch.bfloat16)
    assert torch.equal(to_uint8(images), to_uint8(images.double()))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP"])
def test_lossless_formats_decode_to_the_pixels_that_were_saved(image_format):
    pixels = noise()
    assert np.array_equal(decode_image(encode(Image.fromarray(pixels), image_format), "x"), pixels)


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP"])
def test_lossy_formats_decode_close_to_the_pixels_that_were_saved(image_format):
    decoded = decode_image(encode(Image.fromarray(smooth()), image_format, quality=95), "x")
    assert np.abs(decoded.astype(int) - smooth()).mean() < 4


def test_a_decoded_image_is_writable_so_that_torch_takes_it_without_a_copy():
    assert decode_image(encode(Image.fromarray(noise()), "PNG"), "x").flags.writeable


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    undo |= {
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }  # how the camera had to turn an upright scene to store it
    scene = Image.fromarray(noise())
    stored = scene.transpose(Image.Transpose[undo[orientation]]) if orientation in undo else scene
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode_image(encode(stored, "PNG", exif=exif), "x"), noise())


def test_damaged_exif_data_do_not_spoil_a_good_image():
    turned, broken = (
        struct.pack("<HHIHH", 0x112, 3, 1, 6, 0),
        struct.pack("<HHII", 0x11A, 1, 2, 8),
    )  # a ratio in one byte
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + turned + broken + bytes(24)
    assert decode_image(encode(Image.fromarray(smooth(24, 32)), "JPEG", exif=exif), "x").shape == (32, 24, 3)


def test_grey_becomes_three_equal_channels():
    grey = noise()[..., 0]
    decoded = decode_image(encode(Image.fromarray(grey), "PNG"), "x")
    assert all(np.array_equal(decoded[..., channel], grey) for channel in range(3))


def test_sixteen_bit_grey_is_scaled_not_cut():
    grey = np.array([[0, 128, 129, 257, 32896, 65278, 65535]], dtype=np.uint16)
    decoded = decode_image(encode(Image.fromarray(grey), "PNG"), "x")
    assert decoded[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255]


def test_a_palette_is_looked_up():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert decode_image(encode(palette, "PNG"), "x").tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_cmyk_becomes_rgb():
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = decode_image(encode(cyan, "JPEG", quality=100), "x")[8, 8].tolist()
    assert red < 10
    assert green > 245
    assert blue > 245


def test_transparency_shows_white():
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    assert decode_image(encode(Image.fromarray(pixels), "PNG"), "x").tolist() == [
        [[255, 0, 0], [255, 255, 255], [127, 127, 127]]
    ]


def test_a_transparent_palette_entry_shows_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert decode_image(encode(palette, "PNG", transparency=0), "x").tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data, "x")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("data", [b"", b"hello", encode(Image.fromarray(noise()), "PPM")])
def test_what_is_no_image_of_a_known_format_is_refused_with_its_name(data):
    with pytest.raises(UserError, match=r"^a/b\.jpg: not a BMP, GIF, JPEG, PNG, TIFF or WEBP image$"):
        decode_image(data, "a/b.jpg")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_a_truncated_image_is_refused_rather_than_filled_up(image_format):
    data = encode(Image.fromarray(noise(64, 64)), image_format)
    with pytest.raises(UserError, match="cut"):
        decode_image(data[: len(data) // 2], "cut")


def test_pixels_without_a_known_range_are_refused():
    data = encode(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF")
    with pytest.raises(UserError, match=r"^x: .*32 bits"):
        decode_image(data, "x")


@pytest.mark.parametrize(("width", "height"), [(20_001, 10_000), (60_000, 60_000)])
def test_a_header_that_promises_too_many_pixels_is_refused_before_anything_is_decoded(width, height):
    with pytest.raises(UserError, match=r"^bomb: larger than 200 megapixels$"):
        decode_image(png_header(width, height), "bomb")


def test_an_image_of_just_the_allowed_size_gets_past_the_check_without_a_warning():
    with pytest.raises(UserError, match="damaged"):  # there are no pixels behind this header
        decode_image(png_header(20_000, 10_000), "big")


@pytest.mark.parametrize("suffix", sorted(pictures.READABLE_SUFFIXES))
def test_what_is_written_reads_back(tmp_path, suffix):
    path = tmp_path / "new" / "folder" / f"image{suffix.upper()}"
    write_image(path, smooth())
    tolerance = 0 if suffix in {".png", ".bmp", ".tif", ".tiff"} else 12
    assert np.abs(read_image(path).astype(int) - smooth()).mean() <= tolerance
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_jpeg_keeps_colours_at_full_resolution(tmp_path):
    stripes = np.zeros((16, 16, 3), dtype=np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    write_image(tmp_path / "stripes.jpg", stripes)
    assert np.abs(read_image(tmp_path / "stripes.jpg").astype(int) - stripes).mean() < 5


def test_quality_sets_the_size_of_a_jpeg(tmp_path):
    write_image(tmp_path / "low.jpg", noise(), quality=30)
    write_image(tmp_path / "high.jpg", noise(), quality=95)
    assert (tmp_path / "low.jpg").stat().st_size < (tmp_path / "high.jpg").stat().st_size / 2


def test_an_unknown_suffix_is_refused_with_the_choices(tmp_path):
    with pytest.raises(UserError, match=r"'\.psd'.*\.jpg.*\.png"):
        write_image(tmp_path / "image.psd", noise())
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "wide.webp"
    write_image(path, noise())
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"wide\.webp: can't be written"):
        write_image(path, noise(2, 16_384))  # one pixel wider than WebP can be
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_of_a_file_is_an_error_that_leaves_nothing_behind(tmp_path):
    (tmp_path / "image.png").mkdir()
    with pytest.raises(UserError, match=r"image\.png: can't be written"):
        write_image(tmp_path / "image.png", noise())
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    write_image(tmp_path / "image.png", noise())
    assert (tmp_path / "image.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_missing_file_and_a_folder_are_errors_of_one_line(tmp_path: Path):
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(UserError, match=rf"^{path}: [^\n]+$"):
            read_image(path)


def test_a_grid_shows_every_image_once_in_its_row_and_column():
    noise = torch.Generator().manual_seed(0)
    columns = {
        "real": torch.rand(2, 3, 32, 40, generator=noise),
        "fake": torch.rand(2, 3, 32, 48, generator=noise),
    }
    picture = image_grid(columns)
    windows = np.lib.stride_tricks.sliding_window_view(picture, (32, 40, 3))[:, :, 0]

    corners = {}
    for title, batch in columns.items():
        for row, image in enumerate(to_uint8(batch[..., :40]).permute(0, 2, 3, 1).numpy()):
            (corners[title, row],) = np.argwhere((windows == image).all(axis=(2, 3, 4))).tolist()
    (top, left), (below, same_left) = corners["real", 0], corners["real", 1]
    (same_top, right), _ = corners["fake", 0], corners["fake", 1]
    assert (same_left, same_top) == (left, top)
    assert below > top + 32
    assert right > left + 40


def test_titles_stand_above_the_images_and_are_not_cut_off():
    picture = image_grid({"i": torch.ones(1, 3, 16, 16), "a title far wider than its image": torch.ones(1, 3, 16, 16)})
    dark_rows, dark_columns = np.nonzero((picture < 128).all(axis=2))
    assert dark_rows.max() < picture.shape[0] - 16
    assert dark_columns.min() > 0
    assert dark_columns.max() < picture.shape[1] - 1


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"'a': 1.*'b': 2"):
        image_grid({"a": torch.zeros(1, 3, 16, 16), "b": torch.zeros(2, 3, 16, 16)})


def test_a_size_is_read_from_the_header_alone():
    data = encode_jpeg(np.zeros((30, 50, 3), np.uint8), quality=75)
    assert read_size(data, "x.jpg") == (50, 30)
    assert read_size(data[: len(data) - 20], "x.jpg") == (50, 30)
    with pytest.raises(UserError, match=r"^x\.jpg: not a "):
        read_size(b"no image", "x.jpg")


def test_a_jpeg_of_lower_quality_is_smaller_and_further_from_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    errors, sizes = [], []
    for quality in (95, 75, 30):
        data = encode_jpeg(picture, quality)
        sizes.append(len(data))
        errors.append(np.abs(decode_image(data, "").astype(int) - picture).mean())
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
