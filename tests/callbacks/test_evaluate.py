from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_images, tiny_data, tiny_model, tiny_trainer
from torchmetrics import Metric

from monet_cyclegan.callbacks.evaluate import Evaluate
from monet_cyclegan.images import to_float, to_uint8
from monet_cyclegan.metrics import KernelInceptionDistance, MiFID
from monet_cyclegan.metrics.features import FeatureExtractor
from monet_cyclegan.metrics.jpeg import jpeg_round_trip


class Brightness(Metric):
    """100 times the mean of what is fake, plus that of what is real: it tells whether both went where they belong."""

    def __init__(self):
        super().__init__()
        self.add_state("real", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("fake", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(2), dist_reduce_fx="sum")

    def update(self, images, real):
        assert images.dtype == torch.uint8
        sums = images.double().mean(dim=(1, 2, 3)).sum()
        if real:
            self.real += sums
        else:
            self.fake += sums
        self.counts[int(real)] += len(images)

    def compute(self):
        return 100 * self.fake / self.counts[0] + self.real / self.counts[1]


class Count(Brightness):
    def compute(self):
        return self.counts[0] * 100 + self.counts[1]


def mean_of_each(images):
    return to_uint8(images).double().mean()


@pytest.fixture
def run(tmp_path):
    model, data = tiny_model(), tiny_data(tmp_path, count_a=9, count_b=7, val_a=5, val_b=3)
    trainer = tiny_trainer(tmp_path, [Evaluate({"brightness": Brightness, "count": Count})])
    trainer.fit(model, data)
    return trainer, model, data


def test_both_directions_are_measured_against_the_images_of_their_target(run):
    trainer, model, data = run
    with torch.no_grad():
        real_a, real_b = held_out(data)
        gen_ab, gen_ba = model.evaluation_generators
        fake_a, fake_b = gen_ba(real_b), gen_ab(real_a)
    a_to_b = 100 * mean_of_each(fake_b) + mean_of_each(real_b)
    b_to_a = 100 * mean_of_each(fake_a) + mean_of_each(real_a)
    logged = trainer.callback_metrics
    assert logged["val/brightness"].item() == pytest.approx(a_to_b.item(), rel=1e-6)
    assert logged["val/brightness_photo"].item() == pytest.approx(b_to_a.item(), rel=1e-6)
    assert a_to_b != b_to_a


def held_out(data):
    loaders = data.val_dataloader()
    batches = [[data.on_after_batch_transfer(batch, 0)[name] for batch in loaders[i]] for i, name in enumerate("ab")]
    return [torch.cat(batch) for batch in batches]


def test_every_validation_starts_from_empty_metrics_and_sees_each_image_once(run):
    trainer, _, _ = run
    assert trainer.callback_metrics["val/count"] == 100 * 5 + 3  # fakes of B from all of A, real B
    assert trainer.callback_metrics["val/count_photo"] == 100 * 3 + 5


def test_metrics_are_neither_in_the_model_nor_in_its_checkpoint(run, tmp_path):
    trainer, model, _ = run
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    checkpoint = torch.load(tmp_path / "saved.ckpt", weights_only=True)
    assert not any(isinstance(module, Metric) for module in model.modules())
    assert checkpoint["state_dict"].keys() == tiny_model().state_dict().keys()
    assert not checkpoint["callbacks"]


def test_the_trainer_can_validate_without_training(tmp_path):
    trainer = tiny_trainer(tmp_path, [Evaluate({"count": Count})])
    (first, *_) = trainer.validate(tiny_model(), tiny_data(tmp_path), verbose=False)
    assert first["val/count"] == 202


def test_averaged_generators_are_those_that_are_measured(tmp_path):
    with_average = tiny_model(ema_decay=0.5)
    for parameter in with_average.gen_ab.parameters():
        parameter.data.mul_(0)
    trainer = tiny_trainer(tmp_path, [Evaluate({"brightness": Brightness})])
    (measured, *_) = trainer.validate(with_average, tiny_data(tmp_path), verbose=False)
    (expected, *_) = trainer.validate(tiny_model(), tiny_data(tmp_path), verbose=False)
    assert measured == expected


# ---- metrics of features ----


class MeanColours(FeatureExtractor):
    """The mean of each channel: features that a test can compute by itself. Counts the images that it was given."""

    title, is_standard, num_features, fingerprint = "colour", False, 3, "colours"

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()), requires_grad=False)
        self.seen = 0

    def _features(self, images):
        self.seen += len(images)
        return images.float().mean(dim=(2, 3)) / 255 * self.scale


