from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_translator import Negative, noise
from torch import Tensor

from monet_cyclegan.data.files import Folder
from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.inference import Translator, pipeline, translate_files
from monet_cyclegan.inference.controls import Look
from monet_cyclegan.inference.inputs import Job
from monet_cyclegan.inference.pipeline import Settings
from monet_cyclegan.pictures import decode_picture


def job(source: Path, target: Path) -> Job:
    return Job(Folder(source.parent), source.name, target)


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
    outcomes = list(translate_files(Translator(Negative()), [job(*pair) for pair in jobs]))

    assert [(outcome.source, outcome.target) for outcome in outcomes] == [(str(source), t) for source, t in jobs]
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
    jobs = [job(tmp_path / name, tmp_path / "out" / name) for name in ("large.png", "small.png")]
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
        list(translate_files(Translator(Broken()), [job(tmp_path / "good.png", tmp_path / "out.png")]))


def written(folder, count, size=(16, 16)):
    for index in range(count):
        write_image(folder / f"{index:03d}.png", np.full((*size, 3), index, np.uint8))
    return [job(path, folder / "out" / path.name) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_pictures_of_one_size_are_translated_together_and_come_in_order(tmp_path, batch_size):
    sizes = [(16, 16)] * 5 + [(20, 16)] * 2 + [(16, 16)]
    jobs = []
    for index, size in enumerate(sizes):
        write_image(tmp_path / f"{index}.png", np.full((*size, 3), index, np.uint8))
        jobs.append(job(tmp_path / f"{index}.png", tmp_path / "out" / f"{index}.png"))
    generator = Negative()
    outcomes = list(translate_files(Translator(generator), jobs, batch_size))
    assert [(outcome.source, outcome.target) for outcome in outcomes] == [(job.source, job.target) for job in jobs]
    for index, size in enumerate(sizes):
        assert np.array_equal(read_image(tmp_path / "out" / f"{index}.png"), np.full((*size, 3), 255 - index, np.uint8))
    seen = [len(batch) for batch in generator.seen]
    assert seen == {1: [1] * 8, 2: [2, 2, 1, 2, 1], 5: [5, 2, 1], 100: [5, 2, 1]}[batch_size]


def test_a_bad_file_between_pictures_of_one_size_stays_in_its_place(tmp_path):
    jobs = written(tmp_path, 4)
    Path(jobs[2].source).write_bytes(b"no picture")
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


class InFlight:
    """Counts how many pictures were read and not yet written."""

    def __init__(self, monkeypatch):
        self.waiting, self.most, self.lock = 0, 0, threading.Lock()
        monkeypatch.setattr(pipeline, "decode_picture", self.decode)
        monkeypatch.setattr(pipeline, "write_picture", self.write)

    def decode(self, *args, **options):
        with self.lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        return decode_picture(*args, **options)

    def write(self, *_, **__):
        time.sleep(0.005)
        with self.lock:
            self.waiting -= 1
        return ()


@pytest.mark.parametrize(("budget", "most"), [(10**9, 2 * 2 + 4 + 2 + 2 + 4 + 1), (4 * 256, 4 + 2 + 4 + 1)])
def test_only_so_many_pictures_are_in_memory(tmp_path, monkeypatch, budget, most):
    """Whoever is slow makes the readers wait, so that memory doesn't grow with the number of pictures."""
    pictures = InFlight(monkeypatch)
    monkeypatch.setattr(pipeline, "AHEAD_PIXELS", budget)
    monkeypatch.setattr(pipeline, "THREADS", 4)
    for _ in translate_files(Translator(Negative()), written(tmp_path, 60), batch_size=2):
        time.sleep(0.001)
    assert 2 < pictures.most <= most
    assert pictures.waiting == 0


def test_reading_and_writing_stop_with_whoever_stops_asking(tmp_path):
    outcomes = translate_files(Translator(Negative()), written(tmp_path, 60))
    next(outcomes)
    before = threading.active_count()
    outcomes.close()
    assert threading.active_count() < before
    assert len(list((tmp_path / "out").iterdir())) < 60


SETTINGS = Settings(fingerprint="a network")


def run(jobs, settings=SETTINGS, generator=None):
    return list(translate_files(Translator(generator or Negative()), jobs, 2, settings))


def test_what_is_finished_is_kept_when_run_again(tmp_path):
    jobs = written(tmp_path, 4)
    assert [outcome.kept for outcome in run(jobs)] == [False] * 4
    jobs[2].target.unlink()
    stamps = [job.target.stat().st_mtime_ns for job in jobs if job.target.exists()]
    generator = Negative()
    outcomes = run(jobs, generator=generator)
    assert [outcome.kept for outcome in outcomes] == [True, True, False, True]
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert [len(batch) for batch in generator.seen] == [1]
    assert [jobs[index].target.stat().st_mtime_ns for index in (0, 1, 3)] == stamps


def test_other_settings_and_another_picture_are_translated_anew(tmp_path):
    jobs = written(tmp_path, 2)
    run(jobs)
    assert [outcome.kept for outcome in run(jobs, Settings(fingerprint="another network"))] == [False] * 2
    write_image(Path(jobs[0].source), noise(16, 16))
    assert [outcome.kept for outcome in run(jobs, Settings(fingerprint="another network"))] == [False, True]
    assert np.array_equal(read_image(jobs[0].target), 255 - noise(16, 16))
    assert [outcome.kept for outcome in run(jobs, Settings())] == [False] * 2


def test_a_file_of_somebody_else_in_the_place_is_no_finished_one(tmp_path):
    jobs = written(tmp_path, 1)
    write_image(jobs[0].target, noise(16, 16))
    assert [outcome.kept for outcome in run(jobs)] == [False]


def test_transparency_and_notes_come_through(tmp_path):
    alpha = noise(20, 20)[..., 0]
    Image.fromarray(np.dstack([noise(20, 20), alpha])).save(tmp_path / "a.png")
    outcomes = run([job(tmp_path / "a.png", tmp_path / "out.png"), job(tmp_path / "a.png", tmp_path / "out.jpg")])
    assert [outcome.notes for outcome in outcomes] == [(), ("JPEG has no transparency, so white shows",)]
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.array(image)[..., 3], alpha)
        seen = alpha > 0
        assert np.array_equal(np.array(image)[..., :3][seen], 255 - noise(20, 20)[seen])


def test_the_look_is_applied(tmp_path):
    write_image(tmp_path / "a.png", noise(20, 30))
    run([job(tmp_path / "a.png", tmp_path / "out.png")], Settings(Look(strength=0.25)))
    mixed = 0.75 * noise(20, 30) + 0.25 * (255 - noise(20, 30).astype(float))
    assert np.abs(read_image(tmp_path / "out.png") - mixed).max() <= 1


def test_pictures_of_many_sizes_become_a_batch_at_one_working_size(tmp_path):
    for index, size in enumerate([(16, 24), (32, 48), (64, 96)]):
        write_image(tmp_path / f"{index}.png", noise(*size))
    generator = Negative()
    jobs = [job(path, tmp_path / "out" / path.name) for path in sorted(tmp_path.iterdir())]
    translator = Translator(generator)
    list(translate_files(translator, jobs, 8, Settings(Look(working_size=20))))
    assert [batch.shape for batch in generator.seen] == [(3, 3, 20, 32)]  # 30 wide, padded to the multiple
    assert [read_image(job.target).shape[:2] for job in jobs] == [(16, 24), (32, 48), (64, 96)]
