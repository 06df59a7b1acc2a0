from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_data, tiny_trainer
from lightning import Callback
from torch import nn

from monet_cyclegan import CHECKPOINT_FORMAT, CHECKPOINT_KEY
from monet_cyclegan.distillation import Distillation, detail_loss, haar, pixel_loss
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.networks import CompactGenerator, ResNetGenerator
from monet_cyclegan.schedules import cosine

EPOCHS = 3
BATCHES = 4  # an epoch: 7 photos to train on, two at a time


class KilledError(Exception):
    pass


class KillAfter(Callback):
    """Save a checkpoint and die at the end of a batch, counted from the start of the run."""

    def __init__(self, batches, path):
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.batches_done == self.batches:
            trainer.save_checkpoint(self.path)
            raise KilledError


class Losses(Callback):
    """Keeps each batch's loss and each validation's distances."""

    def __init__(self):
        self.training, self.validations = [], []

    def on_train_batch_end(self, trainer, *_):
        self.training.append(trainer.callback_metrics["train/gen"].item())

    def on_validation_end(self, trainer, *_):
        scores = trainer.callback_metrics
        self.validations.append({name: float(scores[name]) for name in scores if name.startswith("val/")})


class Tinted(nn.Module):
    """Half the contrast, in another colour."""

    def __init__(self, colour):
        super().__init__()
        self.colour = nn.Parameter(torch.tensor(colour)[:, None, None])

    def forward(self, images):
        return images / 2 + self.colour


def teachers():
    return [Tinted([0.4, -0.3, 0.0]), Tinted([-0.4, 0.0, 0.4])]


def student(seed=0, **overrides):
    torch.manual_seed(seed)
    options = {
        "generator": partial(CompactGenerator, num_residual_blocks=1, base_channels=2),
        "optimizer": torch.optim.Adam,
        "lr": 1e-2,
        "schedule": cosine,
        "ema_decay": 0.9,
    }
    model = Distillation(**{**options, **overrides})
    model.learn_from(*teachers())
    return model


def data(folder):
    return tiny_data(folder, count_a=9, count_b=6, batch_size=2)


def fit(folder, callbacks=(), ckpt_path=None, model=None, epochs=EPOCHS):
    model = model or student()
    trainer = tiny_trainer(folder, callbacks, max_epochs=epochs)
    trainer.fit(model, data(folder), ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return model, trainer


def test_the_haar_transform_is_orthonormal_and_knows_flat_parts_from_edges():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 6, 8)
    low, high = haar(images)
    assert low.shape == (2, 3, 3, 4)
    assert high.shape == (2, 9, 3, 4)
    torch.testing.assert_close(low.square().sum() + high.square().sum(), images.square().sum())
    torch.testing.assert_close(low, 2 * F.avg_pool2d(images, 2))
    assert not haar(torch.full((1, 3, 4, 4), 0.7))[1].any()
    edge = torch.tensor([1.0, -1.0]).expand(1, 1, 4, 2).repeat(1, 1, 1, 2)  # columns in turn
    assert haar(edge)[1].abs().sum((0, 2, 3)).tolist() == [8, 0, 0]


def test_an_odd_row_or_column_is_left_out():
    images = torch.randn(1, 3, 7, 9)
    for found, expected in zip(haar(images), haar(images[..., :6, :8]), strict=True):
        assert torch.equal(found, expected)


def test_the_detail_loss_is_the_mean_over_levels_of_differences_of_bands():
    torch.manual_seed(0)
    one, other = torch.rand(2, 2, 3, 16, 16)
    expected, lows = [], (one, other)
    for _ in range(2):
        (low_one, high_one), (low_other, high_other) = map(haar, lows)
        expected.append(F.l1_loss(high_one, high_other))
        lows = (low_one, low_other)
    torch.testing.assert_close(detail_loss(one, other, levels=2), torch.stack(expected).mean())


