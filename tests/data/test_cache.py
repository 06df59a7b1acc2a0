from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from conftest import make_images
from torch.utils.data import DataLoader

from monet_cyclegan.data import cache
from monet_cyclegan.data.cache import cached
from monet_cyclegan.data.sources import FolderSource
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import write_image

MODES = ["ram", "disk", "none"]


class CountingSource(FolderSource):
    """A folder that knows how often it decoded, and can be told to break down."""

    def __init__(self, folder, breaks_at=None):
        super().__init__(folder)
        self.loads = 0
        self.breaks_at = breaks_at

    def load(self, index):
        if index == self.breaks_at:
            raise UserError(f"{self.where(index)}: damaged")
        self.loads += 1
        return super().load(index)


@pytest.fixture
def folder(tmp_path):
    """Images of different shapes, one of them smaller than the size that the others are shrunk to."""
    for number, size in enumerate([(40, 32), (21, 60), (10, 12)]):
        make_images(tmp_path / "images" / str(number), 2, size, seed=number)
    return tmp_path / "images"


def images(source):
    return [np.array(source.load(index)) for index in range(len(source))]


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", MODES)
def test_every_cache_gives_the_same_pixels_and_names(folder, tmp_path, mode):
    source = FolderSource(folder)
    plain = cached(source, "none", 16, tmp_path / "cache")
    kept = cached(source, mode, 16, tmp_path / "cache")
    assert_same(images(kept), images(plain))
    assert [kept.name(i) for i in range(len(kept))] == [source.name(i) for i in range(len(source))]
    assert kept.location == source.location
    assert [image.shape for image in images(kept)] == [(16, 20, 3)] * 2 + [(46, 16, 3)] * 2 + [(12, 10, 3)] * 2


def test_without_a_cache_every_load_decodes(folder, tmp_path):
    source = CountingSource(folder)
    kept = cached(source, "none", 16, tmp_path)
    assert source.loads == 0
    images(kept), images(kept)
    assert source.loads == 12


@pytest.mark.parametrize("mode", ["ram", "disk"])
def test_a_cache_decodes_each_image_once(folder, tmp_path, mode):
    source = CountingSource(folder)
    kept = cached(source, mode, 16, tmp_path / "cache")
    images(kept), images(kept)
    assert source.loads == 6


def test_a_disk_cache_decodes_once_for_all_runs(folder, tmp_path):
    first = images(cached(FolderSource(folder), "disk", 16, tmp_path / "cache"))
    again = CountingSource(folder)
    assert_same(images(cached(again, "disk", 16, tmp_path / "cache")), first)
    assert again.loads == 0


def test_a_disk_cache_decodes_again_for_another_size(folder, tmp_path):
    cached(FolderSource(folder), "disk", 16, tmp_path / "cache")
    again = CountingSource(folder)
    assert images(cached(again, "disk", 12, tmp_path / "cache"))[0].shape == (12, 15, 3)
    assert again.loads == 6


def test_a_disk_cache_decodes_again_when_a_file_changes(folder, tmp_path):
    cached(FolderSource(folder), "disk", 16, tmp_path / "cache")
    changed = folder / "0" / "000.png"
    before = changed.stat()
    write_image(changed, np.full((32, 40, 3), 77, np.uint8))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    again = CountingSource(folder)
    kept = cached(again, "disk", 16, tmp_path / "cache")
    assert again.loads == 6
    assert np.unique(kept.load(0)).tolist() == [77]


@pytest.mark.parametrize("lost", ["*.uint8", "*.shapes.npy"])
def test_a_disk_cache_of_which_a_part_was_deleted_is_written_again(folder, tmp_path, lost):
    first = images(cached(FolderSource(folder), "disk", 16, tmp_path / "cache"))
    for file in (tmp_path / "cache").glob(lost):
        file.unlink()
    assert_same(images(cached(FolderSource(folder), "disk", 16, tmp_path / "cache")), first)


