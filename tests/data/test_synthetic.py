from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from monet_cyclegan.data.brush import Strokes, directions, palette, render
from monet_cyclegan.data.canvas import Canvas
from monet_cyclegan.data.scenes import imagine
from monet_cyclegan.data.synthetic import (
    Split,
    SyntheticSource,
    main,
    render_painting,
    render_pair,
    render_photo,
    synthetic_domains,
)
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import read_image

SIZE = 48


@pytest.fixture(scope="module")
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    return [render_pair(seed, SIZE) for seed in range(16)]


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def luminance(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255


def composition(image: np.ndarray) -> np.ndarray:
    """Blurred luminance, standardised: what remains when one squints."""
    blurred = cv2.GaussianBlur(luminance(image), (0, 0), SIZE / 16)
    return (blurred - blurred.mean()) / blurred.std()


@pytest.mark.parametrize("size", [16, 33, 64])
def test_a_pair_is_two_rgb_images_of_the_asked_size(size):
    for image in render_pair(5, size):
        assert image.shape == (size, size, 3)
        assert image.dtype == np.uint8


def test_a_seed_gives_the_same_bytes_in_any_order_and_alone():
    first = [[digest(image) for image in render_pair(seed, 32)] for seed in (0, 1, 2)]
    again = [[digest(image) for image in render_pair(seed, 32)] for seed in (2, 1, 0)]
    assert first == again[::-1]
    assert first[1] == [digest(render_photo(1, 32)), digest(render_painting(1, 32))]


def test_another_process_with_another_number_of_threads_gives_the_same_bytes():
    code = (
        "import cv2, hashlib; cv2.setNumThreads(3)\n"
        "from monet_cyclegan.data.synthetic import render_pair\n"
        "print(*(hashlib.sha256(image.tobytes()).hexdigest() for image in render_pair(2**63 + 7, 64)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert answer.stdout.split() == [digest(image) for image in render_pair(2**63 + 7, 64)]


def test_rendering_leaves_opencvs_and_numpys_global_state_alone():
    threads = cv2.getNumThreads()
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    render_pair(0, 32)
    assert np.random.random() == expected
    assert cv2.getNumThreads() == threads


def test_scenes_differ(pairs):
    assert len({digest(photo) for photo, _ in pairs}) == len(pairs)
    likeness = [
        float(np.mean(composition(a) * composition(b))) for i, (a, _) in enumerate(pairs) for b, _ in pairs[i + 1 :]
    ]
    assert np.mean(likeness) < 0.6


def test_one_seed_is_one_scene_at_every_size():
    for image, larger in zip(render_pair(3, 48), render_pair(3, 96), strict=True):
        smaller = cv2.resize(larger, (48, 48), interpolation=cv2.INTER_AREA)
        assert np.mean(composition(image) * composition(smaller)) > 0.95


def test_a_painting_shares_its_composition_with_its_own_photo_alone(pairs):
    likeness = np.array([[np.mean(composition(a) * composition(b)) for _, b in pairs] for a, _ in pairs])
    own = np.diag(likeness)
    others = likeness[~np.eye(len(pairs), dtype=bool)]
    assert own.min() > 0.8
    assert own.mean() > others.mean() + 0.3
    assert (likeness.argmax(axis=1) == np.arange(len(pairs))).all()


def test_paintings_have_lifted_violet_shadows_and_no_black(pairs):
    rises = []
    for photo, painting in pairs:
        dark = luminance(photo) <= np.quantile(luminance(photo), 0.1)
        rises.append(painting[dark].mean(axis=0) - photo[dark].mean(axis=0))
        assert np.quantile(luminance(painting), 0.01) > 0.15
    assert np.min(rises) > 10
    red, green, blue = np.mean(rises, axis=0)
    assert blue > red + 5
    assert red > green


def test_the_palette_lifts_black_to_violet_and_turns_white_to_cream():
    black, white = palette(np.array([[0, 0, 0], [1, 1, 1]], np.float32))
    assert black == pytest.approx([0.26, 0.21, 0.38])
    assert white == pytest.approx([1.0, 0.99, 0.93])


def test_the_palette_moves_middle_tones_of_equal_light_apart():
    colours = np.array([[0.4, 0.5, 0.5 + 0.0299 / 0.114], [0.6, 0.5, 0.5 - 0.0299 / 0.114]], np.float32)
    painted = palette(colours)
    assert luminance(colours * 255) == pytest.approx([0.5, 0.5], abs=1e-5)
    assert painted[1, 0] - painted[0, 0] == pytest.approx(0.2 * 0.80 * (1.0 + 1.7 * 0.25), abs=1e-5)


def test_applying_the_palette_to_photos_brings_them_much_closer_to_their_paintings(pairs):
    untouched = np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairs])
    recoloured = np.mean([np.abs(palette(a.astype(np.float32) / 255) * 255 - b).mean() for a, b in pairs])
    assert untouched > 20
    assert recoloured < 0.6 * untouched


def test_paintings_have_strokes_where_photos_are_smooth():
    def steepness(image: np.ndarray) -> np.ndarray:
        light = cv2.GaussianBlur(luminance(image), (0, 0), 1)
        return np.hypot(cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1))

    ratios = []
    for seed in range(6):
        photo, painting = (steepness(image) for image in render_pair(seed, 96))
        smooth = photo < np.quantile(photo, 0.4)
        ratios.append(painting[smooth].mean() / photo[smooth].mean())
    assert np.mean(ratios) > 1.5


