"""Models that really go wrong, each in its way, and one that doesn't."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback
from torch import nn

from monet_cyclegan.callbacks.alarms import Alarms, chroma_cosine, ignorant_loss, luminance_correlation
from monet_cyclegan.images import to_float, to_uint8
from monet_cyclegan.losses import HingeLoss, LSGANLoss, VanillaLoss, WassersteinLoss
from monet_cyclegan.metrics.jpeg import jpeg_round_trip
from monet_cyclegan.networks.patchgan import PatchGAN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = ("luminance_correlation", "chroma_cosine", "cycle_error", "cycle_error_jpeg", "hidden_information")


class Network(nn.Module):
    """A function of an image as a network; its one parameter changes nothing."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.function = function
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        return self.function(images) + 0 * self.nothing


class Judge(Network):
    def forward(self, images):
        return [super().forward(images).reshape(-1, 1, 1, 1)]


def model(gen_ab: Callable[..., Any], gen_ba: Callable[..., Any], judge: Callable[..., Any] | None = None, **options):
    pair = iter([Network(gen_ab), Network(gen_ba)])
    judges = {"discriminator": lambda: Judge(judge)} if judge else {}
    return tiny_model(**{"generator": lambda: next(pair), "ema_decay": 0.0, **judges, **options})


class Watch(Callback):
    def __init__(self):
        self.scores: list[dict[str, float]] = []

    def on_validation_end(self, trainer, pl_module):
        self.scores.append({name: float(value) for name, value in trainer.callback_metrics.items() if "val/" in name})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("alarm")]


def fit(folder: Path, trained: nn.Module, epochs: int = 3, *others: Callback, **options: Any) -> list[dict[str, float]]:
    watch = Watch()
    alarms = Alarms(**{"lines": 6, **options})
    tiny_trainer(folder, [*others, alarms, watch], max_epochs=epochs).fit(trained, tiny_data(folder))  # 5 batches each
    return watch.scores


def darker(images: torch.Tensor) -> torch.Tensor:
    return 0.8 * images - 0.1


def lighter(images: torch.Tensor) -> torch.Tensor:
    return (images + 0.1) / 0.8


def test_a_healthy_pair_raises_none(folder, capsys):
    scores = fit(folder, model(darker, lighter))[-1]
    assert said(capsys) == []
    assert scores["val/luminance_correlation"] == pytest.approx(1, abs=1e-5)
    assert scores["val/cycle_error"] == pytest.approx(0, abs=1e-6)
    assert 0.5 < scores["val/hidden_information"] <= 1 / 0.8 + 0.01
    assert scores.keys() == {f"val/{name}{suffix}" for name in NAMES for suffix in ("", "_photo")}


def test_networks_that_learn_raise_none_of_hiding_and_dead_discriminators(folder, capsys):
    fit(folder, tiny_model(lr=1e-3))
    assert not [line for line in said(capsys) if "hides" in line or "dead" in line]


def test_inverted_colours_are_noticed_though_the_cycle_is_perfect(folder, capsys):
    scores = fit(folder, model(torch.neg, torch.neg))[-1]
    assert scores["val/luminance_correlation"] == scores["val/luminance_correlation_photo"] == pytest.approx(-1)
    assert scores["val/cycle_error"] == 0
    first, second = said(capsys)  # once each, in three epochs
    assert first.startswith("alarm: photo to monet: colours are inverted (val/luminance_correlation -1.00): try ")
    assert second.startswith("alarm: monet to photo: colours are inverted (val/luminance_correlation_photo -1.00)")


def other_hues(images: torch.Tensor) -> torch.Tensor:
    """Each pixel's colour on the other side of grey, as light as before."""
    luminance = torch.einsum("nchw,c->nhw", images, torch.tensor([0.299, 0.587, 0.114]))[:, None]
    return 2 * luminance - images


