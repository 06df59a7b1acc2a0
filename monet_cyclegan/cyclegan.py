"""The algorithm: two generators and two discriminators, trained in both directions (CycleGAN, arXiv:1703.10593)."""

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import torch
from lightning import LightningModule
from torch.nn import ModuleDict

from monet_cyclegan.bad_steps import StepLog
from monet_cyclegan.clipping import gradient_norm
from monet_cyclegan.compilation import begin_step, check_mode, compiled
from monet_cyclegan.diff_augment import mean_sign
from monet_cyclegan.ema import EMA
from monet_cyclegan.feature_memory import FeatureMemory, Remembered
from monet_cyclegan.image_pool import ImagePool
from monet_cyclegan.losses import consistency_loss, cycle_loss, identity_loss
from monet_cyclegan.processes import gather
from monet_cyclegan.randomness import reseed_torch
from monet_cyclegan.schedules import constant
from monet_cyclegan.steps import finished_share, minimise, total, weights_of_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from monet_cyclegan.diff_augment import DiffAugment
    from monet_cyclegan.losses import AdversarialLoss
    from monet_cyclegan.penalties import GradientPenalty
    from monet_cyclegan.perceptual import PerceptualDistance, StyleDistance
    from monet_cyclegan.steps import Terms

Images = dict[str, "Tensor"]  # named images (N, 3, H, W) in [-1, 1]
Memories = dict[str, Remembered]  # what is remembered of images with these names; none for most discriminators

HISTORIES = "image_histories"  # and memories, of a checkpoint that several processes wrote


def discriminate(
    disc: nn.Module,
    images: Tensor,
    augment: nn.Module | None = None,
    remembered: Remembered | None = None,
    groups: int = 1,
) -> list[Tensor]:
    """The one gate to a discriminator, so that real, fake and penalised images go the same way; see `judge`."""
    return judge(disc, images, augment, remembered, groups)[0]


def judge(
    disc: nn.Module,
    images: Tensor,
    augment: nn.Module | None = None,
    remembered: Remembered | None = None,
    groups: int = 1,
) -> tuple[list[Tensor], Tensor | None]:
    """What `discriminate` gives, and what a discriminator that compares images may remember of these; None of others.

    Such a one compares the images of each of so many groups, equal parts of the batch, with each other and with those
    remembered.
    """
    images = images if augment is None else augment(images)
    if compares(disc):
        return disc.judge(images, remembered, groups)  # type: ignore[operator]
    return disc(images), None


def compares(disc: nn.Module) -> bool:
    """Whether a discriminator judges an image by others of its kind, and not alone."""
    return hasattr(disc, "memory_size")


def memories_of(disc_a: nn.Module, disc_b: nn.Module) -> dict[str, nn.Module]:
    """Memories by the names of the images they are of; none for a discriminator that doesn't compare."""
    return {
        f"{kind}_{name}": FeatureMemory(disc.memory_size, disc.num_features)  # type: ignore[arg-type]
        for name, disc in (("a", disc_a), ("b", disc_b))
        if compares(disc)
        for kind in ("real", "fake")
    }


def translate(
    gen_ab: nn.Module,
    gen_ba: nn.Module,
    real_a: Tensor,
    real_b: Tensor,
    *,
    cycle: bool,
    identity: bool,
    cycle_noise: float = 0.0,
) -> Images:
    """Translate both ways; with ``cycle`` also back, with ``identity`` also what is of the target domain already.

    Translation and identity share one forward pass, for speed: instance norm looks at each image alone. Noise on the
    way back drowns what a translation would hide of its source (Bashkirova et al. 2019, arXiv:1908.01517).
    """
    extra: Images = {}
    if identity:
        fake_b, idt_b = gen_ab(torch.cat([real_a, real_b])).split([len(real_a), len(real_b)])
        fake_a, idt_a = gen_ba(torch.cat([real_b, real_a])).split([len(real_b), len(real_a)])
        extra |= {"idt_a": idt_a, "idt_b": idt_b}
    else:
        fake_b, fake_a = gen_ab(real_a), gen_ba(real_b)
    if cycle:
        extra |= {"rec_a": gen_ba(_noisy(fake_b, cycle_noise)), "rec_b": gen_ab(_noisy(fake_a, cycle_noise))}
    return {"fake_a": fake_a, "fake_b": fake_b, **extra}


def _recalled(
    remembered: Memories | None,
    domain: str,
    kinds: Iterable[str],
    combine: Callable[[Remembered, Remembered], Remembered],
) -> Remembered | None:
    """What is remembered of some kinds of images of a domain, combined; None without memories."""
    names = [f"{kind}_{domain}" for kind in kinds]
    return reduce(combine, [remembered[name] for name in names]) if remembered and names[0] in remembered else None


