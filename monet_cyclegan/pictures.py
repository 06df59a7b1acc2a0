"""Picture files with all that belongs to them: transparency, colour profile, resolution, and who took them when."""

from __future__ import annotations

import io
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.bounded import open_file
from monet_cyclegan.untrusted.picture_opening import FORMATS, damaged, open_picture
from monet_cyclegan.untrusted.picture_opening import MAX_PIXELS as MAX_PIXELS
from monet_cyclegan.untrusted.picture_structure import MOST_FRAMES
from monet_cyclegan.whole_file import whole_file

if TYPE_CHECKING:
    from pathlib import Path

READABLE_SUFFIXES = frozenset(FORMATS)
HEIC_SUFFIXES = frozenset({".heic", ".heif"})

_MOST_EXIF = 60_000  # bytes: a JPEG file has room for a little more
_BAND = 256  # rows, an even number
_CHROMA_420 = 2  # Pillow's name for colours at half the width and height
_ALPHA_FORMATS = {"PNG", "WEBP", "TIFF"}
# What is handed on. Not the place, which people don't expect to publish, nor the thumbnail, which shows the photo.
_TAGS = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)
_CAMERA_TAGS = (
    ExifTags.Base.ExposureTime,
    ExifTags.Base.FNumber,
    ExifTags.Base.ISOSpeedRatings,
    ExifTags.Base.DateTimeOriginal,
    ExifTags.Base.DateTimeDigitized,
    ExifTags.Base.OffsetTime,
    ExifTags.Base.OffsetTimeOriginal,
    ExifTags.Base.OffsetTimeDigitized,
    ExifTags.Base.SubsecTimeOriginal,
    ExifTags.Base.FocalLength,
    ExifTags.Base.FocalLengthIn35mmFilm,
    ExifTags.Base.LensMake,
    ExifTags.Base.LensModel,
)


