"""How weights start."""

from __future__ import annotations

from torch import nn


def init_weights(module: nn.Module, std: float = 0.02) -> None:
    """Draw all convolution weights from N(0, std²) and zero the biases (CycleGAN, arXiv:1703.10593 §7.1)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def init_without_norm(module: nn.Module) -> None:
    """Draw all convolution weights so that rectified maps keep their size (He et al. 2015, arXiv:1502.01852 eq. 10).

    With `init_weights` they would fade from layer to layer, where no norm enlarges them again. Biases are zeroed.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            seen = layer.weight[0].numel()  # values that an output pixel is made of
            if isinstance(layer, nn.ConvTranspose2d):  # whose weight is (in, out, k, k)
                seen = layer.weight[:, 0].numel() // (layer.stride[0] * layer.stride[1])
            nn.init.normal_(layer.weight, std=(2 / seen) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
