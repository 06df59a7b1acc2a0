"""From a config to scores on the screen, in scores.json and in report.html."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from monet_cyclegan import __version__
from monet_cyclegan.config import check_types
from monet_cyclegan.errors import UserError
from monet_cyclegan.evaluation import fidelity
from monet_cyclegan.evaluation.report import noting_changes, render_report
from monet_cyclegan.evaluation.scores import Scores, noise_floor, score
from monet_cyclegan.evaluation.subjects import Subjects, open_folders, open_translations
from monet_cyclegan.images import write_image
from monet_cyclegan.inference.predict import pick_device
from monet_cyclegan.metrics.extraction import cached_extract, extract
from monet_cyclegan.metrics.memorization import nearest_training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig

    from monet_cyclegan.metrics.features import FeatureExtractor

COPIES = 1e-6  # memorization distance that only the same pixels have; q75 copies encoded once more have 2e-4
LISTED = 5  # skipped files that are named on the screen


def evaluate(cfg: DictConfig) -> None:
    """Score what the config names.

    Raises:
        UserError: settings that don't go together, or fewer than two images on a side.
    """
    check_config(cfg)
    output = make_folder("output", cfg.output)
    make_folder("cache", cfg.cache)
    device = pick_device(cfg.device)
    features: FeatureExtractor = instantiate(cfg.features).to(device)
    subjects = open_translations(cfg, device) if cfg.ckpt else open_folders(cfg)
    if cfg.images:
        keep_images(Path(cfg.images), subjects)
    real = cached_extract(
        partial(subjects.read_real, None), features, cfg.cache, len(subjects.real), "features of real images"
    )
    changes: list[float] = []
    fakes = subjects.read_fake(None)
    if subjects.read_source:
        fakes = noting_changes(fakes, subjects.read_source(None), changes)
    fake = extract(fakes, features, len(subjects.fake), "features of generated images")
    scores, floor = score(fake, real, cfg.eps), noise_floor(real, cfg.eps, cfg.seed)
    result = describe(cfg, features, subjects, scores, floor)
    print_result(result, scores, floor, subjects.skipped)

    (output / "scores.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    page = render_report(result, rows(scores, floor), subjects, nearest_training(fake, real), changes)
    # Names of files may hold what no encoding has.
    (output / "report.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    print(f"scores: {output / 'scores.json'}")
    print(f"report: {output / 'report.html'}")


def make_folder(key: str, folder: str) -> Path:
    """Make a folder that the setting ``key`` names; UserError if it can't be."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{key}={folder} can't be made: {error.strerror or error}") from error
    return Path(folder)


def check_config(cfg: DictConfig) -> None:
    """Refuse settings of a wrong type, or that don't go together."""
    check_types(cfg)
    if not cfg.features:
        raise UserError("features=none scores nothing here: choose inception or efficientnet_lite0")
    if cfg.ckpt:
        for key in ("fake", "real", "source"):
            if cfg[key]:
                raise UserError(f"{key}={cfg[key]} and ckpt={cfg.ckpt} don't go together: a checkpoint brings its own")
    elif not (cfg.fake and cfg.real):
        missing = "fake" if not cfg.fake else "real"
        raise UserError(f"{missing}= is missing: give fake=DIR real=DIR, or ckpt=FILE data.root=DIR")
    else:
        check_without_checkpoint(cfg)
    if cfg.jpeg != "auto" and not isinstance(cfg.jpeg, bool):
        raise UserError(f"jpeg={cfg.jpeg} is not known: choose auto, true or false")
    for key, least in {"limit": 2, "size": 1, "batch_size": 1, "seed": 0}.items():
        _check_number(key, cfg[key], least, optional=key in ("limit", "size"))
    if not OmegaConf.is_list(cfg.eps) or not cfg.eps or min(cfg.eps) <= 0:
        raise UserError(f"eps={cfg.eps} is not a list of distances above 0")
    for key in ("output", "cache"):
        if not cfg[key]:
            raise UserError(f"{key}={cfg[key]} is not a folder")


def check_without_checkpoint(cfg: DictConfig) -> None:
    """Refuse what only a checkpoint can use."""
    settings = {"held_out": cfg.held_out or None, "real_held_out": cfg.real_held_out or None}
    settings |= {"direction": cfg.direction}
    settings |= {f"data.{key}": value for key, value in cfg.data.items()}
    for key, value in settings.items():
        if value is not None:
            raise UserError(f"{key}={value} is of use with ckpt=FILE only")


def _check_number(key: str, value: Any, least: int, optional: bool) -> None:
    if not (optional and value is None) and not (type(value) is int and value >= least):
        why = ": scores need two images" if key == "limit" else ""
        raise UserError(f"{key}={value} is not a whole number from {least}{', or null' if optional else ''}{why}")


def keep_images(folder: Path, subjects: Subjects) -> None:
    """Write all images as they are scored, without loss, into ``folder``/fake and ``folder``/real."""
    sets = (("fake", subjects.fake, subjects.read_fake), ("real", subjects.real, subjects.read_real))
    for name, _, _ in sets:
        if (folder / name).exists():
            raise UserError(
                f"images={folder}: {folder / name} is there already, and its images would be mixed with new"
            )
    for name, images, read in sets:
        index = 0
        for batch in read(None):
            for image in batch.cpu():
                stem = images.source.name(index).replace("/", "_")[-100:]  # names may be 255 bytes long
                write_image(folder / name / f"{index:05d}_{stem}.png", image.permute(1, 2, 0).numpy())
                index += 1