class Picture(NamedTuple):
    """A decoded file: sRGB pixels (H, W, 3) uint8, upright, and what else it held.

    Attributes:
        pixels: where nothing can be seen, the colours of what lies around.
        alpha: (H, W) uint8, None if there is no transparency.
        exif: date, camera and copyright.
        dpi: pixels per inch across and down.
        profiled: whether the file named its colour space; then whoever writes it names sRGB.
        notes: what became of it in reading, such as "16 bits became 8".
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: Image.Exif | None = None
    dpi: tuple[float, float] | None = None
    profiled: bool = False
    notes: tuple[str, ...] = ()

    def on_white(self) -> np.ndarray:
        """The pixels as they look on white paper (H, W, 3) uint8."""
        if self.alpha is None:
            return self.pixels
        canvas = Image.new("RGBA", self.alpha.shape[::-1], "white")
        canvas.alpha_composite(Image.fromarray(np.dstack([self.pixels, self.alpha])))
        return np.array(canvas.convert("RGB"))


def decode_picture(data: bytes, name: str, *, heic: bool = False) -> Picture:
    """Decode an image file's bytes; grey, palette and CMYK become RGB, 16 bits 8, animations their first frame.

    Args:
        data: the file.
        name: what errors call it.
        heic: whether HEIC is read too, which takes pillow-heif.

    Raises:
        UserError: "name: why" for bytes that aren't a whole image of a known format, or for one too large.
    """
    with open_picture(data, name, heic=heic) as (image, frames):
        # Readers of damaged files raise whatever they stumble over (struct.error, SyntaxError, IndexError, ...).
        try:
            notes = _notes(image, frames, data)
            image.load()
            exif, dpi = _kept_exif(image), _dpi(image)
            profile = image.info.get("icc_profile")
            _turn_upright(image)
            pixels, alpha = _split_alpha(image)
            if profile:
                pixels, lost = _to_srgb(pixels, profile)
                notes += lost
            rgb = np.array(pixels if pixels.mode == "RGB" else pixels.convert("RGB"))
            if alpha is not None:
                _fill_unseen(rgb, alpha > 0)
            return Picture(rgb, alpha, exif, dpi, bool(profile), notes)
        except Exception as error:
            raise damaged(name, error) from error


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encode (H, W, 3) uint8 RGB as JPEG with 4:2:0 chroma, as the competition's files are."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality, subsampling=_CHROMA_420)
    return encoded.getvalue()


def read_size(data: bytes, name: str) -> tuple[int, int]:
    """Read the width and height of an image file's bytes from its header; UserError if it isn't one."""
    with open_picture(data, name) as (image, _):
        return image.size


def read_mark(path: Path) -> str:
    """The mark that `write_picture` left in a file, read from its header; "" if there is none, or no such file."""
    with suppress(Exception), open_file(path) as file, Image.open(file, formats=[*FORMATS.values()]) as image:
        return str(image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ImageUniqueID, ""))
    return ""


def write_picture(
    path: Path, picture: Picture, quality: int = 95, chroma: bool = True, mark: str = ""
) -> tuple[str, ...]:
    """Write a picture in the format of the suffix, with all of it that the format can hold; returns what it can't.

    Missing folders are made, and a file under this name is never half an image.

    Args:
        path: where to.
        picture: what.
        quality: of JPEG and WebP.
        chroma: whether JPEG keeps colours at full resolution; otherwise at half of it, as most files do.
        mark: up to 32 hexadecimal digits for `read_mark`, of formats with EXIF data: all but BMP and GIF.

    Raises:
        UserError: for an unknown suffix, or if the file can't be written.
    """
    image_format = FORMATS.get(path.suffix.lower())
    if image_format is None:
        raise UserError(f"{path}: unknown suffix {path.suffix!r}, choose one of {', '.join(FORMATS)}")
    alpha = picture.alpha if image_format in _ALPHA_FORMATS else None
    pixels = picture.on_white() if alpha is None else np.dstack([picture.pixels, alpha])
    options = _options(image_format, picture, quality, chroma, mark)
    with whole_file(path, sync=False) as unfinished:
        try:
            Image.fromarray(pixels).save(unfinished, format=image_format, **options)
        except ValueError as error:  # such as a side that is too long for the format
            raise UserError(f"{path}: can't be written ({error})") from error
    seen_through = alpha is None and picture.alpha is not None and (picture.alpha < 255).any()
    return (f"{image_format} has no transparency, so white shows",) if seen_through else ()


def _options(image_format: str, picture: Picture, quality: int, chroma: bool, mark: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if image_format in ("JPEG", "WEBP"):
        options["quality"] = quality
    if image_format == "JPEG":
        options["subsampling"] = 0 if chroma else _CHROMA_420
    if image_format in ("BMP", "GIF"):
        return {"dpi": picture.dpi} if picture.dpi and image_format == "BMP" else {}
    if picture.profiled:
        options["icc_profile"] = _srgb_profile().tobytes()
    if picture.exif is not None or mark or (picture.dpi and image_format == "WEBP"):
        exif = _exif_to_write(picture, mark, resolution=image_format == "WEBP")
        options["exif"] = exif.tobytes()  # as bytes, since for TIFF an object loses its inner table
    if picture.dpi and image_format != "WEBP":
        options["dpi"] = picture.dpi
    return options


def _exif_to_write(picture: Picture, mark: str, *, resolution: bool) -> Image.Exif:
    exif = Image.Exif()
    camera = exif.get_ifd(ExifTags.IFD.Exif)
    if picture.exif is not None:
        exif.update(picture.exif)
        camera.update(picture.exif.get_ifd(ExifTags.IFD.Exif))
    if resolution and picture.dpi:  # a format without a field of its own for it
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = picture.dpi
        exif[ExifTags.Base.ResolutionUnit] = 2  # inches
    if mark:
        camera[ExifTags.Base.ImageUniqueID] = mark
    return exif


def _notes(image: Image.Image, frames: int, data: bytes) -> tuple[str, ...]:
    """What reading will change, as far as a header tells."""
    notes = []
    if _bits(image, data) > 8:
        notes.append(f"{_bits(image, data)} bits became 8")
    if image.mode == "CMYK":
        notes.append("CMYK became RGB")
    count = frames or getattr(image, "n_frames", 1)  # Pillow would walk through all of a GIF or TIFF
    if count > 1:
        notes.append(f"the first of {f'more than {MOST_FRAMES}' if 0 < MOST_FRAMES < frames else count} frames")
    return tuple(notes)


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits of a channel: Pillow's modes don't tell, since it halves colours of 16 bits on its own."""
    if image.format == "PNG":
        return data[24] if data[12:16] == b"IHDR" and len(data) > 24 else 8
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, 8)  # type: ignore[attr-defined]
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 16 if image.mode.startswith("I;16") else int(image.info.get("bit_depth", 8))  # HEIC has up to 12


