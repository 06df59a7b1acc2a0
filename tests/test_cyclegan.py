from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback
from lightning.pytorch.callbacks import Timer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from monet_cyclegan.callbacks.progress_bar import ProgressBar
from monet_cyclegan.clipping import NormClip
from monet_cyclegan.cyclegan import discriminate, translate
from monet_cyclegan.diff_augment import DiffAugment
from monet_cyclegan.loggers import CSVLog
from monet_cyclegan.losses import HingeLoss, LSGANLoss, TwoObjectives, VanillaLoss, WassersteinLoss
from monet_cyclegan.networks import CompactGenerator, ResNetGenerator, UNetGenerator, ViTUNetGenerator
from monet_cyclegan.networks.batch_statistics import BatchStatisticsGAN
from monet_cyclegan.networks.patchgan import MultiScaleGAN, PatchGAN
from monet_cyclegan.penalties import R1, WGANGP, ZeroCentered
from monet_cyclegan.schedules import constant_then_linear, cosine
from monet_cyclegan.steps import total

if TYPE_CHECKING:
    from pathlib import Path

GENERATORS = ("gen_ab", "gen_ba")
DISCRIMINATORS = ("disc_a", "disc_b")
COMPARING = partial(BatchStatisticsGAN, num_layers=1, base_channels=2, head_channels=2, memory_size=3)