def describe(
    cfg: DictConfig, features: FeatureExtractor, subjects: Subjects, scores: Scores, floor: Scores | None
) -> dict[str, Any]:
    """All that is known of a measurement, as plain values."""
    fake, real = (f"{cfg.images}/fake", f"{cfg.images}/real") if cfg.images else (cfg.fake, cfg.real)
    as_scored = bool(cfg.images) or (subjects.untouched and subjects.fake.whole and subjects.real.whole)
    suffixes, one_size = file_kinds(cfg, subjects)
    found_alike = bool(cfg.images) or all(
        folder and Path(folder).is_dir() and fidelity.reads_alike(images, folder, suffixes)
        for images, folder in ((subjects.fake, fake), (subjects.real, real))
    )
    weights = OmegaConf.select(cfg, "features.weights")
    command = None
    if as_scored and found_alike:
        command = fidelity.command(features, weights, fake, real, scores.subset_size, suffixes, one_size)
    return {
        "mode": mode(cfg, features, subjects),
        "comparable_with_kaggle": is_like_kaggle(cfg, features, subjects),
        "features": {"title": features.title, "standard": features.is_standard, "fingerprint": features.fingerprint},
        "jpeg": cfg.jpeg,
        "size": cfg.size,
        "limit": cfg.limit,
        "held_out": cfg.held_out,
        "real_held_out": cfg.real_held_out,
        "seed": cfg.seed,
        "fake": subjects.title,
        "real": subjects.real.source.location,
        "skipped": list(subjects.skipped),
        **as_plain(scores),
        "noise_floor": floor and as_plain(floor),
        "torch_fidelity": command,
        "versions": {"monet_cyclegan": __version__, "torch": torch.__version__},
        "device": str(next(features.parameters()).device),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def as_plain(scores: Scores) -> dict[str, Any]:
    """The scores as JSON can hold them."""
    plain = {**asdict(scores), "mifid": {str(eps): value for eps, value in scores.mifid.items()}}
    return _without_nan(plain)


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what could not be measured is null."""

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return _without_nan(value)
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {key: replaced(value) for key, value in values.items()}


def file_kinds(cfg: DictConfig, subjects: Subjects) -> tuple[frozenset[str], bool]:
    """Suffixes of the files that torch-fidelity is to read, and whether all images are of one size."""
    sets = (subjects.fake, subjects.real)
    sizes = frozenset[tuple[int, int]]().union(*(images.sizes for images in sets))
    one_size = len(sizes) == 1 or bool(cfg.images and cfg.size)
    return frozenset({".png"} if cfg.images else {s for images in sets for s in images.suffixes}), one_size


def is_like_kaggle(cfg: DictConfig, features: FeatureExtractor, subjects: Subjects) -> bool:
    """Whether the images are scored as the competition does it, but for its hidden set of real ones."""
    return features.is_standard and cfg.size == 256 and subjects.compressed


def mode(cfg: DictConfig, features: FeatureExtractor, subjects: Subjects) -> str:
    """In words what the scores can be compared with."""
    if not features.is_standard:
        return f"{features.title} features: compare with scores on the same features only, neither Kaggle's nor papers'"
    if is_like_kaggle(cfg, features, subjects):
        also = ", and as torch-fidelity" if subjects.untouched else ""
        return f"Inception features of JPEGs of 256 pixels: as the competition, but for its hidden real set{also}"
    if subjects.untouched:
        return "Inception features of the images as they are: as torch-fidelity and most papers"
    size = f"{cfg.size} pixels" if cfg.size else "their own size"
    return f"Inception features at {size}, {'JPEG' if subjects.compressed else 'without JPEG'}: a protocol of your own"


def print_result(result: dict[str, Any], scores: Scores, floor: Scores | None, skipped: Sequence[str]) -> None:
    """Print a table and what a reader has to know with it."""
    table = Table(title=f"{result['fake']} against {result['real']}", title_justify="left")
    table.add_column("score")
    table.add_column(f"{scores.num_fake:,} generated, {scores.num_real:,} real", justify="right")
    if floor:
        table.add_column(f"noise floor: real halves of {floor.num_fake:,} and {floor.num_real:,}", justify="right")
    for label, values in rows(scores, floor):
        table.add_row(label, *values)
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(table)
    print(f"mode: {result['mode']}")
    if scores.memorization_distance < COPIES:
        print("all generated images are copies of real ones, so MiFID says nothing")
    for reason in skipped[:LISTED]:
        print(f"skipped {reason}")
    if len(skipped) > LISTED:
        print(f"skipped {len(skipped) - LISTED} more, all are in scores.json")
    if result["torch_fidelity"]:
        print(f"the same FID and KID over subsets by torch-fidelity:\n  {result['torch_fidelity']}")
    else:
        print("the images were changed or chosen before scoring; to check by torch-fidelity keep them: images=DIR")


def rows(scores: Scores, floor: Scores | None) -> list[tuple[str, list[str]]]:
    """Label and values of each line of the table; the second value is the noise floor's."""
    columns = [scores] if floor is None else [scores, floor]
    lines = [
        ("FID", [f"{column.fid:.2f}" for column in columns]),
        ("KID", [f"{column.kid:.5f} ± {column.kid_error:.5f}" for column in columns]),
        (
            "KID over subsets",
            [f"{column.kid_subsets:.5f} ± {column.kid_subsets_deviation:.5f}" for column in columns],
        ),
        ("memorization distance d", [f"{column.memorization_distance:.4f}" for column in columns]),
    ]
    return lines + [(f"MiFID, eps {eps:g}", [f"{column.mifid[eps]:.2f}" for column in columns]) for eps in scores.mifid]
