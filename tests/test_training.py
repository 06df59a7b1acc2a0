"""Whole runs by the commands that a user types, in processes of their own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from monet_cyclegan.checkpoint import build_generator, load_checkpoint
from monet_cyclegan.data.synthetic import synthetic_domains
from monet_cyclegan.inference.translator import Translator

ROOT = Path(__file__).parent.parent
SMALL = ["trainer=cpu", "data.num_workers=0", "trainer.log_every_n_steps=1", "model.discriminator.base_channels=8"]
SMALL += ["features=none", "objective=val/swd"]


def run_train(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def scalars(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.slow
def test_a_run_overfits_one_pair(tmp_path: Path):
    done = run_train(
        "experiment=demo",
        "debug=overfit",
        *SMALL,
        "data.size=32",
        "data.crop_size=32",
        "data.count_a=2",
        "data.count_b=2",
        "model.generator.num_levels=3",
        "model.generator.base_channels=8",
        "model.lambda_identity=5",
        "model.lr=5e-3",
        "trainer.max_epochs=150",
        f"hydra.run.dir={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for term in ("cycle_a", "cycle_b", "identity_a", "identity_b"):
        course = scalars(tmp_path, f"train/{term}")
        assert course[-1] < course[0] / 3, term


@pytest.mark.slow
def test_a_short_training_comes_closer_to_the_true_paintings_than_the_untouched_photos_are(tmp_path: Path):
    done = run_train(
        "experiment=demo",
        *SMALL,
        "data.size=48",
        "data.load_size=48",
        "data.crop_size=32",
        "data.count_a=100",
        "data.count_b=100",
        "model.generator.num_levels=3",
        "model.generator.base_channels=16",
        "trainer.max_epochs=4",
        f"hydra.run.dir={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    checkpoint = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    translate = Translator(build_generator(checkpoint, "photo_to_monet"))
    held_out = synthetic_domains(1, 1, 48, 0, 24)
    assert held_out.val_a is not None
    assert held_out.val_b is not None
    untouched, translated = [], []
    for index in range(24):
        photo, painting = held_out.val_a.load(index), held_out.val_b.load(index).astype(float)
        untouched.append(np.abs(photo - painting).mean())
        translated.append(np.abs(translate(photo) - painting).mean())
    assert np.mean(translated) < 0.85 * np.mean(untouched), (np.mean(translated), np.mean(untouched))

    benchmark = [sys.executable, "-m", "benchmarks.synthetic_pairs", f"ckpt={tmp_path / 'checkpoints' / 'last.ckpt'}"]
    printed = subprocess.run(benchmark, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True).stdout
    assert f"photo to true painting    {np.mean(untouched):.1f}\n" in printed
    assert f"translation to the same   {np.mean(translated):.1f}, a ratio of" in printed


@pytest.mark.slow
def test_a_run_leaves_its_files_and_is_resumed_in_its_folder_with_its_own_settings(tmp_path: Path):
    small = ["data.size=32", "data.load_size=32", "data.crop_size=32", "model.generator.num_levels=3"]
    first = run_train(
        "experiment=demo",
        *SMALL,
        *small,
        "data.count_a=3",
        "data.count_b=3",
        "data.val_count=3",
        "data.val_a=3",
        "data.val_b=3",
        "model.generator.base_channels=4",
        "trainer.max_epochs=1",
        cwd=tmp_path,
    )
    assert first.returncode == 0, first.stderr
    (run,) = (tmp_path / "outputs" / "demo").iterdir()
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert {"checkpoints/last.ckpt", "checkpoints/best.ckpt", "metrics.csv", "config.yaml"} <= files
    assert "samples/photo_to_monet_epoch0001_batch0000003.png" in files

    again = run_train(f"ckpt_path={run / 'checkpoints' / 'last.ckpt'}", "trainer.max_epochs=2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert list((tmp_path / "outputs" / "demo").iterdir()) == [run]
    with (run / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/gen"]]
    assert steps == [0, 1, 2, 3, 4, 5]
    before, after = "photo_to_monet_epoch0001_batch0000003.png", "photo_to_monet_epoch0002_batch0000006.png"
    assert {before, after} <= {path.name for path in (run / "samples").iterdir()}
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1


@pytest.mark.slow
def test_fine_tuning_starts_from_the_networks_of_a_checkpoint_whatever_their_shape(tmp_path: Path):
    small = ["data=synthetic", *SMALL, "data.size=32", "data.load_size=32", "data.crop_size=32", "data.count_a=2"]
    small += ["data.count_b=2", "data.val_count=2", "data.val_a=2", "data.val_b=2"]
    unet = ["model/generator=unet", "model.generator.num_levels=3", "model.generator.base_channels=3"]
    first = run_train(*small, *unet, "trainer.max_epochs=1", "hydra.run.dir=first", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    best = tmp_path / "first" / "checkpoints" / "last.ckpt"
    tuned = run_train(
        "experiment=finetune",
        f"init_from={best}",
        *small,
        "model.lr=0",
        "trainer.max_epochs=1",
        "hydra.run.dir=tuned",
        cwd=tmp_path,
    )
    assert tuned.returncode == 0, tuned.stderr
    old, new = (
        load_checkpoint(tmp_path / run / "checkpoints" / "last.ckpt")["state_dict"] for run in ("first", "tuned")
    )
    compared = [key for key in old if key.startswith(("gen_", "disc_"))]
    assert compared
    for key in compared:  # at a rate of zero nothing has moved
        assert torch.equal(old[key], new[key]), key

    last = tmp_path / "tuned" / "checkpoints" / "last.ckpt"
    again = run_train(f"ckpt_path={last}", "trainer.max_epochs=2", "hydra.run.dir=tuned", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert load_checkpoint(last)["epoch"] == 1


@pytest.mark.slow
def test_a_resumed_run_that_gets_worse_leaves_the_best_checkpoint_alone(tmp_path: Path):
    small = ["data=synthetic", *SMALL, "data.size=32", "data.load_size=32", "data.crop_size=32", "data.count_a=2"]
    small += ["data.count_b=2", "data.val_count=2", "data.val_a=2", "data.val_b=2", "model/generator=unet"]
    small += ["model.generator.num_levels=3", "model.generator.base_channels=3", "hydra.run.dir=run"]
    first = run_train(*small, "trainer.max_epochs=1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    before = best.read_bytes()
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    ruined = run_train(f"ckpt_path={last}", "trainer.max_epochs=3", "model.lr=10", "hydra.run.dir=run", cwd=tmp_path)
    assert ruined.returncode == 0, ruined.stderr
    first_score, *worse = scalars(tmp_path / "run", "val/swd")
    assert min(worse) > first_score
    assert best.read_bytes() == before
