"""A history of generated images for the discriminators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from monet_cyclegan.images import to_float, to_uint8

if TYPE_CHECKING:
    from torch import Tensor


class ImagePool(nn.Module):
    """Mixes earlier fakes into what a discriminator sees (Shrivastava et al. 2017, arXiv:1612.07828 §2.3).

    Images are kept as bytes, on the device where they came from. Which ones come back is drawn on the CPU from torch's
    global random numbers, so that nothing waits for the device. The pool is saved with the module that holds it.

    Args:
        pool_size: images kept; 0 hands all images through. CycleGAN keeps 50.

    Raises:
        ValueError: for a negative size.
    """

    def __init__(self, pool_size: int = 50) -> None:
        super().__init__()
        if pool_size < 0:
            raise ValueError(f"pool_size must be 0 or more, got {pool_size}")
        self.pool_size = pool_size
        self.num_stored = 0
        # No buffer: DDP would overwrite the pools of all processes with the first one's.
        self.stored: Tensor | None = None  # (pool_size, 3, H, W) uint8

    def query(self, images: Tensor) -> Tensor:
        """Store or swap images (N, 3, H, W) in [-1, 1]; return as many, detached.

        While the pool fills, each image is stored and returned. After that, each is returned with probability 1/2, and
        otherwise takes the place of a random stored one, which is returned instead. Images of another size than those
        stored start an empty pool.
        """
        images = images.detach()
        if self.pool_size == 0:
            return images
        stored = self._storage_for(images)
        returned = []
        for image, as_bytes in zip(images, to_uint8(images), strict=True):
            if self.num_stored < self.pool_size:
                stored[self.num_stored] = as_bytes
                self.num_stored += 1
                returned.append(image)
            elif torch.rand(()) < 0.5:
                slot = int(torch.randint(self.pool_size, ()))
                returned.append(to_float(stored[slot]).to(image.dtype))
                stored[slot] = as_bytes
            else:
                returned.append(image)
        return torch.stack(returned)  # (N, 3, H, W)

    def _storage_for(self, images: Tensor) -> Tensor:
        """The storage on the device of these images: empty at first, and again where a resumed run crops otherwise."""
        if self.stored is None or self.stored.shape[1:] != images.shape[1:]:
            self.stored = torch.empty(self.pool_size, *images.shape[1:], dtype=torch.uint8, device=images.device)
            self.num_stored = 0
        self.stored = self.stored.to(images.device)
        return self.stored

    def get_extra_state(self) -> dict[str, Tensor]:
        """A copy of the images stored so far, for the state dict."""
        if self.stored is None:
            return {"images": torch.empty(0, dtype=torch.uint8)}
        return {"images": self.stored[: self.num_stored].clone()}

    def set_extra_state(self, state: Any) -> None:
        """Take over the images of a state dict, as many as fit."""
        images = state["images"][: self.pool_size]
        self.num_stored = len(images)
        self.stored = None
        if self.num_stored > 0:
            self.stored = torch.empty(self.pool_size, *images.shape[1:], dtype=torch.uint8, device=images.device)
            self.stored[: self.num_stored] = images
