"""Images: [-1, 1] tensors to and from uint8, reading and writing image files, and labelled grids."""

from __future__ import annotations

import io
import os
import secrets
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
}
_CHROMA_420 = 2  # Pillow's name for colours at half the width and height
READABLE_SUFFIXES = frozenset(_FORMATS)

MAX_PIXELS = 200_000_000
# Pillow counts too: by default it warns at 89 megapixels, inside our range, and raises at twice that, also inside it.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def to_uint8(images: Tensor) -> Tensor:
    """Round [-1, 1] floats to uint8; values outside are clamped."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """Spread uint8 over [-1, 1] in float32; the exact inverse of `to_uint8`."""
    return images.float().div(127.5).sub(1)


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode an image file's bytes to (H, W, 3) uint8 RGB, turned upright as its EXIF orientation says.

    Grey, palette and CMYK images become RGB, 16 bits become 8, transparency shows white, animations their first frame.

    Raises:
        UserError: "name: why" for bytes that aren't a whole image of a known format, or for one too large.
    """
    with _open(data, name) as image:
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(name)
        # Readers of damaged files raise whatever they stumble over (struct.error, SyntaxError, IndexError, ...).
        try:
            image.load()
            _turn_upright(image)
            return _to_rgb(image)
        except Exception as error:
            raise UserError(f"{name}: damaged or unsupported image ({error})") from error


@contextmanager
def _open(data: bytes, name: str) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `decode_image` refuses what it warns of
        try:
            image = Image.open(io.BytesIO(data), formats=sorted(set(_FORMATS.values())))
        except Image.DecompressionBombError as error:
            raise _too_large(name) from error
        except Exception as error:
            raise UserError(f"{name}: not a {_choices()} image") from error
    with image:
        yield image


def _too_large(name: str) -> UserError:
    return UserError(f"{name}: larger than {MAX_PIXELS // 10**6} megapixels")


def _choices() -> str:
    *most, last = sorted(set(_FORMATS.values()))
    return f"{', '.join(most)} or {last}"


def _turn_upright(image: Image.Image) -> None:
    with suppress(Exception):  # damaged EXIF data say nothing about the pixels, which are fine
        ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257  # 65535 / 257 = 255
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel have no known range, save it with 8 or 16")
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_image(path: Path) -> np.ndarray:
    """Read an image file to (H, W, 3) uint8 RGB, see `decode_image`; UserError if it can't be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return decode_image(data, str(path))


def write_image(path: Path, image: np.ndarray, quality: int = 95) -> None:
    """Write (H, W, 3) uint8 RGB in the format of the suffix; `quality` is that of JPEG and WebP.

    Missing folders are made, and a file under this name is never half an image.

    Raises:
        UserError: for an unknown suffix, or if the file can't be written.
    """
    image_format = _FORMATS.get(path.suffix.lower())
    if image_format is None:
        raise UserError(f"{path}: unknown suffix {path.suffix!r}, choose one of {', '.join(_FORMATS)}")
    options = {"JPEG": {"quality": quality, "subsampling": 0}, "WEBP": {"quality": quality}}.get(image_format, {})
    partial = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(partial, format=image_format, **options)
        os.replace(partial, path)  # noqa: PTH105 - the name says what it does
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be written ({error})") from error
    finally:
        with suppress(OSError):  # not there, mostly
            partial.unlink()


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encode (H, W, 3) uint8 RGB as JPEG with 4:2:0 chroma, as the competition's files are."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality, subsampling=_CHROMA_420)
    return encoded.getvalue()


def read_size(data: bytes, name: str) -> tuple[int, int]:
    """Read the width and height of an image file's bytes from its header; UserError if it isn't one."""
    with _open(data, name) as image:
        return image.size


def image_grid(columns: Mapping[str, Tensor]) -> np.ndarray:
    """Lay (N, 3, H, W) images in [-1, 1] out as one (H', W', 3) uint8 picture: titled columns, a row per image."""
    tiles = {title: to_uint8(images.detach()).permute(0, 2, 3, 1).cpu().numpy() for title, images in columns.items()}
    counts = {title: len(images) for title, images in tiles.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"columns need equally many images, not {counts}")

    height = max(images.shape[1] for images in tiles.values())
    font_size = max(12, height // 12)
    font = ImageFont.load_default(size=font_size)
    widths = [max(images.shape[2], round(font.getlength(title)) + 1) for title, images in tiles.items()]
    gap = max(4, height // 32)
    top = 2 * gap + font_size
    size = (gap + sum(width + gap for width in widths), top + next(iter(counts.values())) * (height + gap))

    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    left = gap
    for width, (title, images) in zip(widths, tiles.items(), strict=True):
        draw.text((left + width / 2, top / 2), title, fill="black", font=font, anchor="mm")
        for row, image in enumerate(images):
            picture.paste(Image.fromarray(image), (left + (width - image.shape[1]) // 2, top + row * (height + gap)))
        left += width + gap
    return np.array(picture)
