"""Which recipe paints best: a grid of recipes, several seeds each, at a fixed budget, on the competition's images.

python -m benchmarks.ablation data=data/gan-getting-started

Generators learn from crops, where strokes are as large as they are in the paintings, and are judged by whole pictures.
Each run is `train.py` with a recipe's settings, in outputs/ablation/; a row is written as each ends, so that the same
command goes on where it was stopped, in the middle of a run, too. It ends with a table, mean and spread of each score,
and a picture of the same five held-out photos under each recipe.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from benchmarks import results
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.data.sources import find_domains
from monet_cyclegan.data.split import split
from monet_cyclegan.data.transforms import eval_transform
from monet_cyclegan.errors import UserError
from monet_cyclegan.evaluation.scores import score
from monet_cyclegan.images import image_grid, to_float, write_image
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.metrics.extraction import extract
from monet_cyclegan.metrics.features import EfficientNetLite0Features
from monet_cyclegan.metrics.jpeg import QUALITY, jpeg_round_trip

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = {
    "data": Path("data/gan-getting-started"),
    "size": 64,  # of the crops
    "load_size": 256,  # what they are cut from
    "eval_size": 256,  # of the pictures that scores are of
    "batches": 800,
    "batch_size": 4,
    "seeds": 3,
    "recipes": "all",  # or names, separated by semicolons
    "workers": 2,  # runs at a time
    "threads": 0,  # of each run; 0 for its share of the cores
    "device": "cpu",
    "runs": Path("outputs/ablation"),
    "output": results.DEFAULT_OUTPUT,
}
SCORES = ("val/kid", "val/mifid", "val/fid", "val/luminance_correlation")
HELD_OUT = {"a": 500, "b": 30}
TRANSLATED = 300  # of the photos held out
PHOTOS = 5
MIFID_EPS = 0.1
UNTOUCHED = "untouched photos"

_SMALL = (
    "model/generator=resnet_small",
    "model.discriminator.base_channels=32",
    "model.lr=5e-4",
)
_SKIP = (
    "model.generator.norm=none",
    "model.generator.image_skip=true",
    "model.lambda_identity=0",
    "model.lambda_cycle=3",
)
_LIGHT = (*_SKIP, "model.lambda_cycle=0.3")
_SQUARES = (
    "model.lambda_identity=0",
    "model.lambda_cycle=0",
    "model.lambda_consistency=1",
    "model.consistency_factor=16",
    "model.consistency_squared=true",
)
_HINGE = ("model/adversarial_loss=hinge", "model.discriminator.spectral_norm=true", "model.discriminator.norm=none")
# What each changes of the baseline: a small ResNet with instance norm, least squares, the paper's weights. Those with
# "skip" begin with the photo itself, where the cycle loss is 0 and holds them fast: it is an absolute difference, whose
# gradient is as large beside 0 as anywhere. "light" leaves it a tenth of its weight. "squares" has no cycle loss:
# large parts keep their colours by a squared difference, whose gradient vanishes there.
RECIPES: dict[str, tuple[str, ...]] = {
    "baseline": (),
    "low identity": ("model.lambda_identity=0.5",),
    "annealed identity": ("model.identity_schedule._target_=monet_cyclegan.schedules.cosine",),
    "variance floor": ("model.generator.norm_eps=0.01",),
    "zero-centred penalty, lazy": ("model/penalties=[r1]",),
    "two scales": ("model/discriminator=multiscale",),
    "adaptive DiffAugment": ("model/augment=adaptive",),
    "U-Net": ("model/generator=unet_small",),
    "ViT U-Net": ("model/generator=vit_unet_small",),
    "UVCGAN": (
        "model/generator=vit_unet_small",
        "model/discriminator=batch_statistics",
        "model.discriminator.spectral_norm=true",
        "model.discriminator.memory_size=3",
        "model/penalties=[zero_centered]",
        "model.penalties.zero_centered.weight=0.01",
        "model.optimizer.betas=[0.5,0.99]",
    ),
    "skip": _SKIP,
    "skip, light": _LIGHT,
    "skip, light, zero-centred penalty, lazy": (*_LIGHT, "model/penalties=[r1]"),
    "skip, light, two scales": (*_LIGHT, "model/discriminator=multiscale"),
    "skip, light, hinge, spectral norm": (*_LIGHT, *_HINGE),
    "skip, light, two objectives": (
        *_LIGHT,
        "model/adversarial_loss=two_objectives",
        "model.discriminator.num_heads=2",
    ),
    "skip, light, label smoothing": (*_LIGHT, "model.adversarial_loss.smoothing=0.1"),
    "skip, light, DiffAugment": (*_LIGHT, "model/augment=diff_augment"),
    "skip, light, adaptive DiffAugment": (*_LIGHT, "model/augment=adaptive"),
    "skip, light, batch statistics": (*_LIGHT, "model/discriminator=batch_statistics"),
    "skip, light, consistency": (*_LIGHT, "model.lambda_consistency=0.5"),
    "skip, light, cycle noise": (*_LIGHT, "model.cycle_noise=0.05"),
    "skip, light, perceptual": (*_LIGHT, "model/perceptual=vgg", "model.lambda_perceptual=0.3"),
    "skip, light, style": (*_LIGHT, "model/style=vgg", "model.lambda_style=1"),
    "skip, light, projected": (
        *_LIGHT,
        "model/discriminator=projected",
        "model/adversarial_loss=hinge",
        "model.discriminator.base_channels=64",
        "model.lr_disc=2e-3",  # heads of few weights learn too slowly otherwise
    ),
    "compact": ("model/generator=compact", "model.lambda_identity=0", "model.lambda_cycle=3"),
    "compact, light": ("model/generator=compact", "model.lambda_identity=0", "model.lambda_cycle=0.3"),
    "compact, squares": ("model/generator=compact", *_SQUARES),
    "compact, squares, two layers": ("model/generator=compact", *_SQUARES, "model.discriminator.num_layers=2"),
}


class Budget(NamedTuple):
    """What all runs have in common."""

    data: Path
    size: int
    load_size: int
    eval_size: int
    batches: int
    batch_size: int
    device: str

    def settings(self) -> list[str]:
        """For train.py: one validation at the end, all scores on EfficientNet-Lite0 and JPEGs."""
        compiled = "auto" if self.device != "cpu" else "false"  # there it takes longer than it saves in so few batches
        return [
            f"model.compile={compiled}",
            f"data.root={self.data.resolve()}",
            f"data.load_size={self.load_size}",
            f"data.crop_size={self.size}",
            f"data.eval_size={self.eval_size}",
            f"data.batch_size={self.batch_size}",
            "data.num_workers=0",
            "data.cache=disk",
            f"data.val_a={HELD_OUT['a']}",
            f"data.val_b={HELD_OUT['b']}",
            f"data.eval_images={TRANSLATED}",
            "features=efficientnet_lite0",
            "objective=val/kid",
            f"trainer.accelerator={self.device}",
            "trainer.max_epochs=1",
            f"trainer.limit_train_batches={self.batches}",
            "callbacks.best.rescore=false",
            "callbacks.log_images.every_n_batches=null",
            "callbacks.save_last.every_n_minutes=2",
            "callbacks.evaluate.metrics.swd=null",
        ]


def run(recipe: str, seed: int, budget: Budget, folder: Path, threads: int) -> dict[str, Any]:
    """Train, or go on with training; returns the row.

    Raises:
        UserError: train.py failed.
    """
    arguments = [*settings_of(recipe), *budget.settings(), f"seed={seed}", "ckpt_path=auto"]
    command = [sys.executable, str(ROOT / "train.py"), *arguments, f"hydra.run.dir={folder}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        status = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode
    if status:
        raise UserError(f"{recipe}, seed {seed}: train.py ended with status {status}, see {folder / 'log.txt'}")
    return {"recipe": recipe, "seed": seed, **_scores(folder), "seconds": round(time.monotonic() - began, 1)}


def settings_of(recipe: str) -> list[str]:
    """A recipe's settings for train.py; of those that all share, without the ones that it replaces."""
    replaced = {setting.partition("=")[0] for setting in RECIPES[recipe]}
    return [*(setting for setting in _SMALL if setting.partition("=")[0] not in replaced), *RECIPES[recipe]]


