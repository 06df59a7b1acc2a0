from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from monet_cyclegan.errors import UserError
from monet_cyclegan.whole_file import whole_file

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


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"), whole_file(tmp_path / "file" / "x"):
        pass


def test_a_name_as_long_as_is_allowed_can_be_written(tmp_path):
    with whole_file(tmp_path / ("x" * 255)) as unfinished:
        unfinished.touch()
    assert len(list(tmp_path.iterdir())) == 1
