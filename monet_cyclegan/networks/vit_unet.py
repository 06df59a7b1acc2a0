"""The generator of UVCGAN: a U-Net whose deepest map goes through a transformer, each of its pixels a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from monet_cyclegan.networks.init import init_weights, init_without_norm
from monet_cyclegan.networks.layers import Doubling, check_at_least_one, check_size, make_norm

if TYPE_CHECKING:
    from torch import Tensor

# What the last convolution makes at first of what it would, where no norm has made its input small: what tanh bends
# little.
FIRST_IMAGE = 0.2


class BasicBlock(nn.Sequential):
    """Two 3x3 convolutions, each with a norm before it and an activation after it: (N, C, H, W) -> (N, C', H, W)."""

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, *, norm: str, norm_eps: float) -> None:
        super().__init__(
            make_norm(norm, in_channels, norm_eps),
            nn.Conv2d(in_channels, mid_channels, 3, padding=1),
            nn.LeakyReLU(inplace=True),
            make_norm(norm, mid_channels, norm_eps),
            nn.Conv2d(mid_channels, out_channels, 3, padding=1),
            nn.LeakyReLU(inplace=True),
        )


class FourierEmbedding(nn.Module):
    """Where the pixels of a map are, as sines of learned frequencies (Anokhin et al. 2021, arXiv:2011.13775 §3.1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.waves = nn.Linear(2, dim)  # of the row, then of the column

    def forward(self, height: int, width: int) -> Tensor:
        """Return sin(B (row, column) + b) of each pixel, (dim, H, W); rows and columns go from -1 to 1."""
        of_rows, of_columns, bias = (x[:, None, None] for x in (*self.waves.weight.unbind(dim=1), self.waves.bias))
        # A sum of products rather than of matrices, which in mixed precision would give neighbours one position.
        rows, columns = self._between_borders(height), self._between_borders(width)
        return torch.sin(of_rows * rows[:, None] + of_columns * columns + bias)

    def _between_borders(self, count: int) -> Tensor:
        """Numbers from -1 to 1, or 0 if it is one; tensors throughout, since exporters leave sizes open."""
        device = self.waves.weight.device
        places, last = torch.arange(count, device=device), torch.arange(count - 1, count, device=device)
        return (2 * places - last).float() / last.clamp(min=1)


class SelfAttention(nn.Module):
    """Attention of each token to all (Vaswani et al. 2017, arXiv:1706.03762 §3.2.2): (N, L, D) -> (N, L, D)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.enter = nn.Linear(dim, 3 * dim)
        self.leave = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what each token takes from the others; memory grows with L where torch has a fused kernel."""
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in self.enter(tokens).chunk(3, dim=2)
        )  # (N, heads, L, d)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.leave(mixed.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention and two layers for each token, both scaled by one weight that starts at zero: (N, L, D) -> (N, L, D).

    So training starts with the identity (ReZero, Bachlechner et al. 2020, arXiv:2003.04887 eq. 4); norms come before.
    """

    def __init__(self, dim: int, *, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(dim), SelfAttention(dim, num_heads))
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, dim))
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens with both changes added."""
        tokens = tokens + self.alpha * self.attention(tokens)
        return tokens + self.alpha * self.mlp(tokens)


class PixelwiseViT(nn.Module):
    """A transformer whose tokens are a map's pixels (UVCGAN, arXiv:2203.02557): (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, *, num_blocks: int, dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.embedding = FourierEmbedding(dim)
        self.enter = nn.Conv2d(dim + channels, dim, 1)  # of one pixel, so a linear layer for each token
        self.blocks = nn.Sequential(
            *(TransformerBlock(dim, num_heads=num_heads, mlp_dim=mlp_dim) for _ in range(num_blocks))
        )
        self.leave = nn.Conv2d(dim, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map that the transformer makes of this one."""
        number, _, height, width = x.shape
        places = self.embedding(height, width).to(x.dtype).expand(number, -1, -1, -1)  # (N, D, H, W)
        tokens = self.enter(torch.cat([places, x], dim=1)).flatten(2).transpose(1, 2)  # (N, H * W, D)
        return self.leave(self.blocks(tokens).transpose(1, 2).unflatten(2, (height, width)))


class ViTUNetGenerator(nn.Module):
    """U-Net with a pixelwise vision transformer in its middle (UVCGAN, Torbunov et al. 2022, arXiv:2203.02557).

    With the defaults this is the published network but for its last activation, tanh instead of sigmoid, since images
    are in [-1, 1] here. It takes images of any size, other ones than it was trained with, too: a pixel's position
    is where it lies between the borders.

    Each pixel of the deepest map attends to all of them, so attention's work grows with the square of the image's area:
    it is a fiftieth of all multiply-adds at 256x256 pixels, a fifth at 1024x1024, and six times all others at 24
    megapixels. Its memory grows with the area alone where torch has a fused kernel for it, as on CPUs and CUDA devices;
    an ONNX file holds all pairs of pixels. In strips the U-Net is computed by rows, and the transformer as one step.

    Args:
        base_channels: channels of the first level; each further one has twice as many.
        num_levels: halvings, at least 1.
        num_blocks: of the transformer, at least 1.
        embed_dim: of tokens, and of the embedding of their positions.
        num_heads: of attention; they share ``embed_dim``.
        mlp_dim: of the inner layer after attention.
        norm: "instance" or "none", in the U-Net.
        upsampling: "resize", nearest-neighbour resizing and a 3x3 convolution as published; or "transposed", a
            transposed convolution of 2x2 pixels.
        norm_eps: floor of the variance of instance norm.
        in_channels: channels of the input image.
        out_channels: channels of the output image.

    Attributes:
        size_multiple: 2**num_levels; height and width have to be multiples of it.

    Raises:
        ValueError: for an unknown name or a number out of range.
    """

    def __init__(
        self,
        base_channels: int = 48,
        num_levels: int = 4,
        num_blocks: int = 12,
        embed_dim: int = 384,
        num_heads: int = 6,
        mlp_dim: int = 1536,
        norm: str = "instance",
        upsampling: str = "resize",
        norm_eps: float = 1e-5,
        in_channels: int = 3,
        out_channels: int = 3,
    ) -> None:
        super().__init__()
        check_at_least_one(
            base_channels=base_channels,
            num_levels=num_levels,
            num_blocks=num_blocks,
            embed_dim=embed_dim,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
        )
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads={num_heads}, got {embed_dim}")
        self.size_multiple = 2**num_levels
        self.first = nn.Sequential(nn.Conv2d(in_channels, base_channels, 3, padding=1), nn.LeakyReLU(inplace=True))
        self.encoder, self.down = nn.ModuleList(), nn.ModuleList()
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        outer = base_channels
        for level in range(num_levels):
            inner = base_channels * 2**level
            # (N, inner, H / 2**level, W / 2**level)
            self.encoder.append(BasicBlock(outer, inner, inner, norm=norm, norm_eps=norm_eps))
            self.down.append(nn.Conv2d(inner, inner, 2, stride=2))
            self.up.append(make_doubling(upsampling, inner))
            self.decoder.append(BasicBlock(2 * inner, inner, outer, norm=norm, norm_eps=norm_eps))
            outer = inner
        self.transformer = PixelwiseViT(
            outer, num_blocks=num_blocks, dim=embed_dim, num_heads=num_heads, mlp_dim=mlp_dim
        )
        self.last = nn.Conv2d(base_channels, out_channels, 1)
        self._start(norm)

    @torch.no_grad()
    def _start(self, norm: str) -> None:
        """Begin with the published weights' distributions, or without a norm with such that keep a map's size."""
        init_weights(self)
        for linear in (layer for layer in self.modules() if isinstance(layer, nn.Linear)):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        for attention in (layer for layer in self.modules() if isinstance(layer, SelfAttention)):
            nn.init.xavier_uniform_(attention.enter.weight)
        if norm == "none":
            init_without_norm(self)
            unrectified: list[Any] = [*self.down, *(up[-1] if isinstance(up, nn.Sequential) else up for up in self.up)]
            unrectified += [self.transformer.enter, self.transformer.leave]
            for convolution in unrectified:  # which lose nothing that larger weights would have to make up for
                convolution.weight.mul_(0.5**0.5)
            self.last.weight.mul_(FIRST_IMAGE)

    def forward(self, images: Tensor) -> Tensor:
        """Translate images: (N, 3, H, W) in [-1, 1] -> (N, 3, H, W) in [-1, 1].

        Raises:
            ValueError: unless H and W are multiples of ``size_multiple``.
        """
        check_size(images, multiple=self.size_multiple, minimum=self.size_multiple)
        x = self.first(images)
        skipped = []
        for encode, shrink in zip(self.encoder, self.down, strict=True):
            skipped.append(encode(x))
            x = shrink(skipped[-1])
        x = self.transformer(x)
        for level in reversed(range(len(skipped))):
            x = self.decoder[level](torch.cat([self.up[level](x), skipped[level]], dim=1))
        return torch.tanh(self.last(x))


def make_doubling(kind: str, channels: int) -> nn.Module:
    """A layer that doubles height and width, as published with borders of zeros: (N, C, H, W) -> (N, C, 2H, 2W).

    Raises:
        ValueError: for any kind but "resize" and "transposed".
    """
    if kind == "resize":
        return nn.Sequential(Doubling(), nn.Conv2d(channels, channels, 3, padding=1))
    if kind == "transposed":
        return nn.ConvTranspose2d(channels, channels, 2, stride=2)
    raise ValueError(f"unknown upsampling {kind!r}: choose 'transposed' or 'resize'")