def untouched(budget: Budget) -> dict[str, Any]:
    """The row of held-out photos as they are, which a recipe has to beat."""
    domains, shrink = find_domains(budget.data, False), eval_transform(budget.eval_size)
    network = EfficientNetLite0Features()
    _, photos = split(domains.train_a, HELD_OUT["a"], 0, "val_a")

    def images(source: Any, count: int) -> Iterator[torch.Tensor]:
        for index in range(count):
            yield torch.from_numpy(shrink(source.load(index), 0)).permute(2, 0, 1)[None]  # (1, 3, H, W) uint8

    with torch.no_grad():
        translated, real_ones = min(TRANSLATED, len(photos)), len(domains.train_b)
        fake = extract(map(jpeg_round_trip, images(photos, translated)), network, translated, UNTOUCHED)
        real = extract(images(domains.train_b, real_ones), network, real_ones, "real paintings")
        found = score(fake, real, [MIFID_EPS])
    scores = {"kid": found.kid, "mifid": found.mifid[MIFID_EPS], "fid": found.fid, "luminance_correlation": 1.0}
    return {"recipe": UNTOUCHED, "seed": 0, **scores, "seconds": 0.0}


def _scores(folder: Path) -> dict[str, float]:
    """The last value of each score in a run's log."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {name: [row[name] for row in rows if row.get(name)] for name in SCORES}
    return {name.removeprefix("val/"): float(values[-1]) for name, values in found.items() if values}


def table(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Recipes from the best to the worst: mean and spread of the scores over the seeds."""
    by_recipe: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_recipe.setdefault(row["recipe"], []).append(row)
    ranked = sorted(by_recipe.items(), key=lambda item: mean(row["kid"] for row in item[1]))
    return [(recipe if recipe == UNTOUCHED else f"{recipe} ({_count(some)})", _line(some)) for recipe, some in ranked]


