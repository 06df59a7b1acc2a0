"""The page of format=web in a real browser, with everything that it does for visitors."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import shutil
import subprocess
import threading
import time
import warnings
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import DESKTOP, PHONE, arrived, open_browser  # noqa: F401
from conftest import tiny_checkpoint
from PIL import ExifTags, Image

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference import web
from monet_cyclegan.inference.controls import Look
from monet_cyclegan.inference.export import export
from monet_cyclegan.inference.predict import predict

pytest.importorskip("onnxruntime")

GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")  # Chromium's own software card
SIZE = (50, 37)  # pixels: width, height
PATIENCE = 60  # seconds, of a busy machine

# Stands between page and workers: window.hold keeps pictures from them, window.breakGpu fails the graphics card, and
# window.memory is what pixels there is memory for.
STAND_IN = """
const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message, ...rest) {
  if (message.type === "paint" && window.hold) return;
  if (message.type === "paint" && ((window.breakGpu && this.isGpu) || message.width * message.height > window.memory)) {
    const data = { id: message.id, type: "failed", kind: "run", message: "device lost" };
    setTimeout(() => this.dispatchEvent(new MessageEvent("message", { data })));
    return;
  }
  post.call(this, message, ...rest);
};
window.Worker = class extends Worker {
  constructor(url, options) {
    super(url, options);
    this.isGpu = String(url).includes("webgpu");
  }
};
"""

# What no driver can do from outside: let go of a file above the page, or paste it.
HAND_IN = """
const [base64, name, type, how] = arguments;
const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const files = new DataTransfer();
files.items.add(new File([bytes], name, { type }));
const event = how === "drop"
  ? new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true })
  : new ClipboardEvent("paste", { clipboardData: files, bubbles: true });
document.body.dispatchEvent(event);
"""


class Site:
    """The folder on 127.0.0.1, until it is stopped."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # a browser that leaves
                    super().handle()

        self.server = ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Quiet, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Visitor:
    """Somebody at the page."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser, self.url = browser, url

    def visit(self) -> Visitor:
        self.browser.get(self.url)
        self.wait("return crossOriginIsolated && document.getElementById('title')?.textContent")
        return self

    def wait(self, script: str) -> Any:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(Exception):  # the page is being loaded anew
                if found := self.browser.execute_script(script):
                    return found
            assert time.monotonic() < end, f"{script}: {self.browser.execute_script('return document.body.innerText')}"
            time.sleep(0.05)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def element(self, name: str) -> Any:
        return self.browser.find_element("id", name)

    def text(self, name: str) -> str:
        return plain(self.run("return document.getElementById(arguments[0]).textContent.trim()", name))

    def choose(self, path: Path) -> None:
        self.element("file").send_keys(str(path))

    def hand_in(self, path: Path, how: str) -> None:
        self.run(HAND_IN, base64.b64encode(path.read_bytes()).decode(), path.name, "", how)

    def until_painted(self) -> str:
        """Wait; returns what the page says of it."""
        self.wait("return document.getElementById('page').dataset.state === 'done'")
        assert self.text("alert") == ""
        return self.text("facts")

    def paint(self, path: Path) -> str:
        self.choose(path)
        self.wait("return document.getElementById('page').dataset.state === 'busy' || arguments[0]")
        return self.until_painted()

    def complaint(self) -> str:
        return plain(self.wait("return document.querySelector('#alert p')?.textContent"))

    def set_to(self, name: str, value: str, event: str) -> None:
        script = "const it = document.getElementById(arguments[0]); it.value = arguments[1];"
        self.run(f"{script} it.dispatchEvent(new Event('{event}', {{ bubbles: true }}))", name, value)

    def download(self, button: str) -> Path:
        """Press a button, and wait for the file."""
        folder = self.browser.downloads
        for old in folder.iterdir():
            old.unlink()
        self.element(button).click()  # by the driver, since browsers ask before a script saves a second file
        end = time.monotonic() + PATIENCE
        while not (found := [path for path in folder.iterdir() if path.suffix in (".png", ".jpg") and arrived(path)]):
            assert time.monotonic() < end, "nothing was downloaded"
            time.sleep(0.02)
        return found[0]

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt", ["experiment=tiny"])


@pytest.fixture(scope="module")
def folder(ckpt, tmp_path_factory):
    try:
        web.front_end()
    except UserError as error:
        pytest.skip(f"the page can't be built here: {error}")
    place = tmp_path_factory.mktemp("web")
    (place / "samples").mkdir()
    noise(place / "samples" / "noise.png", seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own innards
        export([f"ckpt={ckpt}", "format=web", f"output={place / 'page'}", f"samples={place / 'samples'}"])
    return place / "page"


@pytest.fixture(scope="module")
def site(folder):
    served = Site(folder)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def desktop(site, open_browser):  # noqa: F811
    browser = open_browser(DESKTOP)
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": STAND_IN})
    return Visitor(browser, site.url)


@pytest.fixture
def visitor(desktop):
    desktop.visit()
    yield desktop
    assert desktop.errors() == []


def plain(text: str) -> str:
    """Without typographic signs."""
    return text.translate({0xD7: "x", 0x2019: "'"})


def noise(path: Path, size: tuple[int, int] = SIZE, seed: int = 0, **options: Any) -> Path:
    """A picture of smooth noise, with all levels in it."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BILINEAR).save(path, **options)
    return path