FEATURE_METRICS = {"mifid": MiFID, "kid": KernelInceptionDistance}


def evaluate(tmp_path, **options):
    return Evaluate(FEATURE_METRICS, MeanColours(), cache_dir=tmp_path / "cache", **options)


def validated(tmp_path, callback, model=None, **options):
    trainer = tiny_trainer(tmp_path, [callback], **options.pop("trainer", {}))
    data = tiny_data(tmp_path, count_a=9, count_b=7, **{"val_a": 5, "val_b": 3, **options})
    (scores, *_) = trainer.validate(model or tiny_model(), data, verbose=False)
    return scores, data


def images_of(data, name):
    return torch.cat([batch[name] for batch in data.images(name, data.all_images(name))])  # held-out ones first


def expected(data, model, jpeg=True):
    """Scores of both directions, taken by hand from the data module and the averaged generators."""
    scores = {}
    for name, other, generator, suffix in zip("ab", "ba", model.evaluation_generators, ("", "_photo"), strict=True):
        with torch.no_grad():
            fake = to_uint8(generator(to_float(images_of(data, name)[: {"a": 5, "b": 3}[name]])))
        features = MeanColours()
        rows = features(jpeg_round_trip(fake) if jpeg else fake)
        for make in FEATURE_METRICS.values():
            metric = make(features)
            metric.update(images_of(data, other), real=True)
            metric.update(rows, real=False)
            scores |= {f"val/{score}{suffix}": value.item() for score, value in metric.scores().items()}
    return scores


@pytest.mark.parametrize("jpeg", [True, False])
def test_translations_are_compressed_and_compared_with_all_real_images_in_both_directions(tmp_path, jpeg):
    model = tiny_model()
    callback = evaluate(tmp_path) if jpeg else evaluate(tmp_path, jpeg_quality=None)
    scores, data = validated(tmp_path, callback, model)
    assert scores == pytest.approx(expected(data, model, jpeg), rel=1e-5)
    assert len(scores) == 10  # mifid, fid, memorization_distance, kid and its error, each way
    other, _ = validated(tmp_path, evaluate(tmp_path, jpeg_quality=None if jpeg else 75), model)
    assert other["val/fid"] != scores["val/fid"]


def test_one_pass_through_the_network_serves_all_metrics(tmp_path):
    callback = evaluate(tmp_path)
    validated(tmp_path, callback)
    assert callback.features.seen == (7 + 9) + (5 + 3)  # the real ones, and what was translated


def test_real_features_are_taken_once_for_all_validations_and_all_runs(tmp_path):
    first, second = evaluate(tmp_path), evaluate(tmp_path)
    data = tiny_data(tmp_path, count_a=9, count_b=7, val_a=5, val_b=3)
    tiny_trainer(tmp_path, [first], max_epochs=3).fit(tiny_model(), data)
    assert first.features.seen == (7 + 9) + 3 * (5 + 3)
    validated(tmp_path, second)
    assert second.features.seen == 5 + 3


def test_the_number_of_real_and_of_translated_images_can_be_limited_or_raised(tmp_path):
    callback = evaluate(tmp_path, num_real=4)
    validated(tmp_path, callback, eval_images=6)
    assert callback.features.seen == (4 + 4) + (6 + 6)  # held-out ones, and training ones where these are too few
    callback = evaluate(tmp_path, num_real=4)
    validated(tmp_path, callback, eval_images=2)
    assert callback.features.seen == 2 + 2


def test_with_a_limit_of_validation_batches_what_was_translated_is_scored(tmp_path):
    model = tiny_model()
    scores, data = validated(tmp_path, evaluate(tmp_path), model, trainer={"limit_val_batches": 1})
    metric = MiFID(MeanColours())
    metric.update(images_of(data, "b"), real=True)
    with torch.no_grad():
        fake = to_uint8(model.evaluation_generators[0](to_float(images_of(data, "a")[:2])))
    metric.update(jpeg_round_trip(fake), real=False)
    assert scores["val/mifid"] == pytest.approx(metric.compute().item(), rel=1e-5)


