"""Measures of how close translated images are to real ones, as torchmetrics."""

from __future__ import annotations

from monet_cyclegan.metrics.feature_metrics import (
    FeatureMetric,
    FrechetInceptionDistance,
    KernelInceptionDistance,
    MiFID,
)
from monet_cyclegan.metrics.sliced_wasserstein import SlicedWassersteinDistance

__all__ = [
    "FeatureMetric",
    "FrechetInceptionDistance",
    "KernelInceptionDistance",
    "MiFID",
    "SlicedWassersteinDistance",
]
