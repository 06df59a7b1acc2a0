"""Small generators learn to translate as large, trained ones do (Li et al. 2020, arXiv:2003.08936 §3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from lightning import LightningModule

from monet_cyclegan.bad_steps import StepLog
from monet_cyclegan.clipping import gradient_norm
from monet_cyclegan.compilation import begin_step, check_mode, compiled
from monet_cyclegan.ema import EMA
from monet_cyclegan.randomness import reseed_torch
from monet_cyclegan.schedules import constant
from monet_cyclegan.steps import finished_share, minimise, total, weights_of_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from monet_cyclegan.steps import Terms

Images = dict[str, "Tensor"]  # named images (N, 3, H, W) in [-1, 1]


def pixel_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of two translations (arXiv:2003.08936 eq. 1, the unpaired case)."""
    return F.l1_loss(student, teacher)


def detail_loss(student: Tensor, teacher: Tensor, levels: int) -> Tensor:
    """Mean absolute difference of all high-frequency bands of a Haar wavelet transform, the mean over levels.

    Small generators lack high frequencies, and by pixels alone they may blur (Zhang et al. 2022, arXiv:2203.06321).
    """
    low, losses = student - teacher, []  # the transform is linear
    for _ in range(levels):
        low, bands = haar(low)
        losses.append(bands.abs().mean())
    return torch.stack(losses).mean()