def test_a_blurred_translation_costs_more_than_a_shifted_colour_of_the_same_pixel_loss():
    torch.manual_seed(0)
    lesson = torch.rand(1, 3, 32, 32) * 2 - 1
    blurred = F.avg_pool2d(F.pad(lesson, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    shifted = lesson + pixel_loss(blurred, lesson)
    torch.testing.assert_close(pixel_loss(shifted, lesson), pixel_loss(blurred, lesson))
    assert detail_loss(shifted, lesson, levels=3) < 1e-5
    assert detail_loss(blurred, lesson, levels=3) > 0.1


def test_students_come_closer_to_their_teachers(tmp_path):
    losses = Losses()
    fit(tmp_path, [losses], epochs=12)
    first, last = losses.validations[0], losses.validations[-1]
    assert set(first) == {"val/distill_l1", "val/distill_l1_photo"}
    assert all(last[name] < 0.7 * first[name] for name in first), (first, last)
    assert sum(losses.training[-4:]) < 0.7 * sum(losses.training[:4])


def test_the_distance_is_that_of_the_averaged_students_on_all_held_out_images(tmp_path):
    losses = Losses()
    model, trainer = fit(tmp_path, [losses], epochs=1)
    a, b = trainer.datamodule.fixed_images(100)
    assert len(a) == len(b) == 2
    with torch.no_grad():
        for name, images, ema, teacher in (
            ("val/distill_l1", a, model.ema_ab, model.teachers[0]),
            ("val/distill_l1_photo", b, model.ema_ba, model.teachers[1]),
        ):
            expected = (ema.model(images) - teacher(images)).abs().mean().item()
            assert losses.validations[-1][name] == pytest.approx(expected, rel=1e-5)


def test_each_direction_learns_from_its_own_teacher():
    torch.manual_seed(0)
    model = student(lambda_detail=0.0)
    a, b = torch.rand(2, 1, 3, 16, 16) * 2 - 1
    lesson_b, lesson_a = model.lessons(a, b)
    terms = model.imitate(a, b, lesson_a, lesson_b)
    assert set(terms) == {"pixel_a", "pixel_b"}
    torch.testing.assert_close(terms["pixel_b"], (model.gen_ab(a) - model.teachers[0](a)).abs().mean())
    torch.testing.assert_close(terms["pixel_a"], (model.gen_ba(b) - model.teachers[1](b)).abs().mean())


def test_terms_are_weighted_and_those_without_weight_absent():
    a, b = torch.rand(2, 1, 3, 16, 16) * 2 - 1
    whole, heavy = student(), student(lambda_pixel=3.0, lambda_detail=0.5)
    lesson_b, lesson_a = whole.lessons(a, b)
    before, after = (model.imitate(a, b, lesson_a, lesson_b) for model in (whole, heavy))
    torch.testing.assert_close(after["pixel_a"], 3 * before["pixel_a"])
    torch.testing.assert_close(after["detail_b"], 0.5 * before["detail_b"])
    assert set(student(lambda_pixel=0.0).imitate(a, b, lesson_a, lesson_b)) == {"detail_a", "detail_b"}


def test_teachers_stay_as_they_are_and_are_in_no_checkpoint(tmp_path):
    model, trainer = fit(tmp_path, epochs=1)
    for teacher, fresh in zip(model.teachers, teachers(), strict=True):
        assert not teacher.training
        for found, expected in zip(teacher.parameters(), fresh.parameters(), strict=True):
            assert torch.equal(found, expected)
            assert found.grad is None
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    saved = torch.load(tmp_path / "x.ckpt", weights_only=True)
    parts = ("gen_ab", "gen_ba", "ema_ab", "ema_ba")
    assert {key.partition(".")[0] for key in saved["state_dict"]} == set(parts)
    assert sum(value.numel() for value in saved["state_dict"].values()) == 4 * sum(
        parameter.numel() for parameter in model.gen_ab.parameters()
    )


def test_nobody_to_learn_from_is_an_error(tmp_path):
    model = student()
    model.teachers = None
    with pytest.raises(RuntimeError, match="call learn_from first"):
        fit(tmp_path, model=model)


def final_state(model, trainer):
    """Everything that training changes, flat: students, averages and the optimizer."""
    (optimizer,) = trainer.optimizers
    moments = {
        f"optimizer.{number}.{key}": value
        for number, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    return {**model.state_dict(), **moments, "lr": torch.tensor(optimizer.param_groups[0]["lr"])}


def differences(left, right):
    assert left.keys() == right.keys()
    return [key for key, value in left.items() if not torch.equal(value, right[key])]


@pytest.mark.parametrize("batches", [1, 6, BATCHES, EPOCHS * BATCHES - 1])
def test_a_run_cut_off_after_a_batch_goes_on_to_the_same_weights(tmp_path, batches):
    dropping = partial(ResNetGenerator, num_residual_blocks=1, base_channels=2, dropout=0.5)  # draws in each step
    whole = Losses()
    expected = final_state(*fit(tmp_path, [whole], model=student(generator=dropping)))
    with pytest.raises(KilledError):
        fit(tmp_path, [KillAfter(batches, tmp_path / "cut.ckpt")], model=student(generator=dropping))
    rest = Losses()
    resumed = fit(tmp_path, [rest], tmp_path / "cut.ckpt", student(seed=1, generator=dropping))
    assert rest.training == whole.training[batches:]
    assert rest.validations[-1] == whole.validations[-1]
    assert differences(final_state(*resumed), expected) == []


def test_the_learning_rate_follows_the_schedule(tmp_path):
    class Rates(Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, *_):
            self.seen.append(trainer.callback_metrics["train/lr"].item())

    rates = Rates()
    fit(tmp_path, [rates], epochs=2)
    assert rates.seen == pytest.approx([1e-2 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)])


def test_a_step_of_nan_changes_no_student(tmp_path):
    class Spoilt(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            batch["a"].fill_(math.nan)

    model = student(ema_decay=0.0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fit(tmp_path, [Spoilt()], model=model, epochs=1)
    assert differences(before, model.state_dict()) == []
    assert model.step_logs["gen"].take().norms.isnan().all()


def saved_with_config(model, trainer, path):
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    generator = {"_target_": "monet_cyclegan.networks.compact.CompactGenerator", "num_residual_blocks": 1}
    config = {
        "data": {"names": {"a": "photo", "b": "monet"}},
        "model": {"generator": {**generator, "base_channels": 2}},
    }
    checkpoint[CHECKPOINT_KEY] = {"format": CHECKPOINT_FORMAT, "version": "0", "config": config, "overrides": []}
    torch.save(checkpoint, path)
    return path


def test_its_checkpoints_are_opened_as_any_others_by_the_averaged_students(tmp_path):
    model, trainer = fit(tmp_path, epochs=1)
    path = saved_with_config(model, trainer, tmp_path / "best.ckpt")
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    opened = open_model(str(path))
    assert opened.description.directions == ("photo_to_monet", "monet_to_photo")
    with torch.no_grad():
        for direction, ema in (("photo_to_monet", model.ema_ab), ("monet_to_photo", model.ema_ba)):
            assert torch.equal(opened.build(direction)(images), ema.model(images))


def test_a_saved_student_stands_in_for_a_while(tmp_path):
    model, trainer = fit(tmp_path, epochs=1)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    expected = model.ema_ab.model(images)
    model.ema_ab.model.decoder[-1].bias.data += 0.5
    changed = model.ema_ab.model(images)
    with model.as_saved(tmp_path / "x.ckpt"):
        assert torch.equal(model.ema_ab.model(images), expected)
    assert torch.equal(model.ema_ab.model(images), changed)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_pictures_are_shown_of_the_students_that_are_judged(tmp_path, decay):
    model, _ = fit(tmp_path, epochs=1, model=student(ema_decay=decay))
    model.train()
    images = model.showcase_held_out(2)
    assert set(images) == {f"{kind}_{name}" for kind in ("real", "fake", "rec", "idt") for name in ("a", "b")}
    gen_ab, gen_ba = model.evaluation_generators
    with torch.no_grad():
        torch.testing.assert_close(images["fake_b"], gen_ab(images["real_a"]))
        torch.testing.assert_close(images["rec_b"], gen_ab(gen_ba(images["real_b"])))
    assert model.gen_ab.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_pixel": -1.0}, "the weights of the losses must be 0 or more, and not both 0"),
        ({"lambda_pixel": 0.0, "lambda_detail": 0.0}, "must be 0 or more, and not both 0"),
        ({"detail_levels": 0}, "detail_levels must be at least 1, got 0"),
        ({"compile": "fast"}, "unknown compile=fast"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        student(**options)
