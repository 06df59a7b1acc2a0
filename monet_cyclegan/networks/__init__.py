"""The networks: generators translate images, discriminators judge them."""

from __future__ import annotations

from monet_cyclegan.networks.batch_statistics import BatchStatisticsGAN
from monet_cyclegan.networks.compact import CompactGenerator
from monet_cyclegan.networks.patchgan import MultiScaleGAN, PatchGAN, PixelGAN
from monet_cyclegan.networks.projected import ProjectedGAN
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.networks.unet import UNetGenerator
from monet_cyclegan.networks.vit_unet import ViTUNetGenerator

__all__ = [
    "BatchStatisticsGAN",
    "CompactGenerator",
    "MultiScaleGAN",
    "PatchGAN",
    "PixelGAN",
    "ProjectedGAN",
    "ResNetGenerator",
    "UNetGenerator",
    "ViTUNetGenerator",
]
