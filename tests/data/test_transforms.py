from __future__ import annotations

import os
import subprocess
import sys

import albumentations as A
import numpy as np
import pytest

from monet_cyclegan.data.transforms import eval_transform, shrink, train_transform

ODD_SIZES = [(33, 57), (57, 33), (21, 21), (9, 13), (640, 41)]
AUGMENT = [A.HorizontalFlip(p=0.5), A.ColorJitter(p=1.0), A.Rotate(limit=10, border_mode=4, p=0.5)]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose pixels say where they lie: red is the row and green the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def without_left_half(image: np.ndarray, **_) -> np.ndarray:
    return np.concatenate([np.zeros_like(image[:, :10]), image[:, 10:]], axis=1)


def test_the_same_seed_gives_the_same_pixels_whatever_was_transformed_before():
    image = noise(40, 50)
    transform, fresh = (train_transform(24, 16, AUGMENT) for _ in range(2))
    for seed in range(20):
        transform(noise(30, 30), seed)
    for seed in (0, 1, 2**63, 2**64 - 1):
        np.testing.assert_array_equal(transform(image, seed), fresh(image, seed))


def test_different_seeds_give_different_pixels():
    transform = train_transform(24, 16, AUGMENT)
    results = {transform(noise(40, 50), seed).tobytes() for seed in range(50)}
    assert len(results) == 50


def test_a_crop_is_a_square_cut_out_of_the_image_and_lies_everywhere_in_it():
    height, width, crop = 20, 28, 16
    transform = train_transform(height, crop, [])
    corners = set()
    for seed in range(1000):
        square = transform(coordinates(height, width), seed)
        top, left = (int(value) for value in square[0, 0, :2])
        np.testing.assert_array_equal(square, coordinates(height, width)[top : top + crop, left : left + crop])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(5) for left in range(13)}


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize(("load_size", "crop_size"), [(24, 16), (16, 16), (17, 3)])
def test_every_size_of_image_gives_squares_of_the_crop_size(size, load_size, crop_size):
    image = noise(*size)
    assert train_transform(load_size, crop_size, AUGMENT)(image, 3).shape == (crop_size, crop_size, 3)
    assert eval_transform(crop_size)(image, 3).shape == (crop_size, crop_size, 3)


def test_the_short_side_is_brought_to_the_load_size_before_the_crop():
    # Columns of the picture carry their number; doubled in size, a crop of 60 sees half of the 60 columns.
    image = np.tile(np.arange(60, dtype=np.uint8)[:, None], (30, 1, 3))
    for seed in range(20):
        square = train_transform(60, 60, [])(image, seed)
        assert int(square.max()) - int(square.min()) in (29, 30, 31)


def test_augmentations_run_in_the_order_given():
    image = coordinates(20, 20)
    flip, darken_left = A.HorizontalFlip(p=1), A.Lambda(image=without_left_half)
    darkened_last = train_transform(20, 20, [flip, darken_left])(image, 0)
    darkened_first = train_transform(20, 20, [darken_left, flip])(image, 0)
    np.testing.assert_array_equal(darkened_last, without_left_half(image[:, ::-1]))
    np.testing.assert_array_equal(darkened_first, without_left_half(image)[:, ::-1])


def test_evaluation_draws_nothing_and_takes_the_centre():
    image = noise(16, 48)
    transform = eval_transform(16)
    np.testing.assert_array_equal(transform(image, 0), image[:, 16:32])
    np.testing.assert_array_equal(transform(image, 1), transform(image, 0))


def test_a_transform_leaves_its_image_alone():
    image = noise(24, 24)
    before = image.copy()
    image.flags.writeable = False  # as those of a disk cache
    for seed in range(10):
        train_transform(24, 24, AUGMENT)(image, seed)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("size", ODD_SIZES)
def test_shrinking_brings_the_short_side_to_the_size_and_keeps_the_shape(size):
    height, width = shrink(noise(*size), 11).shape[:2]
    if min(size) <= 11:
        assert (height, width) == size
    else:
        assert min(height, width) == 11
        assert height / width == pytest.approx(size[0] / size[1], rel=0.05)


def test_shrinking_averages_what_falls_into_a_pixel():
    image = np.zeros((8, 8, 3), np.uint8)
    image[::2] = 200
    assert np.unique(shrink(image, 4)).tolist() == [100]


def test_importing_it_does_not_go_to_the_network():
    program = (
        "import sys\n"
        "calls = ('socket.connect', 'socket.getaddrinfo')\n"
        "sys.addaudithook(lambda event, _: print(event) if event in calls else None)\n"
        "import monet_cyclegan.data.transforms"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
