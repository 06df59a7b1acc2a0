"""Three ways in which a CycleGAN goes wrong while its losses look well: a line for each, with what to try."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback

from monet_cyclegan.images import to_float, to_uint8
from monet_cyclegan.metrics.jpeg import QUALITY, jpeg_round_trip

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer
    from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as JPEG has it
_CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # Cb, Cr
_LOGITS = torch.linspace(-3, 3, 601)  # where to look for what a discriminator that knows nothing would say
_LEVEL = 2 / 255  # one of 256 in [-1, 1]


class Alarms(Callback):
    """Look at each validation for inverted colours, steganography and a dead discriminator; no alarm ends a run.

    An alarm is a line, said once until it has cleared. A direction is named as by `Evaluate`: ``val/x`` is A to B,
    ``val/x_<name of A>`` B to A. Each looks at ``num_images`` held-out images in each process, and all processes
    together come to one value.

    - ``luminance_correlation``: of input and translation, pixel by pixel, the mean over images. Nothing in adversarial
      and cycle losses keeps dark dark: inverting twice is a perfect cycle.
    - ``chroma_cosine``: the cosine of the angle between the chroma (Cb, Cr) of all pixels of input and translation,
      the mean over images: below 0 blue is orange, which a perfect cycle may be as well. Without colours it is 0.
    - ``cycle_error``, ``cycle_error_jpeg``: mean absolute differences in [-1, 1] of an image and its reconstruction,
      from the translation as it is and from what a JPEG file of it would show. ``hidden_information``: by how much the
      error grows for each unit by which JPEG changes the translation. A translation that shows its content gives about
      1 or less; one that hides it in what no eye sees (Chu et al. 2017, arXiv:1712.02950 §4 and §5) many times more.
    - A discriminator is dead if in all of the last lines of the log its loss is next to nothing, since a perfect one
      has no gradient for the generator (Arjovsky and Bottou 2017, arXiv:1701.04862 §2); or if the loss stays at that of
      one that gives all images the same logit, with hardly a gradient left. A critic's loss has no bound, and its
      optimum is wanted (arXiv:1701.07875 §3), so that only the second applies to it.

    Args:
        num_images: looked at in each direction, the first of each validation.
        correlation: below it is the alarm.
        hidden: ``hidden_information`` above it is the alarm, if JPEG at least doubles the cycle error.
        perfect: a loss below this share of an ignorant discriminator's is next to nothing.
        lines: of the log, over which a discriminator has to stay so.
        vanished: a gradient norm below this share of the largest one seen is next to nothing.

    Raises:
        ValueError: unless num_images and lines are positive.
    """

    def __init__(
        self,
        num_images: int = 8,
        correlation: float = 0.2,
        hidden: float = 5.0,
        perfect: float = 0.02,
        lines: int = 50,
        vanished: float = 0.01,
    ):
        if num_images < 1 or lines < 1:
            raise ValueError(f"num_images and lines must be 1 or more, got {num_images} and {lines}")
        self.num_images = num_images
        self.correlation = correlation
        self.hidden = hidden
        self.perfect = perfect
        self.lines = lines
        self.vanished = vanished
        self._pairs: dict[str, list[tuple[Tensor, Tensor]]] = {}  # by source: inputs and translations of some batches
        self._logged: deque[Tensor] = deque(maxlen=lines)  # on the device: both losses, gradient norm
        self._largest_norm: Tensor | None = None
        self._on: set[str] = set()  # alarms that have been said

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep what a line of the log says of the discriminators, without reading it."""
        if (batch_idx + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        logged = trainer.callback_metrics
        row = torch.stack([logged[f"train/{name}"] for name in ("disc_a", "disc_b", "grad_norm_disc")])
        self._logged.append(row)
        # Of what was NaN the maximum with 0 would be NaN for ever.
        norm = row[2].nan_to_num(0.0, posinf=0.0)
        self._largest_norm = norm if self._largest_norm is None else torch.maximum(self._largest_norm, norm)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the images of the validation before."""
        self._pairs = {"a": [], "b": []}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keep the first images."""
        for source, target in (("a", "b"), ("b", "a")):
            if f"real_{source}" in outputs:
                left = self.num_images - sum(len(real) for real, _ in self._pairs[source])
                if left > 0:
                    self._pairs[source].append((outputs[f"real_{source}"][:left], outputs[f"fake_{target}"][:left]))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, log, and say what is wrong."""
        pairs, self._pairs = self._pairs, {}
        if trainer.sanity_checking:
            return
        names: dict[str, str] = trainer.datamodule.names  # type: ignore[attr-defined]
        for source, target, suffix in (("a", "b", ""), ("b", "a", f"_{names['a']}")):
            sums = self._sums(trainer, pl_module, source, pairs[source])
            count, *values = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
            if count == 0:
                continue
            correlation, chroma, error, error_jpeg, change = (value / count for value in values)
            hidden = (error_jpeg - error) / max(change, _LEVEL / 100)
            scores = {
                "luminance_correlation": correlation,
                "chroma_cosine": chroma,
                "cycle_error": error,
                "cycle_error_jpeg": error_jpeg,
                "hidden_information": hidden,
            }
            pl_module.log_dict({f"val/{name}{suffix}": score for name, score in scores.items()})
            where = f"{names[source]} to {names[target]}"
            self._colours(trainer, where, suffix, correlation, chroma)
            self._say(
                trainer,
                hidden > self.hidden and error_jpeg > 2 * error,
                f"{where}: the translation hides what it doesn't show: after JPEG the cycle error is {error_jpeg:.3f} "
                f"instead of {error:.3f} (val/hidden_information{suffix} {hidden:.1f}): try a lower model.lambda_cycle",
                key=f"hidden {where}",
            )
        if self._logged and trainer.state.fn == "fit":
            self._judge_discriminators(trainer, pl_module, names)

    def _colours(self, trainer: Trainer, where: str, suffix: str, luminance: float, chroma: float) -> None:
        name, value = f"val/luminance_correlation{suffix}", luminance
        if luminance < 0:
            what = "colours are inverted"
        elif luminance < self.correlation:
            what = "light and dark hardly follow the input"
        else:
            what = "hues are inverted"
            name, value = f"val/chroma_cosine{suffix}", chroma
        self._say(
            trainer,
            luminance < self.correlation or chroma < 0,
            f"{where}: {what} ({name} {value:.2f}): "
            "try a higher model.lambda_identity, or start again with another seed if it stays so",
            key=f"colours {where}",
        )

    @torch.no_grad()
    def _sums(
        self, trainer: Trainer, pl_module: LightningModule, source: str, pairs: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Number of images, and sums over them of both colour scores, both cycle errors, and change by JPEG (6,)."""
        gen_ab, gen_ba = pl_module.evaluation_generators  # type: ignore[misc]
        back = gen_ba if source == "a" else gen_ab
        was_training = back.training
        back.eval()
        sums = torch.zeros(6, device=pl_module.device)
        for real, fake in pairs:
            shown = to_float(jpeg_round_trip(to_uint8(fake), QUALITY))
            with trainer.precision_plugin.forward_context():
                again, from_jpeg = back(torch.cat([fake, shown.to(fake.dtype)])).split(len(fake))
            measured = (
                luminance_correlation(real, fake),
                chroma_cosine(real, fake),
                *((one.float() - other.float()).abs().mean(dim=(1, 2, 3)) for one, other in
                  ((again, real), (from_jpeg, real), (shown, fake))),
            )  # fmt: skip
            sums += torch.stack([torch.ones_like(measured[0]), *measured]).sum(dim=1)
        back.train(was_training)
        return sums

    def _judge_discriminators(self, trainer: Trainer, pl_module: LightningModule, names: dict[str, str]) -> None:
        assert self._largest_norm is not None
        rows = torch.stack([*self._logged, self._largest_norm.expand(3)]).cpu()
        rows, largest = rows[:-1], rows[-1, 0]
        ignorant = ignorant_loss(pl_module.adversarial_loss)
        still = bool((rows[:, 2] <= self.vanished * largest).all())
        for index, domain in enumerate(("a", "b")):
            losses = rows[:, index]
            perfect = ignorant > 0 and bool((losses < self.perfect * ignorant).all())
            off = (losses - ignorant).abs()
            chance = still and bool((off < self.perfect * max(ignorant, 1.0)).all())
            why = (
                "it knows all translations, and the generator learns nothing from it: "
                "try a lower model.lr_disc or model/penalties=[r1]"
                if perfect
                else "it judges all images alike, and hardly has a gradient: try another model.lr_disc or seed"
            )
            self._say(
                trainer,
                len(rows) == self.lines and (perfect or chance),
                f"the discriminator of {names[domain]} is dead: train/disc_{domain} is {losses.mean():.2g} over "
                f"{self.lines} lines of the log: {why}",
                key=f"dead {domain}",
            )

    def _say(self, trainer: Trainer, wrong: bool, line: str, key: str) -> None:
        """Print the line where its alarm begins."""
        if wrong and key not in self._on and trainer.is_global_zero:
            print(f"alarm: {line}", flush=True)
        self._on = self._on | {key} if wrong else self._on - {key}


def luminance_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation of the luminances of two images' pixels (N,), of (N, 3, H, W); 0 where one is constant."""
    first, second = (_mix(images, (_LUMA,)) for images in (one, other))
    return _cosine(first - first.mean(dim=1, keepdim=True), second - second.mean(dim=1, keepdim=True))


def chroma_cosine(one: Tensor, other: Tensor) -> Tensor:
    """Cosine of the angle between two images' chroma, all pixels' (N,), of (N, 3, H, W); 0 where one is grey."""
    return _cosine(_mix(one, _CHROMA), _mix(other, _CHROMA))


def _mix(images: Tensor, weights: tuple[tuple[float, ...], ...]) -> Tensor:
    """Weighted sums of the channels: (N, 3, H, W), (D, 3) -> (N, D * H * W)."""
    return torch.einsum("nchw,dc->ndhw", images.float(), torch.tensor(weights, device=images.device)).flatten(1)


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    """Of vectors (N, D) -> (N,); of what is below a level of 255 all over, rounding would be most of it, so about 0."""
    norms = torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(y, dim=1)
    return (x * y).sum(dim=1) / norms.clamp(min=1e-6 * x.shape[1])


def ignorant_loss(adversarial_loss: Any) -> float:
    """The least loss of a discriminator that judges all images alike: LSGAN ¼, cross-entropy ln 2, hinge 2, WGAN 0."""
    return float((adversarial_loss.real_term(_LOGITS) + adversarial_loss.fake_term(_LOGITS)).min())
