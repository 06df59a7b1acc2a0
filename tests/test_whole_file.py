from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from monet_cyclegan.errors import UserError
from monet_cyclegan.whole_file import second_name, whole_file, whole_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_takes_its_place_in_the_end(tmp_path, sync):
    path = tmp_path / "new" / "file"
    with whole_file(path, sync=sync) as unfinished:
        unfinished.write_text("whole")
        assert not path.exists()
        assert unfinished.parent == path.parent  # on the same disk, so that it is moved at once
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def fail(path: Path, error: BaseException) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text("half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), UserError("x")])
def test_of_what_fails_nothing_is_left_but_the_old_file(tmp_path, error):
    (tmp_path / "file").write_text("old")
    with pytest.raises(type(error)):
        fail(tmp_path / "file", error)
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_of_the_disk_is_one_line_with_the_files_name(tmp_path):
    with pytest.raises(UserError, match=r"file: can't be written \(.*No space"):
        fail(tmp_path / "file", OSError(28, "No space left on device"))
    assert not list(tmp_path.iterdir())


def test_a_second_name_is_of_the_same_file_and_what_a_killed_process_left_of_one_is_removed(tmp_path):
    first, other, path = (tmp_path / name for name in ("first", "other", "best [1].ckpt"))
    first.write_text("first")
    other.write_text("other")
    for source in (first, other, other):  # where there is none, another, and the same
        left = tmp_path / f".{path.name}.12345.unfinished"
        left.hardlink_to(other)
        second_name(source, path)
        assert path.samefile(source)
        assert {*tmp_path.iterdir()} == {first, other, path}


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"), whole_file(tmp_path / "file" / "x"):
        pass


def test_a_name_as_long_as_is_allowed_can_be_written(tmp_path):
    with whole_file(tmp_path / ("x" * 255)) as unfinished:
        unfinished.touch()
    assert len(list(tmp_path.iterdir())) == 1


def is_ours(folder: Path) -> bool:
    return (folder / "ours").exists()


def fill(path: Path, name: str = "ours", error: BaseException | None = None) -> None:
    with whole_folder(path, is_ours) as unfinished:
        (unfinished / name).touch()
        if error:
            raise error


def test_a_folder_takes_its_place_in_the_end_and_that_of_an_earlier_one(tmp_path):
    path = tmp_path / "new" / "folder"
    fill(path)
    (path / "more").touch()
    with whole_folder(path, is_ours) as unfinished:
        (unfinished / "ours").touch()
        assert (path / "more").exists()
    assert [file.name for file in path.iterdir()] == ["ours"]
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "folder").mkdir()
    fill(tmp_path / "folder")
    assert is_ours(tmp_path / "folder")


@pytest.mark.parametrize("make", [lambda path: path.touch(), lambda path: (path / "theirs").mkdir(parents=True)])
def test_what_somebody_else_made_is_left_alone(tmp_path, make):
    make(tmp_path / "there")
    with pytest.raises(UserError, match=r"there holds something else already: give another place, or remove it$"):
        fill(tmp_path / "there")
    assert (tmp_path / "there").is_file() or (tmp_path / "there" / "theirs").is_dir()
    assert [file.name for file in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_of_a_folder_that_fails_nothing_is_left_and_the_earlier_one_stays(tmp_path, error):
    fill(tmp_path / "folder")
    with pytest.raises(type(error)):
        fill(tmp_path / "folder", "half", error)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
    assert is_ours(tmp_path / "folder")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"folder: can't be written \("):
        fill(tmp_path / "file" / "folder")
