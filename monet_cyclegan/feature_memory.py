"""What a discriminator that compares images remembers of earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class Remembered(NamedTuple):
    """Statistics of the features of earlier images, the latest last; or, in one dimension more, of several groups."""

    moments: Tensor  # (size, 2, C) float32: mean and variance over the positions of each image
    weight: Tensor  # (size,): 1, or 0 where there is none yet

    def joined(self, other: Remembered) -> Remembered:
        """Those of both, as of one kind."""
        return Remembered(torch.cat([self.moments, other.moments]), torch.cat([self.weight, other.weight]))

    def beside(self, other: Remembered) -> Remembered:
        """Those of this for a first group of images, and those of the other for a second one."""
        return Remembered(torch.stack([self.moments, other.moments]), torch.stack([self.weight, other.weight]))


class FeatureMemory(nn.Module):
    """Statistics of the latest images of one domain and kind, real or fake (the cache of UVCGANv2, arXiv:2303.16280).

    Shapes are the same from the beginning, rows move up instead of being written at an index, and how many are filled
    is known to the device alone, so that a compiler or an XLA device sees the same graph each time and nothing is read
    back. Tensors are replaced and never written to: what was recalled doesn't change. The memory is saved with the
    module that holds it.

    Args:
        size: images remembered; 0 for none.
        channels: features C.
    """

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        # No buffers: DDP would overwrite the memories of all processes with the first one's.
        self.remembered = Remembered(torch.zeros(size, 2, channels), torch.zeros(size))

    def recall(self, device: torch.device) -> Remembered:
        """What is remembered, on a device."""
        self.remembered = Remembered(*(tensor.to(device) for tensor in self.remembered))
        return self.remembered

    @torch.no_grad()
    def remember(self, moments: Tensor) -> None:
        """Add those of images, (N, 2, C), in place of the oldest; an image with NaN or infinities leaves no trace."""
        stored, weight = self.recall(moments.device)
        finite = moments.sum(dim=(1, 2)).isfinite().to(weight.dtype)  # (N,); one number tells of all
        # Sorted stably, those that aren't finite come first, then all others in their order: the last ones are kept.
        order = torch.cat([torch.ones_like(weight), finite]).argsort(stable=True)[len(moments) :]
        stored = torch.cat([stored, moments.to(stored.dtype)]).index_select(0, order)
        self.remembered = Remembered(stored, torch.cat([weight, finite]).index_select(0, order))

    def get_extra_state(self) -> dict[str, Tensor]:
        """What is remembered, for the state dict."""
        return self.remembered._asdict()

    def set_extra_state(self, state: Any) -> None:
        """Take over what a state dict remembers.

        Raises:
            ValueError: if it is of another size.
        """
        for name, tensor in self.remembered._asdict().items():
            if state[name].shape != tensor.shape:
                raise ValueError(f"{name} of shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}")
        self.remembered = Remembered(state["moments"].float(), state["weight"].float())
