from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from monet_cyclegan.errors import UserError
from monet_cyclegan.images import write_image
from monet_cyclegan.inference.inputs import find_jobs, parts_of


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name in ("10.jpg", "2.jpg", "deep/3.PNG", "deep/er/4.gif", "5.heic", ".hidden/6.jpg", "notes.txt", "no_suffix"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def targets(inputs, folder):
    return [job.target.relative_to(folder).as_posix() for job in inputs.jobs]


def test_a_folder_gives_its_pictures_in_natural_order_and_counts_the_rest(photos, tmp_path):
    inputs = find_jobs(str(photos), tmp_path / "out")
    assert targets(inputs, tmp_path / "out") == ["2.jpg", "5.heic.jpg", "10.jpg", "deep/3.PNG", "deep/er/4.gif.png"]
    assert inputs.others == {".txt": 1, "without a suffix": 1}
    assert [job.read().decode() for job in inputs.jobs] == [job.name for job in inputs.jobs]
    assert inputs.jobs[0].source == str(photos / "2.jpg")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["10.jpg", "2.jpg"]),
        ("**/*.[Pg]*", ["deep/3.PNG", "deep/er/4.gif.png"]),
        ("deep/*", ["3.PNG"]),
        ("d??p/**/*", ["deep/3.PNG", "deep/er/4.gif.png"]),
    ],
)
def test_a_pattern_keeps_the_structure_below_its_first_wildcard(photos, tmp_path, pattern, expected):
    assert targets(find_jobs(str(photos / pattern), tmp_path / "out"), tmp_path / "out") == expected


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos, tmp_path):
    (photos / "[1].jpg").write_bytes(b"")
    (job,) = find_jobs(str(photos / "[1].jpg"), tmp_path / "out").jobs
    assert job.name == "[1].jpg"


def test_a_zip_is_read_without_unpacking(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("a/10.jpg", "a/2.jpg", "__MACOSX/a/._2.jpg", "notes.txt"):
            archive.writestr(name, name)
    inputs = find_jobs(str(tmp_path / "photos.zip"), tmp_path / "out")
    assert targets(inputs, tmp_path / "out") == ["a/2.jpg", "a/10.jpg"]
    assert [job.read() for job in inputs.jobs] == [b"a/2.jpg", b"a/10.jpg"]
    assert inputs.jobs[0].source == f"{tmp_path / 'photos.zip'}/a/2.jpg"


def test_a_file_that_is_no_zip_is_one_line(tmp_path):
    (tmp_path / "photos.zip").write_text("text")
    with pytest.raises(UserError, match=r"photos\.zip: neither a folder nor a whole zip archive"):
        find_jobs(str(tmp_path / "photos.zip"), tmp_path / "out")


def test_the_competitions_archive_is_flat_and_any_other_is_not(photos, tmp_path):
    flat = find_jobs(str(photos), tmp_path / "images.zip")
    parts = parts_of(tmp_path / "images.zip")
    assert targets(flat, parts) == ["2.jpg", "5.jpg", "10.jpg", "deep_3.jpg", "deep_er_4.jpg"]
    other = find_jobs(str(photos), tmp_path / "x.zip")
    assert targets(other, parts_of(tmp_path / "x.zip"))[-1] == "deep/er/4.gif.png"


def test_two_that_would_become_one_file_are_refused(photos, tmp_path):
    (photos / "2.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"2\.jpg and \S+2\.png would both become 2\.png: rename one$"):
        find_jobs(str(photos), tmp_path / "out", ".png")


def test_an_output_that_is_the_input_by_another_name_is_refused(tmp_path):
    write_image(tmp_path / "in" / "x.png", np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(UserError, match=r"^output=\S+link would overwrite \S+x\.png: give another place$"):
        find_jobs(str(tmp_path / "in"), tmp_path / "link")


def test_names_are_shown_as_they_were_given(photos, monkeypatch):
    monkeypatch.chdir(photos)
    (job,) = find_jobs("2.jpg", Path("out")).jobs
    assert (job.source, job.target) == ("2.jpg", Path("out/2.jpg"))
