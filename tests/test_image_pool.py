from __future__ import annotations

import io

import pytest
import torch

from monet_cyclegan.image_pool import ImagePool


def flat(*levels: int, size: int = 2) -> torch.Tensor:
    """One image per level of 0 to 255, all its pixels of that level: (N, 3, size, size) in [-1, 1]."""
    return (torch.tensor(levels).float() / 127.5 - 1).reshape(-1, 1, 1, 1).expand(-1, 3, size, size)


def levels(images: torch.Tensor) -> list[int]:
    return ((images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def filled(pool_size: int, num_images: int) -> ImagePool:
    pool = ImagePool(pool_size)
    pool.query(flat(*range(num_images)))
    return pool


def saved_and_loaded(pool: ImagePool, pool_size: int) -> ImagePool:
    file = io.BytesIO()
    torch.save(pool.state_dict(), file)
    file.seek(0)
    copy = ImagePool(pool_size)
    copy.load_state_dict(torch.load(file, weights_only=True))
    return copy


def test_a_filling_pool_returns_the_images_themselves_detached() -> None:
    torch.manual_seed(0)
    images = (torch.rand(3, 3, 4, 4) * 2 - 1).requires_grad_()
    returned = ImagePool(3).query(images * 1)
    assert torch.equal(returned, images)
    assert not returned.requires_grad


def test_a_pool_of_size_zero_hands_images_through_detached() -> None:
    torch.manual_seed(0)
    pool, images = ImagePool(0), torch.rand(2, 3, 4, 4).requires_grad_()
    for _ in range(3):
        returned = pool.query(images)
        assert torch.equal(returned, images)
        assert not returned.requires_grad


def test_a_full_pool_returns_earlier_images_half_of_the_time() -> None:
    torch.manual_seed(0)
    pool = filled(10, 10)
    swapped = sum(levels(pool.query(flat(100 + i % 100)))[0] != 100 + i % 100 for i in range(1000))
    assert swapped / 1000 == pytest.approx(0.5 * 0.99, abs=0.05)


def test_every_image_is_returned_once_or_still_in_the_pool() -> None:
    torch.manual_seed(0)
    pool = ImagePool(10)
    pool.query(flat(*range(10)))
    returned = [level for start in range(10, 250, 4) for level in levels(pool.query(flat(*range(start, start + 4))))]
    assert pool.stored is not None
    kept = pool.stored[: pool.num_stored, 0, 0, 0].tolist()
    assert len(kept) == 10
    assert sorted(returned + kept) == list(range(250))


def test_a_stored_image_comes_back_as_good_as_eight_bits_allow() -> None:
    torch.manual_seed(0)
    pool, first, second = ImagePool(1), *(torch.rand(2, 1, 3, 8, 8) * 2 - 1)
    pool.query(first)
    while torch.equal(returned := pool.query(second), second):
        pass
    assert (returned - first).abs().max() <= 1 / 255 + 1e-6
    assert returned.dtype == first.dtype


def test_images_of_half_precision_keep_their_type() -> None:
    torch.manual_seed(0)
    pool = ImagePool(1)
    for _ in range(10):
        assert pool.query(torch.zeros(2, 3, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("num_images", [0, 3, 5])
def test_a_pool_loaded_from_a_checkpoint_goes_on_as_the_saved_one(num_images: int) -> None:
    pool = filled(5, num_images) if num_images else ImagePool(5)
    copy = saved_and_loaded(pool, pool_size=5)
    answers = []
    for either in (pool, copy):
        torch.manual_seed(1)
        answers.append([levels(either.query(flat(start, start + 1))) for start in range(10, 60, 2)])
    assert answers[0] == answers[1]
    assert any(old < 10 for pair in answers[1] for old in pair) == (num_images > 0)


def test_a_checkpoint_holds_only_the_images_stored_so_far() -> None:
    state = filled(50, 2).state_dict()["_extra_state"]
    assert state["images"].shape == (2, 3, 2, 2)
    assert state["images"].untyped_storage().nbytes() == 2 * 3 * 2 * 2


def test_a_state_dict_is_not_changed_by_later_queries() -> None:
    torch.manual_seed(0)
    pool = filled(2, 2)
    state = pool.state_dict()["_extra_state"]["images"]
    copy = ImagePool(2)
    copy.load_state_dict(pool.state_dict())
    for level in range(100, 120):
        pool.query(flat(level))
        copy.query(flat(level))
    assert state[:, 0, 0, 0].tolist() == [0, 1]


def test_a_smaller_pool_takes_as_many_images_as_fit_and_a_larger_one_goes_on_filling() -> None:
    smaller, larger = (saved_and_loaded(filled(5, 5), pool_size=size) for size in (2, 8))
    assert (smaller.num_stored, larger.num_stored) == (2, 5)
    assert levels(larger.query(flat(100, 101, 102))) == [100, 101, 102]
    assert saved_and_loaded(filled(5, 5), pool_size=0).num_stored == 0


def test_a_query_never_reads_a_value_back_from_the_device() -> None:
    pool = ImagePool(2)
    for _ in range(10):
        assert pool.query(torch.empty(3, 3, 4, 4, device="meta")).is_meta  # has no values to read: trying raises


def test_a_batch_is_treated_as_if_its_images_came_one_after_the_other() -> None:
    """In a pool of one every second swap hits an image of the same batch."""
    together, apart = filled(1, 1), filled(1, 1)
    for start in range(1, 200, 8):
        torch.manual_seed(start)
        batch = flat(*range(start, start + 8))
        returned = levels(together.query(batch))
        torch.manual_seed(start)
        swapped = torch.rand(8) < 0.5
        expected = []
        for image, swap in zip(range(start, start + 8), swapped, strict=True):
            assert apart.stored is not None
            held = int(apart.stored[0, 0, 0, 0])
            expected.append(held if swap else image)
            apart.stored[0] = image if swap else held
        assert returned == expected
        assert together.stored is not None
        assert together.stored[0, 0, 0, 0] == apart.stored[0, 0, 0, 0]


def test_images_of_another_size_start_the_history_anew() -> None:
    pool = filled(5, 5)
    images = flat(1, 2, size=4)
    assert torch.equal(pool.query(images), images)
    assert pool.num_stored == 2


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="pool_size must be 0 or more, got -1"):
        ImagePool(-1)


def with_nan(images: torch.Tensor, *which: int) -> torch.Tensor:
    spoilt = images.clone()
    for index in which:
        spoilt[index, 0, 0, 0] = float("nan")
    return spoilt


def stored(pool: ImagePool) -> list[int]:
    return pool.get_extra_state()["images"][:, 0, 0, 0].tolist()


def test_an_image_of_nan_takes_no_other_ones_place() -> None:
    torch.manual_seed(0)
    pool = filled(4, 4)
    for _ in range(20):
        pool.query(with_nan(flat(200, 201), 0, 1))
    assert stored(pool) == [0, 1, 2, 3]
    for _ in range(20):
        pool.query(with_nan(flat(200, 201), 0))
    assert set(stored(pool)) <= {0, 1, 2, 3, 201}
    assert 201 in stored(pool)


def test_an_image_of_infinity_in_a_filling_pool_repeats_the_latest_there() -> None:
    torch.manual_seed(0)
    pool = filled(8, 2)
    pool.query(flat(50, 60, 70) * torch.tensor([1, float("inf"), 1]).reshape(3, 1, 1, 1))
    assert stored(pool) == [0, 1, 50, 1, 70]


def test_images_of_nan_that_fill_a_pool_and_swap_in_one_batch_leave_no_empty_slot() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        pool = ImagePool(3)
        pool.query(flat(100, 101))
        pool.query(with_nan(flat(200, 201, 202, 203), 0, 1, 2, 3))
        assert 0 not in stored(pool)
        assert set(stored(pool)) == {100, 101}
