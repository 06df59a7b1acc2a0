"""Images per second out of the loaders, beside torchvision's ImageFolder, and how long a training step waits for them.

python -m benchmarks.data root=data/gan-getting-started

Both scale to 286 pixels, cut 256 at random and mirror half of the images, in batches of pairs; torchvision's loader is
what most projects use, two ImageFolders that decode each image each time. Ours decodes once (cache=ram, disk), not at
all once it trains (device), or each time, too (none). Without root= it uses as many JPEGs of painted pictures.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import albumentations as A
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.results import DEFAULT_OUTPUT, write
from benchmarks.train_step import BareStep, Setting
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.data.datamodule import UnpairedDataModule
from monet_cyclegan.data.sources import find_domains
from monet_cyclegan.data.synthetic import synthetic_domains
from monet_cyclegan.devices import what_pays
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import write_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

CACHES = ("none", "disk", "ram", "device")
DEFAULTS = {
    "root": Path(),
    "images": 600,
    "batch": 4,
    "workers": 2,
    "pairs": 400,
    "repeats": 3,
    "steps": 12,
    "size": 128,
    "channels": 32,
    "device": "auto",
    "output": DEFAULT_OUTPUT,
}


class TwoFolders(Dataset[dict[str, "Tensor"]]):
    """Pairs of images of two ImageFolders, as the classic code draws them."""

    def __init__(self, a: Path, b: Path):
        steps = [
            v2.PILToTensor(),
            v2.Resize(286, antialias=True),
            v2.RandomCrop(256),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
        self.folders = [ImageFolder(str(folder), transform=v2.Compose(steps)) for folder in (a, b)]

    def __len__(self) -> int:
        return max(map(len, self.folders))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        a, b = self.folders
        other = int(torch.randint(len(b), ()))
        return {"a": a[index % len(a)][0], "b": b[other][0]}


def make_folders(root: Path | None, folder: Path, count: int) -> dict[str, Path]:
    """JPEG files in the layout of ImageFolder, a class each: of a data set, or painted."""
    domains = find_domains(root) if root else synthetic_domains(count, count, 256, 0, 1)
    folders = {}
    for name, source in (("a", domains.train_a), ("b", domains.train_b)):
        folders[name] = folder / name
        for index in range(min(count, len(source))):
            write_image(folders[name] / "all" / f"{index:05d}.jpg", source.load(index), quality=75)
    return folders


def ours(
    folders: dict[str, Path], cache: str, workers: int, batch: int, crop: int, cache_dir: Path
) -> UnpairedDataModule:
    """Our data module on the same files."""
    module = UnpairedDataModule.from_folders(
        folders["a"] / "all",
        folders["b"] / "all",
        names={"a": "photo", "b": "monet"},
        load_size=round(crop * 286 / 256),
        crop_size=crop,
        augment={"flip": A.HorizontalFlip(p=0.5)},
        batch_size=batch,
        num_workers=workers,
        cache=cache,
        cache_dir=str(cache_dir),
        val_a=1,
        val_b=1,
    )
    module.setup("fit")
    return module


def endless(loader: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Epoch after epoch."""
    while True:
        yield from loader


def rate(batches: Iterator[dict[str, Tensor]], pairs: int) -> float:
    """Images per second of both domains, after three batches that start the workers."""
    for _ in range(3):
        next(batches)
    start, seen = time.perf_counter(), 0
    while seen < pairs:
        seen += len(next(batches)["a"])
    return 2 * seen / (time.perf_counter() - start)


