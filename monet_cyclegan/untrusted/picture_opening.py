"""Picture files opened as one of the known formats, or refused before they take a machine's time and memory."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, UnidentifiedImageError

from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.picture_structure import check_directories, check_structure

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
}
SAFE_LIBHEIF = (1, 23, 4)  # older ones run code that a picture brings along

MAX_PIXELS = 200_000_000
# Pillow counts too: by default it warns at 89 megapixels, inside our range, and raises at twice that, also inside it.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

logging.getLogger("PIL").addHandler(logging.NullHandler())  # it would complain of what we refuse with one line

_RLE_PIXELS, _RLE_SIDE = 20_000_000, 65_535  # Pillow unpacks BMPs in Python, some hundred rows at once
_PLANES = 8  # at most, in which tiles may lie upon each other


class Opened(NamedTuple):
    """A picture of which only the header was read, and how many frames it has, if its format must be walked for it."""

    image: Image.Image
    frames: int


@contextmanager
def open_picture(data: bytes, name: str, *, heic: bool = False) -> Iterator[Opened]:
    """Open an image file's bytes, without decoding them; Pillow's warnings are silent until the block is left.

    Args:
        data: the file.
        name: what errors call it.
        heic: whether HEIC is opened too, which takes pillow-heif.

    Raises:
        UserError: "name: why" for bytes of no known format, a damaged header, or a picture that is too large.
    """
    formats = sorted({*FORMATS.values()})
    if heic and data[4:8] == b"ftyp":
        _learn_heic(name)
        formats.append("HEIF")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of what we refuse, or leave aside and say so
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            frames = check_structure(data)
            image = Image.open(io.BytesIO(data), formats=formats)
        except Image.DecompressionBombError as error:
            raise _too_large(name) from error
        except UnidentifiedImageError as error:
            *most, last = formats
            raise UserError(f"{name}: not a {', '.join(most)} or {last} image") from error
        except Exception as error:  # readers of damaged files raise whatever they stumble over
            raise damaged(name, error) from error
        with image:
            _refuse_sizes(image, name)
            _drop_bad_exif(image)
            yield Opened(image, frames)


def damaged(name: str, error: Exception) -> UserError:
    """The line for a picture that can't be read."""
    return UserError(f"{name}: damaged or unsupported image ({error or type(error).__name__})")


def _too_large(name: str) -> UserError:
    return UserError(f"{name}: larger than {MAX_PIXELS // 10**6} megapixels")


def _refuse_sizes(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(name)
    if width < 1 or height < 1:
        raise UserError(f"{name}: damaged or unsupported image ({width}x{height} pixels)")
    tiles = getattr(image, "tile", [])
    if tiles and tiles[0][0] == "bmp_rle" and (width * height > _RLE_PIXELS or width > _RLE_SIDE):
        raise UserError(f"{name}: a compressed BMP larger than {_RLE_PIXELS // 10**6} megapixels, save it as PNG")
    covered = sum((box[2] - box[0]) * (box[3] - box[1]) for _, box, *_ in tiles if box)
    if covered > _PLANES * width * height:  # decoding what is painted over would have no end
        raise UserError(f"{name}: damaged or unsupported image (its parts lie upon each other)")
    if image.format == "TIFF" and tiles and covered < width * height:  # nothing is in the file for the rest
        raise UserError(f"{name}: damaged or unsupported image (parts of it are missing)")


def _drop_bad_exif(image: Image.Image) -> None:
    """Leave EXIF data aside that would take more memory than the picture; those of JPEG and TIFF are read by now."""
    exif = image.info.get("exif")
    text = image.info.get("Raw profile type exif")  # of PNG, in hexadecimal digits
    try:
        if isinstance(exif, bytes):
            check_directories(exif.removeprefix(b"Exif\0\0"))
        if isinstance(text, str):
            check_directories(bytes.fromhex("".join(text.split("\n")[3:])).removeprefix(b"Exif\0\0"))
    except ValueError:
        for key in ("exif", "Raw profile type exif"):
            image.info.pop(key, None)


def _learn_heic(name: str) -> None:
    """Teach Pillow to read HEIC.

    Raises:
        UserError: without pillow-heif, or with a dangerous one.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise UserError(f"{name}: HEIC is read with pip install 'monet-cyclegan[heic]'") from error
    version = pillow_heif.libheif_version()
    if tuple(int(part) for part in version.split(".")[:3]) < SAFE_LIBHEIF:
        raise UserError(f"{name}: not opened, since libheif {version} is known to be unsafe: update pillow-heif")
    pillow_heif.register_heif_opener(thumbnails=False)
