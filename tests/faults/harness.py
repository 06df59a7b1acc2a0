"""Kill runs at named points and at random, go on with the same command, and compare with a run that nobody disturbed.

python tests/faults/harness.py prints the table of all cases, and writes it into benchmarks/results/kills.json.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from conftest import make_images
from points import POINTS

OCCASIONS = ("first", "second", "last")
RANDOM_MOMENTS = 30
SERVERS = 2  # that share the cases, if all are tried
SHRUNK = [
    "data=folders",
    "data.load_size=20",
    "data.crop_size=16",
    "data.num_workers=0",
    "data.val_a=2",
    "data.val_b=2",
    "data.eval_batch_size=2",
    "data.batch_size=2",
    "model.generator.num_residual_blocks=1",
    "model.generator.base_channels=2",
    "model.discriminator.base_channels=2",
    "model.discriminator.num_layers=1",
    "model.pool_size=2",
    "features=none",
    "objective=val/swd",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "callbacks.save_last.every_n_minutes=0",  # after each batch
    "callbacks.log_images.num_images=1",
    "callbacks.best.rescore=false",
    "+callbacks.evaluate.metrics.swd.num_directions=16",
]


class Case(NamedTuple):
    """A death: at a point for the first, second or last time, or after a share of the run's time."""

    point: str
    occasion: str

    def __str__(self) -> str:
        return f"{self.point}, {self.occasion}"


NAMED = [Case(point, occasion) for point in POINTS for occasion in OCCASIONS]
RANDOM = [Case("a random moment", f"{index:02d}") for index in range(RANDOM_MOMENTS)]


class Harness:
    """A fork server, images, and what an undisturbed run of them ends with."""

    def __init__(self, folder: Path, epochs: int = 3, batches: int | None = None) -> None:
        self.folder = folder
        for seed, name in enumerate("ab"):
            make_images(folder / name, 7, seed=seed)
        self.arguments = [f"data.a={folder / 'a'}", f"data.b={folder / 'b'}", f"trainer.max_epochs={epochs}", *SHRUNK]
        if batches:
            self.arguments.append(f"trainer.limit_train_batches={batches}")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "MONET_CYCLEGAN_CACHE": str(folder / "cache")},
        )
        undisturbed = self.run("undisturbed", reached=str(folder / "reached"))
        assert undisturbed["status"] == 0, self.log("undisturbed")
        self.seconds = self.run("timed")["seconds"]  # with everything loaded
        self.reached = json.loads((folder / "reached").read_text())
        self.expected = final_state(folder / "runs" / "undisturbed")

    def run(self, name: str, *more: str, resume: bool = False, **spec: Any) -> dict[str, Any]:
        """Run train.py in a folder of this name; a key alone among the arguments leaves its setting out."""
        folder, log = self.folder / "runs" / name, self.folder / f"{name}.log"
        where = {"folder": str(folder), "log": str(log), "resume": resume}
        given = {text.partition("=")[0] for text in more}
        others = [text for text in self.arguments if text.partition("=")[0] not in given]
        settings = [text for text in more if "=" in text or text.startswith("~")]
        line = json.dumps({"overrides": [*others, *settings], **where, **spec})
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def go_on(self, name: str, *more: str) -> dict[str, Any]:
        """The command that people would give, whether there is a checkpoint already or not."""
        return self.run(name, *more, resume=True)

    def log(self, name: str) -> str:
        """All that was printed."""
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def kill(self, name: str, case: Case) -> dict[str, Any]:
        """Start a run that dies as the case wants."""
        if case.point in POINTS:
            occasion = {"first": 1, "second": 2, "last": self.reached[case.point]}[case.occasion]
            return self.run(name, die_at=[case.point, occasion])
        share = random.Random(case.occasion).uniform(0.2, 1.0)
        return self.run(name, kill_after=share * self.seconds)

    def differences(self, name: str, other: str = "undisturbed") -> list[str]:
        """What of a finished run isn't as in the undisturbed one, or in another."""
        found = final_state(self.folder / "runs" / name)
        expected = self.expected if other == "undisturbed" else final_state(self.folder / "runs" / other)
        return [key for key in sorted({*found, *expected}) if not _same(found.get(key), expected.get(key))]

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        with self.process:
            self.process.stdin.close()


def final_state(run: Path) -> dict[str, Any]:
    """All of last.ckpt but for times and places, flat; the tables, and the names of the files."""
    found: dict[str, Any] = {}

    def collect(prefix: str, value: Any) -> None:
        if prefix.endswith(".ckpt_path"):  # what a run goes on with
            return
        if isinstance(value, dict):
            found[f"{prefix}{{}}"] = sorted(map(str, value))
            for key, item in value.items():
                collect(f"{prefix}.{key}", item)
        elif isinstance(value, list | tuple):
            found[f"{prefix}[]"] = len(value)
            for index, item in enumerate(value):
                collect(f"{prefix}.{index}", item)
        else:
            found[prefix] = value.replace(str(run), "RUN") if isinstance(value, str) else value

    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["monet_cyclegan"]["record"].pop("seconds")
    collect("last", checkpoint)
    for table in ("metrics.csv", "best.csv"):
        found[table] = (run / table).read_text() if (run / table).exists() else None
    for folder in ("checkpoints", "samples"):
        names = {path.name for path in (run / folder).iterdir()}
        found |= {f"{folder}/{name}": "there" for name in names if not name.endswith(".tmp")}
    return found


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    return type(left) is type(right) and left == right


def main() -> int:
    """Print the table of all cases, and write it down."""
    from benchmarks import results

    began = time.monotonic()
    print("| killed at | occasion | resumed equal |\n|---|---|---|")
    cases = [*NAMED, *RANDOM]
    with ThreadPoolExecutor(SERVERS) as servers:
        shares = servers.map(_try_all, [cases[share::SERVERS] for share in range(SERVERS)])
    found = {(point, occasion): [point, occasion, *rest] for share in shares for point, occasion, *rest in share}
    rows = [found[tuple(case)] for case in cases]
    summary = [
        (f"killed {'at random moments' if random else 'at named points'}, resumed equal", _share(some))
        for random, some in ((False, rows[: len(NAMED)]), (True, rows[len(NAMED) :]))
    ]
    summary += [
        (
            f"killed when {point}: first, second, last time",
            ", ".join("yes" if row[3] else "NO" for row in rows if row[0] == point),
        )
        for point in POINTS
    ]
    summary.append(("seconds for all", f"{time.monotonic() - began:.0f}"))
    results.write("kills", summary, {"rows": rows}, program="tests/faults/harness.py")
    return 0 if all(equal for *_, equal in rows) else 1


def _try_all(cases: list[Case]) -> list[list[Any]]:
    """Kill and go on, each in its turn, in forks of one server."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        harness = Harness(Path(place))
        for number, case in enumerate(cases):
            killed, resumed = harness.kill(str(number), case), harness.go_on(str(number))
            equal = resumed["status"] == 0 and not harness.differences(str(number))
            rows.append([case.point, case.occasion, killed["status"], equal])
            print(f"| {case.point} | {case.occasion} | {'yes' if equal else 'NO'} |", flush=True)
        harness.close()
    return rows


def _share(rows: list[list[Any]]) -> str:
    return f"{sum(equal for *_, equal in rows)} of {len(rows)}"


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))
    sys.exit(main())