def test_a_validation_of_which_only_a_part_is_run_logs_nothing(tmp_path):
    class SkipFirst(Evaluate):  # as after a resume in the middle of a validation
        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, *rest):
            if batch_idx > 0:
                super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, *rest)

    callback = SkipFirst(FEATURE_METRICS, MeanColours(), cache_dir=tmp_path / "cache")
    scores, _ = validated(tmp_path, callback)
    assert scores == {}


def test_without_features_only_the_other_metrics_are_measured(tmp_path):
    scores, _ = validated(tmp_path, Evaluate({**FEATURE_METRICS, "count": Count}, features=None))
    assert scores.keys() == {"val/count", "val/count_photo"}


def test_one_image_makes_a_score_that_is_not_a_number_and_no_crash(tmp_path):
    scores, _ = validated(tmp_path, evaluate(tmp_path), val_a=1, trainer={"limit_val_batches": 1})
    assert math.isnan(scores["val/fid"])
    assert math.isnan(scores["val/mifid"])
    assert math.isfinite(scores["val/memorization_distance"])


def test_scores_on_other_features_than_the_standard_ones_say_that_they_cannot_be_compared(tmp_path, capsys):
    callback = evaluate(tmp_path)
    tiny_trainer(tmp_path, [callback], max_epochs=1).fit(tiny_model(), tiny_data(tmp_path))
    assert capsys.readouterr().out.startswith("scores are on colour features, not comparable with Kaggle's\n")
    callback.features.is_standard = True
    assert callback.label == "on colour features"


def test_all_photos_are_scored_as_a_validation_of_them_would(tmp_path):
    model, callback = tiny_model(), evaluate(tmp_path)
    data = tiny_data(tmp_path, count_a=9, count_b=7)
    trainer = tiny_trainer(tmp_path, [callback], max_epochs=1)
    trainer.fit(model, data)
    found = callback.score_all(trainer, model, None)
    whole = tiny_data(tmp_path, count_a=9, count_b=7, eval_images=9)
    (scores, *_) = tiny_trainer(tmp_path, [callback]).validate(model, whole, verbose=False)
    assert {f"val/{name}": score for name, score in found.items()} == pytest.approx(
        {name: score for name, score in scores.items() if not name.endswith("_photo")}, rel=1e-5
    )
    assert callback.score_all(trainer, model, 3) != found


@pytest.mark.slow
def test_two_processes_find_the_scores_of_one(tmp_path):
    for seed, name in enumerate(("a", "b")):
        make_images(tmp_path / name, 5 + seed, size=(40, 40), seed=seed)

    def run(folder, *arguments):
        command = [sys.executable, str(Path(__file__).parents[2] / "train.py"), "data=folders", "data.a=a", "data.b=b"]
        command += ["features=efficientnet_lite0", f"hydra.run.dir={folder}", "data.load_size=32", "data.crop_size=32"]
        command += ["data.num_workers=0", "data.val_a=3", "data.val_b=3", "data.eval_images=4", "model.lr=0"]
        command += ["model.generator.base_channels=2", "model.generator.num_residual_blocks=1", "model.ema_decay=0"]
        command += ["model.discriminator.base_channels=2", "model.discriminator.num_layers=1", "trainer.max_epochs=2"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        with (tmp_path / folder / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["val/mifid"]]
        with (tmp_path / folder / "best.csv").open() as file:
            final = [row["val/mifid on all images"] for row in csv.DictReader(file)]
        names = [key for key in rows[0] if key.startswith("val/") and "swd" not in key]
        return [float(row[name]) for row in rows for name in names] + [float(value) for value in final if value]

    one = run("one", "trainer=cpu")
    two = run("two", "trainer=ddp", "trainer.accelerator=cpu")
    assert len(one) == 2 * (10 + 10) + 2  # two validations, both ways, alarms' too, and two checkpoints on all images
    assert two == pytest.approx(one, rel=1e-4)


def test_a_metric_can_be_left_out(tmp_path):
    callback = Evaluate({"brightness": Brightness, "count": None}, cache_dir=tmp_path)
    assert list(callback.makers) == ["brightness"]