def images(seed: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def weights(model: nn.Module, names: tuple[str, ...]) -> torch.Tensor:
    return torch.cat(
        [parameter.detach().flatten().clone() for name in names for parameter in getattr(model, name).parameters()]
    )


class StepRecorder(Callback):
    """Runs one batch with optimizers that note which networks had changed after each of their steps."""

    def __init__(self):
        self.changed: list[dict[str, bool]] = []

    def on_train_start(self, trainer, pl_module):
        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(self.before)
            optimizer.register_step_post_hook(self.after)
        self.model = pl_module

    def before(self, *_):
        self.old = {name: weights(self.model, (name,)) for name in GENERATORS + DISCRIMINATORS}

    def after(self, *_):
        self.changed.append(
            {name: not torch.equal(old, weights(self.model, (name,))) for name, old in self.old.items()}
        )


def test_the_generators_step_leaves_the_discriminators_untouched_and_the_other_way_round(tmp_path: Path):
    recorder = StepRecorder()
    tiny_trainer(tmp_path, [recorder], max_epochs=1, limit_train_batches=1).fit(tiny_model(), tiny_data(tmp_path))
    generators_step, discriminators_step = recorder.changed
    assert generators_step == {"gen_ab": True, "gen_ba": True, "disc_a": False, "disc_b": False}
    assert discriminators_step == {"gen_ab": False, "gen_ba": False, "disc_a": True, "disc_b": True}


def test_the_discriminators_loss_sends_no_gradient_to_the_generators_nor_theirs_to_the_discriminators(tmp_path: Path):
    class GradientRecorder(Callback):
        def __init__(self):
            self.had_gradient: list[set[str]] = []

        def on_after_backward(self, trainer, pl_module):
            networks = {name: list(getattr(pl_module, name).parameters()) for name in GENERATORS + DISCRIMINATORS}
            self.had_gradient.append({name for name, ps in networks.items() if any(p.grad is not None for p in ps)})
            for parameter in pl_module.parameters():
                parameter.grad = None

    recorder = GradientRecorder()
    tiny_trainer(tmp_path, [recorder], max_epochs=1, limit_train_batches=1).fit(tiny_model(), tiny_data(tmp_path))
    assert recorder.had_gradient == [set(GENERATORS), set(DISCRIMINATORS)]


def test_translating_and_identity_in_one_pass_give_what_separate_passes_give():
    model = tiny_model()
    real_a, real_b = images(1), images(2)
    together = translate(model.gen_ab, model.gen_ba, real_a, real_b, cycle=True, identity=True)
    apart = {
        "fake_b": model.gen_ab(real_a),
        "fake_a": model.gen_ba(real_b),
        "idt_b": model.gen_ab(real_b),
        "idt_a": model.gen_ba(real_a),
    }
    apart["rec_a"], apart["rec_b"] = model.gen_ba(apart["fake_b"]), model.gen_ab(apart["fake_a"])
    assert together.keys() == apart.keys()
    for name, expected in apart.items():
        torch.testing.assert_close(together[name], expected, msg=name)


def test_generator_losses_are_the_papers_with_their_weights():
    model = tiny_model(lambda_adv=2.0, lambda_cycle=10.0, lambda_identity=5.0)
    real_a, real_b = images(1), images(2)
    made = translate(model.gen_ab, model.gen_ba, real_a, real_b, cycle=True, identity=True)
    terms = model.generator_losses(real_a, real_b, made)
    (judged,) = model.disc_b(made["fake_b"])
    expected = {
        "adv_b": 2 * ((judged - 1) ** 2).mean(),
        "cycle_a": 10 * (made["rec_a"] - real_a).abs().mean(),
        "identity_b": 5 * (made["idt_b"] - real_b).abs().mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, msg=name)
    assert set(terms) == {"adv_a", "adv_b", "cycle_a", "cycle_b", "identity_a", "identity_b"}


def test_each_discriminator_learns_real_images_of_its_domain_from_fake_ones():
    model = tiny_model()
    real_a, real_b, fake_a, fake_b = map(images, range(4))
    terms, signs, seen = model.discriminator_losses(real_a, real_b, fake_a, fake_b)
    for name, disc, real, fake in (("a", model.disc_a, real_a, fake_a), ("b", model.disc_b, real_b, fake_b)):
        (on_real,), (on_fake,) = disc(real), disc(fake)
        expected = ((on_real - 1) ** 2).mean() / 2 + (on_fake**2).mean() / 2
        torch.testing.assert_close(terms[f"disc_{name}"], expected)
    assert set(terms) == {"disc_a", "disc_b"}
    assert signs == {}
    assert seen == {}


def test_the_consistency_loss_compares_a_translation_with_its_source():
    model = tiny_model(lambda_consistency=3.0, consistency_factor=4)
    real_a, real_b = images(1), images(2)
    made = translate(model.gen_ab, model.gen_ba, real_a, real_b, cycle=True, identity=True)
    terms = model.generator_losses(real_a, real_b, made)
    small = torch.nn.AvgPool2d(4)
    expected = 3 * (small(made["fake_b"]) - small(real_a)).abs().mean()
    torch.testing.assert_close(terms["consistency_b"], expected)

    squared = tiny_model(lambda_consistency=3.0, consistency_factor=4, consistency_squared=True)
    terms = squared.generator_losses(real_a, real_b, made)
    expected = 3 * (small(made["fake_b"]) - small(real_a)).square().mean()
    torch.testing.assert_close(terms["consistency_b"], expected)


def test_noise_on_translations_reaches_the_way_back_alone():
    model = tiny_model()
    real_a, real_b = images(1), images(2)
    torch.manual_seed(0)
    plain = translate(model.gen_ab, model.gen_ba, real_a, real_b, cycle=True, identity=True)
    noisy = translate(model.gen_ab, model.gen_ba, real_a, real_b, cycle=True, identity=True, cycle_noise=0.1)
    same = {name for name, image in plain.items() if torch.equal(image, noisy[name])}
    assert same == {"fake_a", "fake_b", "idt_a", "idt_b"}


def test_the_identity_schedule_multiplies_the_identity_losses_and_no_other():
    model = tiny_model()
    terms = {name: torch.tensor(2.0) for name in ("adv_a", "cycle_a", "identity_a", "identity_b")}
    weighted = model.with_identity_weight(terms, 0.25)
    expected = {"adv_a": 2.0, "cycle_a": 2.0, "identity_a": 0.5, "identity_b": 0.5}
    assert {name: float(term) for name, term in weighted.items()} == expected


def test_what_a_discriminator_sees_is_augmented_at_its_gate_for_real_fake_and_penalised_images():
    class Halved(torch.nn.Module):
        target = None

        def forward(self, images):
            return images / 2

    model, plain = tiny_model(augment=Halved, penalties={"r1": R1(every_n_steps=1)}), tiny_model()
    plain.load_state_dict(model.state_dict())
    real_a, real_b, fake_a, fake_b = map(images, range(4))
    terms, *_ = model.discriminator_losses(real_a, real_b, fake_a, fake_b)
    expected, *_ = plain.discriminator_losses(real_a / 2, real_b / 2, fake_a / 2, fake_b / 2)
    torch.testing.assert_close(terms, expected)
    made = {"fake_a": fake_a, "fake_b": fake_b, "rec_a": real_a, "rec_b": real_b, "idt_a": real_a, "idt_b": real_b}
    halved = {**made, "fake_a": fake_a / 2, "fake_b": fake_b / 2}
    adversarial = model.generator_losses(real_a, real_b, made)["adv_b"]
    torch.testing.assert_close(adversarial, plain.generator_losses(real_a, real_b, halved)["adv_b"])
    penalty = model.penalty_terms(real_a, real_b, fake_a, fake_b, 0)["r1_a"]
    unhalved = R1(every_n_steps=1)(lambda x: plain.disc_a(x / 2), real_a, fake_a)
    torch.testing.assert_close(penalty, unhalved)


def test_an_adaptive_augmentation_follows_its_own_discriminator(tmp_path):
    augment = partial(DiffAugment, ["color"], 0.5, target=0.6, images_to_one=10)
    model = tiny_model(augment=augment)
    tiny_trainer(tmp_path, max_epochs=1, limit_train_batches=2).fit(model, tiny_data(tmp_path))
    for name in "ab":
        probability = model.augments[name].probability.item()
        assert any(probability == pytest.approx(0.5 + change) for change in (-0.2, 0.0, 0.2))
    assert "augment_a.probability" in model.state_dict()


@pytest.mark.parametrize("weight", ["lambda_adv", "lambda_cycle", "lambda_identity"])
def test_a_weight_of_zero_leaves_its_term_out(weight: str):
    model = tiny_model(**{weight: 0.0})
    made = translate(model.gen_ab, model.gen_ba, images(1), images(2), cycle=True, identity=weight != "lambda_identity")
    term = weight.removeprefix("lambda_")
    names = {name.rpartition("_")[0] for name in model.generator_losses(images(1), images(2), made)}
    assert names == {"adv", "cycle", "identity"} - {term}


def test_without_identity_loss_no_image_of_the_target_domain_passes_the_generator():
    model, seen = tiny_model(), []
    model.gen_ab.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    translate(model.gen_ab, model.gen_ba, images(1), images(2), cycle=True, identity=False)
    assert seen == [2, 2]  # real_a, then fake_a on its way back


def test_without_cycle_loss_nothing_is_translated_back():
    model, seen = tiny_model(), []
    model.gen_ab.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    assert set(translate(model.gen_ab, model.gen_ba, images(1), images(2), cycle=False, identity=False)) == {
        "fake_a",
        "fake_b",
    }
    assert seen == [2]


@pytest.mark.parametrize(
    "weights_", [{"lambda_cycle": -1.0}, dict.fromkeys(("lambda_adv", "lambda_cycle", "lambda_identity"), 0.0)]
)
def test_weights_that_leave_nothing_to_learn_are_refused(weights_: dict[str, float]):
    with pytest.raises(ValueError, match="weights of the losses must be 0 or more"):
        tiny_model(**weights_)


def test_a_lazy_penalty_is_added_on_its_steps_only_and_judges_through_the_same_gate():
    penalty = R1(weight=3.0, every_n_steps=2)
    model = tiny_model(penalties={"r1": penalty})
    reals_and_fakes = real_a, real_b, fake_a, fake_b = [*map(images, range(4))]
    due = model.penalty_terms(*reals_and_fakes, step=4)
    torch.testing.assert_close(due["r1_a"], penalty(partial(discriminate, model.disc_a), real_a, fake_a))
    torch.testing.assert_close(due["r1_b"], penalty(partial(discriminate, model.disc_b), real_b, fake_b))
    assert set(due) == {"r1_a", "r1_b"}
    assert model.penalty_terms(*reals_and_fakes, step=5) == {}
    torch.testing.assert_close(total(due), due["r1_a"] + due["r1_b"])


def recalled(model, seed: int | None = None):
    """What a model remembers, of images drawn by ``seed``: each kind's of its own."""
    if seed is not None:
        for number, (name, memory) in enumerate(model.memories.items()):
            _, seen = getattr(model, f"disc_{name[-1]}").judge(images(seed + number, 3))
            memory.remember(seen)
    return {name: memory.recall(torch.device("cpu")) for name, memory in model.memories.items()}


def test_a_discriminator_that_compares_judges_real_and_fake_images_apart_by_what_it_knows_of_each_kind():
    model = tiny_model(discriminator=COMPARING)
    real_a, real_b, fake_a, fake_b = pictures = [*map(images, range(4))]
    remembered = recalled(model, seed=10)
    terms, _, seen = model.discriminator_losses(*pictures, remembered)
    assert set(seen) == {"real_a", "fake_a", "real_b", "fake_b"}
    for name, disc, real, fake in (("a", model.disc_a, real_a, fake_a), ("b", model.disc_b, real_b, fake_b)):
        (on_real,), seen_of_real = disc.judge(real, remembered[f"real_{name}"])
        (on_fake,), seen_of_fake = disc.judge(fake, remembered[f"fake_{name}"])
        torch.testing.assert_close(terms[f"disc_{name}"], ((on_real - 1) ** 2).mean() / 2 + (on_fake**2).mean() / 2)
        torch.testing.assert_close(seen[f"real_{name}"], seen_of_real)
        torch.testing.assert_close(seen[f"fake_{name}"], seen_of_fake)
        assert not seen[f"real_{name}"].requires_grad
    with pytest.raises(ValueError, match="2 real images, but 1 fake ones, which can't be compared apart"):
        model.discriminator_losses(real_a, real_b, fake_a[:1], fake_b[:1])


def test_generators_are_judged_by_the_fakes_that_are_remembered():
    model = tiny_model(discriminator=COMPARING)
    remembered = recalled(model, seed=10)
    _, fake_b, terms = model.translate_and_judge(images(1), images(2), remembered)
    (judged,) = model.disc_b(fake_b, remembered["fake_b"])
    torch.testing.assert_close(terms["adv_b"], ((judged - 1) ** 2).mean())
    real_instead = model.translate_and_judge(images(1), images(2), {**remembered, "fake_b": remembered["real_b"]})
    assert not torch.equal(real_instead[2]["adv_b"], terms["adv_b"])


@pytest.mark.parametrize("discriminator", [partial(PatchGAN, 1, 2), COMPARING], ids=["patches", "batch statistics"])
def test_real_and_fake_images_share_one_pass(discriminator: partial):
    model, seen = tiny_model(discriminator=discriminator), []
    model.disc_a.body.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    model.discriminator_losses(*map(images, range(4)))
    assert seen == [4]


def test_one_that_judges_each_image_alone_has_no_memory():
    model = tiny_model()
    assert len(model.memories) == 0
    assert not any("memor" in name for name in model.state_dict())


def test_only_the_discriminators_step_writes_into_memories_and_each_kind_into_its_own(tmp_path: Path):
    class Watch(Callback):
        """What the discriminators were given and the memories held, step by step."""

        def on_train_start(self, trainer, pl_module):
            self.model, self.held, self.seen, self.after = pl_module, [], [], []
            judge = pl_module.discriminators_pass
            trainer.optimizers[0].register_step_post_hook(lambda *_: self.held.append(recalled(self.model)))

            def watched(*given):
                terms, signs, seen = judge(*given)
                self.seen.append(seen)
                return terms, signs, seen

            pl_module.discriminators_pass = watched

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.after.append(recalled(pl_module))

    watch = Watch()
    model = tiny_model(discriminator=COMPARING, penalties={"r1": R1(every_n_steps=1), "gp": WGANGP()})
    tiny_trainer(tmp_path, [watch], max_epochs=1, limit_train_batches=4).fit(model, tiny_data(tmp_path))
    assert len(watch.after) == len(watch.held) == 4
    for before, held in zip(watch.after, watch.held[1:], strict=False):
        for name, memory in before.items():
            assert torch.equal(memory.moments, held[name].moments)
    for name, memory in watch.after[-1].items():
        assert torch.equal(memory.moments, torch.cat([seen[name] for seen in watch.seen[-3:]]))
        assert memory.weight.tolist() == [1, 1, 1]
    assert watch.after[0]["real_a"].weight.tolist() == [0, 0, 1]


def test_a_penalty_judges_each_image_by_what_is_remembered_of_the_kinds_its_points_are_of():
    r1, gp = R1(weight=3.0, every_n_steps=1), ZeroCentered()
    model = tiny_model(discriminator=COMPARING, penalties={"r1": r1, "gp": gp})
    pictures, remembered = [*map(images, range(4))], recalled(model, seed=10)
    real_a, _, fake_a, _ = pictures
    torch.manual_seed(0)
    terms = model.penalty_terms(*pictures, step=0, remembered=remembered)
    one_by_one = [
        R1(weight=3.0, every_n_steps=1)(
            partial(model.disc_a, remembered=remembered["real_a"]), image[None], image[None]
        )
        for image in real_a
    ]
    torch.testing.assert_close(terms["r1_a"], torch.stack(one_by_one).mean())
    both = remembered["real_a"].joined(remembered["fake_a"])
    torch.manual_seed(0)
    expected = gp(partial(model.disc_a, remembered=both, groups=2), real_a, fake_a)
    torch.testing.assert_close(terms["gp_a"], expected)
    assert all(torch.equal(memory.moments, remembered[name].moments) for name, memory in recalled(model).items())


def test_images_of_nan_are_not_remembered(tmp_path: Path):
    class Spoil(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.before = recalled(pl_module)
            if batch_idx == 2:
                batch["a"].fill_(float("nan"))

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            kept = {
                name: torch.equal(memory.moments, self.before[name].moments)
                for name, memory in recalled(pl_module).items()
            }
            # The fakes of A, made of B's images, are right.
            of_nan = {"real_a": True, "fake_a": False, "real_b": False, "fake_b": True}
            assert kept == (of_nan if batch_idx == 2 else dict.fromkeys(kept, False))

    model = tiny_model(discriminator=COMPARING, pool_size=0)
    tiny_trainer(tmp_path, [Spoil()], max_epochs=1, limit_train_batches=4).fit(model, tiny_data(tmp_path))
    assert all(memory.moments.isfinite().all() for memory in recalled(model).values())
    assert weights(model, GENERATORS + DISCRIMINATORS).isfinite().all()


class ScalarRecorder(Callback):
    def __init__(self):
        self.rows: list[dict[str, float]] = []
        self.rates: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.rows.append({key: float(value) for key, value in trainer.callback_metrics.items()})
        self.rates.append(tuple(optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers))


def test_every_loss_gradient_norm_and_rate_is_logged_and_the_totals_are_their_sums(tmp_path: Path):
    recorder = ScalarRecorder()
    model = tiny_model(penalties={"r1": R1(every_n_steps=1), "gp": ZeroCentered()})
    tiny_trainer(tmp_path, [recorder], max_epochs=1, limit_train_batches=2).fit(model, tiny_data(tmp_path))
    row = recorder.rows[-1]
    gen = ["adv_a", "adv_b", "cycle_a", "cycle_b", "identity_a", "identity_b"]
    disc = ["disc_a", "disc_b", "r1_a", "r1_b", "gp_a", "gp_b"]
    others = ["gen", "disc", "grad_norm_gen", "grad_norm_disc", "lr", "lr_disc"]
    assert set(row) == {f"train/{name}" for name in gen + disc + others}
    assert row["train/gen"] == pytest.approx(sum(row[f"train/{name}"] for name in gen), rel=1e-5)
    assert row["train/disc"] == pytest.approx(sum(row[f"train/{name}"] for name in disc), rel=1e-5)


def test_the_learning_rates_follow_the_schedule_over_the_batches_of_all_epochs(tmp_path: Path):
    recorder = ScalarRecorder()
    model = tiny_model(lr=0.4, lr_disc=0.8, schedule=partial(constant_then_linear, start=0.5))
    tiny_trainer(tmp_path, [recorder], max_epochs=2, limit_train_batches=4).fit(model, tiny_data(tmp_path))
    factors = [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]  # of 8 batches, at the start of each
    assert [gen for gen, _ in recorder.rates] == pytest.approx([0.4 * factor for factor in factors])
    assert [disc for _, disc in recorder.rates] == pytest.approx([0.8 * factor for factor in factors])
    assert model.batches_done == 8


def test_the_learning_rate_ends_with_the_wall_clock_budget(tmp_path: Path):
    class HalfGone(Timer):
        """Reports half of its ten hours as gone; the real clock is of no use to a test."""

        def time_elapsed(self, stage="train"):
            return 18000.0

    recorder = ScalarRecorder()
    trainer = tiny_trainer(
        tmp_path,
        [recorder, HalfGone(duration={"hours": 10})],
        max_epochs=1000,
        limit_train_batches=1,
        limit_val_batches=0,
    )
    trainer.fit_loop.max_epochs = 1000
    recorder.on_train_epoch_end = lambda trainer, _: setattr(trainer, "should_stop", True)
    trainer.fit(tiny_model(lr=1.0, schedule=cosine), tiny_data(tmp_path))
    assert recorder.rates == [pytest.approx((0.5, 0.5))]


def test_clipping_limits_what_the_optimizer_sees_and_the_norm_before_is_logged(tmp_path: Path):
    class NormRecorder(ScalarRecorder):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in parameters]))
            norms.append(float(norm))

    norms: list[float] = []
    recorder = NormRecorder()
    model = tiny_model(clip=NormClip(max_norm=1e-3))
    tiny_trainer(tmp_path, [recorder], max_epochs=1, limit_train_batches=1).fit(model, tiny_data(tmp_path))
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-3)
    assert recorder.rows[0]["train/grad_norm_gen"] > 1e-3


