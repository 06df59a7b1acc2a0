"""How long one waits: for the first training step, the first translated picture, and the line about a mistake.

python -m benchmarks.start_up

Each is a process of its own, started as a user starts it, on pictures that the project paints; the machine's file
cache is warm. The first training step is that of an eager run; compiling would take a minute longer.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import DEFAULT_OUTPUT, write
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = {"repeats": 3, "output": DEFAULT_OUTPUT}
TINY = (
    "experiment=demo",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=1",
    "data.count_a=4",
    "data.count_b=4",
    "data.val_count=2",
    "data.size=64",
    "data.load_size=64",
    "callbacks.best.rescore=false",
)


def seconds(*command: str, folder: str, status: int = 0, until: str = "") -> float:
    """Run one of our programs until it ends, or until a line holds ``until``."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / command[0]), *command[1:]],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    output, found = "", None
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            output += line
            if until and until in line and found is None:
                found = time.perf_counter() - start
    if process.wait() != status or (until and found is None):
        raise UserError(f"{' '.join(command)} ended with status {process.returncode}: {output[-2000:]}")
    return found if found is not None else time.perf_counter() - start


@exit_with_one_line()
def main() -> None:
    """Measure, print and write JSON."""
    options = parse_key_values(sys.argv[1:], DEFAULTS)
    with tempfile.TemporaryDirectory() as folder:
        run = f"hydra.run.dir={folder}/run"
        seconds("train.py", *TINY, run, folder=folder)
        subprocess.run(
            [sys.executable, "-m", "monet_cyclegan.data.synthetic", "output=photos", "count=1", "size=256"],
            cwd=folder, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        waits = {
            "train.py to the end of its first step": ("train.py", *TINY, f"hydra.run.dir={folder}/again"),
            "predict.py to the first picture, from a checkpoint": (
                "predict.py", f"ckpt={folder}/run/checkpoints/last.ckpt", "input=photos", "output=paintings",
            ),
            "predict.py to the line about a missing checkpoint": (
                "predict.py", "ckpt=x.ckpt", "input=photos", "output=y",
            ),
            "train.py to the line about a misspelt setting": ("train.py", "model.lrr=1"),
        }  # fmt: skip
        times: dict[str, list[float]] = {name: [] for name in waits}
        for repeat in range(options["repeats"]):
            for name, command in waits.items():
                mistake, first_step = "line about" in name, "first step" in name
                until = "batch 1/1" if first_step else ""
                times[name].append(seconds(*command, folder=folder, status=2 * mistake, until=until))
                print(f"{repeat + 1} of {options['repeats']}: {name} {times[name][-1]:.2f} s", flush=True)
    medians = {name: statistics.median(each) for name, each in times.items()}
    lines = [(name, f"{value:.1f} s") for name, value in medians.items()]
    print(
        write(
            "start_up",
            lines,
            {"seconds": times},
            packages=("torch", "lightning", "hydra-core"),
            output=options["output"],
        )
    )


if __name__ == "__main__":
    main()
