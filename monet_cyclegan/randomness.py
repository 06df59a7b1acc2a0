"""Every random draw is a function of (seed, epoch, position, rank), and of nothing drawn before it.

A run that is resumed, or whose number of workers changes, then draws what it would have drawn without the break, and no
checkpoint has to hold the states of the generators of torch, CUDA, NumPy and every worker.
"""

from __future__ import annotations

import sys

import numpy as np
import torch


def derive_seed(*key: int) -> int:
    """Mix a key of integers in [0, 2^64) to a seed of 64 bits; keys that differ, if only in length, are unrelated."""
    return int(_sequence(key).generate_state(1, np.uint64)[0])


def generator(*key: int) -> np.random.Generator:
    """Make the NumPy generator that belongs to a key."""
    return np.random.default_rng(_sequence(key))


def reseed_torch(*key: int) -> None:
    """Set torch's global generators, those of the CPU and of all accelerators, from a key.

    Called as a batch starts, it fixes what dropout, image pools and penalties draw in this batch.
    """
    seed = derive_seed(*key)
    torch.manual_seed(seed)
    if "torch_xla" in sys.modules:  # which torch doesn't know
        sys.modules["torch_xla.core.xla_model"].set_rng_state(seed >> 1)  # signed there


def _sequence(key: tuple[int, ...]) -> np.random.SeedSequence:
    # SeedSequence pads with zeros and cuts integers into words of 32 bits: without the length (1,) would equal (1, 0),
    # without two words for each (2**32,) would equal (0, 1).
    words = [word for integer in key for word in (integer & 0xFFFFFFFF, integer >> 32)]
    return np.random.SeedSequence([len(key), *words])
