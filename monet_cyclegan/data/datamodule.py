"""Two unpaired domains as a LightningDataModule: A is the photo, B the painting."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from monet_cyclegan.data.cache import CacheMode, cached
from monet_cyclegan.data.device_cache import DeviceImages, PlannedDataset
from monet_cyclegan.data.pairs import DOMAINS, DomainDataset, EpochSampler, Position, RankSampler, UnpairedDataset
from monet_cyclegan.data.sources import Domains, Source, find_domains, open_folders
from monet_cyclegan.data.split import Joined, Subset, limited, split
from monet_cyclegan.data.synthetic import synthetic_domains
from monet_cyclegan.data.transforms import eval_transform, flip_probability, train_transform
from monet_cyclegan.errors import UserError, UserErrors
from monet_cyclegan.images import to_float

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import FrameType

    import albumentations
    from torch import Tensor


class UnpairedDataModule(LightningDataModule):
    """Training items {"a", "b"} and, for validation, every held-out image of A and then of B, once.

    Batches reach the model as float (N, 3, S, S) in [-1, 1]; until then they are uint8, a quarter of the bytes.

    Args:
        domains: opens the sources; called when a run starts.
        names: what A and B are called in messages, directions and pictures.
        load_size: short side in pixels that images are brought to before the crop.
        crop_size: side in pixels of the training squares.
        eval_size: side in pixels of the squares that validations translate and scores are taken of, whole images made
            smaller; None for ``crop_size``. A generator trained on small crops is judged by what it is used for.
        augment: albumentations transforms by name, applied after the crop, in their order.
        batch_size: items per step and process.
        eval_batch_size: images per validation batch and process.
        num_workers: loader processes; 0 loads in the main one.
        cache: "ram", "disk" (under ``cache_dir``), "none", or "device": all training images in the device's memory,
            cut and flipped there, without other augmentation.
        val_a: photos held out, a number or a share below 1; a source that comes with a test set uses that.
        val_b: paintings held out, likewise.
        eval_images: images of each domain that a validation translates: held-out ones and, if these are fewer, training
            ones after them; None for all held-out ones and no other.
        limit: at most so many images to train on a domain, and to hold out; None takes all.
        split_seed: seed of the held-out choice, apart from ``seed`` so that runs stay comparable.
        seed: seed of order, partners and augmentation.
    """

    def __init__(
        self,
        domains: Callable[[], Domains],
        *,
        names: Mapping[str, str],
        load_size: int,
        crop_size: int,
        eval_size: int | None = None,
        augment: Mapping[str, albumentations.BasicTransform] | None = None,
        batch_size: int = 1,
        eval_batch_size: int = 8,
        num_workers: int = 2,
        cache: CacheMode = "ram",
        cache_dir: str = ".cache",
        val_a: int | float = 0.1,
        val_b: int | float = 0.1,
        eval_images: int | None = None,
        limit: int | None = None,
        split_seed: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        wrong = []
        if not 0 < crop_size <= load_size:
            wrong.append(
                f"data.crop_size={crop_size} does not fit into data.load_size={load_size}: "
                "the crop is cut from the resized image, so it must be from 1 pixel to load_size"
            )
        if eval_size is not None and not 0 < eval_size <= load_size:
            wrong.append(
                f"data.eval_size={eval_size} is more than there is of an image: it must be from 1 pixel to "
                f"data.load_size={load_size}"
            )
        for key, size in {"batch_size": batch_size, "eval_batch_size": eval_batch_size}.items():
            if size < 1:
                wrong.append(f"data.{key}={size} is not a batch; give 1 or more")
        if eval_images is not None and eval_images < 1:
            wrong.append(f"data.eval_images={eval_images} leaves no image to validate on; give 1 or more, or null")
        if wrong:
            raise UserErrors(wrong)
        self.domains = domains
        self.names = dict(names)
        self.load_size, self.crop_size, self.eval_size = load_size, crop_size, eval_size or crop_size
        self.augment = dict(augment or {})
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers = num_workers
        self.cache, self.cache_dir = cache, cache_dir
        self.val_a, self.val_b, self.limit = val_a, val_b, limit
        self.eval_images = eval_images
        self.flip = flip_probability(self.augment) if cache == "device" else 0.0
        self.split_seed, self.seed = split_seed, seed
        self.train_sources: tuple[Source, Source] | None = None
        self.val_sources: tuple[Source, Source] | None = None
        self._resume_at = Position(epoch=0, samples=0)
        self._on_device: dict[str, DeviceImages] = {}  # what plans refer to, by domain

    @classmethod
    def from_root(cls, root: Path | str, swap: bool = False, **options: Any) -> UnpairedDataModule:
        """Open a data set in one of the known layouts under ``root``; ``swap`` exchanges A and B."""
        return cls(partial(find_domains, root, swap), **options)

    @classmethod
    def from_folders(cls, a: Path | str, b: Path | str, **options: Any) -> UnpairedDataModule:
        """Open any two folders of images."""
        return cls(partial(open_folders, a, b), **options)

    @classmethod
    def synthetic(
        cls, count_a: int, count_b: int, size: int, val_count: int, scene_seed: int = 0, **options: Any
    ) -> UnpairedDataModule:
        """Paint two unpaired sets in memory, with held-out pairs whose true painting is known."""
        return cls(partial(synthetic_domains, count_a, count_b, size, scene_seed, val_count), **options)

    def setup(self, stage: str) -> None:
        """Open, split and cache the sources, once."""
        if self.train_sources is not None:
            return
        found = self.domains()
        train_a, val_a = self._divide(found.train_a, found.val_a, self.val_a, "data.val_a")
        train_b, val_b = self._divide(found.train_b, found.val_b, self.val_b, "data.val_b")
        self.train_sources = (self._cached(train_a), self._cached(train_b))
        self.val_sources = (self._cached(val_a), self._cached(val_b))

    def _divide(self, train: Source, test: Source | None, held_out: int | float, key: str) -> tuple[Source, Source]:
        if test is None:
            train, val = split(train, held_out, self.split_seed, key)
        else:
            val = Subset(test, range(len(test) if held_out < 1 else min(int(held_out), len(test))))
        return limited(train, self.limit, self.split_seed), limited(val, self.limit, self.split_seed)

    def _cached(self, source: Source) -> Source:
        return cached(source, self.cache, self.load_size, self.cache_dir)

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Load the training items of this rank, from where the last checkpoint stood."""
        assert self.train_sources is not None
        dataset = self._planned_dataset() if self.cache == "device" else self._transformed_dataset()
        rank, world_size = self._rank()
        sampler = EpochSampler(len(dataset), self.batch_size * world_size, self._resume_at, rank, world_size)
        # Plans are made faster than they could be sent by another process.
        return self._loader(dataset, sampler, self.batch_size, 0 if self.cache == "device" else self.num_workers)

    def _transformed_dataset(self) -> UnpairedDataset:
        assert self.train_sources is not None
        transform = train_transform(self.load_size, self.crop_size, self.augment.values())
        return UnpairedDataset(*self.train_sources, transform, self.seed)

    def _planned_dataset(self) -> PlannedDataset:
        assert self.train_sources is not None
        dataset = PlannedDataset(*self.train_sources, self.load_size, self.crop_size, self.flip, self.seed)
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        self._on_device = {
            name: DeviceImages(images, device) for name, images in zip(DOMAINS, dataset.images, strict=True)
        }
        return dataset

    def val_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:
        """Load this rank's share of the images that a validation translates: first A, then B."""
        return [self.images(name, self._validated(name)) for name in DOMAINS]

    def _validated(self, name: str) -> Source:
        """What a validation translates: the first of all images, where the held-out ones stand in front."""
        source = self.all_images(name)
        count = len(self._held_out(name)) if self.eval_images is None else min(self.eval_images, len(source))
        return Subset(source, range(count))

    def count_validated(self, name: str) -> int:
        """How many images of domain ``name`` ("a" or "b") a validation translates."""
        return len(self._validated(name))

    def all_images(self, name: str, limit: int | None = None) -> Source:
        """Every image of domain ``name`` ("a" or "b"), held-out ones first, or a fixed choice of ``limit`` of them."""
        assert self.train_sources is not None
        return limited(Joined(self._held_out(name), self.train_sources[DOMAINS.index(name)]), limit, self.split_seed)

    def images(
        self, name: str, source: Source, size: int | None = None, shared: bool = True
    ) -> DataLoader[dict[str, Tensor]]:
        """Load a source of domain ``name`` in order, unaugmented, in squares of `eval_size` pixels, or of ``size``.

        This rank's share, unless it isn't ``shared``.
        """
        dataset = DomainDataset(name, source, eval_transform(size or self.eval_size))
        rank, world_size = self._rank() if shared else (0, 1)
        if len(dataset) < world_size:
            raise UserError(
                f"{len(dataset)} held-out images are too few for {world_size} processes: raise data.val_a and val_b"
            )
        sampler = RankSampler(len(dataset), rank, world_size)
        # Not persistent: few batches, seldom, aren't worth two idle processes each.
        return self._loader(dataset, sampler, self.eval_batch_size, self.num_workers, persistent=False)

    def _held_out(self, name: str) -> Source:
        assert self.val_sources is not None
        return self.val_sources[DOMAINS.index(name)]

    def _loader(
        self, dataset: Any, sampler: Any, batch_size: int, num_workers: int, persistent: bool = True
    ) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=persistent and num_workers > 0,
            worker_init_fn=_start_worker,
            # Of its own: an iterator draws a seed, which would else come from the run's stream.
            generator=torch.Generator().manual_seed(0),
        )

    def fixed_images(self, count: int) -> tuple[Tensor, Tensor]:
        """The first held-out images of A and of B, equally many, at most ``count``: float (N, 3, S, S) in [-1, 1]."""
        transform = eval_transform(self.eval_size)
        datasets = [DomainDataset(name, self._held_out(name), transform) for name in DOMAINS]
        count = min(count, *map(len, datasets))
        a, b = (torch.stack([dataset[i][dataset.name] for i in range(count)]) for dataset in datasets)
        return to_float(a), to_float(b)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Turn uint8, or plans (N, 4) for images that are there already, into float in [-1, 1], on the device."""
        return {name: to_float(self._looked_up(name, images)) for name, images in batch.items()}

    def _looked_up(self, name: str, images: Tensor) -> Tensor:
        return images if images.ndim == 4 else self._on_device[name].cut(images, self.crop_size)

    def state_dict(self) -> dict[str, int]:
        """Position in the data, counted in samples over all ranks."""
        if self.trainer is None:
            return self._resume_at._asdict()
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        batches: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        in_epoch = epochs.ready > epochs.processed
        samples = batches.processed * self.batch_size * self.trainer.world_size if in_epoch else 0
        return {"epoch": epochs.processed, "samples": samples}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from the position of a checkpoint."""
        self._resume_at = Position(**state_dict)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def _start_worker(worker: int) -> None:
    """Keep OpenCV to one thread a worker, and let the main process decide what a signal to all processes means.

    Ctrl-C and a cluster's SIGTERM reach the workers too, but the main one still needs them to end its batch and
    validation. So a worker outlives SIGTERM by half a minute, unless it is told to end before.
    """
    cv2.setNumThreads(0)  # the workers are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows, which has no such signals either
        signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: FrameType | None) -> None:
    signal.alarm(30)
