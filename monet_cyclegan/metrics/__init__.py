"""Measures of how close translated images are to real ones, as torchmetrics."""

from __future__ import annotations

from monet_cyclegan.metrics.sliced_wasserstein import SlicedWassersteinDistance

__all__ = ["SlicedWassersteinDistance"]
