"""A little fuzzing at each test run; benchmarks/README.md has how many inputs it was in a long one."""

from __future__ import annotations

import pytest
from fuzz import TARGETS, run

pytest.importorskip("atheris", reason="needs Atheris, which there is for Linux")


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_makes_a_parser_fail_otherwise_than_by_its_own_error(name: str):
    done = run(name, inputs=2000)
    assert done.failed is None, done.tail
    assert done.inputs == 2000


def test_a_defect_is_found():
    done = run("planted", inputs=200_000)
    assert done.failed is not None
    assert done.failed.read_bytes()[:3] == b"MZ\x00"
    assert "IndexError" in done.tail