def test_the_average_of_the_generators_is_what_validation_uses(tmp_path: Path):
    model = tiny_model(ema_decay=0.9)
    tiny_trainer(tmp_path, max_epochs=1, limit_train_batches=3).fit(model, tiny_data(tmp_path))
    gen_ab, gen_ba = model.evaluation_generators
    assert gen_ab is model.ema_ab.model
    assert not torch.equal(weights(model, ("gen_ab",)), torch.cat([p.flatten() for p in gen_ab.parameters()]))
    output = model.validation_step({"b": images(1)}, 0, dataloader_idx=1)
    torch.testing.assert_close(output["fake_a"], gen_ba(images(1)))
    assert tiny_model(ema_decay=0.0).evaluation_generators[0].training


def test_a_checkpoints_average_translates_meanwhile_and_the_one_in_training_again_after(tmp_path: Path):
    path, model = tmp_path / "saved.ckpt", tiny_model(seed=1)
    trainer = tiny_trainer(tmp_path, max_epochs=1, limit_train_batches=2)
    trainer.fit(tiny_model(), tiny_data(tmp_path))
    trainer.save_checkpoint(path)
    generator, _ = model.evaluation_generators
    before, saved = generator(images(0)), trainer.lightning_module.evaluation_generators[0](images(0))
    with model.as_saved(path):
        assert torch.equal(generator(images(0)), saved)
    assert torch.equal(generator(images(0)), before)
    with pytest.raises(KeyboardInterrupt), model.as_saved(path):
        raise KeyboardInterrupt
    assert torch.equal(generator(images(0)), before)
    assert not torch.equal(before, saved)


