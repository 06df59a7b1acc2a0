"""Libraries that read strangers' files are not taken in versions with known holes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "floor"),
    [("torch", "2.10"), ("pillow", "12.3"), ("onnx", "1.21"), ("gradio", "6.16"), ("lightning", "2.6.4")],
)
def test_releases_with_holes_are_not_allowed_and_the_reason_stands_beside_it(name: str, floor: str):
    (line,) = re.findall(rf'^.*"({name}[>=<].*)"[^"\n]*#(.*)$', PROJECT, re.MULTILINE)
    requirement, reason = Requirement(line[0]), line[1]
    below = Version(f"{floor}.dev0")
    assert not requirement.specifier.contains(below, prereleases=True)
    assert requirement.specifier.contains(floor)
    assert re.search("CVE|hole|memory|malware", reason), reason


def test_a_heif_library_with_holes_is_refused_at_run_time():
    from monet_cyclegan.untrusted.picture_opening import SAFE_LIBHEIF  # pip can't see which one a wheel brings

    assert SAFE_LIBHEIF >= (1, 23, 4)
