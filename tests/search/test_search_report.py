from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from monet_cyclegan.search.report import _write

if TYPE_CHECKING:
    from pathlib import Path


def test_workers_that_end_at_once_leave_one_whole_file(tmp_path: Path):
    path = tmp_path / "trials.csv"
    contents = [bytes([65 + index]) * 100_000 for index in range(4)]

    def write(content: bytes) -> None:
        for _ in range(50):
            _write(path, content)
            assert path.read_bytes() in contents

    with ThreadPoolExecutor(len(contents)) as workers:
        list(workers.map(write, contents))
    assert [file.name for file in tmp_path.iterdir()] == ["trials.csv"]
