"""What goes wrong around a run ends it with one line and a status that isn't zero, and the same command goes on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import SHRUNK, Harness

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
ACCIDENT = "+callbacks.accident._target_=accidents."


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    made = Harness(tmp_path_factory.mktemp("surroundings"))
    yield made
    made.close()


def error_line(harness: Harness, name: str) -> str:
    printed = harness.log(name)
    assert "Traceback" not in printed, printed
    (line,) = (line for line in printed.splitlines() if line.startswith("error: "))
    return line


@pytest.mark.parametrize(
    ("accident", "settings", "says"),
    [
        ("CpuOutOfMemory", (), "can't allocate memory|not enough memory|DefaultCPUAllocator"),
        (
            "GpuOutOfMemory",
            (),
            "CUDA out of memory.*try a smaller data.batch_size or data.crop_size; ckpt_path=auto goes on",
        ),
        (
            "WorkerDies",
            ("data.num_workers=2",),
            r"DataLoader worker \(pid.*ckpt_path=auto goes on with the last checkpoint",
        ),
    ],
)
def test_an_accident_is_one_line_and_the_run_goes_on_from_the_batch_before(harness, accident, settings, says):
    whole, struck = f"whole {accident}", f"struck {accident}"
    assert harness.run(whole, *settings)["status"] == 0
    assert harness.run(struck, *settings, f"{ACCIDENT}{accident}")["status"] == 2, harness.log(struck)
    assert re.search(says, error_line(harness, struck))
    assert (harness.folder / "runs" / struck / "checkpoints" / "last.ckpt").is_file()
    assert harness.go_on(struck, *settings)["status"] == 0, harness.log(struck)
    assert harness.differences(struck, whole) == []


def test_a_data_folder_that_vanishes_is_named_and_once_it_is_back_the_run_goes_on(harness):
    folder = harness.folder / "a"
    settings = ("data.cache=none",)
    assert harness.run("whole", *settings)["status"] == 0
    accident = (f"{ACCIDENT}FolderVanishes", f"+callbacks.accident.folder={folder}")
    assert harness.run("vanished", *settings, *accident)["status"] == 2, harness.log("vanished")
    assert str(folder) in error_line(harness, "vanished")
    Path(f"{folder} gone").rename(folder)
    assert harness.go_on("vanished", *settings)["status"] == 0, harness.log("vanished")
    assert harness.differences("vanished", "whole") == []


def train(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "train.py"), *SHRUNK, *options]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder where even root can't write")
def test_a_run_whose_folder_cannot_be_written_to_ends_at_once_with_its_name(harness, tmp_path):
    data = [f"data.{name}={harness.folder / name}" for name in "ab"]
    done = train(tmp_path, *data, "hydra.run.dir=/sys/kernel/run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("error: /sys/kernel/run")
    assert "Traceback" not in done.stderr


def test_a_data_folder_that_is_not_there_is_one_line(tmp_path):
    done = train(tmp_path, "data.a=nowhere", "data.b=nowhere")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: nowhere: no such folder"
