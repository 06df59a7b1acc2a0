"""Searches by real processes: what they leave, how they share a study, and what killing one loses."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import optuna
import pytest
from optuna.trial import TrialState

from monet_cyclegan.study_storage import close_storages, open_storage, quiet_optuna

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study

ROOT = Path(__file__).parents[2]
APP = Path(__file__).parent / "tiny_app.py"
SQLITE, JOURNAL = "sqlite:///sweep/study.db", "sweep/study.journal"
QUICK_DEATH = ["hydra.sweeper.heartbeat_interval=1", "hydra.sweeper.grace_period=2"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield tmp_path
    close_storages()


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(APP), "-m", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(*arguments: str, status: int = 0) -> str:
    process = start(*arguments)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == status, output
    return output


def study(storage: str = SQLITE, name: str = "tiny") -> Study:
    with quiet_optuna():
        return optuna.load_study(study_name=name, storage=open_storage(storage))


def states(found: Study) -> Counter[str]:
    return Counter(trial.state.name.lower() for trial in found.trials)


def finished(found: Study) -> int:
    return len(found.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))


def wait_for(what: str, path: Path, seconds: float = 60) -> None:
    """Wait until a file exists."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.05)


def test_a_search_leaves_its_best_trials_settings_a_table_and_pictures(folder):
    output = run("offset=1")
    found = study()
    assert finished(found) == 6
    assert sorted(file.name for file in (folder / "sweep").glob("*.*")) == [
        "best.yaml",
        "curves.png",
        "history.png",
        "importance.png",
        "parallel.png",
        "study.db",
        "trials.csv",
    ]
    assert f"best trial {found.best_trial.number}, score {found.best_value:.5g}" in output
    with (folder / "sweep" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [trial.number for trial in found.trials]
    assert float(rows[found.best_trial.number]["score"]) == found.best_value
    best = (folder / "sweep" / "best.yaml").read_text()
    assert f"x: {found.best_params['x']!r}"[:8] in best
    assert "offset: 1" in best
    assert f"override /shape: {found.best_params['shape']}" in best


def test_the_first_trial_has_the_configs_own_values():
    run("hydra.sweeper.n_trials=1", "x=0.75", "+y=interval(0,1)", status=0)
    first = study().trials[0]
    assert not first.user_attrs.get("baseline")  # what is added has no value in the config
    run("hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=own")
    assert study(name="own").trials[0].params == {"x": 0.25, "shape": "round"}


def test_an_argument_takes_a_parameters_place():
    run("x=0.75", "hydra.sweeper.n_trials=3")
    found = study()
    assert {tuple(trial.params) for trial in found.trials} == {("shape",)}
    assert all(trial.values[0] in (pytest.approx(0.45**2), pytest.approx(0.45**4)) for trial in found.trials)


def test_trials_without_hope_are_pruned():
    run("hydra/sweeper/pruner=median", "hydra.sweeper.n_trials=16")
    counts = states(study())
    assert counts["pruned"] >= 2
    assert counts["complete"] + counts["pruned"] == 16


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random", "nsgaii"])
def test_each_sampler_draws_what_the_parameters_allow(sampler):
    startup = ["hydra.sweeper.sampler.n_startup_trials=2"] if sampler in ("tpe", "gp", "cmaes") else []
    run(f"hydra/sweeper/sampler={sampler}", *startup, "hydra.sweeper.n_trials=4", "x=int(interval(0,3))")
    found = study()
    assert finished(found) == 4
    assert all(trial.params["x"] in range(4) for trial in found.trials)


def test_a_grid_is_searched_once_and_whole():
    run("hydra/sweeper/sampler=grid", "x=range(0,1,0.5)", "hydra.sweeper.n_trials=100")
    found = study()
    assert sorted((trial.params["x"], trial.params["shape"]) for trial in found.trials) == [
        (0.0, "round"),
        (0.0, "square"),
        (0.5, "round"),
        (0.5, "square"),
    ]


def test_two_objectives_leave_the_settings_of_each_trial_that_no_other_beats(folder):
    objectives = ["objectives=[score,x]", "hydra.sweeper.direction=[minimize,maximize]"]
    run(*objectives, "hydra/sweeper/sampler=nsgaii", "hydra.sweeper.n_trials=8")
    found = study()
    assert states(found) == {"complete": 8}
    left = {file.name for file in (folder / "sweep").glob("best*.yaml")}
    assert left == {f"best_{trial.number:04d}.yaml" for trial in found.best_trials}
    assert (folder / "sweep" / "front.png").is_file()


def test_directions_that_do_not_fit_the_objectives_are_refused():
    output = run("hydra.sweeper.direction=[minimize,minimize]", status=2)
    assert output == "error: objectives=['score'] needs as many hydra.sweeper.direction, not 2\n"


@pytest.mark.parametrize("storage", [SQLITE, JOURNAL])
def test_the_same_command_goes_on_with_its_study(storage):
    arguments = [f"hydra.sweeper.storage={storage}", "hydra/sweeper/pruner=none"]
    run(*arguments, "hydra.sweeper.n_trials=2")
    before = study(storage).trials
    run(*arguments, "hydra.sweeper.n_trials=5")
    found = study(storage)
    assert finished(found) == 5
    assert found.trials[:2] == before
    assert "5 finished" in run(*arguments, "hydra.sweeper.n_trials=5")
    assert len(study(storage).trials) == 5


def test_a_worker_that_joins_draws_other_values_than_the_first():
    sampler = ["hydra/sweeper/sampler=random", "hydra.sweeper.start_from_defaults=false"]
    run(*sampler, "hydra.sweeper.n_trials=2")
    run(*sampler, "hydra.sweeper.n_trials=4")
    values = [trial.params["x"] for trial in study().trials]
    assert len(set(values)) == 4


def test_scores_under_other_settings_do_not_go_into_one_study():
    run("hydra.sweeper.n_trials=1")
    output = run("offset=2", status=2)
    assert "study tiny was begun with no arguments" in output
    assert "different: offset=2" in output


def test_a_search_whose_first_trials_were_mistakes_may_go_on_with_others():
    assert run("trouble=user", "x=0.75", status=2) == (
        "trial 0 of tiny: shape=round\ntrial 0: failed, UserError: x is a mistake\nerror: x is a mistake\n"
    )
    run("x=0.75", "hydra.sweeper.n_trials=2")
    assert states(study()) == {"fail": 1, "complete": 2}


@pytest.mark.parametrize("trouble", ["memory", "user"])
def test_trials_that_fail_are_recorded_and_the_search_goes_on(folder, trouble):
    run(f"trouble={trouble}", "hydra.sweeper.n_trials=6", "hydra.sweeper.max_failures=20")
    found = study()
    failed = found.get_trials(states=(TrialState.FAIL,))
    assert finished(found) == 6
    assert failed
    assert all(trial.params["x"] > 0.5 for trial in failed)
    assert {trial.user_attrs["error"] for trial in failed} <= {
        "MemoryError: out of memory",
        "UserError: x is a mistake",
    }
    tracebacks = [(folder / trial.user_attrs["folder"] / "error.txt").exists() for trial in failed]
    assert set(tracebacks) == {trouble == "memory"}


def test_a_search_gives_up_after_too_many_failures():
    output = run("trouble=memory", "x=0.75,0.8,0.9", "hydra.sweeper.max_failures=2", status=2)
    assert "error: 3 trials failed, more than hydra.sweeper.max_failures=2; the last: MemoryError" in output
    assert states(study()) == {"fail": 3}


def test_a_score_that_is_no_number_is_a_failure():
    run("offset=choice(0.0,.nan)", "hydra.sweeper.n_trials=3", "hydra.sweeper.max_failures=20")
    found = study()
    failed = found.get_trials(states=(TrialState.FAIL,))
    assert finished(found) == 3
    assert {trial.user_attrs["error"] for trial in failed} <= {"the objective is nan"}


def test_a_setting_that_does_not_exist_ends_the_search_at_once():
    output = run("nothing=1,2", "hydra.sweeper.start_from_defaults=false", status=2)
    assert re.fullmatch(r"trial 0 of tiny: .*\ntrial 0: failed, .*\nerror: there is no setting nothing\n", output), (
        output
    )


def test_a_signal_ends_the_search_and_the_trial_is_tried_again(folder):
    output = run("trouble=stop", "x=0.75", status=130)
    assert output.endswith("stopped by SIGTERM; go on with: the same command\n")
    found = study()
    assert states(found) == {"fail": 1, "waiting": 1}
    assert "error" not in found.trials[0].user_attrs


@pytest.mark.parametrize("storage", [SQLITE, JOURNAL])
def test_a_killed_search_loses_one_trial_which_is_tried_again_in_its_folder(folder, storage):
    arguments = [f"hydra.sweeper.storage={storage}", "seconds=0.1", "hydra.sweeper.n_trials=4", *QUICK_DEATH]
    process = start(*arguments)
    wait_for("second trial", folder / "sweep" / "trial_0001" / "attempts")
    process.kill()
    process.communicate()
    assert states(study(storage))["running"] == 1

    output = run(*arguments)
    found = study(storage)
    assert finished(found) == 4
    assert states(found)["fail"] == 1
    dead = found.get_trials(states=(TrialState.FAIL,))[0]
    again = [trial for trial in found.trials if trial.system_attrs.get("failed_trial") == dead.number]
    assert [trial.params for trial in again] == [dead.params]
    assert again[0].user_attrs["folder"] == dead.user_attrs["folder"]
    attempts = (folder / dead.user_attrs["folder"] / "attempts").read_text().split()
    assert len(set(attempts)) == 2
    assert "1 failed" in output


@pytest.fixture(scope="module")
def postgres(tmp_path_factory) -> Iterator[str]:
    """URL of a server of our own on loopback."""
    binaries = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr/local/bin").glob("pg_ctl")]
    if not binaries:
        pytest.skip("PostgreSQL's server is not installed")
    pg_ctl = binaries[-1] if binaries[-1].name == "pg_ctl" else binaries[-1] / "pg_ctl"
    data = Path(f"/tmp/monet_cyclegan_pg_{os.getpid()}")  # sockets need a short path
    data.mkdir(mode=0o700)
    user = {"user": "postgres"} if os.getuid() == 0 else {}  # the server refuses to be run by root
    if user:
        subprocess.run(["chown", "postgres", str(data)], check=True)
    port = 20000 + os.getpid() % 20000
    options = f"-k {data} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **user}
    login = ["-U", "artist", "--auth=trust"]
    try:
        subprocess.run([str(pg_ctl), "initdb", "-D", f"{data}/db", "-o", " ".join(login)], check=True, **quiet)
        subprocess.run([str(pg_ctl), "start", "-w", "-D", f"{data}/db", "-o", options], check=True, **quiet)
        yield f"postgresql://artist:secret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([str(pg_ctl), "stop", "-m", "immediate", "-D", f"{data}/db"], check=False, **quiet)
        subprocess.run(["rm", "-rf", str(data)], check=True)


@pytest.fixture(params=["sqlite", "journal", "postgres"])
def shared_storage(request) -> str:
    if request.param == "postgres":
        return request.getfixturevalue("postgres")
    return {"sqlite": SQLITE, "journal": JOURNAL}[request.param]


def test_workers_that_start_at_once_share_one_study_and_its_trials(folder, shared_storage, request):
    name = f"shared{abs(hash(request.node.name))}"
    arguments = [f"hydra.sweeper.study_name={name}", f"hydra.sweeper.storage={shared_storage}"]
    workers = [start(*arguments, "hydra.sweeper.n_trials=12", "seconds=0.05") for _ in range(3)]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], outputs
    found = study(shared_storage, name)
    assert finished(found) == 12
    assert not found.get_trials(states=(TrialState.RUNNING,))
    did = Counter(trial.user_attrs["worker"] for trial in found.trials if trial.state.is_finished())
    assert len(did) >= 2
    assert len({trial.params["x"] for trial in found.trials}) == len(found.trials)
    for output in outputs:
        assert "12 finished" in output or re.search(r"\d+ finished, \d+ pruned, 0 failed", output)