def test_inverted_hues_are_noticed_though_light_and_dark_are_kept(folder, capsys):
    scores = fit(folder, model(other_hues, other_hues))[-1]
    assert scores["val/luminance_correlation"] == pytest.approx(1, abs=1e-5)
    assert scores["val/chroma_cosine"] == pytest.approx(-1, abs=1e-5)
    assert scores["val/cycle_error"] == pytest.approx(0, abs=1e-6)
    first, _ = said(capsys)
    assert first.startswith("alarm: photo to monet: hues are inverted (val/chroma_cosine -1.00): try a higher model.la")


def test_the_cosine_of_chroma_is_what_numpy_says_and_blind_to_light():
    rng = np.random.default_rng(0)
    one, other = rng.uniform(-1, 1, (2, 2, 3, 5, 4))
    matrix = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    expected = []
    for x, y in zip(one, other, strict=True):
        u, v = (np.tensordot(matrix, image, 1).ravel() for image in (x, y))
        expected.append(u @ v / np.sqrt((u @ u) * (v @ v)))
    assert chroma_cosine(torch.tensor(one), torch.tensor(other)).numpy() == pytest.approx(np.array(expected), abs=1e-5)
    image = torch.tensor(one)
    assert chroma_cosine(image, 0.5 * image + 0.3).numpy() == pytest.approx(1, abs=1e-5)
    grey = image[:, :1].expand(-1, 3, -1, -1)
    assert chroma_cosine(image, grey).numpy() == pytest.approx(0, abs=1e-2)


def test_pictures_that_do_not_follow_the_input_are_noticed_too(folder, capsys):
    fit(folder, model(lambda images: 0 * images, darker))
    (line,) = said(capsys)
    assert "photo to monet: light and dark hardly follow the input (val/luminance_correlation 0.00)" in line


