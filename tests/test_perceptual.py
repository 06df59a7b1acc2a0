from __future__ import annotations

import sys
from functools import partial
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback

from monet_cyclegan import perceptual
from monet_cyclegan.errors import UserError
from monet_cyclegan.networks import shift_tolerant_vgg
from monet_cyclegan.networks.shift_tolerant_vgg import BlurPool
from monet_cyclegan.perceptual import PerceptualDistance, StyleDistance

if TYPE_CHECKING:
    from pathlib import Path

WITH_IT: dict[str, Any] = {"perceptual": PerceptualDistance, "lambda_perceptual": 2.0}


@pytest.fixture(scope="module")
def distance() -> PerceptualDistance:
    return PerceptualDistance()


def pair(height: int = 32, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images and two others, of waves."""
    axes = (torch.arange(2), torch.arange(3), torch.arange(height), torch.arange(width))
    number, channel, y, x = torch.meshgrid(*axes, indexing="ij")
    first = torch.sin(0.3 * x + 0.5 * y + channel + 2 * number)
    return first, torch.sin(0.35 * x + 0.45 * y + 1.3 * channel + 2 * number) * torch.cos(0.1 * x)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # stlpips_pytorch.stlpips.LPIPS(net="vgg", variant="shift_tolerant") of the package 0.0.2, mean over the batch
        ((32, 32), 0.2993390),
        ((18, 18), 0.1014379),
        ((40, 33), 0.3293214),
    ],
)
def test_the_distance_is_the_packages_own(distance: PerceptualDistance, size: tuple[int, int], expected: float):
    assert distance(*pair(*size)).item() == pytest.approx(expected, abs=1e-4)


def test_each_map_has_the_packages_share(distance: PerceptualDistance):
    expected = [0.0373147, 0.0205413, 0.1375106, 0.0242759]  # of the second to the fifth, from the same call
    shares = []
    for stage in range(1, 5):
        alone = PerceptualDistance()
        for other in range(5):
            if other != stage:
                getattr(alone, f"importance{other}").zero_()
        shares.append(alone(*pair()).item())
    assert shares == pytest.approx(expected, abs=1e-4)


def test_an_image_is_at_no_distance_from_itself_and_two_are_as_far_either_way(distance: PerceptualDistance):
    fake, real = pair()
    assert distance(real, real).item() == 0
    assert distance(fake, real).item() == distance(real, fake).item()


def test_the_distance_of_a_batch_is_the_mean_of_its_images(distance: PerceptualDistance):
    fake, real = pair()
    alone = torch.stack([distance(fake[[index]], real[[index]]) for index in range(2)])
    torch.testing.assert_close(distance(fake, real), alone.mean())


def test_the_gradient_goes_to_the_translation_alone(distance: PerceptualDistance):
    fake, real = (images.requires_grad_() for images in pair())
    distance(fake, real).backward()
    assert torch.isfinite(fake.grad).all()
    assert fake.grad.abs().sum() > 0
    assert real.grad is None
    assert not any(buffer.requires_grad for buffer in distance.buffers())


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_plain_images_and_equal_ones_have_finite_gradients(distance: PerceptualDistance, value: float):
    plain = torch.full((1, 3, 32, 32), value)
    for other in (plain, pair()[0][:1]):
        fake = plain.clone().requires_grad_()
        distance(fake, other).backward()
        assert torch.isfinite(fake.grad).all()


def test_features_without_any_activation_have_a_gradient():
    nothing = torch.zeros(1, 4, 2, 2, requires_grad=True)
    (perceptual._directions(nothing) - 1).square().sum().backward()
    assert torch.isfinite(nothing.grad).all()


def test_it_computes_in_float32_whatever_the_trainings_precision_is(distance: PerceptualDistance):
    fake, real = pair()
    expected = distance(fake, real)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distance(fake, real), expected)
        assert distance(fake.bfloat16(), real).dtype == torch.float32


def test_pooling_blurs_the_largest_of_neighbours():
    features = torch.rand(1, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    largest = torch.nn.functional.pad(torch.nn.functional.max_pool2d(features, 2, 1), (2, 2, 2, 2), mode="reflect")
    kernel = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
    expected = torch.nn.functional.conv2d(largest, kernel.expand(2, 1, 3, 3), stride=2, groups=2)
    torch.testing.assert_close(BlurPool()(features), expected)
    assert expected.shape[2:] == (7 // 2 + 1, 6 // 2 + 1)


def test_images_too_small_are_refused_with_the_least_size(distance: PerceptualDistance):
    with pytest.raises(ValueError, match="images of 32 x 17 pixels are too small for VGG, which needs 18"):
        distance(*pair(17, 32))


def test_the_models_state_and_parameters_are_those_without_it():
    before = torch.random.get_rng_state()
    PerceptualDistance()
    assert torch.equal(torch.random.get_rng_state(), before)  # or the networks' first weights would be others
    plain, model = tiny_model(), tiny_model(**WITH_IT)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in tiny_model(perceptual=PerceptualDistance).named_buffers()] == [
        name for name, _ in plain.named_buffers()
    ]
    model.load_state_dict(plain.state_dict())


def test_it_follows_the_model_to_its_device_and_memory_format():
    model = tiny_model(**WITH_IT, channels_last=True)
    weights = [buffer for name, buffer in model.perceptual.named_buffers() if name.endswith("weight")]
    assert len(weights) == 13
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert {buffer.device.type for buffer in model.to("meta").perceptual.buffers()} == {"meta"}


def test_the_terms_compare_each_translation_with_its_source(distance: PerceptualDistance):
    model = tiny_model(**WITH_IT)
    real_a, real_b = pair()
    fake_a, fake_b = model.gen_ba(real_b), model.gen_ab(real_a)
    terms = model.feature_terms(real_a, real_b, fake_a, fake_b)
    expected = {"perceptual_a": 2 * distance(fake_a, real_b), "perceptual_b": 2 * distance(fake_b, real_a)}
    torch.testing.assert_close(terms, expected)


class Kept(Callback):
    """Keeps the rows of the log, and a checkpoint after the first of two batches."""

    def __init__(self, path: Path):
        self.path, self.rows = path, []

    def on_train_batch_end(self, trainer, pl_module, *_: Any):
        self.rows.append({key: float(value) for key, value in trainer.callback_metrics.items()})
        if pl_module.batches_done == 1:
            trainer.save_checkpoint(self.path)


def train(folder: Path, seed: int = 0, resume: bool = False, **options: Any):
    model, kept = tiny_model(seed, **{**WITH_IT, **options}), Kept(folder / "first.ckpt")
    trainer = tiny_trainer(folder, [kept], max_epochs=1, limit_train_batches=2, limit_val_batches=0)
    path = kept.path if resume else None
    data = tiny_data(folder, load_size=36, crop_size=32)
    trainer.fit(model, data, ckpt_path=path, weights_only=True if resume else None)
    return model, kept


def test_two_steps_log_the_terms_and_a_resumed_run_ends_with_the_same_weights(tmp_path: Path):
    whole, kept = train(tmp_path)
    assert len(kept.rows) == 2
    for row in kept.rows:
        assert row["train/perceptual_a"] > 0
        assert row["train/perceptual_b"] > 0
    saved = torch.load(kept.path, weights_only=True)
    assert not [name for name in saved["state_dict"] if "perceptual" in name]
    resumed, _ = train(tmp_path, seed=1, resume=True)
    for (name, value), again in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(value, again), name
    without, kept = train(tmp_path, lambda_perceptual=0.0)
    assert not [key for key in kept.rows[0] if "perceptual" in key]
    assert not all(torch.equal(*both) for both in zip(whole.parameters(), without.parameters(), strict=True))


@pytest.mark.slow
def test_a_compiled_run_learns_what_an_eager_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import torch._dynamo
    import torch._dynamo.utils

    # Adam would blow differences of rounding up, and what the other losses need takes a minute to compile.
    plain = {"optimizer": partial(torch.optim.SGD), "lr": 1e-2, "lambda_cycle": 0.0, "lambda_identity": 0.0}
    eager, _ = train(tmp_path, **plain)
    monkeypatch.delenv("TORCHDYNAMO_DISABLE")  # which conftest sets
    with torch._dynamo.config.patch(disable=False):
        torch._dynamo.utils.counters.clear()
        fast, kept = train(tmp_path, compile="default", **plain)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    torch.compiler.reset()
    assert kept.rows[0]["train/perceptual_a"] > 0
    for (name, expected), found in zip(eager.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    "spec", [None, ModuleSpec("stlpips_pytorch", None, is_package=True)], ids=["no package", "no file in it"]
)
def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None):
    monkeypatch.setattr(shift_tolerant_vgg, "find_spec", lambda _: spec)
    with pytest.raises(UserError, match=r"pip install 'monet-cyclegan\[perceptual\]'$") as raised:
        PerceptualDistance()
    assert "\n" not in str(raised.value)
    assert tiny_model(perceptual=PerceptualDistance).perceptual is None  # without a weight nothing is looked for


def test_a_weight_below_zero_or_without_a_distance_is_refused():
    with pytest.raises(ValueError, match=r"the weights of the losses must be 0 or more.*'lambda_perceptual': -1"):
        tiny_model(perceptual=PerceptualDistance, lambda_perceptual=-1.0)
    for nothing in (None, {}):  # the second is what model/perceptual=none gives
        with pytest.raises(ValueError, match=r"lambda_perceptual=1\.0 needs a distance: add model/perceptual=vgg"):
            tiny_model(perceptual=nothing, lambda_perceptual=1.0)


def test_the_distance_may_be_the_only_loss():
    assert tiny_model(**WITH_IT, lambda_adv=0.0, lambda_cycle=0.0, lambda_identity=0.0).lambda_perceptual == 2


def test_the_package_is_not_imported(distance: PerceptualDistance):
    assert len(distance.network.stages) == 5
    assert shift_tolerant_vgg.PACKAGE not in sys.modules


def test_a_style_is_what_features_come_together_wherever_they_lie():
    style = StyleDistance(num_stages=1)
    first, other = pair()
    assert style(first[:1], first[:1]).item() == 0
    noise = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert style(noise.roll((8, 8), dims=(2, 3)), noise) < 0.01 < 0.05 < style(other[:1], first[:1])
    flat = torch.zeros(1, 3, 32, 32)
    assert 0 <= style(flat, first) <= 1
    grams = []
    for images in (first, other):
        features = style.network(images)[0]
        grams.append(torch.einsum("nchw,ndhw->ncd", features, features) / 32**2)
    real = grams[1].mean(0)
    expected = sum(((gram - real) ** 2).sum() / (gram**2 + real**2).sum() for gram in grams[0]) / 2
    torch.testing.assert_close(style(first, other), expected)


def test_a_style_has_a_gradient_for_the_translation_alone_and_real_images_may_be_others_in_number_and_size():
    fake, real = pair()
    fake.requires_grad_(), real.requires_grad_()
    StyleDistance()(fake, torch.cat([real, real])[:3, :, :20]).backward()
    assert fake.grad is not None
    assert fake.grad.any()
    assert real.grad is None


def test_a_model_with_a_style_has_its_terms_and_nothing_more_to_save(tmp_path: Path):
    without, model = tiny_model(), tiny_model(style=StyleDistance, lambda_style=3.0)
    assert model.state_dict().keys() == without.state_dict().keys()
    assert tiny_model(style=StyleDistance).style is None
    real_a, real_b = pair()
    terms = model.feature_terms(real_a, real_b, real_b, real_a.flip(0))
    assert terms["style_b"].item() == pytest.approx(3 * StyleDistance()(real_a, real_b).item(), rel=1e-4)
    _, kept = train(tmp_path, perceptual=None, lambda_perceptual=0.0, style=StyleDistance, lambda_style=3.0)
    assert kept.rows[0]["train/style_a"] > 0


def test_a_style_without_stages_a_distance_or_with_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="num_stages must be 1 to 5, got 6"):
        StyleDistance(num_stages=6)
    with pytest.raises(ValueError, match=r"lambda_style=1\.0 needs a distance: add model/style=vgg"):
        tiny_model(lambda_style=1.0)
    with pytest.raises(ValueError, match="'lambda_style': -1"):
        tiny_model(style=StyleDistance, lambda_style=-1.0)
