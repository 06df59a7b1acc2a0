"""The data report as one HTML page that needs nothing else: no scripts, no network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from monet_cyclegan.data.survey import Copy, DomainFacts, count_duplicates
from monet_cyclegan.page import data_uri, render_page

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

_SHEET_COLUMNS, _SHEET_ROWS, _THUMBNAIL = 12, 4, 128
_PLOT_WIDTH, _PLOT_HEIGHT = 320, 150
_BINS = 64
_TIMES = "\N{MULTIPLICATION SIGN}"


def summarize(domains: Sequence[DomainFacts], duplicates: Sequence[Sequence[Copy]]) -> dict[str, list[str]]:
    """Put the facts into words: rows by label, with one cell per domain."""
    copies = [count_duplicates(facts.key, duplicates) for facts in domains]
    return {
        "Images": [str(len(facts.digests)) for facts in domains],
        "Unreadable": [str(len(facts.unreadable)) for facts in domains],
        "Duplicates within": [str(within) for within, _ in copies],
        "Duplicates across": [str(across) for _, across in copies],
        f"Width {_TIMES} height": [_sizes(facts.sizes) for facts in domains],
        "Colour modes": [", ".join(f"{m} ({count})" for m, count in facts.modes.most_common()) for facts in domains],
        "File size": [_bytes(facts.file_bytes) for facts in domains],
        "Mean R, G, B": [", ".join(f"{value:.1f}" for value in facts.mean) for facts in domains],
        "Std R, G, B": [", ".join(f"{value:.1f}" for value in facts.std) for facts in domains],
    }


def render_report(domains: Sequence[DomainFacts], duplicates: Sequence[Sequence[Copy]]) -> str:
    """Render the page; every name in it is escaped."""
    parts = [
        _findings(domains, duplicates),
        f'<div class="row">{"".join(map(_card, domains))}</div>',
        "<h2>In numbers</h2>",
        _table(domains, duplicates),
        "<h2>Colours</h2>",
        _histograms(domains),
        "<h2>A look inside</h2>",
        *map(_contact_sheet, domains),
        _list("Byte-identical images", [" = ".join(f"{copy.domain} {copy.name}" for copy in g) for g in duplicates]),
        _list("Unreadable files", [reason for facts in domains for reason in facts.unreadable.values()]),
    ]
    return render_page("Data report", parts)


def _findings(domains: Sequence[DomainFacts], duplicates: Sequence[Sequence[Copy]]) -> str:
    unreadable = sum(len(facts.unreadable) for facts in domains)
    copies = sum(len(group) - 1 for group in duplicates)
    sizes = len({size for facts in domains for size in facts.sizes})
    findings = {
        f"{unreadable} unreadable" if unreadable else "all files readable": unreadable == 0,
        f"{copies} byte-identical {'copy' if copies == 1 else 'copies'}" if copies else "no duplicates": copies == 0,
        f"{sizes} different sizes" if sizes > 1 else "one size throughout": sizes <= 1,
    }
    items = "".join(f'<li class="{"good" if good else "note"}">{text}</li>' for text, good in findings.items())
    return f'<ul class="findings">{items}</ul>'


def _card(facts: DomainFacts) -> str:
    details = " · ".join(["images", _sizes(facts.sizes), ", ".join(sorted(facts.modes))])
    return (
        f'<div class="card"><div>{_title(facts)}</div>'
        f'<div class="count">{len(facts.digests):,}</div><div class="soft">{escape(details)}</div></div>'
    )


def _table(domains: Sequence[DomainFacts], duplicates: Sequence[Sequence[Copy]]) -> str:
    head = "".join(f"<th>{_title(facts)}</th>" for facts in domains)
    rows = "".join(
        f"<tr><th>{escape(label)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for label, cells in summarize(domains, duplicates).items()
    )
    return f'<div class="card scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _histograms(domains: Sequence[DomainFacts]) -> str:
    """Draw one plot per channel with a curve per domain: each value's share of the domain's pixels."""
    counts = np.stack([facts.histogram for facts in domains]).reshape(len(domains), 3, _BINS, -1).sum(axis=-1)
    shares = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)  # (domain, channel, bin)
    # Clipped black and white make spikes many times as high as the rest: those may leave the plot at its top.
    top = max(float(shares[..., 1:-1].max()) * 1.1, 1e-9)
    plots = []
    for channel, name in enumerate(("Red", "Green", "Blue")):
        curves = "".join(
            _curve(_colour(facts), facts.mean[channel], shares[index, channel] / top)
            for index, facts in enumerate(domains)
        )
        plots.append(f'<div class="card"><div>{name}</div>{_plot(curves)}</div>')
    legend = " &nbsp; ".join(map(_title, domains))
    note = "Share of a domain's pixels by value, one scale for all; dashed lines are means."
    return f'<p class="soft">{legend}<br>{note}</p><div class="row">{"".join(plots)}</div>'


def _plot(curves: str) -> str:
    ticks = "".join(
        f'<text x="{value / 255 * _PLOT_WIDTH:.1f}" y="{_PLOT_HEIGHT + 16}" text-anchor="middle">{value}</text>'
        for value in (0, 64, 128, 192, 255)
    )
    axis = f'<line class="axis" x1="0" x2="{_PLOT_WIDTH}" y1="{_PLOT_HEIGHT}" y2="{_PLOT_HEIGHT}"/>'
    return f'<svg viewBox="-12 -4 {_PLOT_WIDTH + 24} {_PLOT_HEIGHT + 24}" role="img">{curves}{axis}{ticks}</svg>'


def _curve(colour: str, mean: float, heights: np.ndarray) -> str:
    xs = (np.arange(_BINS) + 0.5) / _BINS * _PLOT_WIDTH
    ys = _PLOT_HEIGHT * (1 - np.minimum(heights, 1))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    area = f"{xs[0]:.1f},{_PLOT_HEIGHT} {line} {xs[-1]:.1f},{_PLOT_HEIGHT}"
    x = f"{mean / 255 * _PLOT_WIDTH:.1f}"
    return (
        f'<polygon points="{area}" fill="{colour}" opacity=".16"/>'
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"/>'
        f'<line x1="{x}" x2="{x}" y1="0" y2="{_PLOT_HEIGHT}" stroke="{colour}" stroke-dasharray="3 4"/>'
    )


def _contact_sheet(facts: DomainFacts) -> str:
    """Show evenly spaced images of a domain as one embedded JPEG."""
    readable = list(facts.digests)
    if not readable:
        return ""
    columns = min(len(readable), _SHEET_COLUMNS)
    rows = min(len(readable) // columns, _SHEET_ROWS)  # full rows only
    count = columns * rows
    sheet = Image.new("RGB", (columns * _THUMBNAIL, rows * _THUMBNAIL))
    for place in range(count):
        image = Image.fromarray(facts.source.load(readable[place * len(readable) // count]))
        corner = (place % columns * _THUMBNAIL, place // columns * _THUMBNAIL)
        sheet.paste(ImageOps.fit(image, (_THUMBNAIL, _THUMBNAIL)), corner)
    caption = f"{_title(facts)}, {count} of {len(readable):,}, evenly spaced"
    return f'<figure><figcaption>{caption}</figcaption><img alt="" src="{data_uri(sheet)}"></figure>'


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li><code>{escape(line)}</code></li>" for line in lines)
    return f'<h2>{title}</h2><div class="card"><ol>{items}</ol></div>'


def _title(facts: DomainFacts) -> str:
    return f'<span class="dot" style="background: {_colour(facts)}"></span>{escape(facts.title)}'


def _colour(facts: DomainFacts) -> str:
    return f"var(--{facts.key.lower().replace(' ', '-')})"


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    if len(ordered) <= 3:
        return ", ".join(f"{width}{_TIMES}{height}" for width, height in ordered)
    (low_width, low_height), (width, height) = ordered[0], ordered[-1]
    return f"{len(ordered)} sizes, {low_width}{_TIMES}{low_height} to {width}{_TIMES}{height}"


def _bytes(file_bytes: Sequence[int]) -> str:
    if not file_bytes:
        return ""
    return f"{min(file_bytes) / 1e3:.1f} to {max(file_bytes) / 1e3:.1f} kB, {sum(file_bytes) / 1e6:.1f} MB in all"
