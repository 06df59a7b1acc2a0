"""Generators for torch.hub: torch.hub.load("PATH", "photo_to_monet", source="local"), or "generator" for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

dependencies = ["torch"]  # weights take safetensors, too


def photo_to_monet() -> nn.Module:
    """The generator that comes with the package, in eval mode: see MODEL_CARD.md, and `generator` for what it maps."""
    return generator("monet", "photo_to_monet")


def monet_to_photo() -> nn.Module:
    """The one of the other way."""
    return generator("monet", "monet_to_photo")


def generator(
    pretrained: str | None = None, direction: str | None = None, network: str = "resnet", **options: Any
) -> nn.Module:
    """A generator that maps (N, 3, H, W) in [-1, 1] to the same, H and W multiples of its `size_multiple`.

    Args:
        pretrained: a .safetensors file of `monet_cyclegan.inference.export`, whose network it then is, in eval mode;
            or its address, https://...#sha256=..., or the name of weights that the package brings, "monet".
        direction: such as photo_to_monet, of the file's; by default its first.
        network: without a file, "resnet" or "unet" of random weights,
        options: and their arguments, such as base_channels=32.

    Raises:
        ValueError: an unknown network, or options for one that a file decides.
        UserError: a file that isn't one, or can't be had.
    """
    if pretrained is not None:
        if options:
            raise ValueError(f"{', '.join(options)}: the network is that of {pretrained}")
        from monet_cyclegan.weights import find_weights, load_generator, read_description

        path = find_weights(pretrained)
        return load_generator(path, direction or read_description(path).directions[0])
    from monet_cyclegan.networks.resnet import ResNetGenerator
    from monet_cyclegan.networks.unet import UNetGenerator

    networks: dict[str, type[nn.Module]] = {"resnet": ResNetGenerator, "unet": UNetGenerator}
    if network not in networks:
        raise ValueError(f"network={network} is not known: choose {' or '.join(networks)}")
    return networks[network](**options)
