"""Images as arrays: [-1, 1] tensors to and from uint8, files of nothing but pixels, and labelled grids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from monet_cyclegan.errors import UserError
from monet_cyclegan.pictures import Picture, decode_picture, write_picture
from monet_cyclegan.untrusted.bounded import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Round [-1, 1] floats to uint8; values outside are clamped."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """Spread uint8 over [-1, 1] in float32; the exact inverse of `to_uint8`."""
    return images.float().div(127.5).sub(1)


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode an image file's bytes to (H, W, 3) uint8 sRGB, upright, transparency showing white.

    Raises:
        UserError: see `decode_picture`.
    """
    return decode_picture(data, name).on_white()


def read_image(path: Path) -> np.ndarray:
    """Read an image file to (H, W, 3) uint8 RGB, see `decode_image`; UserError if it can't be read."""
    try:
        data = read_file(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return decode_image(data, str(path))


def write_image(path: Path, image: np.ndarray, quality: int = 95) -> None:
    """Write (H, W, 3) uint8 RGB in the format of the suffix, see `write_picture`; UserError if that can't be."""
    write_picture(path, Picture(image), quality)


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