@pytest.fixture
def photo(tmp_path):
    return noise(tmp_path / "holiday.png")


def predicted(ckpt: Path, photo: Path, direction: str = "photo_to_monet") -> np.ndarray:
    target = photo.with_name("predicted.png")
    predict([f"ckpt={ckpt}", f"input={photo}", f"output={target}", f"direction={direction}", "precision=32-true"])
    return pixels(target)


def pixels(path: Path, mode: str = "RGB") -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert(mode)).astype(int)


def test_it_paints_what_predict_does_and_says_how(visitor, ckpt, photo):
    assert visitor.text("title") == visitor.browser.title == "Photo to Monet"
    assert "never leaves this device" in visitor.text("promise")
    facts = visitor.paint(photo)
    assert "50 x 37 pixels" in facts
    assert "processor (WebAssembly)" in facts
    painted = visitor.download("png")
    assert painted.name == "holiday_photo_to_monet.png"
    assert np.abs(pixels(painted) - predicted(ckpt, photo)).max() <= 1


@pytest.mark.parametrize(
    ("strength", "colour"), [(100, "photo"), (50, "painting"), (37, "photo"), (0, "painting"), (163, "painting")]
)
def test_strength_and_colours_are_those_of_predict_to_the_level(visitor, photo, strength, colour):
    visitor.paint(photo)
    painted = pixels(visitor.download("png")).astype(np.uint8)
    visitor.set_to("strength", str(strength), "input")
    visitor.run("document.querySelector(`#colours [value=${arguments[0]}]`).click()", colour)
    assert visitor.text("strength-shown") == f"{strength} %"
    expected = Look(strength / 100, colour).finished(pixels(photo).astype(np.uint8), painted)
    assert np.array_equal(pixels(visitor.download("png")), expected)


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(visitor, ckpt, photo, how):
    visitor.hand_in(photo, how)
    visitor.until_painted()
    assert np.abs(pixels(visitor.download("png")) - predicted(ckpt, photo)).max() <= 1


