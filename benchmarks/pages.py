"""Seconds from choosing a photo to seeing its painting, on the page of one's own machine and on that in the browser.

python -m benchmarks.pages size=512 photos=3

With the weights that come with the package, or ckpt=best.ckpt, and the photos in docs/photos. In Chromium without a
window, which has to be on the machine with its driver. With the first photo each page loads its network, so that is
told apart. With screenshots=FOLDER it leaves a picture of each page with a painting.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.results import DEFAULT_OUTPUT, write
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.images import read_image, write_image
from monet_cyclegan.inference.export import export
from monet_cyclegan.weights import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator

PHOTOS = Path(__file__).parents[1] / "docs" / "photos"
DEFAULTS = {"ckpt": DEFAULT_WEIGHTS, "size": 512, "photos": 3, "screenshots": "", "output": DEFAULT_OUTPUT}
PATIENCE_S = 300.0
_DONE = {
    "browser": "return document.getElementById('page').dataset.state === 'done' && "
    "document.getElementById('facts').textContent",
    "own machine": "return (document.getElementById('facts')?.innerText || '').includes('painted in') && "
    "document.getElementById('facts').innerText",
}


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing of each request."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def page_in_browser(ckpt: str, folder: Path, samples: Path) -> Iterator[str]:
    """The exported page's address, while it is served."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own innards
        export([f"ckpt={ckpt}", "format=web", f"output={folder}", "precision=fp16", f"samples={samples}"])
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def page_of_own_machine(ckpt: str, samples: Path) -> Iterator[str]:
    """The Gradio page's address, while it runs."""
    command = [sys.executable, "-m", "monet_cyclegan.inference.app", f"ckpt={ckpt}", "port=auto", f"samples={samples}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        if not words:
            raise UserError("the page didn't start: see above")
        yield words[1]
        process.terminate()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    found, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not found or not driver:
        raise UserError("Chromium and chromedriver are not on this machine: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = found
    for switch in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(switch)
    options.add_argument("--window-size=1280,1000")
    browser = Chrome(options, Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def seconds_by_photo(browser: Any, kind: str, url: str, photos: list[Path]) -> tuple[list[float], str]:
    """From choosing each photo until it is shown, and what the page says of the last one; each with the page anew."""
    spent, said = [], ""
    for photo in photos:
        browser.get(url)
        _wait(browser, "return !!document.querySelector('input[type=file]')")
        time.sleep(2)  # scripts, and a network that is fetched before it is asked for
        began = time.monotonic()
        browser.find_element("css selector", "input[type=file]").send_keys(str(photo))
        said = str(_wait(browser, _DONE[kind])).strip()
        spent.append(time.monotonic() - began)
    return spent, said


def _wait(browser: Any, script: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (found := browser.execute_script(script)):
        if time.monotonic() > end:
            raise UserError(f"the page shows no painting after {PATIENCE_S:.0f} s")
        time.sleep(0.02)
    return found


def main(arguments: list[str]) -> None:
    """Run the command line."""
    options = parse_key_values(arguments, DEFAULTS)
    sources = sorted(PHOTOS.glob("*.jpg"))[: options["photos"] + 1]
    if not 1 <= options["photos"] < len(sources):
        raise UserError(f"photos={options['photos']} is not from 1 to {len(sources) - 1}")
    figures: dict[str, Any] = {"size": options["size"]}
    with tempfile.TemporaryDirectory() as place, chromium() as browser:
        samples = Path(place) / "samples"
        photos = [samples / f"{source.stem}.png" for source in sources]
        for source, photo in zip(sources, photos, strict=True):
            picture = Image.fromarray(read_image(source))
            square = ImageOps.fit(picture, (options["size"], options["size"]), Image.Resampling.LANCZOS)
            write_image(photo, np.array(square))
        for kind, page in (
            ("own machine", page_of_own_machine(options["ckpt"], samples)),
            ("browser", page_in_browser(options["ckpt"], Path(place) / "page", samples)),
        ):
            with page as url:
                spent, said = seconds_by_photo(browser, kind, url, photos)
                if options["screenshots"]:
                    time.sleep(1)
                    shot = Path(options["screenshots"]) / f"page_{kind.replace(' ', '_')}.png"
                    shot.parent.mkdir(parents=True, exist_ok=True)
                    browser.save_screenshot(str(shot))
            first, *rest = (round(seconds, 2) for seconds in spent)
            figures[kind] = {"first": first, "others": rest, "says": said}
    size = f"{options['size']}x{options['size']}"
    summary = [
        (f"a photo of {size} on the page of one's {kind}" if kind == "own machine" else f"the same in the {kind}",
         f"{median(figures[kind]['others']):.1f} s, the first one {figures[kind]['first']:.1f} s")
        for kind in ("own machine", "browser")
    ]  # fmt: skip
    for what, figure in summary:
        print(f"{what}: {figure}")
    write("pages", summary, figures, packages=("torch", "gradio", "onnxruntime"), output=options["output"])


if __name__ == "__main__":
    exit_with_one_line()(main)(sys.argv[1:])