FUSED = partial(torch.optim.Adam, betas=(0.5, 0.999), fused=True)  # another one reads its number of steps, on a CPU


class CountReads(TorchDispatchMode):
    """Counts how often a number is taken out of a tensor, for which a GPU would have to finish all it has to do."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
        return func(*args, **(kwargs or {}))


class ReadsPerBatch(Callback):
    def __init__(self):
        self.mode, self.reads = CountReads(), []

    def on_train_epoch_start(self, *_):
        self.mode.__enter__()

    def on_train_batch_end(self, *_):
        self.reads.append(self.mode.count)

    def on_train_epoch_end(self, *_):
        self.mode.__exit__(None, None, None)


@pytest.mark.parametrize("discriminator", [partial(PatchGAN, 1, 2), COMPARING], ids=["patches", "batch statistics"])
def test_no_number_is_read_back_but_for_a_line_of_the_log(tmp_path: Path, discriminator: partial):
    counter, bar = ReadsPerBatch(), ProgressBar(line_every_s=3600)
    penalties = {"r1": R1(every_n_steps=2), "gp": WGANGP()}
    model = tiny_model(discriminator=discriminator, penalties=penalties, clip=NormClip(1.0), optimizer=FUSED)
    trainer = tiny_trainer(tmp_path, [bar, counter], max_epochs=1, log_every_n_steps=4, logger=CSVLog(tmp_path))
    trainer.fit(model, tiny_data(tmp_path, count_a=12))
    reads = [after - before for before, after in pairwise(counter.reads)]
    assert len(reads) == 9
    # Counted at a batch's end, before its line: the fourth's and eighth's are seen in those that follow.
    assert [bool(count) for count in reads] == [False, False, False, True, False, False, False, True, True]


def test_what_was_drawn_before_a_batch_does_not_change_it(tmp_path: Path):
    class DrawSome(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            torch.rand(batch_idx + 3)

    def train(callbacks: list[Callback]) -> torch.Tensor:
        options = {"penalties": {"wgan_gp": WGANGP()}, "pool_size": 1}
        model = tiny_model(**options)
        tiny_trainer(tmp_path, callbacks, max_epochs=1).fit(model, tiny_data(tmp_path))
        return weights(model, GENERATORS + DISCRIMINATORS)

    assert torch.equal(train([]), train([DrawSome()]))


@pytest.mark.parametrize(
    "options",
    [
        {"adversarial_loss": VanillaLoss()},
        {"adversarial_loss": HingeLoss(), "discriminator": partial(PatchGAN, 1, 2, spectral_norm=True, norm="none")},
        {"adversarial_loss": WassersteinLoss(), "penalties": {"wgan_gp": WGANGP()}},
        {"discriminator": partial(MultiScaleGAN, 2, 1, 2), "penalties": {"r1": R1(every_n_steps=1)}},
        {"discriminator": COMPARING, "penalties": {"r1": R1(every_n_steps=1), "gp": WGANGP()}},
        {
            "discriminator": partial(COMPARING, num_heads=2, spectral_norm=True, norm="none"),
            "adversarial_loss": TwoObjectives(LSGANLoss(), HingeLoss()),
            "augment": partial(DiffAugment, ["color"], 0.5, target=0.6, images_to_one=10),
        },
        {"discriminator": partial(COMPARING, memory_size=0)},
    ],
    ids=[
        "vanilla",
        "hinge and spectral norm",
        "wgan-gp",
        "two scales and R1",
        "batch statistics and penalties",
        "batch statistics, two heads, spectral norm and augmentation",
        "statistics of the batch alone",
    ],
)
def test_each_way_of_judging_trains_without_nan(tmp_path: Path, options: dict):
    model = tiny_model(**options)
    before = weights(model, GENERATORS + DISCRIMINATORS)
    tiny_trainer(tmp_path, max_epochs=1, limit_train_batches=3).fit(model, tiny_data(tmp_path))
    after = weights(model, GENERATORS + DISCRIMINATORS)
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)


@pytest.mark.parametrize(
    "generator",
    [
        partial(ResNetGenerator, num_residual_blocks=1, base_channels=8),
        partial(ResNetGenerator, num_residual_blocks=1, base_channels=8, norm="none", image_skip=True),
        partial(UNetGenerator, num_levels=2, base_channels=8),
        partial(ViTUNetGenerator, 8, 2, num_blocks=1, embed_dim=12, num_heads=2, mlp_dim=12),
        partial(CompactGenerator, num_residual_blocks=1, base_channels=8),
    ],
    ids=["resnet", "resnet with image skip", "unet", "vit_unet", "compact"],
)
def test_it_overfits_two_images_there_and_back(generator):
    """Cycle and identity losses together ask for the identity: each generator finds it."""
    torch.manual_seed(0)
    model = tiny_model(generator=generator, lambda_adv=0.0, lambda_identity=10.0)
    real_a, real_b = images(0, count=1), -images(1, count=1).abs()
    optimizer = torch.optim.Adam([*model.gen_ab.parameters(), *model.gen_ba.parameters()], lr=5e-3)
    losses = []
    for _ in range(80):
        loss = total(model.translate_and_judge(real_a, real_b)[2])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert losses[-1] < 8  # of four terms, each ten times a mean difference: less than 0.2
