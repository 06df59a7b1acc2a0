"""Whenever a run is killed, the same command goes on with it, and it ends as if nothing had happened."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import torch
from harness import NAMED, RANDOM, Case, Harness
from points import POINTS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    made = Harness(tmp_path_factory.mktemp("kills"))
    yield made
    made.close()


def test_every_point_is_reached_and_the_last_time_is_not_the_second(harness):
    assert {*harness.reached} == {*POINTS}
    assert min(harness.reached.values()) >= 3


@pytest.mark.parametrize("case", NAMED, ids=str)
def test_a_run_killed_at_a_point_ends_as_the_undisturbed_one(harness, case: Case):
    name = str(NAMED.index(case))
    assert harness.kill(name, case)["status"] == -signal.SIGKILL, harness.log(name)
    assert harness.go_on(name)["status"] == 0, harness.log(name)
    assert harness.differences(name) == [], harness.log(name)


@pytest.mark.parametrize("case", RANDOM, ids=str)
def test_a_run_killed_at_a_random_moment_ends_as_the_undisturbed_one(harness, case: Case):
    name = f"random{case.occasion}"
    harness.kill(name, case)
    assert harness.go_on(name)["status"] == 0, harness.log(name)
    assert harness.differences(name) == [], harness.log(name)


def test_a_difference_would_be_noticed(harness):
    harness.run("another", "seed=1")
    found = harness.differences("another")
    assert any(key.startswith("last.state_dict.gen_ab") for key in found)
    assert "metrics.csv" in found
    harness.run("same")
    assert harness.differences("same") == []
    path = harness.folder / "runs" / "same" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["optimizer_states"][1]["state"][0]["exp_avg"] += 1e-6
    torch.save(checkpoint, path)
    assert harness.differences("same") == ["last.optimizer_states.1.state.0.exp_avg"]
