"""What the search adds to a run: time per trial beyond that of the same run in Hydra's own multirun, in one process.

python -m benchmarks.search trials=8

Both run train.py on painted pictures with tiny networks, one batch and one validation each, with 1 run and with 1 more
than `trials`; the difference is what each further run costs, without the imports and the painting. They take turns.
Nothing else should be running.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.results import DEFAULT_OUTPUT, write
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = {"trials": 8, "repeats": 3, "output": DEFAULT_OUTPUT}
RUN = (
    "experiment=demo",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=1",
    "data.count_a=4",
    "data.count_b=4",
    "data.val_count=2",
    "data.size=32",
    "data.load_size=32",
    "data.crop_size=32",
    "model.generator.base_channels=4",
    "model.discriminator.base_channels=4",
    "callbacks.best.rescore=false",
)


def seconds(*arguments: str) -> float:
    """Run train.py in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), "--multirun", *RUN, *arguments]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-2000:]}")
        return time.perf_counter() - start


def multirun(count: int) -> float:
    """Hydra's own sweeper over so many seeds."""
    return seconds(f"seed={','.join(map(str, range(count)))}")


def search(count: int) -> float:
    """Ours over as many trials, with everything that it keeps and draws."""
    return seconds(
        "hparams_search=optuna", "seed=range(0,1000)", "hydra.sweeper.params=null", f"hydra.sweeper.n_trials={count}"
    )


@exit_with_one_line()
def main() -> None:
    """Measure, print and write JSON."""
    options = parse_key_values(sys.argv[1:], DEFAULTS)
    if options["trials"] < 1 or options["repeats"] < 1:
        raise UserError("trials and repeats must be 1 or more")
    more = 1 + options["trials"]
    times: dict[str, list[float]] = {"multirun": [], "search": []}
    for repeat in range(options["repeats"]):
        for name, program in (("multirun", multirun), ("search", search)):
            each = (program(more) - program(1)) / options["trials"]
            times[name].append(each)
            print(f"repeat {repeat + 1} of {options['repeats']}: {name} {each:.3f} s a further run", flush=True)
    alone = median(times["multirun"])
    added = median(times["search"]) - alone
    print(f"the search adds {added:.3f} s a trial to a run's {alone:.3f} s")
    lines = [
        ("what a search adds to a trial", f"{added:.2f} s, where a run in Hydra's own multirun takes {alone:.2f} s")
    ]
    figures = {"seconds_per_further_run": times, "added_seconds_per_trial": added}
    packages = ("torch", "lightning", "hydra-core", "optuna")
    print(write("search", lines, figures, packages=packages, output=options["output"]))


if __name__ == "__main__":
    main()
