"""Files with more than pixels: what is kept of them, what is converted, and what is said about it."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from monet_cyclegan import pictures
from monet_cyclegan.errors import UserError
from monet_cyclegan.pictures import Picture, decode_picture, read_mark, write_picture


def encode(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def noise(height: int = 20, width: int = 30, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def camera_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Model], exif[ExifTags.Base.Make] = "EOS 5D", "Canon"
    exif[ExifTags.Base.Copyright], exif[ExifTags.Base.Artist] = "Claude Monet", "Claude"
    exif[ExifTags.Base.DateTime] = "2026:11:25 10:00:00"
    camera = exif.get_ifd(ExifTags.IFD.Exif)
    camera[ExifTags.Base.DateTimeOriginal] = "2026:11:24 09:00:00"
    camera[ExifTags.Base.FNumber] = 2.8
    camera[ExifTags.Base.UserComment] = b"private"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_date_camera_and_copyright_are_kept_and_the_place_is_not(tmp_path, suffix):
    data = encode(Image.fromarray(noise()), "JPEG", exif=camera_exif())
    write_picture(tmp_path / f"out{suffix}", decode_picture(data, "x"))
    with Image.open(tmp_path / f"out{suffix}") as written:
        exif = written.getexif()
        camera = exif.get_ifd(ExifTags.IFD.Exif)
        assert exif[ExifTags.Base.Model] == "EOS 5D"
        assert exif[ExifTags.Base.Copyright] == "Claude Monet"
        assert exif[ExifTags.Base.DateTime] == "2026:11:25 10:00:00"
        assert camera[ExifTags.Base.DateTimeOriginal] == "2026:11:24 09:00:00"
        assert float(camera[ExifTags.Base.FNumber]) == pytest.approx(2.8)
        assert ExifTags.Base.UserComment not in camera
        assert not exif.get_ifd(ExifTags.IFD.GPSInfo)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_the_resolution_is_kept_and_turns_with_the_picture(tmp_path, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture = decode_picture(encode(Image.fromarray(noise(20, 30)), "JPEG", dpi=(300, 150), exif=exif), "x")
    write_picture(tmp_path / f"out{suffix}", picture)
    with Image.open(tmp_path / f"out{suffix}") as written:
        assert written.size == (20, 30)
        assert written.getexif().get(ExifTags.Base.Orientation, 1) == 1
        exif = written.getexif()
        dpi = written.info.get("dpi") or (exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution])
        assert [float(number) for number in dpi] == pytest.approx([150, 300], abs=0.1)


def adobe_like_profile() -> bytes:
    """A profile with gamma 1 and red and green exchanged, which can't be mistaken for sRGB."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    for entry in range(132, 132 + 12 * count, 12):
        if profile[entry : entry + 4] in (b"rXYZ", b"gXYZ"):
            profile[entry : entry + 4] = b"gXYZ" if profile[entry : entry + 4] == b"rXYZ" else b"rXYZ"
    return bytes(profile).replace("sRGB built-in".encode("utf-16-be"), "swapped colou".encode("utf-16-be"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_colours_of_another_profile_become_srgb_and_the_output_says_so(tmp_path, suffix):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    picture = decode_picture(encode(Image.fromarray(red), "PNG", icc_profile=adobe_like_profile()), "x")
    assert np.abs(picture.pixels[8, 8].astype(int) - [0, 200, 0]).max() <= 3
    write_picture(tmp_path / f"out{suffix}", picture)
    with Image.open(tmp_path / f"out{suffix}") as written:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(written.info["icc_profile"]))
        assert "sRGB" in ImageCms.getProfileDescription(profile)


def test_a_picture_in_srgb_keeps_its_pixels_and_one_without_a_profile_gets_none(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(
        decode_picture(encode(Image.fromarray(noise()), "PNG", icc_profile=srgb), "x").pixels, noise()
    )
    write_picture(tmp_path / "plain.png", decode_picture(encode(Image.fromarray(noise()), "PNG"), "x"))
    with Image.open(tmp_path / "plain.png") as written:
        assert "icc_profile" not in written.info


@pytest.mark.parametrize("profile", [b"nonsense", adobe_like_profile()[:300]])
def test_a_damaged_profile_is_left_aside_and_said(profile):
    picture = decode_picture(encode(Image.fromarray(noise()), "PNG", icc_profile=profile), "x")
    assert np.array_equal(picture.pixels, noise())
    assert picture.notes == ("its colour profile is damaged and was left aside",)


def test_a_grey_picture_and_one_in_cmyk_have_profiles_of_their_own(tmp_path):
    grey = noise()[..., 0]
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # of no use for grey: left aside
    picture = decode_picture(encode(Image.fromarray(grey), "PNG", icc_profile=lab), "x")
    assert np.array_equal(picture.pixels[..., 1], grey)
    assert "left aside" in picture.notes[0]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_transparency_is_kept(tmp_path, suffix):
    alpha = noise()[..., 0]
    data = encode(Image.fromarray(np.dstack([noise(), alpha])), "PNG")
    assert write_picture(tmp_path / f"out{suffix}", decode_picture(data, "x")) == ()
    with Image.open(tmp_path / f"out{suffix}") as written:
        assert np.array_equal(np.array(written.convert("RGBA"))[..., 3], alpha)


def test_grey_with_transparency_is_kept_too():
    picture = Image.merge("LA", [Image.fromarray(noise()[..., channel].copy()) for channel in (0, 1)])
    decoded = decode_picture(encode(picture, "PNG"), "x")
    assert np.array_equal(decoded.alpha, noise()[..., 1])
    assert np.array_equal(decoded.pixels[..., 2][decoded.alpha > 0], noise()[..., 0][decoded.alpha > 0])


def test_a_format_without_transparency_shows_white_and_says_so(tmp_path):
    picture = Picture(np.zeros((16, 16, 3), np.uint8), alpha=np.zeros((16, 16), np.uint8))
    assert write_picture(tmp_path / "out.jpg", picture) == ("JPEG has no transparency, so white shows",)
    with Image.open(tmp_path / "out.jpg") as written:
        assert np.array(written).min() == 255
    opaque = picture._replace(alpha=np.full((16, 16), 255, np.uint8))
    assert write_picture(tmp_path / "out.jpg", opaque) == ()


def test_what_cannot_be_seen_takes_the_colours_around_it():
    """A network looks at hidden pixels too, and black ones would darken the edge of what is seen."""
    pixels = np.zeros((33, 47, 4), np.uint8)
    pixels[8:20, 10:30] = [200, 100, 50, 255]
    filled = decode_picture(encode(Image.fromarray(pixels), "PNG"), "x").pixels
    assert np.array_equal(filled, np.broadcast_to(np.array([200, 100, 50], np.uint8), filled.shape))
    hidden = np.zeros((16, 16, 4), np.uint8)
    assert decode_picture(encode(Image.fromarray(hidden), "PNG"), "x").pixels.max() == 0


def png_of_48_bits(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint16, which Pillow can read but not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "notes"),
    [
        (encode(Image.fromarray(noise()), "PNG"), ()),
        (encode(Image.fromarray(noise()[..., 0].astype(np.uint16)), "PNG"), ("16 bits became 8",)),
        (encode(Image.fromarray(noise()[..., 0].astype(np.uint16)), "TIFF"), ("16 bits became 8",)),
        (png_of_48_bits(noise().astype(np.uint16) * 257), ("16 bits became 8",)),
        (encode(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG"), ("CMYK became RGB",)),
        (
            encode(Image.new("RGB", (9, 9), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
            ("the first of 2 frames",),
        ),
    ],
)
def test_what_reading_changes_is_said(data, notes):
    assert decode_picture(data, "x").notes == notes


def test_sixteen_bit_colours_are_scaled():
    assert np.array_equal(decode_picture(png_of_48_bits(noise().astype(np.uint16) * 257), "x").pixels, noise())


@pytest.mark.parametrize("suffix", sorted(pictures.READABLE_SUFFIXES))
def test_a_mark_is_read_back_from_formats_that_can_hold_it(tmp_path, suffix):
    mark = "0123456789abcdef" * 2
    for exif in (camera_exif(), None):
        write_picture(tmp_path / f"a{suffix}", Picture(noise(), exif=exif), mark=mark)
        assert read_mark(tmp_path / f"a{suffix}") == ("" if suffix in {".bmp", ".gif"} else mark)
    write_picture(tmp_path / f"a{suffix}", Picture(noise()))
    assert read_mark(tmp_path / f"a{suffix}") == ""


def test_what_is_no_picture_has_no_mark(tmp_path):
    (tmp_path / "text.jpg").write_text("text")
    assert read_mark(tmp_path / "text.jpg") == read_mark(tmp_path / "missing.jpg") == ""


def heic() -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener(thumbnails=False)
    smooth = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    return encode(smooth, "HEIF", quality=90)


def test_heic_is_read_where_it_is_asked_for_and_nowhere_else():
    data = heic()
    picture = decode_picture(data, "x.heic", heic=True)
    expected = np.array(Image.linear_gradient("L").resize((64, 48)).convert("RGB")).astype(int)
    assert np.abs(picture.pixels - expected).mean() < 4
    with pytest.raises(UserError, match=r"^x\.heic: not a BMP, GIF, JPEG, PNG, TIFF or WEBP image$"):
        decode_picture(data, "x.heic")


def test_an_unsafe_reader_of_heic_is_refused(monkeypatch):
    data = heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(libheif_version=lambda: "1.23.3"))
    with pytest.raises(UserError, match=r"^x\.heic: not opened, since libheif 1\.23\.3 is known to be unsafe"):
        decode_picture(data, "x.heic", heic=True)


def test_without_a_reader_of_heic_the_line_says_how_to_get_one(monkeypatch):
    data = heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match=r"^x\.heic: HEIC is read with pip install 'monet-cyclegan\[heic\]'$"):
        decode_picture(data, "x.heic", heic=True)