def test_a_worker_finishes_what_another_that_was_killed_had_begun(folder, shared_storage, request):
    name = f"killed{abs(hash(request.node.name))}"
    arguments = [f"hydra.sweeper.study_name={name}", f"hydra.sweeper.storage={shared_storage}", *QUICK_DEATH]
    arguments += ["hydra.sweeper.n_trials=4", "seconds=0.2"]
    victim = start(*arguments)
    wait_for("first trial", folder / "sweep" / "trial_0000" / "attempts")
    survivor = start(*arguments)
    wait_for("second trial", folder / "sweep" / "trial_0001" / "attempts")
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    output, _ = survivor.communicate(timeout=120)
    assert survivor.returncode == 0, output
    assert finished(study(shared_storage, name)) == 4


def test_a_dashboard_shows_the_study_with_each_trials_pictures(folder):
    output = run("hydra.sweeper.n_trials=2", "hydra/sweeper/pruner=none")
    (command,) = re.findall(r"^look at all: (optuna-dashboard .*)$", output, re.MULTILINE)
    port = 20000 + (os.getpid() + 7) % 20000
    program = Path(sys.executable).parent / command.split()[0]
    arguments = [str(program), *command.split()[1:], f"--port={port}", "--server=wsgiref", "--quiet"]
    dashboard = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        found = json.loads(fetch(f"http://127.0.0.1:{port}/api/studies/1"))
        for trial in found["trials"]:
            (artifact,) = trial["artifacts"]
            picture = fetch(f"http://127.0.0.1:{port}/artifacts/1/{trial['trial_id']}/{artifact['artifact_id']}")
            assert picture == (folder / f"sweep/trial_{trial['number']:04d}/samples/a_to_b_epoch0001.png").read_bytes()
    finally:
        dashboard.kill()
        dashboard.wait()
    assert [trial["state"] for trial in found["trials"]] == ["Complete", "Complete"]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def fetch(url: str) -> bytes:
    with urlopen(url, timeout=10) as page:
        return page.read()


