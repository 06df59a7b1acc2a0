"""Before CycleGAN, generators learn what pictures look like by painting what is missing (arXiv:2203.02557)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from lightning import LightningModule

from monet_cyclegan.bad_steps import StepLog
from monet_cyclegan.clipping import gradient_norm
from monet_cyclegan.compilation import begin_step, check_mode, compiled
from monet_cyclegan.randomness import derive_seed, reseed_torch
from monet_cyclegan.schedules import constant
from monet_cyclegan.steps import finished_share, minimise, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn
    from torch.optim import Optimizer

Images = dict[str, "Tensor"]  # named images (N, 3, H, W) in [-1, 1]

BLACK = -1.0  # what a patch is masked with: zero in the authors' range of [0, 1]
DOMAINS = ("a", "b")
_IN_VALIDATION, _IN_SAMPLES = 1, 2  # parts of keys, so that their masks aren't those of training


def masked(images: Tensor, patch_size: int, fraction: float, generator: torch.Generator | None = None) -> Tensor:
    """Blacken each patch of each image with a probability (UVCGAN, arXiv:2203.02557).

    Args:
        images: (N, 3, H, W) in [-1, 1]; the patches at the right and at the bottom may be cut off.
        patch_size: height and width of a patch, in pixels.
        fraction: probability of each patch.
        generator: what the patches are drawn from; torch's own of the images' device if None.
    """
    number, _, height, width = images.shape
    grid = (-(-height // patch_size), -(-width // patch_size))
    device = images.device if generator is None else generator.device
    hidden = (torch.rand(number, 1, *grid, device=device, generator=generator) < fraction).to(images.device)
    hidden = hidden.repeat_interleave(patch_size, dim=2).repeat_interleave(patch_size, dim=3)
    return images.masked_fill(hidden[:, :, :height, :width], BLACK)


class MaskedPretraining(LightningModule):
    """One generator restores masked images of both domains; a `CycleGAN`'s two then start as copies of it.

    As published (UVCGAN, Torbunov et al. 2022, arXiv:2203.02557), the loss is over all pixels, also those that
    weren't masked. Batches are {"a", "b"}: (N, 3, H, W) in [-1, 1]. Checkpoints hold the generator under both of a
    `CycleGAN`'s names, ``gen_ab`` and ``gen_ba``, and no discriminators.

    Args:
        generator: makes the generator.
        optimizer: makes an optimizer from parameters and ``lr``.
        lr: learning rate.
        schedule: learning-rate factor as a function of the finished share of the training, in [0, 1].
        patch_size: height and width of what is masked as a whole, in pixels.
        mask_fraction: probability of each patch to be masked, above 0 and at most 1.
        clip: gradient clipping, in place on parameters; None for none.
        compile: mode of torch.compile for what a step computes, see `monet_cyclegan.compilation`; False for none.
        channels_last: whether weights and images lie in memory with their channels last (NHWC).
        seed: with epoch, batch and rank the seed of all that a training step draws.

    Raises:
        ValueError: for a patch or fraction out of range; for an unknown mode of torch.compile.
    """

    used_with = "start a run from it with: python train.py init_from={}"  # what to tell when it is trained

    def __init__(
        self,
        generator: Callable[[], nn.Module],
        optimizer: Callable[..., Optimizer],
        lr: float = 6.25e-4,
        schedule: Callable[[float], float] = constant,
        patch_size: int = 32,
        mask_fraction: float = 0.4,
        clip: Callable[[Iterable[nn.Parameter]], Tensor] | None = None,
        compile: str | bool = False,
        channels_last: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        check_mode(compile)
        if patch_size < 1:
            raise ValueError(f"patch_size must be at least 1, got {patch_size}")
        if not 0 < mask_fraction <= 1:
            raise ValueError(f"mask_fraction must be above 0 and at most 1, got {mask_fraction}")
        self.automatic_optimization = False
        self.gen_ab = generator()
        self.gen_ba = self.gen_ab  # one network by two names, so that checkpoints are as a CycleGAN's
        self.optimizer = optimizer
        self.lr = lr
        self.schedule = schedule
        self.patch_size, self.mask_fraction = patch_size, mask_fraction
        self.clip = clip or gradient_norm
        self.step_logs = {"gen": StepLog()}  # for whoever looks for steps that were skipped
        self.seed = seed
        self._errors: dict[str, list[Tensor]] = {}  # of a validation's images, by domain
        self._validated = 0  # batches
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        self.compile_mode = compile
        self.restoring_pass = compiled(self.restoration_losses, compile)

    @property
    def evaluation_generators(self) -> tuple[nn.Module, nn.Module]:
        """The generator, for both directions."""
        return self.gen_ab, self.gen_ba

    @property
    def batches_done(self) -> int:
        """Batches trained on."""
        return self.global_step

    def configure_optimizers(self) -> Optimizer:
        """One optimizer for the one generator."""
        return self.optimizer(self.gen_ab.parameters(), lr=self.lr)

    def training_step(self, batch: Images, batch_idx: int) -> None:
        """Mask images of both domains, and step the generator towards restoring them."""
        reseed_torch(self.seed, self.current_epoch, batch_idx, self.global_rank)
        begin_step(self.compile_mode)
        lr = self.lr * self.schedule(finished_share(self.trainer, self.batches_done))
        real_a, real_b = (batch[name].contiguous(memory_format=self.memory_format) for name in DOMAINS)
        masked_a, masked_b = (masked(real, self.patch_size, self.mask_fraction) for real in (real_a, real_b))
        terms = self.restoring_pass(real_a, real_b, masked_a, masked_b)
        grad_norm = minimise(self, self.optimizers(), terms, lr, self.clip, self.step_logs["gen"])
        if (batch_idx + 1) % self.trainer.log_every_n_steps == 0 or self.trainer.is_last_batch:  # type: ignore[attr-defined]
            self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()})
            self.log_dict({"train/gen": total(terms).detach(), "train/grad_norm_gen": grad_norm, "train/lr": lr})

    def restoration_losses(self, real_a: Tensor, real_b: Tensor, masked_a: Tensor, masked_b: Tensor) -> Images:
        """Mean absolute differences of images and what the generator makes of masked ones, by domain."""
        # One forward pass for both: each image is restored alone.
        restored_a, restored_b = self.gen_ab(torch.cat([masked_a, masked_b])).split([len(real_a), len(real_b)])
        return {"masked_a": F.l1_loss(restored_a, real_a), "masked_b": F.l1_loss(restored_b, real_b)}

    def on_validation_epoch_start(self) -> None:
        """Forget the images of the validation before."""
        self._errors = {name: [] for name in DOMAINS}
        self._validated = 0

    def validation_step(self, batch: Images, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Restore held-out images of A (first loader) or of B (second), masked alike in each validation."""
        name = DOMAINS[dataloader_idx]
        hidden = self._masked(batch[name], _IN_VALIDATION, dataloader_idx, batch_idx, self.global_rank)
        error = (self.gen_ab(hidden).float() - batch[name].float()).abs()
        self._errors[name].append(error.mean(dim=(1, 2, 3)))
        self._validated += 1

    def on_validation_epoch_end(self) -> None:
        """Log ``val/masked_l1``, the mean of both domains' mean absolute differences in [-1, 1], and each of them.

        A validation that was resumed in its middle isn't one.
        """
        if self._validated != sum(self.trainer.num_val_batches):
            return
        means = []
        for name, errors in self._errors.items():
            found = torch.cat(errors)
            sums = torch.stack([found.sum(), found.new_tensor(len(found))])
            total_error, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
            means.append(total_error / count)
            self.log(f"val/masked_l1_{self.trainer.datamodule.names[name]}", means[-1])  # type: ignore[attr-defined]
        self.log("val/masked_l1", torch.stack(means).mean(), prog_bar=True)

    @torch.no_grad()
    def showcase_held_out(self, count: int) -> Images:
        """Mask and restore the data module's first held-out images, always the same, with the same masks."""
        trainer: Any = self.trainer
        training = self.gen_ab.training
        self.gen_ab.eval()
        images: Images = {}
        for index, (name, real) in enumerate(zip(DOMAINS, trainer.datamodule.fixed_images(count), strict=True)):
            real = real.to(self.device)
            hidden = self._masked(real, _IN_SAMPLES, index)
            with trainer.precision_plugin.forward_context():
                images |= {f"real_{name}": real, f"masked_{name}": hidden, f"restored_{name}": self.gen_ab(hidden)}
        self.gen_ab.train(training)
        return images

    def _masked(self, images: Tensor, *key: int) -> Tensor:
        """Images masked as a key says, on any device and whatever was drawn before."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, *key))
        return masked(images, self.patch_size, self.mask_fraction, generator)
