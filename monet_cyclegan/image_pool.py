"""A history of generated images for the discriminators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from monet_cyclegan.images import to_float, to_uint8

if TYPE_CHECKING:
    from torch import Tensor


class _Swap(NamedTuple):
    """What one query does, as rows to read and to write: the same operations whatever was drawn."""

    read: list[int]  # stored row that each image may be swapped for, and that an image of NaN leaves as it is
    returned: list[int]  # of the batch (0 ... N-1) and those rows (N ... 2N-1), which one comes back for each image
    written: list[int]  # stored row that each image goes to; the spare one if it is not kept


class ImagePool(nn.Module):
    """Mixes earlier fakes into what a discriminator sees (Shrivastava et al. 2017, arXiv:1612.07828 §2.3).

    Images are kept as bytes, on the device where they came from. Which ones come back is drawn on the CPU from torch's
    global random numbers, so that nothing waits for the device, and is told to it as rows in one small transfer, so
    that a compiler or an XLA device sees the same graph each time. The pool is saved with the module that holds it.

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
        self.stored: Tensor | None = None  # (pool_size + 1, 3, H, W) uint8; the last row is spare

    def query(self, images: Tensor) -> Tensor:
        """Store or swap images (N, 3, H, W) in [-1, 1]; return as many, detached.

        While the pool fills, each image is stored and returned. After that, each is returned with probability 1/2, and
        otherwise takes the place of a random stored one, which is returned instead. Images of another size than those
        stored start an empty pool. An image with NaN or infinities is never stored: what lies in its place stays, or,
        while the pool fills, the latest one is repeated there (black at the very beginning).
        """
        images = images.detach()
        if self.pool_size == 0:
            return images
        stored = self._storage_for(images)
        read, returned, written = torch.tensor(self._draw(len(images))).to(images.device, non_blocking=True)
        earlier = stored.index_select(0, read)
        finite = images.sum(dim=(1, 2, 3), keepdim=True).isfinite()  # (N, 1, 1, 1); one number tells of all
        stored.index_copy_(0, written, torch.where(finite, to_uint8(images), earlier))
        return torch.cat([images, to_float(earlier).to(images.dtype)]).index_select(0, returned)  # (N, 3, H, W)

    def _draw(self, count: int) -> _Swap:
        """Draw for a batch as if its images came one after the other."""
        spare, before = self.pool_size, self.num_stored
        swap = _Swap([], [], [])
        swapped = (torch.rand(count) < 0.5).tolist()
        slots = torch.randint(self.pool_size, (count,)).tolist()
        holder: dict[int, int] = {}  # the image of this batch that now lies in a slot
        for image in range(count):
            slot, returned = spare, image
            if self.num_stored < self.pool_size:
                slot = self.num_stored
                self.num_stored += 1
            elif swapped[image]:
                slot = slots[image]
                returned = holder.get(slot, count + image)
            if slot in holder and slot != spare:
                swap.written[holder[slot]] = spare
            holder[slot] = image
            swap.read.append(slot if slot < before or slot == spare else max(before - 1, 0))  # no empty one
            swap.returned.append(returned)
            swap.written.append(slot)
        return swap

    def _storage_for(self, images: Tensor) -> Tensor:
        """The storage on the device of these images: empty at first, and again where a resumed run crops otherwise."""
        if self.stored is None or self.stored.shape[1:] != images.shape[1:]:
            self.stored = self._empty(images)
            self.num_stored = 0
        self.stored = self.stored.to(images.device)
        return self.stored

    def _empty(self, images: Tensor) -> Tensor:
        return torch.zeros(self.pool_size + 1, *images.shape[1:], dtype=torch.uint8, device=images.device)

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
            self.stored = self._empty(images)
            self.stored[: self.num_stored] = images
