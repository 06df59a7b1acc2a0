from __future__ import annotations

import math

import pytest
import torch

from monet_cyclegan.feature_memory import FeatureMemory


def seen(*values: float) -> torch.Tensor:
    """Moments of two features, all of one value for each image."""
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1).expand(-1, 2, 2)


def held(memory: FeatureMemory) -> list[float]:
    """The values held, the oldest first."""
    moments, weight = memory.recall(torch.device("cpu"))
    assert weight.tolist() == sorted(weight.tolist())  # the empty places come first
    return moments[weight == 1, 0, 0].tolist()


def test_it_begins_empty_and_holds_the_latest_images_in_their_order() -> None:
    memory = FeatureMemory(3, 2)
    assert held(memory) == []
    memory.remember(seen(1, 2))
    assert held(memory) == [1, 2]
    memory.remember(seen(3, 4))
    assert held(memory) == [2, 3, 4]
    memory.remember(seen(5))
    assert held(memory) == [3, 4, 5]
    memory.remember(seen(6, 7, 8, 9))
    assert held(memory) == [7, 8, 9]


def test_images_of_nan_or_infinity_leave_no_trace() -> None:
    memory = FeatureMemory(3, 2)
    memory.remember(seen(math.nan))
    assert held(memory) == []
    memory.remember(seen(1, math.nan, 2, math.inf))
    memory.remember(seen(math.nan, math.nan, math.nan, math.nan))
    assert held(memory) == [1, 2]
    memory.remember(seen(3, math.nan, 4))
    assert held(memory) == [2, 3, 4]
    spoilt = seen(9).clone()
    spoilt[0, 1, 1] = math.nan  # in one number
    memory.remember(spoilt)
    assert held(memory) == [2, 3, 4]
    assert memory.remembered.moments.isfinite().all()


def test_a_memory_of_none_stays_empty() -> None:
    memory = FeatureMemory(0, 2)
    memory.remember(seen(1, 2))
    assert held(memory) == []


def test_what_was_recalled_or_saved_does_not_change_later() -> None:
    memory = FeatureMemory(2, 2)
    memory.remember(seen(1, 2))
    recalled, state = memory.recall(torch.device("cpu")), memory.state_dict()["_extra_state"]
    memory.remember(seen(3))
    assert recalled.moments[:, 0, 0].tolist() == state["moments"][:, 0, 0].tolist() == [1, 2]


def test_nothing_is_read_back_from_the_device() -> None:
    memory = FeatureMemory(2, 2)
    for _ in range(4):
        memory.remember(torch.empty(3, 2, 2, device="meta"))  # has no values to read: trying raises
    assert memory.recall(torch.device("meta")).moments.is_meta


def test_a_state_dict_carries_it_exactly_and_no_buffer_does() -> None:
    memory, copy = FeatureMemory(3, 2), FeatureMemory(3, 2)
    memory.remember(seen(1 / 3, 2 / 3))
    copy.load_state_dict(memory.state_dict())
    assert held(copy) == held(memory)
    assert [*memory.buffers(), *memory.parameters()] == []
    for either in (memory, copy):
        either.remember(seen(3, 4))
    assert held(copy) == held(memory)


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"moments of shape \(3, 2, 2\), not \(4, 2, 2\)"):
        FeatureMemory(4, 2).load_state_dict(FeatureMemory(3, 2).state_dict())


def test_memories_are_joined_with_their_empty_places() -> None:
    first, second = FeatureMemory(2, 2), FeatureMemory(1, 2)
    first.remember(seen(1))
    second.remember(seen(2))
    joined = first.remembered.joined(second.remembered)
    assert joined.moments[:, 0, 0].tolist() == [0, 1, 2]
    assert joined.weight.tolist() == [0, 1, 1]
