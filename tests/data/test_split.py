from __future__ import annotations

import numpy as np
import pytest
from conftest import make_images, tiny_data

from monet_cyclegan.data.sources import FolderSource
from monet_cyclegan.data.split import Subset, limited, split
from monet_cyclegan.errors import UserError


@pytest.fixture
def source(tmp_path):
    return FolderSource(make_images(tmp_path / "images", 20, (8, 8)))


def names(source):
    return [source.name(index) for index in range(len(source))]


def test_training_and_validation_are_disjoint_and_together_everything(source):
    train, val = split(source, 5, 0, "data.val_a")
    assert sorted(names(train) + names(val)) == names(source)
    assert (len(train), len(val)) == (15, 5)


@pytest.mark.parametrize(
    ("validation", "held_out"), [(1, 1), (19, 19), (0.25, 5), (0.001, 1), (0.9, 18), (3.0, 3), (0.12, 2)]
)
def test_a_number_counts_images_and_a_fraction_is_their_share(source, validation, held_out):
    train, val = split(source, validation, 0, "data.val_a")
    assert (len(train), len(val)) == (20 - held_out, held_out)


def test_the_split_depends_on_the_seed_alone(source):
    splits = [names(split(source, 5, seed, "data.val_a")[1]) for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    assert len({tuple(val) for val in splits}) == 3


def test_every_image_may_be_held_out(source):
    assert {name for seed in range(40) for name in names(split(source, 3, seed, "data.val_a")[1])} == set(names(source))


@pytest.mark.parametrize("validation", [0, -3, 20, 21, 0.99, -0.5])
def test_what_leaves_nothing_to_train_or_to_validate_on_is_refused_in_one_line(source, validation):
    with pytest.raises(UserError) as refused:
        split(source, validation, 0, "data.val_b")
    message = str(refused.value)
    assert message.startswith(f"data.val_b={validation} can't be held out of the 20 images in {source.location}")
    assert "from 1 to 19" in message
    assert "\n" not in message


def test_a_single_image_can_not_be_split_and_the_message_says_so(source):
    with pytest.raises(UserError, match=r"holds 1 image.*data\.val_a"):
        split(Subset(source, [4]), 0.1, 0, "data.val_a")


def test_the_held_out_images_are_independent_of_the_seed_of_the_run(tmp_path):
    held_out = []
    for options in ({"seed": 0}, {"seed": 1}, {"seed": 0, "split_seed": 1}):
        data = tiny_data(tmp_path, count_a=20, cache="none", **options)
        data.setup("fit")
        held_out.append(names(data.val_sources[0]))
    assert held_out[0] == held_out[1] != held_out[2]


def test_a_subset_gives_the_chosen_images_in_the_order_given(source):
    subset = Subset(source, [7, 3, 3])
    assert names(subset) == ["007", "003", "003"]
    for place, index in enumerate([7, 3, 3]):
        np.testing.assert_array_equal(subset.load(place), source.load(index))


def test_subsets_have_different_fingerprints_unless_they_are_the_same(source):
    prints = [Subset(source, indices).fingerprint() for indices in ([1, 2], [2, 1], [1], [1, 2])]
    assert prints[0] == prints[3]
    assert len({*prints, source.fingerprint()}) == 4


def test_a_limit_takes_a_fixed_choice(source):
    assert limited(source, None, 0) is source
    assert names(limited(source, 99, 0)) == names(source)
    choice = names(limited(source, 6, 0))
    assert len(set(choice)) == 6
    assert choice == sorted(choice) == names(limited(source, 6, 0))
    assert choice != names(limited(source, 6, 1))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_without_images_is_refused(source, limit):
    with pytest.raises(UserError, match=rf"data\.limit={limit} leaves no image"):
        limited(source, limit, 0)