def test_a_folder_of_another_study_is_left_alone(folder):
    old = folder / "sweep" / "trial_0000" / "checkpoints"
    old.mkdir(parents=True)
    (old / "last.ckpt").write_text("of another study")
    run("hydra.sweeper.n_trials=1")
    assert (folder / "sweep" / "trial_0000_before_1" / "checkpoints" / "last.ckpt").read_text() == "of another study"
    assert states(study()) == {"complete": 1}


def test_passwords_of_a_database_stay_out_of_errors():
    output = run("hydra.sweeper.storage=postgresql://artist:secret@127.0.0.1:1/nothing", status=2)
    assert output.startswith("error: storage postgresql+psycopg://artist@127.0.0.1:1/nothing can't be opened: ")
    assert "secret" not in output


@pytest.mark.parametrize(("launcher", "jobs"), [("joblib", 3), ("submitit_local", 2)])
def test_hydras_launchers_run_batches_in_other_processes(folder, launcher, jobs):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    timeout = ["hydra.launcher.timeout_min=5"] if launcher == "submitit_local" else []
    arguments = [f"hydra/launcher={launcher}", *timeout, f"hydra.sweeper.n_jobs={jobs}", "hydra.sweeper.n_trials=6"]
    run(*arguments, "trouble=memory", "hydra.sweeper.max_failures=20")
    found = study()
    assert finished(found) == 6
    processes = {(folder / trial.user_attrs["folder"] / "attempts").read_text().strip() for trial in found.trials}
    assert len(processes) >= 2
    failed = found.get_trials(states=(TrialState.FAIL,))
    assert {trial.user_attrs["error"] for trial in failed} <= {"MemoryError: out of memory"}