def _noisy(images: Tensor, deviation: float) -> Tensor:
    return (images + deviation * torch.randn_like(images)).clamp(-1, 1) if deviation > 0 else images


class CycleGAN(LightningModule):
    """Unpaired translation between domains A (photos) and B (paintings).

    Batches are {"a", "b"}: (N, 3, H, W) in [-1, 1]. ``disc_a`` judges images of A. A weight of
    zero leaves its term out, forward pass included.

    Args:
        generator: makes a generator; called twice.
        discriminator: makes a discriminator; called twice.
        adversarial_loss: see `monet_cyclegan.losses`.
        optimizer: makes an optimizer from parameters and ``lr``.
        lr: learning rate of the generators.
        lr_disc: learning rate of the discriminators; None for that of the generators.
        schedule: learning-rate factor as a function of the finished share of the training, in [0, 1].
        lambda_adv: weight of the adversarial loss.
        lambda_cycle: weight of the cycle loss.
        lambda_identity: weight of the identity loss, absolute: the paper's 0.5 times 10 is 5.
        lambda_consistency: weight of the consistency loss of an image and its translation, both made smaller.
        consistency_factor: how many times smaller.
        consistency_squared: whether it is the mean of squared differences; else of absolute ones.
        perceptual: makes the perceptual distance; called if its weight isn't 0; None for none.
        lambda_perceptual: weight of the perceptual distance of an image and its translation.
        style: makes the distance of textures; called if its weight isn't 0; None for none.
        lambda_style: weight of the distance of translations' textures from those of real images of their domain.
        identity_schedule: factor of the identity loss as a function of the finished share of the training.
        cycle_noise: deviation of the noise on translations before they are translated back, of values in [-1, 1].
        augment: makes what augments the images that a discriminator sees; called twice; None for nothing.
        pool_size: generated images kept for the discriminators, 0 for none.
        penalties: gradient penalties on the discriminators, by name.
        clip: gradient clipping, in place on parameters; None for none.
        ema_decay: decay of the generators' moving average, which evaluation uses; 0 for none.
        compile: mode of torch.compile for what a step computes, see `monet_cyclegan.compilation`; False for none.
        channels_last: whether weights and images lie in memory with their channels last (NHWC).
        seed: with epoch, batch and rank the seed of all that a training step draws.

    Raises:
        ValueError: for a negative weight, or if all are zero; for ``lambda_perceptual`` without ``perceptual``, or
            ``lambda_style`` without ``style``; for an unknown mode of torch.compile.
    """

    def __init__(
        self,
        generator: Callable[[], nn.Module],
        discriminator: Callable[[], nn.Module],
        adversarial_loss: AdversarialLoss,
        optimizer: Callable[..., Optimizer],
        lr: float = 2e-4,
        lr_disc: float | None = None,
        schedule: Callable[[float], float] = constant,
        lambda_adv: float = 1.0,
        lambda_cycle: float = 10.0,
        lambda_identity: float = 5.0,
        lambda_consistency: float = 0.0,
        consistency_factor: int = 8,
        consistency_squared: bool = False,
        perceptual: Callable[[], PerceptualDistance] | None = None,
        lambda_perceptual: float = 0.0,
        style: Callable[[], StyleDistance] | None = None,
        lambda_style: float = 0.0,
        identity_schedule: Callable[[float], float] = constant,
        cycle_noise: float = 0.0,
        augment: Callable[[], DiffAugment] | None = None,
        pool_size: int = 50,
        penalties: Mapping[str, GradientPenalty] | None = None,
        clip: Callable[[Iterable[nn.Parameter]], Tensor] | None = None,
        ema_decay: float = 0.999,
        compile: str | bool = False,
        channels_last: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        check_mode(compile)
        weights = {"lambda_adv": lambda_adv, "lambda_cycle": lambda_cycle, "lambda_identity": lambda_identity}
        weights |= {"lambda_consistency": lambda_consistency, "lambda_perceptual": lambda_perceptual}
        weights["lambda_style"] = lambda_style
        if not (min(weights.values()) >= 0 and sum(weights.values()) > 0):
            raise ValueError(f"the weights of the losses must be 0 or more, and not all 0, got {weights}")
        if cycle_noise < 0:
            raise ValueError(f"cycle_noise must be 0 or more, got {cycle_noise}")
        if consistency_factor < 1:
            raise ValueError(f"consistency_factor must be at least 1, got {consistency_factor}")
        if lambda_perceptual > 0 and not perceptual:
            raise ValueError(f"lambda_perceptual={lambda_perceptual} needs a distance: add model/perceptual=vgg")
        if lambda_style > 0 and not style:
            raise ValueError(f"lambda_style={lambda_style} needs a distance: add model/style=vgg")
        self.automatic_optimization = False
        self.gen_ab, self.gen_ba = generator(), generator()
        self.disc_a, self.disc_b = discriminator(), discriminator()
        self.augment_a = augment() if augment else None
        self.augment_b = augment() if augment else None
        self.pool_a, self.pool_b = ImagePool(pool_size), ImagePool(pool_size)
        # All of it are buffers that no state dict has; made only now, since without a weight nobody needs its package.
        self.perceptual = perceptual() if perceptual and lambda_perceptual > 0 else None
        self.style = style() if style and lambda_style > 0 else None
        self.memories = ModuleDict(memories_of(self.disc_a, self.disc_b))
        self.ema_ab = EMA(self.gen_ab, ema_decay) if ema_decay > 0 else None
        self.ema_ba = EMA(self.gen_ba, ema_decay) if ema_decay > 0 else None
        self.adversarial_loss = adversarial_loss
        self.optimizer = optimizer
        self.lr, self.lr_disc = lr, lr if lr_disc is None else lr_disc
        self.schedule = schedule
        self.lambda_adv, self.lambda_cycle, self.lambda_identity = lambda_adv, lambda_cycle, lambda_identity
        self.lambda_consistency, self.consistency_factor = lambda_consistency, consistency_factor
        self.consistency_squared = consistency_squared
        self.lambda_perceptual, self.lambda_style = lambda_perceptual, lambda_style
        self.identity_schedule = identity_schedule
        self.cycle_noise = cycle_noise
        self.penalties = dict(penalties or {})
        self.clip = clip or gradient_norm
        self.step_logs = {"gen": StepLog(), "disc": StepLog()}  # for whoever looks for steps that were skipped
        self.seed = seed
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        self.compile_mode = compile
        self.generators_pass = compiled(self.translate_and_judge, compile)
        self.discriminators_pass = compiled(self.discriminator_losses, compile)

    @property
    def augments(self) -> dict[str, DiffAugment | None]:
        """What augments the images that each discriminator sees."""
        return {"a": self.augment_a, "b": self.augment_b}

    @property
    def evaluation_generators(self) -> tuple[nn.Module, nn.Module]:
        """The generators A to B and B to A that are judged and shipped: the averaged ones, if there are any."""
        if self.ema_ab is None or self.ema_ba is None:
            return self.gen_ab, self.gen_ba
        return self.ema_ab.model, self.ema_ba.model

    def as_saved(self, path: Path | str) -> AbstractContextManager[None]:
        """Meanwhile, the generator A to B that is judged has the weights of a checkpoint of this model."""
        return weights_of_checkpoint(self, self.evaluation_generators[0], path)

    @property
    def batches_done(self) -> int:
        """Batches trained on. Lightning's global_step counts every optimizer step, and there are two a batch."""
        return self.global_step // 2

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimizer for both generators, one for both discriminators."""
        gens = [*self.gen_ab.parameters(), *self.gen_ba.parameters()]
        discs = [*self.disc_a.parameters(), *self.disc_b.parameters()]
        return [self.optimizer(gens, lr=self.lr), self.optimizer(discs, lr=self.lr_disc)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add all processes' image histories and memories: each has its own, and the state dict is the first one's."""
        own = {"a": self.pool_a, "b": self.pool_b, **self.memories}
        histories = gather({name: part.get_extra_state() for name, part in own.items()})
        if len(histories) > 1:
            checkpoint[HISTORIES] = histories

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take this process's image history and memories out of those; more processes than there were share some."""
        histories = checkpoint.get(HISTORIES)
        if histories:
            for name, state in histories[self.global_rank % len(histories)].items():
                part = f"memories.{name}" if name in self.memories else f"pool_{name}"
                checkpoint["state_dict"][f"{part}._extra_state"] = state

    def training_step(self, batch: Images, batch_idx: int) -> None:
        """Step the generators, then the discriminators on pooled fakes, then the moving averages."""
        reseed_torch(self.seed, self.current_epoch, batch_idx, self.global_rank)
        begin_step(self.compile_mode)
        step = self.batches_done
        share = finished_share(self.trainer, step)
        factor = self.schedule(share)
        real_a, real_b = (batch[name].contiguous(memory_format=self.memory_format) for name in ("a", "b"))
        opt_gen, opt_disc = self.optimizers()  # type: ignore[attr-defined]
        remembered: Memories = {name: memory.recall(self.device) for name, memory in self.memories.items()}  # type: ignore[operator]

        with self.toggled_optimizer(opt_gen):
            fake_a, fake_b, gen_terms = self.generators_pass(real_a, real_b, remembered)
            gen_terms = self.with_identity_weight(gen_terms, self.identity_schedule(share))
            gen_terms |= self.feature_terms(real_a, real_b, fake_a, fake_b)
            grad_norm_gen = minimise(self, opt_gen, gen_terms, self.lr * factor, self.clip, self.step_logs["gen"])

        with self.toggled_optimizer(opt_disc):
            fake_a, fake_b = self.pool_a.query(fake_a), self.pool_b.query(fake_b)
            disc_terms, signs, seen = self.discriminators_pass(real_a, real_b, fake_a, fake_b, remembered)
            penalties = self.penalty_terms(real_a, real_b, fake_a, fake_b, step, remembered)
            all_terms, step_log = {**disc_terms, **penalties}, self.step_logs["disc"]
            grad_norm_disc = minimise(self, opt_disc, all_terms, self.lr_disc * factor, self.clip, step_log)
        for name, moments in seen.items():
            self.memories[name].remember(moments)  # type: ignore[operator]
        for name, sign in signs.items():
            self.augments[name].adapt(sign, len(real_a) * self.trainer.world_size)  # type: ignore[union-attr]

        if self.ema_ab is not None and self.ema_ba is not None:
            self.ema_ab.update(self.gen_ab, step)
            self.ema_ba.update(self.gen_ba, step)

        # Logging costs about as much as launching a generator: what nobody reads isn't logged. A lazy penalty is.
        lazy = any(penalty.every_n_steps > 1 and penalty.due(step) for penalty in self.penalties.values())
        if lazy or (batch_idx + 1) % self.trainer.log_every_n_steps == 0 or self.trainer.is_last_batch:  # type: ignore[attr-defined]
            disc_terms = {**disc_terms, **penalties}
            scalars = {**gen_terms, **disc_terms, "grad_norm_gen": grad_norm_gen, "grad_norm_disc": grad_norm_disc}
            self.log_dict({f"train/{name}": scalar.detach() for name, scalar in scalars.items()})
            self.log_dict({"train/lr": self.lr * factor, "train/lr_disc": self.lr_disc * factor})
            self.log_dict({f"train/augment_{name}": self.augments[name].probability for name in signs})  # type: ignore[union-attr]
            totals = {"train/gen": total(gen_terms).detach(), "train/disc": total(disc_terms).detach()}
            self.log_dict(totals)

    def translate_and_judge(
        self, real_a: Tensor, real_b: Tensor, remembered: Memories | None = None
    ) -> tuple[Tensor, Tensor, Terms]:
        """What the generators' step computes: fakes of A and of B, and the losses."""
        wanted = {"cycle": self.lambda_cycle > 0, "identity": self.lambda_identity > 0}
        images = translate(self.gen_ab, self.gen_ba, real_a, real_b, **wanted, cycle_noise=self.cycle_noise)
        return images["fake_a"], images["fake_b"], self.generator_losses(real_a, real_b, images, remembered)

    def generator_losses(
        self, real_a: Tensor, real_b: Tensor, images: Images, remembered: Memories | None = None
    ) -> Terms:
        """Adversarial, cycle and identity losses of both generators (arXiv:1703.10593 eq. 1, 2, 3 and §5.2)."""
        terms: Terms = {}
        sources = {"a": real_b, "b": real_a}
        for name, real, disc in (("a", real_a, self.disc_a), ("b", real_b, self.disc_b)):
            if self.lambda_adv > 0:
                earlier = (remembered or {}).get(f"fake_{name}")
                logits = discriminate(disc, images[f"fake_{name}"], self.augments[name], earlier)
                terms[f"adv_{name}"] = self.lambda_adv * self.adversarial_loss.generator(logits)
            if self.lambda_cycle > 0:
                terms[f"cycle_{name}"] = self.lambda_cycle * cycle_loss(images[f"rec_{name}"], real)
            if self.lambda_identity > 0:
                terms[f"identity_{name}"] = self.lambda_identity * identity_loss(images[f"idt_{name}"], real)
            if self.lambda_consistency > 0:
                fake, source = images[f"fake_{name}"], sources[name]
                loss = consistency_loss(fake, source, self.consistency_factor, squared=self.consistency_squared)
                terms[f"consistency_{name}"] = self.lambda_consistency * loss
        return terms

    def with_identity_weight(self, terms: Terms, factor: float) -> Terms:
        """The same with the identity losses multiplied; not in what is compiled, which would be compiled for each."""
        if factor == 1 or self.lambda_identity == 0:
            return terms
        return {name: factor * term if name.startswith("identity_") else term for name, term in terms.items()}

    def feature_terms(self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor) -> Terms:
        """Distances in a frozen network's features: of a translation from its source, of its textures from real ones.

        Not compiled: that takes a minute, to save a tenth.
        """
        terms: Terms = {}
        for name, fake, source, real in (("a", fake_a, real_b, real_a), ("b", fake_b, real_a, real_b)):
            if self.perceptual is not None:
                terms[f"perceptual_{name}"] = self.lambda_perceptual * self.perceptual(fake, source)
            if self.style is not None:
                terms[f"style_{name}"] = self.lambda_style * self.style(fake, real)
        return terms

    def discriminator_losses(
        self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor, remembered: Memories | None = None
    ) -> tuple[Terms, dict[str, Tensor], dict[str, Tensor]]:
        """Adversarial losses of both discriminators, and what goes into the next steps.

        Returns:
            The losses; E[sign(D)] on real images where augmentation goes by it; and by the images' names, what a
            discriminator that compares images is to remember.
        """
        terms: Terms = {}
        signs: dict[str, Tensor] = {}
        seen: dict[str, Tensor] = {}
        for name, disc, real, fake in (("a", self.disc_a, real_a, fake_a), ("b", self.disc_b, real_b, fake_b)):
            # One forward pass for both: each image is judged alone, or by others of its kind.
            counts = [len(real), len(fake)]
            if compares(disc) and len(real) != len(fake):
                raise ValueError(f"{len(real)} real images, but {len(fake)} fake ones, which can't be compared apart")
            earlier = _recalled(remembered, name, ("real", "fake"), Remembered.beside)
            judged, moments = judge(disc, torch.cat([real, fake]), self.augments[name], earlier, groups=2)
            logits = [scale.split(counts) for scale in judged]
            real_logits, fake_logits = zip(*logits, strict=True)
            if moments is not None:
                seen[f"real_{name}"], seen[f"fake_{name}"] = moments.split(counts)
            terms[f"disc_{name}"] = self.adversarial_loss.discriminator(real_logits, fake_logits)
            if getattr(self.augments[name], "target", None) is not None:
                signs[name] = mean_sign(real_logits, self.adversarial_loss.boundary)
        return terms, signs, seen

    def penalty_terms(
        self,
        real_a: Tensor,
        real_b: Tensor,
        fake_a: Tensor,
        fake_b: Tensor,
        step: int,
        remembered: Memories | None = None,
    ) -> Terms:
        """The gradient penalties due at ``step``; never compiled, since compilers don't differentiate twice.

        A discriminator that compares images judges each point by what it remembers of the kinds that points are made
        of, and remembers none of them.
        """
        terms: Terms = {}
        for name, disc, real, fake in (("a", self.disc_a, real_a, fake_a), ("b", self.disc_b, real_b, fake_b)):
            for key, penalty in self.penalties.items():
                if penalty.due(step):
                    earlier = _recalled(remembered, name, penalty.kinds, Remembered.joined)
                    gate = partial(
                        discriminate, disc, augment=self.augments[name], remembered=earlier, groups=len(real)
                    )
                    terms[f"{key}_{name}"] = penalty(gate, real, fake)
        return terms

    def validation_step(self, batch: Images, batch_idx: int, dataloader_idx: int = 0) -> Images:
        """Translate held-out images of A (first loader) or of B (second) for whoever measures them."""
        gen_ab, gen_ba = self.evaluation_generators
        if dataloader_idx == 0:
            return {"real_a": batch["a"], "fake_b": gen_ab(batch["a"])}
        return {"real_b": batch["b"], "fake_a": gen_ba(batch["b"])}

    def showcase(self, real_a: Tensor, real_b: Tensor) -> Images:
        """Translate, reconstruct and map to themselves some images of both domains, as evaluation sees them."""
        generators = self.evaluation_generators
        modes = [generator.training for generator in generators]
        for generator in generators:
            generator.eval()  # without a moving average they are those in training
        images = translate(*generators, real_a, real_b, cycle=True, identity=True)
        for generator, mode in zip(generators, modes, strict=True):
            generator.train(mode)
        return {"real_a": real_a, "real_b": real_b, **images}

    @torch.no_grad()
    def showcase_held_out(self, count: int) -> Images:
        """Show the data module's first held-out images, always the same, in the precision of the training."""
        trainer: Any = self.trainer
        real_a, real_b = trainer.datamodule.fixed_images(count)
        with trainer.precision_plugin.forward_context():
            return self.showcase(real_a.to(self.device), real_b.to(self.device))
