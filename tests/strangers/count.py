"""Open all cases of the corpus, and say how many were read, skipped in part, and refused at each door.

python tests/strangers/count.py
writes it into benchmarks/results/strangers.json, too.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import corpus_files
import corpus_weights
from cases import mistakes, run_case

from benchmarks import results
from monet_cyclegan.cli import parse_key_values


def main() -> int:
    """Run the command line; returns its exit status."""
    options = parse_key_values(sys.argv[1:], {"output": results.DEFAULT_OUTPUT})
    counts: dict[str, Counter[str]] = {}
    longest, most, wrong = 0.0, 0.0, 0
    for case in [*corpus_files.CASES, *corpus_weights.CASES]:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            outcome = run_case(case, Path(folder))
            os.chdir(ROOT)
        for mistake in mistakes(case, outcome):
            wrong += 1
            print(f"{case.door} {case.name}: {mistake}")
        counts.setdefault(case.door, Counter())[outcome.result] += 1
        longest, most = max(longest, outcome.seconds), max(most, outcome.megabytes)
    total = sum(counts.values(), Counter())
    kinds = ("refused", "skipped", "read")
    rows = {"all doors": total, **counts}
    lines = [(f"{door}: {', '.join(kinds)}", ", ".join(str(row[kind]) for kind in kinds)) for door, row in rows.items()]
    lines = [
        ("cases", f"{total.total()}, of which {wrong} end otherwise than they should"),
        ("the longest takes", f"{longest:.1f} s"),
        ("the largest takes", f"{most:.0f} MB"),
        *lines,
    ]
    for what, figure in lines:
        print(f"{what:70} {figure}")
    results.write(
        "strangers",
        lines,
        {},
        packages=("torch", "pillow"),
        output=options["output"],
        program="tests/strangers/count.py",
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