def test_a_photo_of_a_telephone_hangs_upright_and_tells_no_place(visitor, ckpt, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "a secret camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    photo = noise(tmp_path / "telephone.jpg", exif=exif, quality=95, subsampling=0)
    visitor.paint(photo)
    expected = predicted(ckpt, photo)
    for button, most in (("png", 1), ("jpeg", 15)):  # levels, in the mean: their JPEGs are rounded in other ways
        file = visitor.download(button)
        with Image.open(file) as image:
            assert image.size == SIZE[::-1]
            assert not image.getexif()
        assert not any(word in file.read_bytes() for word in (b"Exif", b"GPS", b"secret"))
        assert np.abs(pixels(file) - expected).mean() <= most


def test_transparency_stays_and_does_not_bleed_into_what_is_seen(visitor, ckpt, tmp_path):
    photo = noise(tmp_path / "cut.png")
    alpha = Image.new("L", SIZE, 255)
    alpha.paste(0, (0, 0, 20, 37))
    Image.fromarray(np.dstack([pixels(photo), np.array(alpha)]).astype(np.uint8)).save(photo)
    visitor.paint(photo)
    painted = pixels(visitor.download("png"), "RGBA")
    assert np.array_equal(painted[..., 3], np.array(alpha))
    assert np.abs(painted[:, 20:, :3] - predicted(ckpt, photo)[:, 20:]).max() <= 1
    assert (pixels(visitor.download("jpeg"), "L")[:, :16] > 245).all()  # white shows


def test_what_is_no_picture_is_one_line_and_the_page_goes_on(visitor, ckpt, photo, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "half.png").write_bytes(photo.read_bytes()[:80])
    noise(tmp_path / "tiny.png", (40, 15))
    lines = {
        "notes.txt": "notes.txt is not a picture that this browser can open.",
        "half.png": "half.png is not a picture that this browser can open.",
        "tiny.png": "tiny.png has only 40 x 15 pixels; it takes 16 x 16 at least.",
        "phone.heic": "phone.heic: this browser doesn't open HEIC. Save it as JPEG or PNG, or try Safari.",
    }
    for name, line in lines.items():
        visitor.run("document.querySelector('#alert button')?.click()")
        visitor.choose(tmp_path / name)
        assert visitor.complaint() == line
        assert visitor.run("return document.getElementById('page').dataset.state") == "empty"
    assert visitor.element("alert").get_attribute("role") == "alert"
    visitor.paint(photo)
    first = pixels(visitor.download("png"))
    visitor.choose(tmp_path / "notes.txt")
    assert visitor.complaint() == lines["notes.txt"]
    assert np.array_equal(pixels(visitor.download("png")), first)  # which still hangs there
    visitor.run("dispatchEvent(new DragEvent('drop', { dataTransfer: new DataTransfer() }))")
    assert visitor.complaint().startswith("That was no file")


def test_the_line_moves_by_keyboard_and_by_dragging(visitor, photo):
    visitor.paint(photo)
    handle = visitor.element("handle")
    assert (handle.get_attribute("role"), handle.accessible_name) == ("slider", "Line between before and after")
    place = lambda: int(handle.get_attribute("aria-valuenow"))  # noqa: E731
    assert place() == 50
    from selenium.webdriver import ActionChains, Keys

    for key, expected in ((Keys.RIGHT, 52), (Keys.LEFT, 50), (Keys.END, 100), (Keys.HOME, 0), (Keys.PAGE_UP, 10)):
        handle.send_keys(key)
        assert place() == expected
    assert visitor.run("return document.activeElement.id") == "handle"
    assert visitor.run("return getComputedStyle(arguments[0], '::after').outlineStyle", handle) == "solid"
    stage = visitor.element("stage")
    drag = ActionChains(visitor.browser).move_to_element(stage).click_and_hold()
    drag.move_by_offset(stage.size["width"] // 4, 5).release().perform()
    assert 73 <= place() <= 77


def test_another_direction_and_a_sample_are_painted_at_a_touch(visitor, ckpt, folder, tmp_path):
    visitor.run("document.querySelector('#samples button').click()")
    visitor.wait("return document.getElementById('page').dataset.state === 'busy'")
    visitor.until_painted()
    visitor.run("document.querySelector('[name=direction][value=monet_to_photo]').click()")
    visitor.wait("return document.getElementById('page').dataset.state === 'busy'")
    visitor.until_painted()
    assert visitor.text("title") == "Monet to Photo"
    assert visitor.text("before-tag") == "Monet"
    painted = visitor.download("png")
    assert painted.name == "sample_1_monet_to_photo.png"
    sample = shutil.copy(folder / "samples" / "00.jpg", tmp_path)
    assert np.abs(pixels(painted) - predicted(ckpt, Path(sample), "monet_to_photo")).mean() <= 1


def test_a_large_picture_is_painted_smaller_and_can_be_painted_larger(visitor, tmp_path):
    visitor.paint(noise(tmp_path / "large.png", (900, 600)))
    assert visitor.text("facts").startswith("768 x 512 of 900 x 600 pixels")
    options = [option.text for option in visitor.element("size").find_elements("tag name", "option")]
    assert [text.split(",")[0] for text in options] == ["256", "384", "512", "600"]
    visitor.set_to("size", "256", "change")
    visitor.wait("return document.getElementById('facts').textContent.startsWith('384')")
    assert pixels(visitor.download("png")).shape == (256, 384, 3)


def test_where_memory_ends_it_is_painted_smaller_with_a_note(visitor, tmp_path):
    visitor.run("window.memory = 70000")
    facts = visitor.paint(noise(tmp_path / "large.png", (400, 390)))
    assert facts.startswith("263 x 256 of 400 x 390 pixels")
    assert facts.endswith("It was painted smaller, since this browser has no memory for more.")
    assert pixels(visitor.download("png")).shape == (256, 263, 3)


def test_cancel_stops_it_and_the_next_picture_is_painted(visitor, photo):
    visitor.run("window.hold = true")
    visitor.choose(photo)
    visitor.wait("return document.getElementById('status').textContent === 'Painting'")
    visitor.wait("return parseFloat(document.getElementById('count').textContent) > 0")  # seconds pass
    visitor.run("window.hold = false")
    visitor.element("cancel").click()
    visitor.wait("return document.getElementById('page').dataset.state === 'empty'")
    assert visitor.text("alert") == ""
    visitor.paint(photo)


def test_it_paints_offline_after_the_first_visit(folder, open_browser, photo):  # noqa: F811
    site = Site(folder)
    visitor = Visitor(open_browser(DESKTOP), site.url).visit()
    visitor.paint(photo)
    first = pixels(visitor.download("png"))
    site.stop()
    visitor.visit()
    assert visitor.run("return document.getElementById('unserved') === null")
    visitor.paint(photo)
    assert np.array_equal(pixels(visitor.download("png")), first)


def test_another_page_at_its_address_is_not_hidden_by_it(folder, open_browser, tmp_path):  # noqa: F811
    site = Site(folder)
    visitor = Visitor(open_browser(DESKTOP), site.url).visit()
    site.stop()
    (tmp_path / "index.html").write_text("<title>other</title><script src=other.js></script>")
    (tmp_path / "other.js").write_text("document.title = 'another'")
    other = Site(tmp_path, site.server.server_port)
    end = time.monotonic() + PATIENCE
    while visitor.run("return document.title") != "another":  # a server that isn't reached at once is one that is away
        assert time.monotonic() < end, visitor.run("return document.title")
        visitor.browser.get(site.url)
        time.sleep(0.2)
    visitor.browser.get(site.url)
    visitor.wait("return navigator.serviceWorker.getRegistrations().then((found) => found.length === 0)")
    other.stop()


def test_nothing_is_asked_of_any_other_host(site, open_browser, photo, tmp_path):  # noqa: F811
    log = tmp_path / "net.json"
    visitor = Visitor(open_browser(DESKTOP, f"--log-net-log={log}"), site.url).visit()
    visitor.paint(photo)
    policy = visitor.run("return document.querySelector('meta[http-equiv]').content.replace(/\\s+/g, ' ')")
    sent = "return (async () => (await fetch('worker_wasm.js')).headers.get('Content-Security-Policy'))()"
    assert visitor.run(sent) == policy  # so workers are under it, too
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    assert visitor.run("return fetch(arguments[0]).then(() => 'answered', () => 'refused')", elsewhere) == "refused"
    visitor.browser.quit()
    events = json.loads(log.read_text())["events"]
    own = site.url.rstrip("/")
    asked = [
        event["params"]["url"]
        for event in events
        if "url" in event.get("params", {}) and event["params"].get("initiator") == own
    ]
    assert any(url.endswith(".onnx?" + url.rpartition("?")[2]) for url in asked)
    assert [url for url in asked if not url.startswith(site.url)] == []


def test_a_phone_has_no_sideways_scroll_and_the_night_is_dark(site, open_browser, photo):  # noqa: F811
    browser = open_browser(PHONE)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    features = [
        {"name": "prefers-color-scheme", "value": "dark"},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    visitor = Visitor(browser, site.url).visit()
    fits = "return document.scrollingElement.scrollWidth <= innerWidth && innerWidth === 390"
    assert visitor.run(fits)
    camera = visitor.element("camera")
    assert camera.get_attribute("capture") == "environment"
    assert [label.text for label in browser.find_elements("css selector", "label[for=camera]") if label.is_displayed()]
    visitor.paint(photo)
    assert visitor.run(fits)
    assert visitor.element("stage").size["width"] <= 390
    assert visitor.run("return document.getElementById('stage').className") == ""  # nothing glides
    background = visitor.run("return getComputedStyle(document.body).backgroundColor")
    assert max(map(int, background[4:-1].split(","))) < 40
    assert visitor.errors() == []


@pytest.fixture(scope="module")
def with_gpu(site, open_browser):  # noqa: F811
    browser = open_browser(DESKTOP, *GPU)
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": STAND_IN})
    visitor = Visitor(browser, site.url).visit()
    script = "return navigator.gpu ? navigator.gpu.requestAdapter().then(Boolean, () => false) : false"
    if not visitor.run(script):
        pytest.skip("this Chromium has no software graphics card")
    return visitor


def test_a_graphics_card_paints_the_same(with_gpu, ckpt, photo):
    facts = with_gpu.visit().paint(photo)
    assert "graphics card (WebGPU)" in facts
    assert np.abs(pixels(with_gpu.download("png")) - predicted(ckpt, photo)).max() <= 2
    with_gpu.run("document.querySelector('[name=direction][value=monet_to_photo]').click()")
    with_gpu.wait("return document.getElementById('page').dataset.state === 'busy'")
    assert "graphics card (WebGPU)" in with_gpu.until_painted()
    assert np.abs(pixels(with_gpu.download("png")) - predicted(ckpt, photo, "monet_to_photo")).max() <= 2
    assert with_gpu.errors() == []


def test_a_graphics_card_that_fails_is_told_and_the_processor_paints(with_gpu, ckpt, photo):
    with_gpu.visit().run("window.breakGpu = true")
    facts = with_gpu.paint(photo)
    assert "processor (WebAssembly)" in facts
    assert "The graphics card could not do it (device lost)." in facts
    assert np.abs(pixels(with_gpu.download("png")) - predicted(ckpt, photo)).max() <= 1


def test_a_file_that_is_merely_opened_says_that_it_wants_to_be_served(folder, open_browser):  # noqa: F811
    browser = open_browser(DESKTOP)
    browser.get((folder / "index.html").as_uri())
    end = time.monotonic() + PATIENCE
    while not browser.find_element("id", "unserved").is_displayed():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "python -m http.server" in browser.find_element("id", "unserved").text


@pytest.mark.parametrize(
    ("direction", "title"),
    [("photo_to_monet", "Photo to Monet"), ("summer_to_late_winter", "Summer to Late winter"), ("aged", "Aged")],
)
def test_titles_read_well_for_any_direction(direction, title):
    if shutil.which("node") is None:
        pytest.skip("node not on this machine")
    module = (web.SOURCES / "words.js").as_uri()
    script = f"import {{ titleOf }} from {json.dumps(module)}; console.log(titleOf({json.dumps(direction)}));"
    told = subprocess.run(
        ["node", "--no-warnings", "--input-type=module", "--eval", script], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == title
