from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from monet_cyclegan.page import data_uri, render_page


class Page(HTMLParser):
    """Closes what it opens, and gives its texts by the element that they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))


def test_a_page_is_a_whole_document_with_its_parts_in_order():
    text = render_page("Monet", ["<p>first</p>", "<h2>second</h2>"])
    page = Page(text)
    assert text.startswith("<!doctype html>\n<html")
    assert [found for found in page.texts if found[1].strip() and found[0] != "style"] == [
        ("title", "Monet"),
        ("h1", "Monet"),
        ("p", "first"),
        ("h2", "second"),
    ]


def test_a_title_is_text_not_markup():
    texts = Page(render_page('<b>x&amp;"</title><script>', [])).texts
    assert {text for tag, text in texts if tag in ("title", "h1")} == {'<b>x&amp;"</title><script>'}


def test_a_page_needs_nothing_else():
    text = render_page("x", ["<p>é ± →</p>"])
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<iframe|\ssrc=|\shref=", text)
    assert text.index('<meta charset="utf-8">') < 1024  # where browsers look for it
    assert "é ± →" in text.encode().decode("utf-8")


@pytest.mark.parametrize(("quality", "error"), [(82, 8), (100, 3)])
def test_a_picture_is_embedded_as_jpeg(quality, error):
    ramp = np.linspace(0, 255, 48, dtype=np.uint8)
    pixels = np.dstack([np.tile(ramp, (32, 1)), np.tile(ramp[::-1], (32, 1)), np.full((32, 48), 90, np.uint8)])
    uri = data_uri(Image.fromarray(pixels), quality)
    head, content = uri.split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (48, 32))
        assert np.abs(np.asarray(picture).astype(int) - pixels).mean() < error


def test_a_lower_quality_makes_a_smaller_page():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert len(data_uri(noise, 20)) < len(data_uri(noise)) < len(data_uri(noise, 98))
