"""Features of many images, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from monet_cyclegan.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from monet_cyclegan.metrics.features import FeatureExtractor

_FORMAT = 1  # raised when rows of the same images and weights come out differently


def extract(batches: Iterable[Tensor], features: FeatureExtractor, total: int, label: str) -> Tensor:
    """Features (N, D), on the CPU, of uint8 batches (n, 3, H, W); images are moved to where the network is."""
    device = next(features.parameters()).device
    rows = [features(batch.to(device)).cpu() for batch in track(batches, total, label)]
    return torch.cat(rows) if rows else torch.zeros(0, features.num_features)


def cached_extract(
    load: Callable[[], Iterable[Tensor]], features: FeatureExtractor, folder: Path | str, total: int, label: str
) -> Tensor:
    """`extract`, unless ``folder`` holds the rows of the very same pixels and weights from an earlier run.

    Args:
        load: starts reading the uint8 batches (n, 3, H, W) anew; they are read once to tell whether they are known.
        features: the network.
        folder: where the rows are kept, 8 KB an image with Inception's.
        total: number of images, for the progress bar.
        label: what is being done, for the same.
    """
    path = Path(folder) / f"features-{content_key(load(), features)}.npy"
    if path.is_file():
        return torch.from_numpy(np.load(path, allow_pickle=False))
    rows = extract(load(), features, total, label)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.npy")
    try:
        np.save(unfinished, rows.numpy())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return rows


def content_key(batches: Iterable[Tensor], features: FeatureExtractor) -> str:
    """Hash the pixels of all images in their order, however they are batched, and the network's weights."""
    digest = hashlib.sha256(f"{_FORMAT} {features.fingerprint}".encode())
    for batch in batches:
        for image in batch:
            digest.update(str(tuple(image.shape)).encode())
            digest.update(image.contiguous().numpy())
    return digest.hexdigest()[:32]
