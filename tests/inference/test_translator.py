from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference import Translator, translator
from monet_cyclegan.inference.translator import mirrored_indices
from monet_cyclegan.networks.resnet import ResNetGenerator


class Negative(nn.Module):
    """A generator that inverts colours, keeps what it was given, and insists on its multiple."""

    def __init__(self, size_multiple: int = 4) -> None:
        super().__init__()
        self.size_multiple = size_multiple
        self.dropout = nn.Dropout(0.5)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2] % self.size_multiple == images.shape[3] % self.size_multiple == 0
        self.seen.append(images)
        return self.dropout(-images)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("multiple", [1, 4, 32, 256])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 40), (31, 33), (64, 19)])
def test_an_image_of_any_size_keeps_its_size_and_every_pixel_its_place(height, width, multiple):
    image = noise(height, width)
    translated = Translator(Negative(multiple))(image)
    assert translated.dtype == np.uint8
    assert translated.flags.c_contiguous
    assert np.array_equal(translated, 255 - image)


def test_the_generator_sees_the_image_in_minus_one_to_one_padded_by_reflection():
    generator = Negative(8)
    image = noise(18, 16)
    Translator(generator)(image)
    (batch,) = generator.seen
    assert batch.shape == (1, 3, 24, 16)
    expected = np.pad(image, ((3, 3), (0, 0), (0, 0)), mode="reflect").astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(batch[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_an_image_of_a_fitting_size_is_not_padded():
    generator = Negative(8)
    Translator(generator)(noise(16, 24))
    assert generator.seen[0].shape == (1, 3, 16, 24)


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [
        (4, 4, [0, 1, 2, 3]),
        (3, 4, [0, 1, 2, 1]),
        (4, 6, [1, 0, 1, 2, 3, 2]),
        (3, 8, [2, 1, 0, 1, 2, 1, 0, 1]),
        (2, 9, [1, 0, 1, 0, 1, 0, 1, 0, 1]),
    ],
)
def test_reflection_is_centred_and_repeats_where_it_has_to(size, multiple, expected):
    assert mirrored_indices(size, multiple).tolist() == expected


def test_an_image_below_16_pixels_is_refused_with_its_size():
    with pytest.raises(UserError, match=r"40x15 pixels"):
        Translator(Negative())(noise(15, 40))


def test_neither_dropout_nor_gradients_are_at_work():
    generator = Negative().train()
    translate = Translator(generator)
    assert np.array_equal(translate(noise(16, 16)), translate(noise(16, 16)))
    assert generator.seen[0].is_inference()


def test_bfloat16_is_off_by_a_level_or_so():
    torch.manual_seed(0)
    generator = ResNetGenerator(2, 8)
    image = noise(32, 48)
    exact, fast = (Translator(generator, precision=precision)(image) for precision in ("32-true", "bf16-mixed"))
    difference = np.abs(exact.astype(int) - fast)
    assert 0 < difference.mean() < 1.5
    assert difference.max() <= 16


@pytest.mark.parametrize(
    ("tile", "limit", "strips"), [("auto", 10**9, 0), ("auto", 1, 1), ("on", 10**9, 1), ("off", 1, 0)]
)
def test_large_images_are_translated_in_strips_unless_told_otherwise(monkeypatch, tile, limit, strips):
    monkeypatch.setattr(translator, "LARGE_PIXELS", limit)
    used = []
    in_strips = Translator._in_strips
    monkeypatch.setattr(Translator, "_in_strips", lambda self, *given: used.append(given) or in_strips(self, *given))
    torch.manual_seed(0)
    generator = ResNetGenerator(2, 4)
    image = noise(50, 71)
    expected = Translator(generator, tile="off")(image)
    used.clear()
    translated = Translator(generator, tile=tile)(image)
    assert len(used) == strips
    assert np.abs(translated.astype(int) - expected).max() <= 1
    assert np.abs(translated.astype(int) - expected).mean() < 0.01


def test_a_batch_in_strips_is_each_image_in_strips():
    torch.manual_seed(0)
    translate = Translator(ResNetGenerator(1, 4), tile="on")
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 20, 24), dtype=np.uint8))
    together = translate.translate_batch(images)
    assert all(torch.equal(together[i], translate.translate_batch(images[i : i + 1])[0]) for i in range(3))


def run_out(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_an_image_that_does_not_fit_is_translated_in_strips(monkeypatch):
    torch.manual_seed(0)
    generator = ResNetGenerator(1, 4)
    image = noise(32, 40)
    expected = Translator(generator)(image)
    monkeypatch.setattr(ResNetGenerator, "forward", run_out)
    with pytest.raises(torch.OutOfMemoryError):
        Translator(generator, tile="off")(image)
    monkeypatch.undo()
    translate = Translator(generator)
    assert translate._strips is not None  # traced while the network still ran
    monkeypatch.setattr(ResNetGenerator, "forward", run_out)
    assert np.abs(translate(image).astype(int) - expected).max() <= 1


def test_strips_tell_how_far_they_are():
    parts: list[float] = []
    Translator(ResNetGenerator(1, 4), tile="on", progress=parts.append)(noise(64, 64))
    assert parts == sorted(parts)
    assert parts[-1] == 1


def test_a_network_that_cannot_run_in_strips_runs_in_one_piece(monkeypatch):
    class Picky(Negative):
        def forward(self, images: Tensor) -> Tensor:
            if images.max() > 2:  # depends on what it sees
                return images[:, :, ::2]
            return super().forward(images)

    monkeypatch.setattr(translator, "LARGE_PIXELS", 1)
    for tile in ("auto", "on"):
        assert np.array_equal(Translator(Picky(), tile=tile)(noise(16, 24)), 255 - noise(16, 24))
