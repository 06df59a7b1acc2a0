"""The page of `app`, made with gradio: what is on it, what its parts do, and the doors of its server."""

from __future__ import annotations

import html
import inspect
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
from starlette.middleware import Middleware

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.app_doors import KEPT, Guard
from monet_cyclegan.inference.app_look import CSS, FAVICON, THEME
from monet_cyclegan.inference.app_studio import SIZES, VISITORS, Choices, Shown, title_of, write_sample
from monet_cyclegan.inference.controls import COLORS, MOST_STRENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from monet_cyclegan.inference.app_studio import Settings, Studio


class Wall(NamedTuple):
    """Where a result hangs."""

    slider: gr.ImageSlider
    download: gr.DownloadButton
    facts: gr.Markdown


def build_page(studio: Studio) -> gr.Blocks:
    """Lay the page out, and say what its parts do."""
    settings = studio.settings
    keep = max(round(settings.keep_seconds), 1)
    with gr.Blocks(title=settings.title, analytics_enabled=False, delete_cache=(min(keep, 60), keep)) as page:
        gr.Markdown(f"# {_plain(settings.title)}\n\n{_sentence(keep)}", elem_id="heading")
        with gr.Row(elem_id="room"):
            with gr.Column(min_width=0, elem_id="easel"):
                photo = _photo()
                samples = _samples(settings, photo)
            with gr.Column(min_width=0, elem_id="wall"):
                wall = _wall()
            with gr.Column(min_width=0, elem_id="choices"):
                choices = _choices(settings)
        _connect(studio, photo, samples, choices, wall)
    page.queue(max_size=settings.queue, default_concurrency_limit=1, api_open=False)
    return page


def launch_page(page: gr.Blocks, settings: Settings, host: str, port: int) -> None:
    """Begin to serve, and return; all doors are named here, since several defaults are open or the environment's.

    Raises:
        UserError: somebody else took the port meanwhile.
    """
    icon = settings.rules.folder / KEPT / "favicon.svg"
    icon.parent.mkdir(exist_ok=True)
    icon.write_text(FAVICON, encoding="utf-8")
    doors: dict[str, Any] = {
        "server_name": f"[{host}]" if ":" in host else host,
        "server_port": port,
        "share": False,
        "inbrowser": False,
        "inline": False,
        "debug": False,
        "quiet": True,
        "show_error": False,
        "prevent_thread_lock": True,
        "max_file_size": settings.rules.max_bytes,
        "allowed_paths": [],
        "blocked_paths": [
            "/etc",
            "/proc",
            "/sys",
        ],  # `Guard` serves nothing outside of the folder; this is a second lock
        "root_path": "",
        "strict_cors": True,
        "enable_monitoring": False,
        "run_history": False,
        "footer_links": [],
        "ssr_mode": False,
        "num_workers": 0,
        "pwa": False,
        "mcp_server": False,
        "state_session_capacity": VISITORS,
        "app_kwargs": {"middleware": [Middleware(Guard, rules=settings.rules)]},
        "favicon_path": icon,
        "theme": THEME,
        "head": f'<meta name="color-scheme" content="light dark"><style>{CSS}</style>',
    }
    if "run_history" not in inspect.signature(page.launch).parameters:  # it came after 6.16
        del doors["run_history"]
    try:
        page.launch(**doors)
    except OSError as error:
        raise UserError(f"port={port} can't be used on {host}: try port=auto") from error


def close_page(page: gr.Blocks) -> None:
    """Serve no more; open pages' streams, which last, are cut, of which the server would complain at length."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    page.server.config.timeout_graceful_shutdown = 1
    page.close(verbose=False)


def told(work: Callable[..., Shown], *arguments: Any) -> Shown:
    """Run ``work``; a user's mistake is shown to him in one line, and any other only to whoever runs the server."""
    try:
        return work(*arguments)
    except UserError as problem:
        # The message is shown as HTML, and a file's name may be some.
        raise gr.Error(html.escape(str(problem)), print_exception=False) from None
    except Exception:
        logging.getLogger(__name__).exception("a picture could not be painted")
        line = "something went wrong here; whoever runs this page finds in its log what"
        raise gr.Error(line, print_exception=False) from None


