from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from monet_cyclegan.metrics.extraction import cached_extract, content_key, extract
from monet_cyclegan.metrics.features import FeatureExtractor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Colours(FeatureExtractor):
    """The mean of each channel, scaled by a weight. Counts the images that it was given."""

    title, is_standard, num_features, fingerprint = "colour", False, 3, "colours"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()), requires_grad=False)
        self.seen = 0

    def _features(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.float().mean(dim=(2, 3)) * self.weight


def pictures(count: int = 7, height: int = 5, width: int = 4, seed: int = 0) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=noise, dtype=torch.uint8)


def loader(images: Tensor, batch_size: int = 3) -> Callable[[], Iterator[Tensor]]:
    return lambda: iter(images.split(batch_size))


def cached(folder: Path, images: Tensor, features: FeatureExtractor, batch_size: int = 3) -> Tensor:
    return cached_extract(loader(images, batch_size), features, folder, len(images), "features")


def test_features_come_in_the_order_of_the_images():
    images = pictures()
    rows = extract(images.split(3), Colours(), 7, "features")
    torch.testing.assert_close(rows, images.float().mean(dim=(2, 3)))
    assert (rows.dtype, rows.device.type) == (torch.float32, "cpu")


def test_batches_may_differ_in_size():
    batches = [pictures(2, 5, 4), pictures(1, 9, 3), pictures(3, 5, 4, seed=1)]
    rows = extract(batches, Colours(), 6, "features")
    torch.testing.assert_close(rows, torch.cat([batch.float().mean(dim=(2, 3)) for batch in batches]))


def test_no_images_have_no_rows_but_their_width():
    assert extract([], Colours(), 0, "features").shape == (0, 3)


def test_rows_are_computed_once_for_the_same_images_and_weights(tmp_path):
    images, first, second = pictures(), Colours(), Colours()
    rows = cached(tmp_path / "new" / "folder", images, first)
    torch.testing.assert_close(rows, images.float().mean(dim=(2, 3)))
    again = cached(tmp_path / "new" / "folder", images.clone(), second)
    assert torch.equal(again, rows)
    assert again.dtype == rows.dtype
    assert (first.seen, second.seen) == (7, 0)


def test_what_comes_from_the_cache_can_be_changed_without_changing_the_cache(tmp_path):
    rows = cached(tmp_path, pictures(), Colours()).clone()
    cached(tmp_path, pictures(), Colours()).zero_()
    assert torch.equal(cached(tmp_path, pictures(), Colours()), rows)


def test_how_images_are_batched_does_not_matter(tmp_path):
    cached(tmp_path, pictures(), Colours(), batch_size=3)
    other = Colours()
    for batch_size in (1, 2, 7, 100):
        cached(tmp_path, pictures(), other, batch_size)
    assert other.seen == 0


def changed(images: Tensor) -> Tensor:
    images = images.clone()
    images[4, 2, 3, 1] ^= 1  # the least there is
    return images


@pytest.mark.parametrize(
    "other",
    [
        changed(pictures()),
        pictures().flip(0),
        pictures()[:6],
        torch.cat([pictures(), pictures()[:1]]),
        pictures().reshape(7, 3, 4, 5),
        pictures().reshape(7, 3, 10, 2),
        pictures().transpose(2, 3),
    ],
    ids=["one bit", "another order", "fewer", "more", "another shape", "yet another", "turned"],
)
def test_other_images_are_computed_anew(tmp_path, other):
    cached(tmp_path, pictures(), Colours())
    features = Colours()
    rows = cached(tmp_path, other, features)
    assert features.seen == len(other)
    torch.testing.assert_close(rows, other.float().mean(dim=(2, 3)))


def test_pixels_that_move_from_one_image_to_the_next_make_another_key():
    images = pictures(2, 2, 6)
    flat = images.flatten()
    shapes = [(3, 2, 6), (3, 3, 4), (3, 4, 3), (3, 6, 2)]
    keys = {content_key([part.reshape(1, *shape) for part in flat.split(36)], Colours()) for shape in shapes}
    assert len(keys) == 4
    merged = flat.reshape(1, 3, 4, 6)
    assert content_key([merged], Colours()) != content_key([images], Colours())


def test_other_weights_are_computed_anew(tmp_path):
    cached(tmp_path, pictures(), Colours())
    other = Colours()
    other.fingerprint = "other colours"
    other.weight.data.mul_(2)
    rows = cached(tmp_path, pictures(), other)
    assert other.seen == 7
    torch.testing.assert_close(rows, 2 * pictures().float().mean(dim=(2, 3)))
    assert len(list(tmp_path.iterdir())) == 2


def test_the_key_of_a_view_is_that_of_its_pixels():
    images = pictures(6, 4, 4)
    view = images.permute(0, 1, 3, 2)
    assert content_key([view], Colours()) == content_key([view.contiguous()], Colours())
    assert content_key([view], Colours()) != content_key([images], Colours())


def test_a_network_that_fails_leaves_nothing_in_the_cache(tmp_path):
    class Broken(Colours):
        def _features(self, images: Tensor) -> Tensor:
            if self.seen:
                raise RuntimeError("out of memory")
            return super()._features(images)

    with pytest.raises(RuntimeError, match="out of memory"):
        cached(tmp_path, pictures(), Broken())
    features = Colours()
    cached(tmp_path, pictures(), features)
    assert features.seen == 7


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """A first computation whose rows were being written when it was stopped, after so many bytes."""

    def run(written: int) -> None:
        def save(path: Path, rows: np.ndarray) -> None:
            path.write_bytes(b"\x93NUMPY".ljust(written, b"x"))
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(np, "save", save)
            cached(tmp_path, pictures(), Colours())

    return run


@pytest.mark.parametrize("written", [0, 40, 150])
def test_a_write_that_is_interrupted_leaves_nothing_that_is_taken_for_rows(tmp_path, interrupted, written):
    with pytest.raises(KeyboardInterrupt):
        interrupted(written)
    features = Colours()
    rows = cached(tmp_path, pictures(), features)
    assert features.seen == 7
    torch.testing.assert_close(cached(tmp_path, pictures(), Colours()), rows)


def test_a_write_that_is_interrupted_leaves_no_file(tmp_path, interrupted):
    with pytest.raises(KeyboardInterrupt):
        interrupted(40)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_holds_plain_rows_under_the_key_and_nothing_else(tmp_path):
    rows = cached(tmp_path, pictures(), Colours())
    (path,) = tmp_path.iterdir()
    assert path.name == f"features-{content_key([pictures()], Colours())}.npy"
    assert np.array_equal(np.load(path, allow_pickle=False), rows.numpy())