@pytest.mark.parametrize("breaks_at", [0, 3, 5])
def test_an_interrupted_writing_leaves_no_cache_and_no_half_file(folder, tmp_path, breaks_at):
    with pytest.raises(UserError, match="damaged"):
        cached(CountingSource(folder, breaks_at), "disk", 16, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    expected = images(cached(FolderSource(folder), "none", 16, ""))
    assert_same(images(cached(FolderSource(folder), "disk", 16, tmp_path / "cache")), expected)


def test_a_writing_cut_off_between_its_two_files_leaves_no_broken_cache(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache.np, "save", full)
        with pytest.raises(UserError, match=r"data\.cache_dir=.*: can.t be written .*No space"):
            cached(FolderSource(folder), "disk", 16, tmp_path / "cache")
    again = CountingSource(folder)
    assert_same(images(cached(again, "disk", 16, tmp_path / "cache")), images(cached(again, "none", 16, "")))
    assert again.loads == 12


@pytest.mark.parametrize("mode", MODES)
def test_a_cached_source_can_be_sent_to_another_process(folder, tmp_path, mode):
    kept = cached(FolderSource(folder), mode, 16, tmp_path / "cache")
    assert_same(images(pickle.loads(pickle.dumps(kept))), images(kept))


def test_a_disk_cache_is_sent_to_another_process_without_its_pixels(folder, tmp_path):
    make_images(folder / "large", 4, (64, 64))
    kept = cached(FolderSource(folder), "disk", 64, tmp_path / "cache")
    assert len(pickle.dumps(kept)) < kept.pixels.nbytes / 10
    assert isinstance(pickle.loads(pickle.dumps(kept)).pixels, np.memmap)


class Loads:
    """What a DataLoader needs of a dataset."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return np.array(self.source.load(index))


@pytest.mark.parametrize("mode", MODES)
def test_a_cached_source_works_in_the_workers_of_a_loader(folder, tmp_path, mode):
    kept = cached(FolderSource(folder), mode, 16, tmp_path / "cache")
    loader = DataLoader(Loads(kept), batch_size=None, num_workers=2, collate_fn=np.asarray)
    assert_same([np.asarray(image) for image in loader], images(kept))


@pytest.mark.parametrize("mode", ["ram", "disk"])
def test_the_pixels_of_a_cache_can_not_be_changed_by_who_loads_them(folder, tmp_path, mode):
    image = cached(FolderSource(folder), mode, 16, tmp_path / "cache").load(0)
    with pytest.raises(ValueError, match="read-only"):
        image[:] = 0


def test_an_unknown_cache_is_refused_with_the_choices(folder, tmp_path):
    with pytest.raises(UserError, match=r"data\.cache=gpu is not a cache; choose device, ram, disk or none"):
        cached(FolderSource(folder), "gpu", 16, tmp_path)


def test_a_later_run_of_the_process_finds_the_decoded_images_in_memory(folder, tmp_path):
    first, second = CountingSource(folder), CountingSource(folder)
    kept = cached(first, "ram", 16, tmp_path)
    again = cached(second, "ram", 16, tmp_path)
    assert (first.loads, second.loads) == (6, 0)
    assert_same(images(again), images(kept))
    other_size = CountingSource(folder)
    cached(other_size, "ram", 8, tmp_path)
    assert other_size.loads == 6


def test_images_that_changed_are_decoded_anew(folder, tmp_path):
    cached(CountingSource(folder), "ram", 16, tmp_path)
    make_images(folder / "3", 1, (40, 32), seed=9)
    changed = CountingSource(folder)
    cached(changed, "ram", 16, tmp_path)
    assert changed.loads == 7


def test_memory_holds_one_data_set_of_earlier_runs(folder, tmp_path):
    for size in (4, 5, 6, 7, 8, 9):
        cached(CountingSource(folder), "ram", size, tmp_path)
    assert len(cache._in_memory) == cache._KEPT
    latest, oldest = CountingSource(folder), CountingSource(folder)
    cached(latest, "ram", 9, tmp_path), cached(oldest, "ram", 4, tmp_path)
    assert (latest.loads, oldest.loads) == (0, 6)
