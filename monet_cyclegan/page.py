"""HTML pages that need nothing else: no scripts, no network, every picture inside."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL import Image

_STYLE = """
:root { color-scheme: light dark; --page: #f6f5f2; --card: #fff; --ink: #1d2328; --soft: #66707a; --line: #e2dfd8;
  --a: #2f6fb5; --b: #d9722e; --a-held-out: #6aa5de; --b-held-out: #eba873; --good: #2e7d4f; --note: #a35a12; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1d2125; --ink: #e8e6e1; --soft: #98a1aa;
  --line: #31373d; --a: #6fa8e6; --b: #f0935a; --a-held-out: #3d6c9e; --b-held-out: #a3663d;
  --good: #6cc490; --note: #f0b163; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { margin: 0 0 4px; font-size: 30px; letter-spacing: -.02em; }
h2 { margin: 40px 0 12px; font-size: 19px; }
p { margin: 0 0 12px; }
.soft, figcaption { color: var(--soft); font-size: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(290px, 1fr)); gap: 16px; }
.count { font-size: 40px; font-weight: 650; line-height: 1.1; letter-spacing: -.03em; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .45em; }
.findings { list-style: none; margin: 14px 0 20px; padding: 0; display: flex; flex-wrap: wrap; gap: 8px; }
.findings li { border: 1px solid currentColor; border-radius: 99px; padding: 2px 12px; font-size: 14px; }
.good { color: var(--good); } .note { color: var(--note); }
.scroll { overflow-x: auto; padding: 6px 20px; }
.card + p { margin-top: 12px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; white-space: nowrap; padding: 9px 16px 9px 0; border-top: 1px solid var(--line); }
tr:first-child th { border-top: 0; } tbody th { font-weight: 400; color: var(--soft); }
figure { margin: 0 0 16px; } figure img { display: block; max-width: 100%; height: auto; border-radius: 8px; }
figcaption { margin-bottom: 8px; }
.pair { display: flex; gap: 4px; } .pair img { width: calc(50% - 2px); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font-size: 11px; } svg .axis { stroke: var(--line); }
code { font: 13px/1.7 ui-monospace, monospace; overflow-wrap: anywhere; }
ol { margin: 0; padding-left: 1.8em; } ol li { margin: 2px 0; }
"""


def render_page(title: str, parts: Iterable[str]) -> str:
    """A whole page from HTML parts, in which every text must be escaped already."""
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><main>\n<h1>{escape(title)}</h1>\n{body}\n</main></body></html>\n"
    )


def data_uri(image: Image.Image, quality: int = 82) -> str:
    """An RGB picture as the source of an img element, JPEG inside."""
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
