"""Unpaired items: every image of the larger domain once an epoch, each with a random partner from the other domain.

Order, partners and augmentation are functions of (seed, epoch, position), so that they don't depend on the number of
workers, and a run can start again in the middle of an epoch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from monet_cyclegan.randomness import derive_seed, generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from monet_cyclegan.data.sources import Source
    from monet_cyclegan.data.transforms import Transform

DOMAINS = ("a", "b")


class Key(NamedTuple):
    """What the sampler asks of the dataset: an item's place in the order of an epoch."""

    epoch: int
    position: int


class Position(NamedTuple):
    """How far a run has read: ``samples`` of ``epoch`` are done, counted over all ranks."""

    epoch: int
    samples: int


class UnpairedDataset(Dataset[dict[str, Tensor]]):
    """Items {"a": (3, S, S) uint8, "b": (3, S, S) uint8}, asked for by ``Key``."""

    def __init__(self, source_a: Source, source_b: Source, transform: Transform | None, seed: int):
        self.sources = (source_a, source_b)
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return max(map(len, self.sources))

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        epoch, position = key
        return {name: self._draw(domain, epoch, position) for domain, name in enumerate(DOMAINS)}

    def _draw(self, domain: int, epoch: int, position: int) -> Tensor:
        assert self.transform is not None
        image = self.sources[domain].load(self.index(domain, epoch, position))
        return to_tensor(self.transform(image, derive_seed(self.seed, domain, epoch, position)))

    def index(self, domain: int, epoch: int, position: int) -> int:
        """Which image of a domain (0 for A, 1 for B) stands at a position of an epoch."""
        length = len(self.sources[domain])
        round_, place = divmod(position, length)
        return int(_order(length, self.seed, domain, epoch, round_)[place])


@lru_cache(maxsize=8)
def _order(length: int, seed: int, domain: int, epoch: int, round_: int) -> np.ndarray:
    """Order of a domain in one of its rounds: the smaller domain goes round several times within an epoch."""
    return generator(seed, domain, epoch, round_, length).permutation(length)


class DomainDataset(Dataset[dict[str, Tensor]]):
    """Every image of one domain in its order: {name: (3, S, S) uint8}."""

    def __init__(self, name: str, source: Source, transform: Transform):
        self.name = name
        self.source = source
        self.transform = transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {self.name: to_tensor(self.transform(self.source.load(index), index))}


def to_tensor(image: np.ndarray) -> Tensor:
    """Turn an array (H, W, 3) uint8 into a tensor (3, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # (3, H, W)


class EpochSampler(Sampler[Key]):
    """Keys of one epoch for one rank; the epoch is filled up to whole batches from the start of another round.

    ``len`` is always a whole epoch's, also where the first one starts in its middle: that is how the trainer counts.
    """

    def __init__(self, length: int, global_batch_size: int, start: Position, rank: int = 0, world_size: int = 1):
        self.total = -(-length // global_batch_size) * global_batch_size
        self.epoch, self.start = start
        self.rank = rank
        self.world_size = world_size

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of another epoch; Lightning calls it before each."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return self.total // self.world_size

    def __iter__(self) -> Iterator[Key]:
        epoch = self.epoch
        for position in range(self.start + self.rank, self.total, self.world_size):
            yield Key(epoch, position)


class RankSampler(Sampler[int]):
    """One rank's share of a fixed order: each image exactly once over all ranks."""

    def __init__(self, length: int, rank: int = 0, world_size: int = 1):
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
