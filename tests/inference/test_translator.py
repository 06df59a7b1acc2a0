from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from monet_cyclegan.errors import UserError
from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.inference import Translator, translate_files
from monet_cyclegan.inference.translator import mirrored_indices


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


def test_files_that_fail_are_reported_and_the_others_translated(tmp_path):
    write_image(tmp_path / "good.png", noise(20, 20))
    write_image(tmp_path / "tiny.png", noise(8, 8))
    (tmp_path / "text.png").write_text("no image")
    jobs = [
        (tmp_path / "missing.png", tmp_path / "out" / "missing.png"),
        (tmp_path / "text.png", tmp_path / "out" / "text.png"),
        (tmp_path / "tiny.png", tmp_path / "out" / "tiny.png"),
        (tmp_path / "good.png", tmp_path / "out" / "good.xyz"),
        (tmp_path / "good.png", tmp_path / "out" / "deep" / "good.png"),
    ]
    outcomes = list(translate_files(Translator(Negative()), jobs))

    assert [(outcome.source, outcome.target) for outcome in outcomes] == jobs
    assert [outcome.error is None for outcome in outcomes] == [False, False, False, False, True]
    for outcome, named in zip(outcomes, ("missing.png", "text.png", "tiny.png", "good.xyz"), strict=False):
        assert outcome.error is not None
        assert named in outcome.error
        assert "\n" not in outcome.error
    assert np.array_equal(read_image(tmp_path / "out" / "deep" / "good.png"), 255 - noise(20, 20))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deep"]


def run_out_on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def run_out_on_a_cpu() -> None:
    torch.empty(2**60, dtype=torch.uint8)  # more than any address space


@pytest.mark.parametrize("run_out", [run_out_on_a_gpu, run_out_on_a_cpu])
def test_running_out_of_memory_costs_one_file_only(tmp_path, run_out):
    class Hungry(Negative):
        def forward(self, images: Tensor) -> Tensor:
            if images.shape[2] > 32:
                run_out()
            return super().forward(images)

    for name, size in (("large.png", 64), ("small.png", 32)):
        write_image(tmp_path / name, noise(size, size))
    jobs = [(tmp_path / name, tmp_path / "out" / name) for name in ("large.png", "small.png")]
    large, small = translate_files(Translator(Hungry()), jobs)
    assert large.error is not None
    assert "64x64 pixels don't fit" in large.error
    assert small.error is None


def test_a_defect_is_not_mistaken_for_a_bad_file(tmp_path):
    class Broken(Negative):
        def forward(self, images: Tensor) -> Tensor:
            return images @ images[:, :, :3]

    write_image(tmp_path / "good.png", noise(20, 20))
    with pytest.raises(RuntimeError, match="size"):
        list(translate_files(Translator(Broken()), [(tmp_path / "good.png", tmp_path / "out.png")]))


def test_files_are_translated_as_they_are_asked_for(tmp_path):
    for name in ("one.png", "two.png"):
        write_image(tmp_path / name, noise(16, 16))
    outcomes = translate_files(
        Translator(Negative()), [(tmp_path / n, tmp_path / f"out_{n}") for n in ("one.png", "two.png")]
    )
    next(outcomes)
    assert (tmp_path / "out_one.png").exists()
    assert not (tmp_path / "out_two.png").exists()
