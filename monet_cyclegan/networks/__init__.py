"""The networks: generators translate images, discriminators judge them."""

from __future__ import annotations

from monet_cyclegan.networks.patchgan import MultiScaleGAN, PatchGAN, PixelGAN
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.networks.unet import UNetGenerator

__all__ = ["MultiScaleGAN", "PatchGAN", "PixelGAN", "ResNetGenerator", "UNetGenerator"]
