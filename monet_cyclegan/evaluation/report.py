"""The scores as one HTML page, with the pictures behind them."""

from __future__ import annotations

from html import escape
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from monet_cyclegan.page import data_uri, render_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from monet_cyclegan.evaluation.subjects import Read, Subjects
    from monet_cyclegan.metrics.memorization import Nearest

_PAIRS = 12
_CHANGED = 6
_SIDE = 192  # pixels of a picture on the page


def render_report(
    result: dict[str, Any],
    lines: Sequence[tuple[str, list[str]]],
    subjects: Subjects,
    nearest: Nearest,
    changes: Sequence[float],
) -> str:
    """Render the page.

    Args:
        result: the measurement in plain values, as in scores.json.
        lines: label and values of each line of the table.
        subjects: where to read the pictures from.
        nearest: for each generated image its nearest real one.
        changes: for each generated image how far it is from what it was made from, in levels of 0 to 255.
    """
    parts = [
        f'<p class="soft">{escape(result["fake"])}<br>against {escape(result["real"])}</p>',
        _badge(result),
        _table(result, lines),
        _command(result),
        _closest(subjects, nearest),
        *_changes(subjects, changes),
        _skipped(result["skipped"]),
    ]
    return render_page("Scores", parts)


def _badge(result: dict[str, Any]) -> str:
    kind = "good" if result["comparable_with_kaggle"] else "note"
    return f'<ul class="findings"><li class="{kind}">{escape(result["mode"])}</li></ul>'


def _table(result: dict[str, Any], lines: Sequence[tuple[str, list[str]]]) -> str:
    head = f"<th></th><th>{result['num_fake']:,} generated, {result['num_real']:,} real</th>"
    floor = result["noise_floor"]
    if floor:
        head += f"<th>noise floor: real halves of {floor['num_fake']:,} and {floor['num_real']:,}</th>"
    body = "".join(
        f"<tr><th>{escape(label)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for label, values in lines
    )
    note = (
        f"On {escape(result['features']['title'])} features. KID ± standard error; over subsets ± their deviation, as "
        "torch-fidelity gives it. FID grows as the number of images falls, KID doesn't. MiFID is FID divided by d "
        "where d lies below eps, and FID where it doesn't. The noise floor is one random half of the real images "
        "against the other: its FID is of fewer images, so it isn't a bound for the left column's."
    )
    return f'<div class="card scroll"><table><tr>{head}</tr>{body}</table></div><p class="soft">{note}</p>'


def _command(result: dict[str, Any]) -> str:
    if not result["torch_fidelity"]:
        return ""
    return f'<h2>The same by torch-fidelity</h2><div class="card"><code>{escape(result["torch_fidelity"])}</code></div>'


def _closest(subjects: Subjects, nearest: Nearest) -> str:
    """Generated images beside the real one each comes nearest to, the nearest first."""
    order = nearest.distances.nan_to_num(torch.inf).argsort()[:_PAIRS]
    indices = [int(index) for index in order if not nearest.distances[index].isnan()]
    pairs = zip(
        _pictures(subjects.read_fake, indices),
        _pictures(subjects.read_real, [int(nearest.indices[index]) for index in indices]),
        (f"{subjects.fake.source.name(index)}: d = {float(nearest.distances[index]):.4f}" for index in indices),
        strict=True,
    )
    note = "Generated on the left, the nearest real image by its features on the right. Copies would show here."
    return f'<h2>Nearest to a real image</h2><p class="soft">{note}</p>{_row(pairs)}'


def _changes(subjects: Subjects, changes: Sequence[float]) -> list[str]:
    """The pictures that translation changed most and least, before and after."""
    read_source = subjects.read_source
    if read_source is None:
        return []
    order = sorted((index for index, change in enumerate(changes) if not isnan(change)), key=changes.__getitem__)
    parts = []
    for title, indices in (("Most changed", order[::-1][:_CHANGED]), ("Least changed", order[:_CHANGED])):
        pairs = zip(
            _pictures(read_source, indices),
            _pictures(subjects.read_fake, indices),
            (f"{subjects.fake.source.name(index)}: {changes[index]:.1f} of 255" for index in indices),
            strict=True,
        )
        parts.append(f"<h2>{title}</h2>{_row(pairs)}")
    return parts


def noting_changes(fakes: Iterable[Tensor], sources: Iterable[Tensor], changes: list[float]) -> Iterator[Tensor]:
    """Hand generated batches through, and note how far each image is from the one that it was made from.

    Args:
        fakes: uint8 batches (n, 3, H, W).
        sources: the same images before, however they are batched.
        changes: takes the mean absolute differences, in levels of 0 to 255; NaN where the sizes differ.
    """
    before = (image for batch in sources for image in batch)
    for batch in fakes:
        for after, image in zip(batch.cpu(), before, strict=False):
            same = after.shape == image.shape
            changes.append(float((after.float() - image.float()).abs().mean()) if same else float("nan"))
        yield batch


def _pictures(read: Read, indices: Sequence[int]) -> list[str]:
    images = [image.permute(1, 2, 0).numpy() for batch in read(indices) for image in batch.cpu()]
    return [
        data_uri(ImageOps.contain(Image.fromarray(np.ascontiguousarray(image)), (_SIDE, _SIDE))) for image in images
    ]


def _row(pairs: Any) -> str:
    figures = (
        f'<figure><div class="pair"><img alt="" src="{left}"><img alt="" src="{right}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for left, right, caption in pairs
    )
    return f'<div class="row">{"".join(figures)}</div>'


def _skipped(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    items = "".join(f"<li><code>{escape(reason)}</code></li>" for reason in reasons)
    return f'<h2>Skipped</h2><div class="card"><ol>{items}</ol></div>'
