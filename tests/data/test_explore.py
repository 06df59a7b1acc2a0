from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from monet_cyclegan.data.explore import main
from monet_cyclegan.data.sources import FolderSource
from monet_cyclegan.data.survey import Copy, count_duplicates, find_duplicates, survey

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three photos, two of them the same bytes, and two paintings, one unreadable and one that is a photo too."""
    rng = np.random.default_rng(0)
    same, other = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    root = tmp_path / "data"
    for name, pixels in {"photo_jpg/1": same, "photo_jpg/2": same, "photo_jpg/3": other, "monet_jpg/4": other}.items():
        write(root / f"{name}.png", pixels)
    (root / "monet_jpg" / "<b>5&.png").write_bytes(b"no image")
    return root


class Page(HTMLParser):
    """What a browser would fetch and run, and the text it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_mean_and_std_are_those_of_all_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 200, (height, 5, 3), np.uint8) for height in (3, 9)]
    for index, image in enumerate(images):
        write(tmp_path / f"{index}.png", image)
    facts = survey("A", FolderSource(tmp_path))
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(float)
    np.testing.assert_allclose(facts.mean, pixels.mean(axis=0))
    np.testing.assert_allclose(facts.std, pixels.std(axis=0))
    assert facts.sizes == {(5, 3): 1, (5, 9): 1}


def test_colour_modes_are_those_of_the_files(tmp_path: Path) -> None:
    write(tmp_path / "grey.png", np.zeros((4, 4), np.uint8))
    write(tmp_path / "rgba.png", np.zeros((4, 4, 4), np.uint8))
    write(tmp_path / "rgb.png", np.zeros((4, 4, 3), np.uint8))
    assert survey("A", FolderSource(tmp_path)).modes == {"L": 1, "RGBA": 1, "RGB": 1}


def test_unreadable_images_are_counted_apart_and_explained(root: Path) -> None:
    seen = []
    facts = survey("B", FolderSource(root / "monet_jpg"), lambda: seen.append(1))
    assert (len(facts.digests), len(facts.unreadable), len(seen)) == (1, 1, 2)
    assert "<b>5&.png" in next(iter(facts.unreadable.values()))


def test_duplicates_are_found_within_and_across_domains(root: Path) -> None:
    domains = [survey(key, FolderSource(root / f)) for key, f in (("A", "photo_jpg"), ("B", "monet_jpg"))]
    groups = find_duplicates(domains)
    assert groups == [[Copy("A", "1"), Copy("A", "2")], [Copy("A", "3"), Copy("B", "4")]]
    assert count_duplicates("A", groups) == (1, 1)
    assert count_duplicates("B", groups) == (0, 1)


def test_the_terminal_shows_counts_dimensions_and_modes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"data.root={root}", f"output={root}/report.html"])
    lines = capsys.readouterr().out.splitlines()
    assert "A: photo_jpg: 3 images, dimensions [[8 8]], colour modes {'RGB'}" in lines
    assert "B: monet_jpg: 1 images, dimensions [[8 8]], colour modes {'RGB'}" in lines
    assert "byte-identical: A 1 = A 2" in lines
    assert "byte-identical: A 3 = B 4" in lines
    assert any(line.startswith("unreadable: ") and "<b>5&.png" in line for line in lines)
    assert lines[-1] == f"report: {root}/report.html"


def test_the_page_stands_alone_and_escapes_names(root: Path, tmp_path: Path) -> None:
    main([f"data.root={root}", f"output={tmp_path}/new/report.html"])
    page = Page((tmp_path / "new" / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert not page.tags & {"b", "script", "link"}
    assert "<b>5&.png" in page.text
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not re.search(r"url\(|@import", page.text)


def test_a_contact_sheet_shows_evenly_spaced_images(tmp_path: Path) -> None:
    for domain in ("photo_jpg", "monet_jpg"):
        for index in range(96):
            write(tmp_path / domain / f"{index}.png", np.full((2, 2, 3), 2 * index, np.uint8))
    main([f"data.root={tmp_path}", f"output={tmp_path}/report.html"])
    source = Page((tmp_path / "report.html").read_text(encoding="utf-8")).sources[0]
    sheet = np.array(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))), dtype=int)
    tiles = sheet[64::128, 64::128, 0].ravel()  # the centres of 4 rows of 12
    np.testing.assert_allclose(tiles, 4 * np.arange(48), atol=3)


def test_two_folders_can_be_given_and_swapped(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [f"data.a={root}/photo_jpg", f"data.b={root}/monet_jpg", f"output={root}/report.html"]
    main([*folders, "data.swap=true"])
    assert "A: monet_jpg: 1 images" in capsys.readouterr().out


def test_control_characters_of_names_never_reach_the_terminal(
    root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (root / "photo_jpg" / "\x1b[31mred.png").write_bytes(b"")
    main([f"data.root={root}", f"output={tmp_path}/report.html"])
    assert "\\x1b[31mred.png" in capsys.readouterr().out.replace("\x1b", "ESCAPE")


def test_domains_without_a_readable_image_still_get_a_report(tmp_path: Path) -> None:
    for domain in ("photo_jpg", "monet_jpg"):
        (tmp_path / domain).mkdir()
        (tmp_path / domain / "x.jpg").write_bytes(b"")
    main([f"data.root={tmp_path}", f"output={tmp_path}/report.html"])
    assert "2 unreadable" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data.rot=x", "unknown key 'data.rot', did you mean 'data.root'?"),
        ("data.swap", "arguments look like key=value, not 'data.swap'"),
        ("data.swap=maybe", "data.swap needs true or false, not 'maybe'"),
        ("data.a=x", "data.a and data.b go together"),
        ("data.root=/nowhere/at/all", "/nowhere/at/all does not exist"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(argument: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([argument])
    printed = capsys.readouterr()
    assert (end.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert printed.err.startswith(f"error: {message}")


def test_an_output_that_cannot_be_written_is_a_clear_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"data.root={root}", f"output={root}"])
    assert f"error: output={root}: Is a directory" in capsys.readouterr().err


def test_an_interrupt_ends_silently_with_status_130(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FolderSource, "read", interrupt)
    with pytest.raises(SystemExit) as end:
        main([f"data.root={root}"])
    assert end.value.code == 130
