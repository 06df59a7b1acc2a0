"""What the notebooks show, as PNG files.

python show.py data=data/gan-getting-started output=look.png     photos, and below them paintings
python show.py run=outputs/unet_monet/TIME output=curves.png     how a run's losses and its score went
python show.py zip=images.zip                                    what the competition would say of it

A process of its own draws them: a notebook's may hold older versions of Pillow and matplotlib than were installed
since it began, and mixing two versions ends badly.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("agg")  # where a notebook starts us, its environment asks for a backend that only a notebook has

import matplotlib.pyplot as plt
import numpy as np

from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.image_zip import problems

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

DEFAULTS = {"data": "", "run": "", "zip": "", "output": "", "count": 6}
PHOTO, PAINTING = "#2f6fb5", "#d9722e"
TERMS = ("adv", "cycle", "identity")


@exit_with_one_line()
def main(argv: Sequence[str]) -> None:
    """Draw what the arguments name."""
    values = parse_key_values(argv, DEFAULTS)
    output = Path(values["output"])
    if values["zip"]:
        print(verdict(Path(values["zip"])))
    elif not values["output"]:
        raise UserError("output is missing: give the picture to write as output=FILE.png")
    elif values["data"]:
        show_data(Path(values["data"]), values["count"], output)
    elif values["run"]:
        show_curves(Path(values["run"]), output)
    else:
        raise UserError("nothing to show: give data=FOLDER, run=FOLDER or zip=images.zip")


def verdict(path: Path) -> str:
    """One line: whether the competition would take an archive, and if not, why."""
    if not path.is_file():
        raise UserError(f"{path} is missing: nothing was translated")
    refused = "; ".join(problems(path))
    return f"the competition would refuse {path.name}: {refused}" if refused else f"{path.name} can be handed in"


def show_data(root: Path, count: int, output: Path) -> None:
    """Draw random photos, and random paintings below them; they aren't pairs."""
    from monet_cyclegan.data.sources import find_domains  # loads torch, which takes seconds, and nothing else needs it

    domains = find_domains(root)
    rows = {}
    for title, source in {"photos": domains.train_a, "Monets": domains.train_b}.items():
        chosen = sorted(random.Random(0).sample(range(len(source)), min(count, len(source))))
        rows[f"{len(source):,} {title}"] = [source.load(index) for index in chosen]
    _draw_rows(rows, output)


def show_curves(run: Path, output: Path) -> None:
    """Draw the generators' terms, the discriminators' losses and the score that selects, from a run's CSV files."""
    if not (run / "best.csv").is_file():
        raise UserError(f"{run} has no best.csv: no epoch was finished and scored")
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (run / "best.csv").open(newline="") as file:
        best = list(csv.DictReader(file))
    objective = list(best[0])[3]
    figure, (generators, discriminators, score) = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    for term, style in zip(TERMS, ("-", "--", ":"), strict=True):
        _draw_course(generators, rows, f"train/{term}_a", PHOTO, style, f"{term}, photo")
        _draw_course(generators, rows, f"train/{term}_b", PAINTING, style, f"{term}, Monet")
    generators.set(title="generators: weighted terms", xlabel="batches")
    _draw_course(discriminators, rows, "train/disc_a", PHOTO, "-", "of photos")
    _draw_course(discriminators, rows, "train/disc_b", PAINTING, "-", "of Monets")
    discriminators.set(title="discriminators", xlabel="batches")
    scored = [(int(row["epoch"]) + 1, float(row[objective])) for row in rows if row.get(objective)]
    score.plot(*zip(*scored, strict=True), color="#66707a", marker=".", label=objective)
    epoch, value = int(best[0]["epoch"]), float(best[0][objective])
    score.plot(epoch, value, "o", color=PAINTING, ms=9, label=f"best.ckpt, epoch {epoch}")
    score.set(title=f"{objective}: lower is better", xlabel="epoch")
    score.xaxis.get_major_locator().set_params(integer=True)
    for axes in (generators, discriminators, score):
        bottom, top = axes.get_ylim()
        bottom = bottom if axes is score else 0
        axes.set_ylim(bottom, top + 0.2 * (top - bottom))  # room for the legend
        axes.grid(alpha=0.25)
        axes.legend(fontsize="small", loc="upper right", ncols=3 if axes is generators else 1)
    figure.savefig(output, dpi=90)


def _draw_course(
    axes: Axes, rows: Sequence[Mapping[str, str]], column: str, color: str, style: str, label: str
) -> None:
    """Draw one loss over the batches, as means of up to 200 stretches: a GAN's losses jump from batch to batch."""
    points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
    if not points:  # a weight of zero means that the term is absent
        return
    stretches = [stretch for stretch in np.array_split(np.array(points), min(200, len(points))) if len(stretch)]
    steps, values = np.array([stretch.mean(0) for stretch in stretches]).T
    axes.plot(steps, values, style, color=color, label=label)


def _draw_rows(rows: Mapping[str, Sequence[np.ndarray]], output: Path) -> None:
    columns = max(len(images) for images in rows.values())
    figure, grid = plt.subplots(
        len(rows), columns, figsize=(2.4 * columns, 2.55 * len(rows)), squeeze=False, layout="constrained"
    )
    for line, (title, images) in zip(grid, rows.items(), strict=True):
        for axes in line:
            axes.axis("off")
        for axes, image in zip(line, images, strict=False):
            axes.imshow(image)
        line[0].set_title(title, loc="left", fontsize="medium")
    figure.savefig(output, dpi=100)


if __name__ == "__main__":
    main(sys.argv[1:])
