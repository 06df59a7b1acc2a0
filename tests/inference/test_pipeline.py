from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from test_translator import Negative, noise
from torch import Tensor

from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.inference import Translator, pipeline, translate_files
from monet_cyclegan.inference.pipeline import translate_each


def test_files_that_fail_are_reported_and_the_others_translated(tmp_path):
    write_image(tmp_path / "good.png", noise(20, 20))
    write_image(tmp_path / "tiny.png", noise(8, 8))
    (tmp_path / "text.png").write_text("no image")
    jobs = [
        (tmp_path / "missing.png", tmp_path / "out" / "missing.png"),
        (tmp_path / "text.png", tmp_path / "out" / "text.png"),
        (tmp_path / "tiny.png", tmp_path / "out" / "tiny.png"),
        (tmp_path / "good.png", tmp_path / "out" / "good.xyz"),
        (tmp_path / "good.png", tmp_path / "out" / "deep" / "good.png"),
    ]
    outcomes = list(translate_files(Translator(Negative()), jobs))

    assert [(outcome.source, outcome.target) for outcome in outcomes] == jobs
    assert [outcome.error is None for outcome in outcomes] == [False, False, False, False, True]
    for outcome, named in zip(outcomes, ("missing.png", "text.png", "tiny.png", "good.xyz"), strict=False):
        assert outcome.error is not None
        assert named in outcome.error
        assert "\n" not in outcome.error
    assert np.array_equal(read_image(tmp_path / "out" / "deep" / "good.png"), 255 - noise(20, 20))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deep"]


def run_out_on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def run_out_on_a_cpu() -> None:
    torch.empty(2**60, dtype=torch.uint8)  # more than any address space


@pytest.mark.parametrize("run_out", [run_out_on_a_gpu, run_out_on_a_cpu])
def test_running_out_of_memory_costs_one_file_only(tmp_path, run_out):
    class Hungry(Negative):
        def forward(self, images: Tensor) -> Tensor:
            if images.shape[2] > 32:
                run_out()
            return super().forward(images)

    for name, size in (("large.png", 64), ("small.png", 32)):
        write_image(tmp_path / name, noise(size, size))
    jobs = [(tmp_path / name, tmp_path / "out" / name) for name in ("large.png", "small.png")]
    large, small = translate_files(Translator(Hungry()), jobs)
    assert large.error is not None
    assert "64x64 pixels don't fit" in large.error
    assert small.error is None


def test_a_defect_is_not_mistaken_for_a_bad_file(tmp_path):
    class Broken(Negative):
        def forward(self, images: Tensor) -> Tensor:
            return images @ images[:, :, :3]

    write_image(tmp_path / "good.png", noise(20, 20))
    with pytest.raises(RuntimeError, match="size"):
        list(translate_files(Translator(Broken()), [(tmp_path / "good.png", tmp_path / "out.png")]))


def written(folder, count, size=(16, 16)):
    for index in range(count):
        write_image(folder / f"{index:03d}.png", np.full((*size, 3), index, np.uint8))
    return [(path, folder / "out" / path.name) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_pictures_of_one_size_are_translated_together_and_come_in_order(tmp_path, batch_size):
    sizes = [(16, 16)] * 5 + [(20, 16)] * 2 + [(16, 16)]
    jobs = []
    for index, size in enumerate(sizes):
        write_image(tmp_path / f"{index}.png", np.full((*size, 3), index, np.uint8))
        jobs.append((tmp_path / f"{index}.png", tmp_path / "out" / f"{index}.png"))
    generator = Negative()
    outcomes = list(translate_files(Translator(generator), jobs, batch_size))
    assert [(outcome.source, outcome.target) for outcome in outcomes] == jobs
    for index, size in enumerate(sizes):
        assert np.array_equal(read_image(tmp_path / "out" / f"{index}.png"), np.full((*size, 3), 255 - index, np.uint8))
    seen = [len(batch) for batch in generator.seen]
    assert seen == {1: [1] * 8, 2: [2, 2, 1, 2, 1], 5: [5, 2, 1], 100: [5, 2, 1]}[batch_size]


def test_a_bad_file_between_pictures_of_one_size_stays_in_its_place(tmp_path):
    jobs = written(tmp_path, 4)
    jobs[2][0].write_bytes(b"no picture")
    outcomes = list(translate_files(Translator(Negative()), jobs, batch_size=4))
    assert [outcome.error is None for outcome in outcomes] == [True, True, False, True]


def test_what_does_not_fit_in_memory_together_is_translated_one_by_one(tmp_path):
    class Small(Negative):
        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 1:
                run_out_on_a_gpu()
            return super().forward(images)

    generator = Small()
    outcomes = list(translate_files(Translator(generator), written(tmp_path, 3), batch_size=3))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert [batch.mean().item() for batch in generator.seen] == pytest.approx([-1 + i / 127.5 for i in range(3)])


class Reads:
    """Counts how many pictures were read and not yet translated."""

    def __init__(self, monkeypatch):
        self.waiting, self.most, self.lock = 0, 0, threading.Lock()
        monkeypatch.setattr(pipeline, "read_image", self.read)

    def read(self, path):
        with self.lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        return read_image(path)


@pytest.mark.parametrize(("budget", "most"), [(10**9, 2 * 2 + 4 + 2), (4 * 256, 4 + 2)])
def test_only_so_many_pictures_are_read_ahead(tmp_path, monkeypatch, budget, most):
    """Whoever is slow makes the readers wait, so that memory doesn't grow with the number of pictures."""
    reads = Reads(monkeypatch)
    monkeypatch.setattr(pipeline, "AHEAD_PIXELS", budget)
    for _ in translate_each(Translator(Negative()), written(tmp_path, 40), batch_size=2):
        time.sleep(0.002)
        with reads.lock:
            reads.waiting -= 1
    assert 2 < reads.most <= most


def test_reading_and_writing_stop_with_whoever_stops_asking(tmp_path):
    outcomes = translate_files(Translator(Negative()), written(tmp_path, 60))
    next(outcomes)
    before = threading.active_count()
    outcomes.close()
    assert threading.active_count() < before
    assert len(list((tmp_path / "out").iterdir())) < 60