def test_the_brush_follows_the_landscape_and_turns_along_edges():
    canvas = Canvas(imagine(0), 0, SIZE)
    canvas.colour[:] = 0.5
    canvas.flow[:] = np.cos(2 * 0.3), np.sin(2 * 0.3)
    assert directions(canvas) == pytest.approx(0.3, abs=1e-4)
    canvas.colour[:, SIZE // 2 :] = 0.9
    angles = directions(canvas)
    assert np.abs(angles[5:-5, SIZE // 2]).min() > 1.0  # nearly upright at the edge
    assert angles[:, :10] == pytest.approx(0.3, abs=1e-4)


def test_a_stroke_covers_a_rectangle_along_its_direction_and_leaves_the_cloth_bare_elsewhere():
    half, colour = np.array([0.5]), np.array([[0.1, 0.1, 0.9]])
    stroke = Strokes(half, half, np.array([np.pi / 2]), np.array([0.2]), np.array([0.6]), colour)
    picture = render(stroke, 40, np.random.default_rng(0))
    painted = picture[..., 2] > picture[..., 0]
    rows, columns = np.nonzero(painted)
    assert np.ptp(rows) + 1 == pytest.approx(24, abs=1)
    assert np.ptp(columns) + 1 == pytest.approx(8, abs=1)
    assert picture[~painted].mean(axis=0) == pytest.approx([0.86, 0.81, 0.74], abs=0.02)


def test_training_scenes_of_the_domains_are_disjoint_and_none_is_held_out():
    domains = synthetic_domains(count_a=50, count_b=60, size=32, seed=0, val_count=40)
    seeds = [{source.scene_seed(i) for i in range(len(source))} for source in (domains.train_a, domains.train_b)]
    held_out = {domains.val_a.scene_seed(i) for i in range(40)}
    shown = {SyntheticSource("a", 40, 32, 0, Split.SHOW).scene_seed(i) for i in range(40)}
    assert len(set.union(*seeds, held_out, shown)) == 50 + 60 + 40 + 40


def test_validation_images_are_true_pairs():
    domains = synthetic_domains(count_a=2, count_b=2, size=32, seed=4, val_count=2)
    for i in range(2):
        photo, painting = render_pair(domains.val_a.scene_seed(i), 32)
        np.testing.assert_array_equal(domains.val_a.load(i), photo)
        np.testing.assert_array_equal(domains.val_b.load(i), painting)


def test_without_a_validation_count_there_are_no_validation_sources():
    domains = synthetic_domains(count_a=2, count_b=2, size=32, seed=4, val_count=0)
    assert domains.val_a is None
    assert domains.val_b is None


def test_a_source_survives_pickling_and_has_unique_names():
    source = SyntheticSource("b", 12, 32, 1, Split.TRAIN_B)
    clone = pickle.loads(pickle.dumps(source))
    assert clone == source
    assert clone.fingerprint() == source.fingerprint()
    np.testing.assert_array_equal(clone.load(3), source.load(3))
    assert len({source.name(i) for i in range(len(source))}) == 12
    with pytest.raises(IndexError):
        source.load(12)


def test_a_fingerprint_changes_with_every_parameter():
    variants = [
        SyntheticSource("a", 4, 32, 1, Split.VAL),
        SyntheticSource("b", 4, 32, 1, Split.VAL),
        SyntheticSource("a", 5, 32, 1, Split.VAL),
        SyntheticSource("a", 4, 48, 1, Split.VAL),
        SyntheticSource("a", 4, 32, 2, Split.VAL),
        SyntheticSource("a", 4, 32, 1, Split.SHOW),
    ]
    assert len({source.fingerprint() for source in variants}) == len(variants)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"domain": "photo"}, "'photo'"),
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"size": 8}, "size must be from 16 to 1024 pixels, not 8"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(changed, message):
    options = {"domain": "a", "count": 2, "size": 32, "seed": 0, "split": Split.VAL}
    with pytest.raises(UserError, match=message):
        SyntheticSource(**{**options, **changed})


def test_the_program_writes_photos_by_default_and_prints_their_folder(tmp_path, capsys):
    output = tmp_path / "deep" / "pictures"
    main([f"output={output}", "count=2", "size=32", "seed=3"])
    assert sorted(path.name for path in output.iterdir()) == ["photo_000.png", "photo_001.png"]
    assert capsys.readouterr().out.splitlines()[-1] == str(output)
    shown = SyntheticSource("a", 2, 32, 3, Split.SHOW)
    np.testing.assert_array_equal(read_image(output / "photo_001.png"), shown.load(1))


def test_the_program_writes_both_domains_as_pairs(tmp_path):
    main([f"output={tmp_path}", "count=1", "size=32", "domain=both"])
    photo, painting = render_pair(SyntheticSource("a", 1, 32, 0, Split.SHOW).scene_seed(0), 32)
    np.testing.assert_array_equal(read_image(tmp_path / "photo_000.png"), photo)
    np.testing.assert_array_equal(read_image(tmp_path / "painting_000.png"), painting)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cuont=3"], "'count'"),
        (["count=many"], "'many'"),
        (["count"], "key=value"),
        (["count=3"], "output is missing"),
        (["output=x", "domain=drawing"], "photo, painting, both, not 'drawing'"),
        (["output=x", "size=4"], "not 4"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_clear_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert not list(tmp_path.iterdir())
