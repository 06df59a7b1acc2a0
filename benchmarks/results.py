"""What every benchmark writes: its figures with device, versions and date, as JSON and in the one table.

python -m benchmarks.results makes benchmarks/README.md from benchmarks/results/*.json.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monet_cyclegan.device_name import device_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = Path(__file__).parent / "results"
DEFAULT_OUTPUT = Path()  # what output= is unless it is given
TABLE = Path(__file__).parent / "README.md"
HEAD = """# What was measured

Made by `python -m benchmarks.results` from the files in `results/`. Each command prints its figures, too. Ratios are
taken within one run, whose contenders take turns; nothing else should be running.
"""


def write(
    name: str,
    summary: Sequence[tuple[str, str]],
    figures: Mapping[str, Any],
    device: str = "cpu",
    packages: Sequence[str] = ("torch", "lightning"),
    output: Path = DEFAULT_OUTPUT,
    program: str = "",
) -> Path:
    """Write ``output``, or ``results/<name>.json``; ``summary`` are the lines of the table: what, and its figure.

    ``program`` is what was called, if it isn't ``-m benchmarks.<name>``.
    """
    default = FOLDER / f"{name}{'_gpu' if device.startswith('cuda') else ''}.json"
    path = default if output == DEFAULT_OUTPUT else output
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("output=")]
    report = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join([f"python {program or f'-m benchmarks.{name}'}", *arguments]),
        "device": device_name(device),
        "load": os.getloadavg()[0],
        "versions": {package: version(package) for package in packages},
        "summary": [list(line) for line in summary],
        **figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return path


def table() -> str:
    """All results as Markdown."""
    parts = [HEAD]
    for path in sorted(FOLDER.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
        lines = [f"| {what} | {figure} |" for what, figure in report["summary"]]
        parts.append(
            f"\n## {path.stem}\n\n`{report['command']}`, {report['date'][:10]}, {report['device']}, {versions}\n\n"
            + "\n".join(["| what | figure |", "|---|---|", *lines])
            + "\n"
        )
    return "".join(parts)


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
    print(TABLE)