def haar(images: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform: (N, C, H, W) -> low (N, C, H/2, W/2), high (N, 3C, H/2, W/2).

    An odd last row or column is left out.
    """
    height, width = (size // 2 * 2 for size in images.shape[-2:])
    top, bottom = images[..., 0:height:2, :width], images[..., 1:height:2, :width]
    rows_sum, rows_difference = top + bottom, top - bottom
    low, across = _sum_and_difference(rows_sum)
    down, diagonal = _sum_and_difference(rows_difference)
    return low / 2, torch.cat([across, down, diagonal], dim=1) / 2


def _sum_and_difference(rows: Tensor) -> tuple[Tensor, Tensor]:
    left, right = rows[..., 0::2], rows[..., 1::2]
    return left + right, left - right


class Distillation(LightningModule):
    """Two student generators learn from two teachers, on unpaired images of domains A and B.

    Batches are {"a", "b"}: (N, 3, H, W) in [-1, 1]. The teachers, which `learn_from` gets, are no part of checkpoints:
    these hold ``gen_ab gen_ba ema_ab ema_ba`` as a `CycleGAN`'s do. A weight of zero leaves its term out.

    Args:
        generator: makes a student; called twice.
        optimizer: makes an optimizer from parameters and ``lr``.
        lr: learning rate.
        schedule: learning-rate factor as a function of the finished share of the training, in [0, 1].
        lambda_pixel: weight of the difference of pixels.
        lambda_detail: weight of the difference of high frequencies.
        detail_levels: of their wavelet transform; crops need 2**detail_levels pixels.
        clip: gradient clipping, in place on parameters; None for none.
        ema_decay: decay of the students' moving average, which evaluation uses; 0 for none.
        compile: mode of torch.compile for what a step computes, see `monet_cyclegan.compilation`; False for none.
        channels_last: whether weights and images lie in memory with their channels last (NHWC).
        seed: with epoch, batch and rank the seed of all that a training step draws.

    Raises:
        ValueError: for a negative weight, or if both are zero; for fewer levels than one; for an unknown mode.
    """

    def __init__(
        self,
        generator: Callable[[], nn.Module],
        optimizer: Callable[..., Optimizer],
        lr: float = 2e-4,
        schedule: Callable[[float], float] = constant,
        lambda_pixel: float = 1.0,
        lambda_detail: float = 1.0,
        detail_levels: int = 3,
        clip: Callable[[Iterable[nn.Parameter]], Tensor] | None = None,
        ema_decay: float = 0.999,
        compile: str | bool = False,
        channels_last: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        check_mode(compile)
        if not (min(lambda_pixel, lambda_detail) >= 0 and lambda_pixel + lambda_detail > 0):
            weights = {"lambda_pixel": lambda_pixel, "lambda_detail": lambda_detail}
            raise ValueError(f"the weights of the losses must be 0 or more, and not both 0, got {weights}")
        if detail_levels < 1:
            raise ValueError(f"detail_levels must be at least 1, got {detail_levels}")
        self.automatic_optimization = False
        self.gen_ab, self.gen_ba = generator(), generator()
        self.ema_ab = EMA(self.gen_ab, ema_decay) if ema_decay > 0 else None
        self.ema_ba = EMA(self.gen_ba, ema_decay) if ema_decay > 0 else None
        self.teachers: tuple[nn.Module, nn.Module] | None = None  # a tuple, so that they are no submodules
        self.optimizer = optimizer
        self.lr = lr
        self.schedule = schedule
        self.lambda_pixel, self.lambda_detail, self.detail_levels = lambda_pixel, lambda_detail, detail_levels
        self.clip = clip or gradient_norm
        self.step_logs = {"gen": StepLog()}  # for whoever looks for steps that were skipped
        self.seed = seed
        self._distances: dict[str, list[Tensor]] = {}  # of a validation's images, by domain
        self._validated = 0  # batches
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        self.compile_mode = compile
        self.students_pass = compiled(self.imitate, compile)

    def learn_from(self, gen_ab: nn.Module, gen_ba: nn.Module) -> None:
        """Take the teachers A to B and B to A, which are frozen."""
        self.teachers = (gen_ab.eval().requires_grad_(False), gen_ba.eval().requires_grad_(False))

    @property
    def evaluation_generators(self) -> tuple[nn.Module, nn.Module]:
        """The students A to B and B to A that are judged and shipped: the averaged ones, if there are any."""
        if self.ema_ab is None or self.ema_ba is None:
            return self.gen_ab, self.gen_ba
        return self.ema_ab.model, self.ema_ba.model

    def as_saved(self, path: Path | str) -> AbstractContextManager[None]:
        """Meanwhile, the generator A to B that is judged has the weights of a checkpoint of this model."""
        return weights_of_checkpoint(self, self.evaluation_generators[0], path)

    @property
    def batches_done(self) -> int:
        """Batches trained on."""
        return self.global_step

    def configure_optimizers(self) -> Optimizer:
        """One optimizer for both students."""
        return self.optimizer([*self.gen_ab.parameters(), *self.gen_ba.parameters()], lr=self.lr)

    def on_fit_start(self) -> None:
        """Bring the teachers to where the students are.

        Raises:
            RuntimeError: there are none.
        """
        if self.teachers is None:
            raise RuntimeError("there is nobody to learn from: call learn_from first")
        for teacher in self.teachers:
            teacher.to(self.device, memory_format=self.memory_format)  # type: ignore[call-overload]

    def training_step(self, batch: Images, batch_idx: int) -> None:
        """Step both students, then the moving averages."""
        reseed_torch(self.seed, self.current_epoch, batch_idx, self.global_rank)
        begin_step(self.compile_mode)
        step, lr = self.batches_done, self.lr * self.schedule(finished_share(self.trainer, self.batches_done))
        real_a, real_b = (batch[name].contiguous(memory_format=self.memory_format) for name in ("a", "b"))
        lesson_b, lesson_a = self.lessons(real_a, real_b)
        terms = self.students_pass(real_a, real_b, lesson_a, lesson_b)
        grad_norm = minimise(self, self.optimizers(), terms, lr, self.clip, self.step_logs["gen"])

        if self.ema_ab is not None and self.ema_ba is not None:
            self.ema_ab.update(self.gen_ab, step)
            self.ema_ba.update(self.gen_ba, step)

        if (batch_idx + 1) % self.trainer.log_every_n_steps == 0 or self.trainer.is_last_batch:  # type: ignore[attr-defined]
            self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()})
            self.log_dict({"train/gen": total(terms).detach(), "train/grad_norm_gen": grad_norm, "train/lr": lr})

    @torch.no_grad()
    def lessons(self, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, Tensor]:
        """The teachers' translations: of A to B, and of B to A."""
        assert self.teachers is not None
        teacher_ab, teacher_ba = self.teachers
        return teacher_ab(real_a), teacher_ba(real_b)

    def imitate(self, real_a: Tensor, real_b: Tensor, lesson_a: Tensor, lesson_b: Tensor) -> Terms:
        """How far the students' translations are from the teachers', ``lesson_a`` of B and ``lesson_b`` of A."""
        terms: Terms = {}
        for name, fake, lesson in (("a", self.gen_ba(real_b), lesson_a), ("b", self.gen_ab(real_a), lesson_b)):
            if self.lambda_pixel > 0:
                terms[f"pixel_{name}"] = self.lambda_pixel * pixel_loss(fake, lesson)
            if self.lambda_detail > 0:
                terms[f"detail_{name}"] = self.lambda_detail * detail_loss(fake, lesson, self.detail_levels)
        return terms

    def on_validation_epoch_start(self) -> None:
        """Forget the images of the validation before."""
        self._distances = {"a": [], "b": []}
        self._validated = 0

    def validation_step(self, batch: Images, batch_idx: int, dataloader_idx: int = 0) -> Images:
        """Translate held-out images of A (first loader) or of B (second), and see how far from the teacher they are."""
        source, target = ("a", "b") if dataloader_idx == 0 else ("b", "a")
        real = batch[source]
        fake = self.evaluation_generators[dataloader_idx](real)
        if self.teachers is not None:
            lesson = self.teachers[dataloader_idx](real)
            self._distances[source].append((fake.float() - lesson.float()).abs().mean(dim=(1, 2, 3)))
        self._validated += 1
        return {f"real_{source}": real, f"fake_{target}": fake}

    def on_validation_epoch_end(self) -> None:
        """Log mean absolute differences in [-1, 1] of students and teachers, the mean over images.

        ``val/distill_l1`` is of A to B, ``val/distill_l1_<name of A>`` of B to A. A validation that was resumed in its
        middle isn't one.
        """
        if self.teachers is None or self._validated != sum(self.trainer.num_val_batches):
            return
        names: dict[str, str] = self.trainer.datamodule.names  # type: ignore[attr-defined]
        for source, suffix in (("a", ""), ("b", f"_{names['a']}")):
            found = torch.cat(self._distances[source])
            sums = torch.stack([found.sum(), found.new_tensor(len(found))])
            distance, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
            self.log(f"val/distill_l1{suffix}", distance / count, prog_bar=not suffix)

    @torch.no_grad()
    def showcase_held_out(self, count: int) -> Images:
        """Translate, reconstruct and map to themselves the data module's first held-out images, always the same."""
        trainer: Any = self.trainer
        real_a, real_b = (images.to(self.device) for images in trainer.datamodule.fixed_images(count))
        gen_ab, gen_ba = generators = self.evaluation_generators
        modes = [generator.training for generator in generators]
        for generator in generators:
            generator.eval()  # without a moving average they are those in training
        with trainer.precision_plugin.forward_context():
            fake_b, fake_a = gen_ab(real_a), gen_ba(real_b)
            again = {"rec_a": gen_ba(fake_b), "rec_b": gen_ab(fake_a), "idt_a": gen_ba(real_a), "idt_b": gen_ab(real_b)}
        for generator, mode in zip(generators, modes, strict=True):
            generator.train(mode)
        return {"real_a": real_a, "real_b": real_b, "fake_a": fake_a, "fake_b": fake_b, **again}