def test_an_alarm_that_has_cleared_is_said_again_when_it_comes_back(folder, capsys):
    class Turn(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            pl_module.gen_ab.function = torch.neg if trainer.current_epoch in (0, 1, 3) else darker

    fit(folder, model(darker, lighter), 4, Turn())
    assert len([line for line in said(capsys) if "photo to monet: colours" in line]) == 2


def test_a_pair_that_hides_the_input_in_what_no_eye_sees_is_noticed(folder, capsys):
    """The input at half a level of 255 in a grey picture, and its discovery."""
    scores = fit(folder, model(lambda x: 0.2 + x / 255, lambda y: (255 * (y - 0.2)).clamp(-1, 1)))[-1]
    assert scores["val/cycle_error"] < 1e-4
    assert scores["val/cycle_error_jpeg"] > 0.1
    assert scores["val/hidden_information"] == pytest.approx(255, rel=0.05)
    (line,) = said(capsys)
    assert line.startswith("alarm: photo to monet: the translation hides what it doesn't show: after JPEG the cycle")
    assert "instead of 0.000" in line


def test_a_poor_cycle_hides_nothing(folder, capsys):
    fit(folder, model(darker, lambda y: 20 * torch.cos(300 * y)))
    assert not [line for line in said(capsys) if "photo to monet: the translation hides" in line]


def perfect(images: torch.Tensor) -> torch.Tensor:
    """1 for the real images, which are noise, and 0 for translations a hundred times as faint."""
    return (images.abs().mean(dim=(1, 2, 3)) > 0.1).float()


def faint(images: torch.Tensor) -> torch.Tensor:
    return images / 100


DEAD: dict[str, tuple[Any, Callable[[torch.Tensor], torch.Tensor], str]] = {
    "lsgan, perfect": (LSGANLoss(), perfect, "knows all translations"),
    "vanilla, perfect": (VanillaLoss(), lambda x: 40 * perfect(x) - 20, "knows all translations"),
    "hinge, perfect": (HingeLoss(), lambda x: 4 * perfect(x) - 2, "knows all translations"),
    "lsgan, alike": (LSGANLoss(), lambda x: 0 * perfect(x) + 0.5, "judges all images alike"),
    "vanilla, alike": (VanillaLoss(), lambda x: 0 * perfect(x), "judges all images alike"),
    "hinge, alike": (HingeLoss(), lambda x: 0 * perfect(x) + 0.3, "judges all images alike"),
    "wgan, alike": (WassersteinLoss(), lambda x: 0 * perfect(x) + 7, "judges all images alike"),
}


@pytest.mark.parametrize("name", DEAD)
def test_a_dead_discriminator_is_noticed_once_the_log_has_enough_lines(folder, capsys, name):
    loss, judge, why = DEAD[name]
    trained = model(faint, faint, judge, adversarial_loss=loss)
    fit(folder, trained, epochs=1)
    assert said(capsys) == []  # five lines
    fit(folder, trained, epochs=3)
    lines = said(capsys)
    assert len(lines) == 2
    for domain, term, line in zip(("photo", "monet"), ("disc_a", "disc_b"), lines, strict=True):
        assert line.startswith(f"alarm: the discriminator of {domain} is dead: train/{term} is ")
        assert f"over 6 lines of the log: it {why}" in line


@pytest.mark.parametrize(
    ("loss", "judge"),
    [
        (WassersteinLoss(), lambda x: 1000 * perfect(x)),  # an optimal critic
        (LSGANLoss(), lambda x: 0.3 * perfect(x) + 0.35),  # better than nothing
        (LSGANLoss(), lambda x: 0 * perfect(x) + 1),  # takes all for real
    ],
    ids=["wgan", "lsgan", "lsgan, credulous"],
)
def test_a_discriminator_that_has_something_to_say_or_to_learn_is_not_dead(folder, capsys, loss, judge):
    fit(folder, model(faint, faint, judge, adversarial_loss=loss))
    assert said(capsys) == []


def test_at_chance_but_with_a_gradient_it_lives(folder, capsys):
    class Alike(PatchGAN):
        def forward(self, images):
            (logits,) = super().forward(images)
            return [0.5 + 0 * logits.detach() + logits - logits.detach()]

    fit(folder, model(faint, faint, discriminator=partial(Alike, num_layers=1, base_channels=2)))
    assert said(capsys) == []


def test_the_loss_of_a_discriminator_that_knows_nothing():
    losses = (LSGANLoss(), VanillaLoss(), HingeLoss(), WassersteinLoss())
    expected = [0.25, math.log(2), 2.0, 0.0]
    assert [ignorant_loss(loss) for loss in losses] == pytest.approx(expected, abs=1e-6)


def test_the_correlation_is_pearsons_of_the_luminances():
    one, other = torch.rand(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other[1] = 0.3
    weights = np.array([0.299, 0.587, 0.114])
    x, y = (np.tensordot(weights, images.numpy(), (0, 1)).reshape(3, -1) for images in (one, other))
    expected = [np.corrcoef(x[0], y[0])[0, 1], 0.0, np.corrcoef(x[2], y[2])[0, 1]]
    assert luminance_correlation(one, other).tolist() == pytest.approx(expected, abs=1e-5)
    assert luminance_correlation(one, -one).tolist() == pytest.approx([-1] * 3)


def test_what_is_logged_is_measured_on_the_first_images_of_each_domain(folder):
    trained, data = model(darker, torch.neg), tiny_data(folder)
    scores = fit(folder, trained, 1, num_images=1)[-1]
    data.setup("fit")
    real, _ = data.fixed_images(1)
    fake = darker(real)
    shown = to_float(jpeg_round_trip(to_uint8(fake), 75))
    error, error_jpeg = (-fake - real).abs().mean(), (-shown - real).abs().mean()
    expected = [
        luminance_correlation(real, fake).mean(),
        chroma_cosine(real, fake).mean(),
        error,
        error_jpeg,
        (error_jpeg - error) / (shown - fake).abs().mean(),
    ]
    assert [scores[f"val/{name}"] for name in NAMES] == pytest.approx([float(value) for value in expected], abs=1e-5)


def test_generators_are_as_they_were_after_looking(folder):
    trained = tiny_model(ema_decay=0.0)
    fit(folder, trained, 1)
    assert trained.gen_ab.training
    assert trained.gen_ba.training


@pytest.mark.parametrize("options", [{"num_images": 0}, {"lines": 0}])
def test_numbers_that_look_at_nothing_are_refused(options):
    with pytest.raises(ValueError, match="must be 1 or more"):
        Alarms(**options)
