"""Several devices share the pictures: Lightning starts a process for each, and each runs the pipeline on its part."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from lightning import LightningModule, Trainer

from monet_cyclegan.inference.pipeline import (
    THREADS,
    Launched,
    Loaded,
    Outcome,
    Settings,
    collect,
    launch,
    load_groups,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from monet_cyclegan.inference.inputs import Job
    from monet_cyclegan.inference.translator import Translator


class Predictor(LightningModule):
    """Translates each process's part of the pictures, every n-th; ``outcomes`` has what became of it, in order.

    Args:
        build: makes the translator for a device.
        generator: what it runs, which Lightning moves.
        jobs: those of all processes.
        batch_size: pictures of one size that are translated together.
        settings: how the translations look.
        show: is told how many of all pictures are done.
    """

    def __init__(
        self,
        build: Callable[[torch.device], Translator],
        generator: nn.Module,
        jobs: Sequence[Job],
        batch_size: int,
        settings: Settings,
        show: Callable[[float], None],
    ) -> None:
        super().__init__()
        self.build, self.generator, self.jobs = build, generator, jobs
        self.batch_size, self.settings, self.show = batch_size, settings, show
        self.outcomes: list[Outcome] = []

    def predict_dataloader(self) -> Iterator[list[Loaded]]:
        """Pictures of one size, read ahead by threads."""
        part = self.jobs[self.trainer.global_rank :: self.trainer.world_size]
        return load_groups(part, self.batch_size, self.settings)

    def transfer_batch_to_device(self, batch: list[Loaded], device: torch.device, dataloader_idx: int) -> list[Loaded]:
        """Leave the pictures where they are: the translator moves what the network needs."""
        return batch

    def on_predict_start(self) -> None:
        """Start the threads that write."""
        self.translator = self.build(self.device)
        self.writers = ThreadPoolExecutor(THREADS)
        self.launched: list[Launched] = []
        self.written: list[Future[Outcome]] = []

    def predict_step(self, group: list[Loaded], batch_idx: int) -> None:
        """Translate pictures of one size, and hand the last ones to those who write."""
        self.launched += launch(self.translator, group)
        while len(self.launched) > 1:
            self._write(self.launched.pop(0))
        self.show(min((len(self.outcomes) + len(self.written)) * self.trainer.world_size, len(self.jobs)))

    def on_predict_end(self) -> None:
        """Wait until all is written."""
        for launched in self.launched:
            self._write(launched)
        self._wait_for(len(self.written))
        self.writers.shutdown()

    def _write(self, launched: Launched) -> None:
        for painted in collect(launched):
            self._wait_for(len(self.written) - 2 * THREADS - self.batch_size)
            self.written.append(self.writers.submit(write, painted, self.settings))

    def _wait_for(self, count: int) -> None:
        self.outcomes += [future.result() for future in self.written[: max(count, 0)]]
        del self.written[: max(count, 0)]


def translate_on_devices(predictor: Predictor, accelerator: str, devices: int) -> list[Outcome] | None:
    """Run `Predictor` in as many processes; the first gets what became of all pictures, in order, the others None."""
    trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.predict(predictor, return_predictions=False)
    parts: list[Any] = [predictor.outcomes]
    if trainer.world_size > 1:
        parts = [None] * trainer.world_size
        torch.distributed.all_gather_object(parts, predictor.outcomes)
    if not trainer.is_global_zero:
        return None
    return [parts[index % len(parts)][index // len(parts)] for index in range(len(predictor.jobs))]
