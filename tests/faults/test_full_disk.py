"""Each single write of a run fails once, and each is the first of many that fail: nothing that was done is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from harness import Harness

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.faults

NEVER = 10**9
# What a failed write of its own may leave out: pictures, and candidates for the best checkpoint.
BY_THE_WAY = ("last.callbacks", "best.csv", "checkpoints", "samples")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    made = Harness(tmp_path_factory.mktemp("full"), epochs=1, batches=2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def writes(harness) -> int:
    """How many there are in a run."""
    harness.run("counted", fail_at=[NEVER, 1], reached=str(harness.folder / "counted.json"))
    return json.loads((harness.folder / "counted.json").read_text())["writes"]


def ends_as_undisturbed(harness: Harness, name: str, *, done: bool = False) -> None:
    assert "Traceback" not in harness.log(name), harness.log(name)
    assert done or harness.go_on(name)["status"] == 0, harness.log(name)
    lost = [key for key in harness.differences(name) if not key.startswith(BY_THE_WAY)]
    assert lost == [], harness.log(name)


@pytest.mark.parametrize("shard", range(4))
def test_a_write_that_fails_is_told_in_a_line_and_the_run_ends_with_the_same_weights(harness, writes, shard):
    assert writes > 30
    outcomes = []
    for number in range(1 + shard, writes + 1, 4):
        name = f"once{number}"
        status = harness.run(name, fail_at=[number, 1])["status"]
        said = [line for line in harness.log(name).splitlines() if "No space left on device" in line]
        assert status in (0, 2), harness.log(name)
        assert said or status == 0, harness.log(name)
        outcomes.append(status)
        ends_as_undisturbed(harness, name, done=status == 0)
    assert outcomes.count(0) > 0.4 * len(outcomes)  # those of the last checkpoint have to end the run


def test_a_disk_that_stays_full_ends_the_run_with_a_line_and_all_before_it_is_kept(harness, writes):
    for number in range(1, writes + 1, 7):
        name = f"on{number}"
        assert harness.run(name, fail_at=[number, NEVER])["status"] == 2, harness.log(name)
        assert [line for line in harness.log(name).splitlines() if line.startswith("error: ")], harness.log(name)
        ends_as_undisturbed(harness, name)
