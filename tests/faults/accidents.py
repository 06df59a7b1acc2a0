"""Accidents that befall a run after a batch, as callbacks: +callbacks.accident._target_=accidents.FolderVanishes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback


class Accident(Callback):
    """Happens once, when ``batches`` are done."""

    def __init__(self, batches: int = 4, **options: Any) -> None:
        self.batches, self.options = batches, options

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if pl_module.batches_done == self.batches:
            self.happen(**self.options)

    def happen(self) -> None:
        raise NotImplementedError


class FolderVanishes(Accident):
    """A disk that is unplugged, or a share that is gone."""

    def happen(self, folder: str) -> None:  # type: ignore[override]
        Path(folder).rename(f"{folder} gone")


class WorkerDies(Accident):
    """What the kernel does where memory ends."""

    def happen(self) -> None:
        workers = multiprocessing.active_children()
        assert workers
        for worker in workers:
            os.kill(int(worker.pid or 0), signal.SIGKILL)
        time.sleep(0.5)  # whoever reads from it hears of it


class CpuOutOfMemory(Accident):
    def happen(self) -> None:
        torch.empty(2**50)


class GpuOutOfMemory(Accident):
    def happen(self) -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 0 bytes free.\nSee docs"
        )
