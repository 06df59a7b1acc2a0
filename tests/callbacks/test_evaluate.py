from __future__ import annotations

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from torchmetrics import Metric

from monet_cyclegan.callbacks.evaluate import Evaluate
from monet_cyclegan.images import to_uint8


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
