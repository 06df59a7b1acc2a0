"""Images as the competition gets them: compressed."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from monet_cyclegan.pictures import encode_jpeg

if TYPE_CHECKING:
    from torch import Tensor

QUALITY = 75  # that of the competition's own files


def jpeg_round_trip(images: Tensor, quality: int = QUALITY) -> Tensor:
    """Encode and decode uint8 images (N, 3, H, W) as JPEG with 4:2:0 chroma, in threads."""
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = list(pool.map(lambda array: _round_trip(array, quality), arrays))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(images.device) if decoded else images


def _round_trip(image: np.ndarray, quality: int) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(encode_jpeg(image, quality)), formats=["JPEG"]))