def _kept_exif(image: Image.Image) -> Image.Exif | None:
    kept = Image.Exif()
    with suppress(Exception):  # damaged EXIF data say nothing about the pixels, which are fine
        found = image.getexif()
        if not found:
            return None
        kept.update({tag: found[tag] for tag in _TAGS if tag in found})
        camera = found.get_ifd(ExifTags.IFD.Exif)
        kept.get_ifd(ExifTags.IFD.Exif).update({tag: camera[tag] for tag in _CAMERA_TAGS if tag in camera})
        if len(kept.tobytes()) > _MOST_EXIF:  # a value of the wrong kind would only come out in writing, too
            return None
        return kept if kept or kept.get_ifd(ExifTags.IFD.Exif) else None
    return None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    with suppress(Exception):
        across, down = (float(number) for number in image.info["dpi"])
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        if 1 <= across <= 65535 and 1 <= down <= 65535:  # what JPEG can hold, and a number
            return (down, across) if turned else (across, down)
    return None


def _turn_upright(image: Image.Image) -> None:
    with suppress(Exception):  # damaged EXIF data
        ImageOps.exif_transpose(image, in_place=True)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """The colours, in a mode that their profile belongs to, and the transparency (H, W) uint8."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257  # 65535 / 257 = 255
        return Image.fromarray(grey.astype(np.uint8)), None
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel have no known range, save it with 8 or 16")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        colours = image.getchannel("L") if image.mode == "LA" else with_alpha.convert("RGB")
        return colours, np.array(with_alpha.getchannel("A"))
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB"), None


@cache
def _srgb_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert from the file's colour space; a profile that can't be used is left aside, and a note says so."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
            return image, ()
        converted = ImageCms.profileToProfile(image, source, _srgb_profile(), outputMode="RGB")
    except Exception:  # whatever reading a stranger's profile stumbles over
        return image, ("its colour profile is damaged and was left aside",)
    return converted or image, ()


def _fill_unseen(pixels: np.ndarray, seen: np.ndarray) -> None:
    """Give pixels (H, W, 3) that can't be seen the mean of what is seen around them, from ever larger squares.

    Whatever a file hides there (black, mostly) would bleed into what is seen once a network looks at it.
    """
    if seen.all() or not seen.any():
        return
    bands = [slice(start, start + _BAND) for start in range(0, len(pixels), _BAND)]  # floats of all would be large
    totals = [_halved(pixels[band].astype(np.float32) * seen[band][..., None]) for band in bands]
    counts = [_halved(seen[band].astype(np.float32)) for band in bands]
    around = _spread(np.concatenate(totals), np.concatenate(counts))
    for band in bands:
        unseen = ~seen[band]
        rows = around[band.start // 2 : (band.stop + 1) // 2].repeat(2, axis=0).repeat(2, axis=1)
        pixels[band][unseen] = rows[: unseen.shape[0], : unseen.shape[1]][unseen].round()


def _spread(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Means total / count (H, W, 3); where the count is zero, those of the squares of 2x2, 4x4, ..."""
    means = total / np.maximum(count, 1)[..., None]
    known = count > 0
    if known.all():
        return means
    around = _spread(_halved(total), _halved(count)).repeat(2, axis=0).repeat(2, axis=1)
    return np.where(known[..., None], means, around[: total.shape[0], : total.shape[1]])


def _halved(values: np.ndarray) -> np.ndarray:
    """Sum squares of 2x2, an odd last row or column with zeros."""
    height, width = values.shape[:2]
    padded = np.pad(values, [(0, height % 2), (0, width % 2), *[(0, 0)] * (values.ndim - 2)])
    return padded[0::2, 0::2] + padded[1::2, 0::2] + padded[0::2, 1::2] + padded[1::2, 1::2]
