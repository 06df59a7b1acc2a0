"""The page with the scores and the pictures behind them."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from monet_cyclegan.data.sources import Source
from monet_cyclegan.evaluation.image_sets import ImageSet, Preparation, prepared_batches, survey
from monet_cyclegan.evaluation.report import noting_changes, render_report
from monet_cyclegan.evaluation.subjects import Subjects
from monet_cyclegan.metrics.memorization import Nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

NASTY = ["<b>x&.png", 'q"uote\' onerror="alert(1)', "</figcaption><script>alert(1)</script>", "&amp;", "é 日本"]
LEVELS = [(name, [f"{index}.00", f"{index}.50"]) for index, name in enumerate(["FID", "KID <i>", "MiFID, eps 0.1"])]


class Pictures(Source):
    """Plain colours in memory: image i is of the i-th colour."""

    def __init__(self, colours: Sequence[Sequence[int]], names: Sequence[str] | None = None, size: tuple = (24, 24)):
        self.location = "in memory"
        self.colours = colours
        self.names = names or [f"image {index}" for index in range(len(colours))]
        self.size = size

    def __len__(self) -> int:
        return len(self.colours)

    def name(self, index: int) -> str:
        return self.names[index]

    def load(self, index: int) -> np.ndarray:
        return np.full((*self.size, 3), self.colours[index], dtype=np.uint8)

    def fingerprint(self) -> str:
        return ""


class Page(HTMLParser):
    """Figures and texts of a page; fails where an element isn't closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.sections: dict[str, list[tuple[list[str], str]]] = {}  # heading: (sources, caption) of each figure
        self.texts: dict[str, list[str]] = {}
        self._heading = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")
        if tag == "figure":
            self.sections[self._heading].append(([], ""))
        if tag == "img":
            self.sections[self._heading][-1][0].append(dict(attrs)["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "h2":
            self._heading = self.texts["h2"][-1]
            self.sections[self._heading] = []
        if tag == "figcaption":
            sources, _ = self.sections[self._heading].pop()
            self.sections[self._heading].append((sources, self.texts["figcaption"][-1]))

    def handle_data(self, data: str) -> None:
        for tag in {*self.open}:
            self.texts[tag][-1] += data

    def captions(self, heading: str) -> list[str]:
        return [caption for _, caption in self.sections[heading]]

    def colours(self, heading: str) -> list[list[list[int]]]:
        """The mean colour of each picture of each figure."""
        return [
            [np.asarray(picture(source)).mean((0, 1)).round().astype(int).tolist() for source in sources]
            for sources, _ in self.sections[heading]
        ]


def picture(source: str) -> Image.Image:
    head, content = source.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def image_set(source: Source) -> ImageSet:
    return replace(survey("x", source), source=source)  # in the order of the source, not of its names


def subjects(fake: Source, real: Source, source: Source | None = None) -> Subjects:
    def read(images: Source | None) -> Any:
        return images and partial(prepared_batches, image_set(images), Preparation(None, jpeg=False), 2)

    return Subjects(image_set(fake), image_set(real), read(fake), read(real), read(source), "fake", True, True, ())


def result(**changes: Any) -> dict[str, Any]:
    return {
        "fake": "folder <u>1",
        "real": "folder &amp; <u>2",
        "mode": "mode <m>",
        "comparable_with_kaggle": False,
        "features": {"title": "Features <f>"},
        "num_fake": 1234,
        "num_real": 5678,
        "noise_floor": {"num_fake": 11, "num_real": 12},
        "torch_fidelity": "fidelity --input1 '<a> & b'",
        "skipped": [],
        **changes,
    }


def nearest(distances: Sequence[float], indices: Sequence[int]) -> Nearest:
    return Nearest(torch.tensor(distances, dtype=torch.float64), torch.tensor(indices))


def greys(*levels: int) -> list[list[int]]:
    return [[level] * 3 for level in levels]


def page_of(fake: Source, real: Source, found: Nearest, source: Source | None = None, **changes: Any) -> Page:
    given = subjects(fake, real, source)
    return Page(render_report(result(**changes), LEVELS, given, found, changes_of(given)))


def changes_of(given: Subjects) -> list[float]:
    found: list[float] = []
    if given.read_source is not None:
        for _ in noting_changes(given.read_fake(None), given.read_source(None), found):
            pass
    return found


@pytest.fixture
def simple() -> tuple[Pictures, Pictures, Nearest]:
    return Pictures(greys(10, 20)), Pictures(greys(30, 40)), nearest([0.5, 0.25], [0, 1])


# ---- the page ----


def test_every_text_is_escaped():
    fake, real = Pictures(greys(*range(5)), NASTY), Pictures(greys(1, 2), NASTY[:2])
    skipped = [f"folder/{name}: reason <r> & more" for name in NASTY]
    page = page_of(fake, real, nearest([0.1, 0.2, 0.3, 0.4, 0.5], [0] * 5), fake, skipped=skipped)
    assert page.tags <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "br", "ul", "ol", "li", "div"),
        *("table", "tr", "th", "td", "code", "figure", "figcaption", "img"),
    }
    assert {name for name, _ in page.attributes} <= {"lang", "charset", "name", "content", "class", "alt", "src"}
    assert [caption.rpartition(": d")[0] for caption in page.captions("Nearest to a real image")] == NASTY
    assert {caption.rpartition(": ")[0] for caption in page.captions("Most changed")} == {*NASTY}
    assert page.texts["li"] == ["mode <m>", *skipped]
    assert page.texts["code"] == ["fidelity --input1 '<a> & b'", *skipped]
    assert "folder <u>1against folder &amp; <u>2" in page.texts["p"]
    assert "KID <i>" in page.texts["th"]
    assert any("On Features <f> features." in text for text in page.texts["p"])


