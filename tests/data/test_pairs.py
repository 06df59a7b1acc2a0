from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from monet_cyclegan.data.pairs import (
    DomainDataset,
    EpochSampler,
    Key,
    Position,
    RankSampler,
    UnpairedDataset,
    to_tensor,
)
from monet_cyclegan.data.sources import Source
from monet_cyclegan.data.transforms import Transform


class Numbers(Source):
    """Images of one pixel whose value is their index."""

    location = "numbers"

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def name(self, index):
        return str(index)

    def load(self, index):
        assert 0 <= index < self.count
        return np.full((2, 2, 3), index, np.uint8)

    def fingerprint(self):
        return str(self.count)


def dataset(count_a, count_b, seed=0):
    return UnpairedDataset(Numbers(count_a), Numbers(count_b), Transform([]), seed)


def keys(length, batch=1, start=(0, 0), rank=0, world_size=1):
    return list(EpochSampler(length, batch * world_size, Position(*start), rank, world_size))


def pairs(items, epoch=0, batch=1):
    drawn = [items[key] for key in keys(len(items), batch, (epoch, 0))]
    return [(int(item["a"][0, 0, 0]), int(item["b"][0, 0, 0])) for item in drawn]


@pytest.mark.parametrize(("count_a", "count_b"), [(13, 5), (5, 13), (7, 7), (4, 1)])
def test_an_epoch_shows_every_image_of_the_larger_domain_once(count_a, count_b):
    shown = pairs(dataset(count_a, count_b))
    larger = [pair[0 if count_a >= count_b else 1] for pair in shown]
    assert sorted(larger) == list(range(max(count_a, count_b)))
    assert larger != sorted(larger) or len(larger) < 5


def test_the_smaller_domain_is_used_evenly_and_whole_before_any_image_comes_again():
    smaller = [b for _, b in pairs(dataset(13, 5))]
    assert sorted(smaller[:5]) == sorted(smaller[5:10]) == list(range(5))
    assert set(Counter(smaller).values()) == {2, 3}
    assert smaller[:5] != smaller[5:10]


def test_partners_and_order_vary_from_epoch_to_epoch():
    items = dataset(13, 5)
    epochs = [pairs(items, epoch) for epoch in range(5)]
    assert len({tuple(epoch) for epoch in epochs}) == 5
    partners_of_0 = {b for epoch in range(40) for a, b in pairs(items, epoch) if a == 0}
    assert partners_of_0 == set(range(5))


def test_domains_of_equal_size_are_shuffled_apart():
    matched = sum(a == b for epoch in range(20) for a, b in pairs(dataset(10, 10), epoch))
    assert matched < 60  # 20 expected, were they shuffled alike it would be 200


def test_the_order_depends_on_seed_and_epoch_only():
    items = dataset(13, 5, seed=3)
    later = pairs(items, epoch=4)
    torch.manual_seed(99), np.random.seed(99)
    assert pairs(dataset(13, 5, seed=3), epoch=4) == later
    assert pairs(dataset(13, 5, seed=4), epoch=4) != later


def test_an_item_draws_its_augmentation_from_its_place_in_the_epoch_alone():
    class Seeds(Transform):
        def __init__(self):
            super().__init__([])

        def __call__(self, image, seed):
            return np.full((1, 1, 3), seed % 251, np.uint8) if seed else image

    items = UnpairedDataset(Numbers(200), Numbers(200), Seeds(), 0)
    drawn = {(e, p, d): int(items[Key(e, p)][d].max()) for e in range(2) for p in range(50) for d in "ab"}
    again = {key: int(items[Key(*key[:2])][key[2]].max()) for key in reversed(drawn)}
    assert again == drawn
    assert len(set(drawn.values())) > 120  # 200 draws from 251 values


def test_an_item_holds_both_images_as_bytes():
    item = dataset(3, 2)[Key(0, 2)]
    assert {name: (image.shape, image.dtype) for name, image in item.items()} == {
        "a": ((3, 2, 2), torch.uint8),
        "b": ((3, 2, 2), torch.uint8),
    }


def test_the_last_batch_is_filled_up_from_another_round():
    sampler = EpochSampler(13, 4, Position(0, 0))
    assert len(sampler) == len(list(sampler)) == 16
    shown = pairs(dataset(13, 5), batch=4)
    assert sorted(a for a, _ in shown[:13]) == list(range(13))
    assert len({a for a, _ in shown[13:]}) == 3


@pytest.mark.parametrize("start", [0, 4, 8, 12, 16])
def test_a_start_in_the_middle_yields_exactly_the_tail(start):
    whole, tail = keys(13, 4, (2, 0)), keys(13, 4, (2, start))
    assert tail == whole[start:]


def test_the_length_stays_that_of_a_whole_epoch_wherever_it_starts():
    assert {len(EpochSampler(13, 4, Position(2, start))) for start in (0, 4, 16)} == {16}


def test_the_epoch_after_a_start_in_the_middle_is_whole():
    sampler = EpochSampler(13, 4, Position(2, 8))
    sampler.set_epoch(2)  # as the trainer does before the resumed epoch
    assert list(sampler) == keys(13, 4, (2, 8))
    sampler.set_epoch(3)
    assert list(sampler) == keys(13, 4, (3, 0))


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("start_batch", [0, 1])
def test_the_ranks_together_see_the_whole_batch_by_batch(world_size, start_batch):
    batch = 2
    start = start_batch * batch * world_size
    shares = [keys(13, batch, (1, start), rank, world_size) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    whole = keys(13, batch * world_size, (1, start))
    for number in range(len(shares[0]) // batch):
        together = [key for share in shares for key in share[number * batch : (number + 1) * batch]]
        size = batch * world_size
        assert sorted(together) == whole[number * size : (number + 1) * size]


def test_the_items_of_two_ranks_are_those_of_one_process_with_twice_the_batch():
    items = dataset(13, 5)
    one = [items[key]["b"].max() for key in keys(13, 4)]
    two = [items[key]["b"].max() for rank in (0, 1) for key in keys(13, 2, rank=rank, world_size=2)]
    assert sorted(one) == sorted(two)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_ranks_divide_held_out_images_among_them(world_size):
    shares = [RankSampler(7, rank, world_size) for rank in range(world_size)]
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert sum(map(len, shares)) == 7


def test_a_domain_gives_its_images_in_order_under_its_name():
    items = DomainDataset("b", Numbers(3), Transform([]))
    assert [int(items[index]["b"].max()) for index in range(len(items))] == [0, 1, 2]


def test_a_tensor_has_its_channels_first():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    tensor = to_tensor(image)
    assert tensor.shape == (3, 2, 4)
    assert tensor[2, 1, 3] == image[1, 3, 2]