def _count(rows: list[dict[str, Any]]) -> str:
    return f"{len(rows)} seed{'s' if len(rows) > 1 else ''}"


def _line(rows: list[dict[str, Any]]) -> str:
    parts = []
    for name, digits in (("kid", 4), ("mifid", 1)):
        values = [row[name] for row in rows]
        spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
        parts.append(f"{name.upper()} {mean(values):.{digits}f}{spread}")
    seconds = mean(row["seconds"] for row in rows)
    return ", ".join([*parts, *([f"{seconds:.0f} s"] if seconds else [])])


def picture(path: Path, budget: Budget, folders: dict[str, Path]) -> None:
    """The same held-out photos, in the first column, under each recipe."""
    _, held_out = split(find_domains(budget.data, False).train_a, HELD_OUT["a"], 0, "val_a")
    shrink = eval_transform(budget.eval_size)
    chosen = np.linspace(0, len(held_out) - 1, PHOTOS).astype(int)
    photos = [shrink(held_out.load(int(index)), 0) for index in chosen]
    columns = {"photo": _stacked(photos)}
    for recipe, folder in folders.items():
        model = open_model(str(folder / "checkpoints" / "last.ckpt"))
        translate = Translator(model.build(model.description.directions[0]))
        columns[recipe] = _stacked([translate(photo) for photo in photos])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image_grid(columns))


def _stacked(images: list[np.ndarray]) -> torch.Tensor:
    """(H, W, 3) uint8 each -> (N, 3, H, W) in [-1, 1]."""
    return torch.stack([to_float(torch.from_numpy(image).permute(2, 0, 1)) for image in images])


def load_rows(path: Path, protocol: dict[str, Any]) -> list[dict[str, Any]]:
    """What was measured already.

    Raises:
        UserError: under another protocol.
    """
    if not path.is_file():
        return []
    report = json.loads(path.read_text(encoding="utf-8"))
    if report["protocol"] != protocol:
        raise UserError(f"{path} was measured under another protocol, {report['protocol']}: give output=FILE")
    return report["rows"]


def main(arguments: list[str]) -> None:
    """Run the command line.

    Raises:
        UserError: an unknown recipe, or a run that failed.
    """
    options = parse_key_values(arguments, DEFAULTS)
    names = list(RECIPES) if options["recipes"] == "all" else [name.strip() for name in options["recipes"].split(";")]
    for name in names:
        if name not in RECIPES:
            raise UserError(f"recipes={name}: choose some of {'; '.join(RECIPES)}")
    budget = Budget(**{name: options[name] for name in Budget._fields})
    protocol = {
        **budget._asdict(),
        "data": budget.data.name,
        "features": "EfficientNet-Lite0",
        "jpeg_quality": QUALITY,
    }
    protocol |= {"held_out": HELD_OUT, "translated": TRANSLATED, "real": 300}
    path = options["output"] if options["output"] != results.DEFAULT_OUTPUT else results.FOLDER / "ablation.json"
    rows = load_rows(path, protocol)
    if UNTOUCHED not in {row["recipe"] for row in rows}:
        rows.append(untouched(budget))
    done = {(row["recipe"], row["seed"]) for row in rows}
    jobs = [(name, seed) for seed in range(options["seeds"]) for name in names if (name, seed) not in done]
    threads = options["threads"] or max(1, (os.cpu_count() or 1) // options["workers"])
    lock = Lock()
    failed: list[str] = []

    def measure(job: tuple[str, int]) -> None:
        try:
            row = run(*job, budget, folder_of(options["runs"], budget, *job), threads)
        except UserError as error:  # the others are worth having
            failed.append(str(error))
            print(error, flush=True)
            return
        with lock:
            rows.append(row)
            results.write("ablation", table(rows), {"protocol": protocol, "rows": rows}, budget.device, output=path)
            print(f"{row['recipe']}, seed {row['seed']}: {_line([row])}; {len(rows)} rows", flush=True)

    with ThreadPoolExecutor(options["workers"]) as pool:
        list(pool.map(measure, jobs))
    for recipe, line in table(rows):
        print(f"{recipe:45} {line}")
    grid = options["runs"] / f"five_photos_{budget.size}.png"
    folders = {name: folder_of(options["runs"], budget, name, 0) for name in names}
    picture(grid, budget, {name: folder for name, folder in folders.items() if (folder / "checkpoints").is_dir()})
    print(grid)
    if failed:
        raise UserError(f"{len(failed)} of {len(jobs)} runs failed: {'; '.join(failed)}")


def folder_of(runs: Path, budget: Budget, recipe: str, seed: int) -> Path:
    """Where a run lies, by all that decides how it ends."""
    name = f"{recipe}_{seed}".replace(", ", "_").replace(" ", "_")
    pictures = f"{budget.data.name}_{budget.size}_of_{budget.load_size}_judged_at_{budget.eval_size}"
    return (runs / f"{pictures}_batches{budget.batches}x{budget.batch_size}_{budget.device}" / name).resolve()


if __name__ == "__main__":
    exit_with_one_line()(main)(sys.argv[1:])