def test_nothing_on_the_page_comes_from_elsewhere(simple):
    fake, real, found = simple
    text = render_report(result(skipped=["x"]), LEVELS, subjects(fake, real, fake), found, [0.0] * 2)
    without_pictures = re.sub(r'src="data:image/jpeg;base64,[A-Za-z0-9+/=]+"', "", text)
    assert len(without_pictures) < 8000
    assert not re.search(r"https?:|//|url\(|@import|\ssrc|\shref|<script|<link|<iframe|base64", without_pictures)


def test_the_table_holds_all_lines_with_the_numbers_of_images(simple):
    page = page_of(*simple)
    assert page.texts["th"] == [
        "",
        "1,234 generated, 5,678 real",
        "noise floor: real halves of 11 and 12",
        "FID",
        "KID <i>",
        "MiFID, eps 0.1",
    ]
    assert page.texts["td"] == ["0.00", "0.50", "1.00", "1.50", "2.00", "2.50"]


def test_what_is_not_known_is_left_out(simple):
    fake, real, found = simple
    page = page_of(fake, real, found, noise_floor=None, torch_fidelity=None)
    assert page.texts["h2"] == ["Nearest to a real image"]
    assert not any("real halves" in text for text in page.texts["th"])
    page = page_of(fake, real, found, source=fake, skipped=["a: broken"])
    assert page.texts["h2"] == [
        "The same by torch-fidelity",
        "Nearest to a real image",
        "Most changed",
        "Least changed",
        "Skipped",
    ]


@pytest.mark.parametrize(("comparable", "kind"), [(True, "good"), (False, "note")])
def test_only_what_is_comparable_with_the_competition_is_marked_as_good(simple, comparable, kind):
    page = page_of(*simple, comparable_with_kaggle=comparable)
    assert [value for name, value in page.attributes if name == "class" and value in ("good", "note")] == [kind]


# ---- nearest pairs ----