def finished(module: UnpairedDataModule, batches: Iterator[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Batches as a training step gets them."""
    return (module.on_after_batch_transfer(batch, 0) for batch in batches)


def loader_rates(folders: dict[str, Path], options: dict[str, Any], cache_dir: Path) -> dict[str, float]:
    """Images per second by loader; they take turns."""
    workers, batch = options["workers"], options["batch"]
    theirs = DataLoader(
        TwoFolders(folders["a"], folders["b"]),
        batch,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    modules = {cache: ours(folders, cache, workers, batch, 256, cache_dir) for cache in CACHES}
    sources: dict[str, Iterator[dict[str, Tensor]]] = {"torchvision": endless(theirs)}
    sources |= {cache: finished(module, endless(module.train_dataloader())) for cache, module in modules.items()}
    found: dict[str, list[float]] = {name: [] for name in sources}
    for _, name in itertools.product(range(options["repeats"]), sources):
        found[name].append(rate(sources[name], options["pairs"]))
        print(f"{name}: {found[name][-1]:.0f} images/s", flush=True)
    return {name: statistics.median(rates) for name, rates in found.items()}


def waiting(
    folders: dict[str, Path], options: dict[str, Any], device: str, cache_dir: Path
) -> dict[str, dict[str, float]]:
    """Seconds of a training step fed by each cache, and of these the seconds before its batch is there."""
    pays = what_pays(device)
    setting = Setting("resnet", options["size"], 1, 6, options["channels"], 64, device, pays.precision,
                      pays.compile, pays.channels_last)  # fmt: skip
    bare = BareStep(setting)
    feeds = {}
    for cache in CACHES:
        module = ours(folders, cache, options["workers"], 1, options["size"], cache_dir)
        feeds[cache] = (module, endless(module.train_dataloader()))
    times: dict[str, list[tuple[float, float]]] = {cache: [] for cache in CACHES}
    for repeat in range(options["steps"] + 2):
        for cache, (module, batches) in feeds.items():
            start = time.perf_counter()
            loaded = next(batches)
            batch = module.on_after_batch_transfer({name: images.to(device) for name, images in loaded.items()}, 0)
            there = time.perf_counter()
            bare.step(batch["a"], batch["b"])
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat >= 2:
                times[cache].append((time.perf_counter() - start, there - start))
    return {
        cache: dict(zip(("step", "waiting"), map(statistics.median, zip(*pairs, strict=True)), strict=True))
        for cache, pairs in times.items()
    }


@exit_with_one_line()
def main() -> None:
    """Measure, print and write JSON."""
    options = parse_key_values(sys.argv[1:], DEFAULTS)
    if options["root"] != Path() and not options["root"].is_dir():
        raise UserError(f"root={options['root']} is no folder")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options["device"] == "auto" else options["device"]
    with tempfile.TemporaryDirectory() as folder:
        root = options["root"] if options["root"] != Path() else None
        folders = make_folders(root, Path(folder), options["images"])
        rates = loader_rates(folders, options, Path(folder) / "cache")
        steps = waiting(folders, options, device, Path(folder) / "cache")
    loaders = Table("loader", "images/s", "x torchvision", title="Out of the loaders, 256 pixels")
    for name, images in rates.items():
        loaders.add_row(name, f"{images:.0f}", f"{images / rates['torchvision']:.2f}")
    fed = Table("cache", "ms a step", "waiting %", "x device", title=f"ResNet-6, {options['size']} pixels, batch 1")
    for cache, found in steps.items():
        share = 100 * found["waiting"] / found["step"]
        fed.add_row(
            cache, f"{1e3 * found['step']:.1f}", f"{share:.2f}", f"{found['step'] / steps['device']['step']:.3f}"
        )
    for table in (loaders, fed):
        Console().print(table)
    what = f"loader, batch {options['batch']}, {options['workers']} workers"
    lines = [
        (
            f"{what}, {name if name == 'torchvision' else f'cache={name}'}",
            f"{images:.0f} images/s, {images / rates['torchvision']:.2f} times torchvision's",
        )
        for name, images in rates.items()
    ]
    lines += [
        (
            f"training step from cache={cache}",
            f"{100 * found['waiting'] / found['step']:.2f} % of it waiting, "
            f"{found['step'] / steps['device']['step']:.3f} times that with the data on the device",
        )
        for cache, found in steps.items()
    ]
    packages = ("torch", "torchvision", "albumentations")
    print(write("data", lines, {"images_per_second": rates, "steps": steps}, device, packages, options["output"]))


if __name__ == "__main__":
    main()
