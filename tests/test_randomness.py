from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from monet_cyclegan.randomness import derive_seed, generator, reseed_torch


def test_a_key_always_gives_the_same_seed():
    assert derive_seed(1, 2, 3) == derive_seed(1, 2, 3)
    assert 0 <= derive_seed(1, 2, 3) < 2**64


def test_no_two_keys_share_a_seed_whatever_their_order_and_length():
    keys = [key for length in range(5) for key in itertools.product([0, 1, 2, 2**32, 2**63], repeat=length)]
    assert len({derive_seed(*key) for key in keys}) == len(keys)


def test_all_64_bits_of_a_seed_vary():
    seeds = [derive_seed(0, epoch) for epoch in range(200)]
    counts = [sum(seed >> bit & 1 for seed in seeds) for bit in range(64)]
    assert min(counts) > 60
    assert max(counts) < 140


def test_a_negative_integer_in_a_key_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        derive_seed(0, -1)


def test_generators_of_neighbouring_keys_are_uncorrelated():
    draws = np.stack([generator(7, epoch).standard_normal(2000) for epoch in range(8)])
    correlations = np.corrcoef(draws) - np.eye(8)
    assert np.abs(correlations).max() < 0.1


def test_a_generator_starts_afresh_each_time():
    first, second = generator(3, 1), generator(3, 1)
    first_draws = first.random(5)
    assert np.array_equal(first_draws, second.random(5))
    assert not np.array_equal(first_draws, first.random(5))


def test_torch_draws_depend_on_the_key_and_on_nothing_drawn_before():
    reseed_torch(5, 0)
    expected = torch.rand(4)
    torch.rand(17)
    reseed_torch(5, 0)
    assert torch.equal(torch.rand(4), expected)
    reseed_torch(5, 1)
    assert not torch.equal(torch.rand(4), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_draws_on_the_accelerator_depend_on_the_key_too():
    reseed_torch(5, 0)
    expected = torch.rand(4, device="cuda")
    torch.rand(17, device="cuda")
    reseed_torch(5, 0)
    assert torch.equal(torch.rand(4, device="cuda"), expected)