def test_pairs_are_sorted_by_distance_and_show_the_real_image_that_is_nearest():
    fake, real = Pictures(greys(10, 20, 30, 40)), Pictures(greys(110, 120, 130, 140))
    page = page_of(fake, real, nearest([0.4, 0.0, 0.30004, 0.1], [3, 1, 1, 0]))
    assert page.captions("Nearest to a real image") == [
        "image 1: d = 0.0000",
        "image 3: d = 0.1000",
        "image 2: d = 0.3000",
        "image 0: d = 0.4000",
    ]
    assert page.colours("Nearest to a real image") == [
        [[20] * 3, [120] * 3],
        [[40] * 3, [110] * 3],
        [[30] * 3, [120] * 3],
        [[10] * 3, [140] * 3],
    ]


def test_of_many_images_the_twelve_nearest_are_shown():
    rng = np.random.default_rng(0)
    distances = rng.permutation(30) / 30
    page = page_of(Pictures(greys(*range(30))), Pictures(greys(1, 2)), nearest(distances.tolist(), [0] * 30))
    assert page.captions("Nearest to a real image") == [
        f"image {index}: d = {distances[index]:.4f}" for index in distances.argsort()[:12]
    ]


def test_images_without_a_distance_are_left_out():
    fake, real = Pictures(greys(10, 20, 30)), Pictures(greys(110, 120))
    page = page_of(fake, real, nearest([float("nan"), 0.9, float("nan")], [-1, 1, -1]))
    assert page.captions("Nearest to a real image") == ["image 1: d = 0.9000"]
    assert page.colours("Nearest to a real image") == [[[20] * 3, [120] * 3]]
    assert page_of(fake, real, nearest([float("nan")] * 3, [-1] * 3)).captions("Nearest to a real image") == []


@pytest.mark.parametrize(("size", "shown"), [((600, 300), (96, 192)), ((300, 600), (192, 96))])
def test_pictures_keep_their_proportions_within_192_pixels(size, shown):
    fake, real = Pictures(greys(10, 20), size=size), Pictures(greys(30, 40))
    page = page_of(fake, real, nearest([0.1, 0.2], [0, 0]))
    sources, _ = page.sections["Nearest to a real image"][0]
    assert picture(sources[0]).size == shown


# ---- before and after ----


def test_the_mean_change_is_that_of_known_pictures():
    before, after = Pictures([[10, 40, 9], [0, 0, 0], [255, 0, 9]]), Pictures([[40, 10, 9], [255] * 3, [255, 0, 9]])
    assert changes_of(subjects(after, after, before)) == pytest.approx([20, 255, 0])


def test_the_most_and_the_least_changed_pictures_are_shown_in_order_before_and_after():
    levels = [30, 0, 70, 10, 60, 20, 50, 40]
    before, after = Pictures(greys(*[100] * 8)), Pictures(greys(*(100 + level for level in levels)))
    page = page_of(after, Pictures(greys(1, 2)), nearest([0.5] * 8, [0] * 8), before)
    for heading, chosen in {"Most changed": [70, 60, 50, 40, 30, 20], "Least changed": [0, 10, 20, 30, 40, 50]}.items():
        assert page.captions(heading) == [f"image {levels.index(level)}: {level:.1f} of 255" for level in chosen]
        assert page.colours(heading) == [[[100] * 3, [100 + level] * 3] for level in chosen]


def test_fewer_than_six_pictures_are_all_shown():
    before, after = Pictures(greys(0, 0, 0)), Pictures(greys(1, 2, 3))
    page = page_of(after, before, nearest([0.5] * 3, [0] * 3), before)
    assert page.captions("Most changed") == page.captions("Least changed")[::-1]
    assert len(page.captions("Most changed")) == 3


class Mixed(Pictures):
    """Every picture but the first one is of another size."""

    def load(self, index: int) -> np.ndarray:
        return super().load(index)[: 24 if index == 0 else 20]


def test_pictures_of_another_size_than_their_source_have_no_change():
    before, after = Pictures(greys(0, 0, 0)), Mixed(greys(50, 2, 3))
    page = page_of(after, before, nearest([0.5] * 3, [0] * 3), before)
    assert page.captions("Most changed") == ["image 0: 50.0 of 255"]
    assert page.captions("Least changed") == ["image 0: 50.0 of 255"]