def _photo() -> gr.Image:
    return gr.Image(
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        buttons=[],
        label="Picture",
        show_label=False,
        height=250,
        placeholder="Drop a picture here\nor click to choose one",
        elem_id="photo",
    )


def _samples(settings: Settings, photo: gr.Image) -> gr.Dataset | None:
    """Small copies of the samples, to be clicked."""
    if not settings.samples:
        return None
    folder = settings.rules.folder / KEPT
    folder.mkdir(exist_ok=True)
    copies = [folder / f"{index}.png" for index in range(len(settings.samples))]
    for copy, sample in zip(copies, settings.samples, strict=True):
        write_sample(copy, sample, settings.painter.max_megapixels)
    return gr.Dataset(
        components=[photo],
        samples=[[str(copy)] for copy in copies],
        type="index",
        show_label=False,
        label="Or try one of these",
        elem_id="samples",
    )


def _wall() -> Wall:
    slider = gr.ImageSlider(
        format="png",
        type="filepath",
        image_mode=None,
        interactive=False,
        show_label=False,
        label="Before and after",
        buttons=["fullscreen"],
        max_height=600,
        elem_id="slider",
    )
    with gr.Row(elem_id="caption"):
        facts = gr.Markdown("", elem_id="facts")
        download = gr.DownloadButton("Download", variant="primary", visible=False, elem_id="download")
    return Wall(slider, download, facts)


def _choices(settings: Settings) -> list[gr.components.Component]:
    """In the order of `Choices`."""
    return [
        gr.Radio(
            [(title_of(name), name) for name in settings.directions],
            value=settings.directions[0],
            label="Direction",
            visible=len(settings.directions) > 1,
            elem_id="direction",
        ),
        gr.Slider(0, MOST_STRENGTH, 1, step=0.05, label="Strength", buttons=[], elem_id="strength"),
        gr.Radio([(f"of the {name}", name) for name in COLORS], value=COLORS[0], label="Colours", elem_id="color"),
        gr.Radio(
            [(name or "Its own", name) for name in SIZES],
            value="",
            label="Painted at",
            info="Shorter side in pixels; the smaller, the broader the strokes, and the sooner it is done",
            elem_id="size",
        ),
    ]


def _connect(studio: Studio, photo: gr.Image, samples: gr.Dataset | None, choices: list[Any], wall: Wall) -> None:
    """A new picture and choices that the network sees wait in one line, and choices that it doesn't in another."""
    direction, strength, color, size = choices
    reports = gr.Progress()

    def event(work: Callable[..., Shown]) -> Callable[..., list[Any]]:
        # gradio finds its own arguments by their types and defaults.
        def call(
            upload: Any,
            direction: Any,
            strength: Any,
            color: Any,
            size: Any,
            request: gr.Request,
            progress: gr.Progress = reports,
        ) -> list[Any]:
            if upload is None:
                return [None, gr.update(visible=False), "", gr.skip()]
            path, chosen = Path(str(upload["path"])), Choices(direction, strength, color, size)
            session = str(request.session_hash)
            shown = told(work, path, chosen, session, lambda part: progress(part, desc="Painting"))
            return [(shown.before, shown.after), gr.update(value=shown.download, visible=True), shown.facts, shown.size]

        return call

    common: dict[str, Any] = {
        "inputs": [photo, *choices],
        "outputs": [*wall, size],
        "api_visibility": "private",
        "show_progress_on": wall.slider,
        "trigger_mode": "always_last",
        "preprocess": False,  # else gradio would open pictures, and with every reader that Pillow has
    }
    photo.change(event(studio.welcome), concurrency_id="paint", **common)
    for trigger in (direction.input, size.input):
        trigger(event(studio.repaint), concurrency_id="paint", **common)
    for trigger in (strength.change, color.input):
        trigger(event(studio.repaint), concurrency_id="look", show_progress="minimal", **common)
    if samples is not None:
        samples.click(studio.sample, samples, photo, api_visibility="private", show_progress="hidden")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([^\w\s])", r"\\\1", " ".join(text.split()))


def _sentence(keep_seconds: int) -> str:
    minutes = max(round(keep_seconds / 60), 1)
    kept = "a minute" if minutes == 1 else f"{minutes} minutes"
    return (
        "Drop a picture, and move the line between before and after. "
        f"It stays on the computer that runs this page, and is gone {kept} after its last use."
    )
