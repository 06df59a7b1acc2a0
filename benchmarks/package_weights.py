"""Seconds and memory that the package's own weights take, whole commands as people type them, start-up included.

python -m benchmarks.package_weights sizes=1024x768,4000x3000 rounds=3
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.large_picture import Spent
from benchmarks.results import DEFAULT_OUTPUT, write
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import read_image, write_image

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "docs" / "photos" / "china.jpg"
DEFAULTS = {"sizes": "1024x768,4000x3000", "rounds": 3, "device": "cpu", "output": DEFAULT_OUTPUT}


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """Read "1024x768,..."; UserError for anything else."""
    try:
        sizes = [tuple(map(int, size.split("x"))) for size in text.split(",")]
        if any(len(size) != 2 or min(size) < 16 for size in sizes):
            raise ValueError
    except ValueError:
        raise UserError(f"sizes={text} doesn't look like 1024x768,4000x3000, each from 16 on") from None
    return [(size[0], size[1]) for size in sizes]


def paint(photo: Path, painting: Path, device: str) -> Spent:
    """Run predict.py; UserError if it fails."""
    files = [f"input={photo}", f"output={painting}", "again=true"]
    command = [sys.executable, str(ROOT / "predict.py"), "ckpt=monet", *files, f"device={device}"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)  # else it would be waited for once more
    if process.returncode:
        raise UserError(f"{' '.join(command)} ended with status {process.returncode}")
    return Spent(seconds, usage.ru_maxrss / 2**20)


@exit_with_one_line()
def main() -> None:
    """Measure, print and write JSON."""
    options = parse_key_values(sys.argv[1:], DEFAULTS)
    if options["rounds"] < 1:
        raise UserError(f"rounds={options['rounds']} is not 1 or more")
    picture = Image.fromarray(read_image(PHOTO))
    lines, figures = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for width, height in parse_sizes(options["sizes"]):
            photo, painting = Path(folder) / f"{width}x{height}.jpg", Path(folder) / "painting.jpg"
            write_image(photo, np.array(picture.resize((width, height), Image.Resampling.LANCZOS)))
            spent = [paint(photo, painting, options["device"]) for _ in range(options["rounds"])]
            seconds, gigabytes = median(one.seconds for one in spent), max(one.gigabytes for one in spent)
            lines.append((f"ckpt=monet, a photo of {width}x{height}", f"{seconds:.1f} s, {gigabytes:.2f} GB"))
            figures[f"{width}x{height}"] = [one._asdict() for one in spent]
            print(": ".join(lines[-1]), flush=True)
    print(write("package_weights", lines, {"spent": figures}, options["device"], ("torch",), options["output"]))


if __name__ == "__main__":
    main()
