"""Augmentation by albumentations, which no other file imports."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cv2
import numpy as np

# Importing albumentations asks its registry for a newer version unless told not to: a run must work offline.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A

from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Transform:
    """Albumentations steps for one image at a time, each call reseeded, so that a result depends on its seed alone."""

    def __init__(self, steps: Iterable[A.BasicTransform | A.BaseCompose]):
        self.compose = A.Compose(list(steps))

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Transform one image (H, W, 3) uint8."""
        self.compose.set_random_seed(seed)
        return np.ascontiguousarray(self.compose(image=image)["image"])


def train_transform(load_size: int, crop_size: int, augment: Iterable[A.BasicTransform]) -> Transform:
    """Resize the short side to ``load_size``, cut a random ``crop_size`` square, then apply ``augment`` in its order.

    CycleGAN (Zhu et al. 2017, arXiv:1703.10593, appendix 7.1) resizes 256 to 286 and crops back to 256.
    """
    return Transform([A.SmallestMaxSize(load_size), A.RandomCrop(crop_size, crop_size), *augment])


def eval_transform(size: int) -> Transform:
    """Resize the short side to ``size`` and cut the centre: nothing random."""
    return Transform([A.SmallestMaxSize(size, interpolation=cv2.INTER_AREA), A.CenterCrop(size, size)])


def flip_probability(augment: Mapping[str, A.BasicTransform]) -> float:
    """How often ``augment`` mirrors an image, if it does nothing else.

    Raises:
        UserError: it does something else.
    """
    flip = 0.0
    for name, step in augment.items():
        if isinstance(step, A.HorizontalFlip):
            flip = flip * (1 - step.p) + (1 - flip) * step.p  # of two, one or the other
        elif step.p > 0:
            raise UserError(
                f"data.cache=device only cuts and flips, so data.augment.{name} can't be applied: "
                f"set data.augment.{name}.p=0, or data.cache=ram"
            )
    return flip


def enlarge(image: np.ndarray, short_side: int) -> np.ndarray:
    """Scale an image (H, W, 3) so that its shorter side is ``short_side``, as `train_transform` does."""
    return A.SmallestMaxSize(short_side, p=1)(image=image)["image"]


def shrink(image: np.ndarray, short_side: int) -> np.ndarray:
    """Scale an image (H, W, 3) down so that its shorter side is ``short_side``; a smaller one is left alone."""
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return image
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
