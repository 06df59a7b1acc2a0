"""What happens to a picture that somebody drops on the page of `app`: files in the private folder in and out."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.controls import Look, parse_look
from monet_cyclegan.inference.one_picture import check_size, translated_name, write_translation
from monet_cyclegan.pictures import READABLE_SUFFIXES, decode_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from monet_cyclegan.inference.app_doors import Rules
    from monet_cyclegan.inference.one_picture import Painted, Painter

PREVIEW = 2048  # pixels of a preview's longer side
SIZES = ("", "512", "768", "1024")
COMFORTABLE = 1024  # the shorter side above which a new picture is first painted smaller: sooner, with visible strokes
MOST_SAMPLES = 5
SAMPLE_SIDE = 200  # pixels
VISITORS = 1000  # that are remembered; a page that was forgotten is as if opened anew
RESULTS = 2  # of one visitor that stay on the disk: the page may still be loading the last but one


class Settings(NamedTuple):
    """What the command line says about the page.

    Attributes:
        painter: translates.
        directions: between which the visitor chooses, the first at first.
        title: of the page.
        samples: pictures that it offers.
        rules: see `Rules`.
        queue: how many may wait.
        keep_seconds: after which files are removed.
    """

    painter: Painter
    directions: tuple[str, ...]
    title: str
    samples: tuple[Path, ...]
    rules: Rules
    queue: int
    keep_seconds: float


class Choices(NamedTuple):
    """What a browser says about the look, which may be anything."""

    direction: Any
    strength: Any
    color: Any
    size: Any


class Shown(NamedTuple):
    """What the page then shows.

    Attributes:
        before: the picture, small enough for a browser.
        after: the translation, as small.
        download: the translation in full, under its name.
        facts: a line about it.
        size: at which it was painted, one of `SIZES`.
    """

    before: Path
    after: Path
    download: Path
    facts: str
    size: str


class Shelf:
    """Where results lie until they are fetched: under names that nobody can guess, a few for each visitor.

    Args:
        folder: the private one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "results"
        self._places: OrderedDict[str, list[Path]] = OrderedDict()
        self._lock = threading.Lock()

    def place(self, session: str) -> Path:
        """A new folder, for which the oldest of this visitor goes."""
        visitor = hashlib.blake2b(session.encode(), digest_size=16).hexdigest()  # a browser may say it at length
        place = self.folder / secrets.token_urlsafe(24)
        place.mkdir(parents=True)
        with self._lock:
            places = [*self._places.pop(visitor, []), place]
            self._places[visitor] = places[-RESULTS:]
            gone = places[:-RESULTS]
            while len(self._places) > VISITORS:
                gone += self._places.popitem(last=False)[1]
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        return place


class Studio:
    """What the page's events call."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shelf = Shelf(settings.rules.folder)
        self._writing = threading.Lock()  # also bounds memory: of what was painted, one is finished at a time

    def close(self) -> None:
        """Let nothing be written from now on."""
        self.settings.painter.stopping.set()
        with self._writing:  # what is being written ends before
            pass

    @contextmanager
    def _to_write(self) -> Iterator[None]:
        with self._writing:
            if self.settings.painter.stopping.is_set():
                raise UserError("the page is being closed")
            yield

    def welcome(self, upload: Path, choices: Choices, session: str, progress: Callable[[float], None]) -> Shown:
        """Paint a picture that was just dropped, a large one smaller at first; UserError if it can't be."""
        data, name = self._read(upload)
        width, height = check_size(data, name, self.settings.painter.max_megapixels)
        if not choices.size and min(width, height) > COMFORTABLE:
            choices = choices._replace(size=str(COMFORTABLE))
        return self._shown(data, name, choices, session, progress)

    def repaint(self, upload: Path, choices: Choices, session: str, progress: Callable[[float], None]) -> Shown:
        """Show the same picture under other choices; UserError if it can't be."""
        return self._shown(*self._read(upload), choices, session, progress)

    def sample(self, index: int) -> Path:
        """A copy of a sample, as if it had been uploaded."""
        copy = self.settings.rules.folder / "chosen" / secrets.token_urlsafe(24) / self.settings.samples[index].name
        with self._to_write():
            copy.parent.mkdir(parents=True)
            shutil.copyfile(self.settings.samples[index], copy)
        return copy

    def _shown(
        self, data: bytes, name: str, choices: Choices, session: str, progress: Callable[[float], None]
    ) -> Shown:
        look = self._look(choices)
        painted = self.settings.painter.paint(data, name, choices.direction, look, progress)
        with self._to_write():
            return self._written(painted, translated_name(name, choices.direction), look, choices.size, session)

    def _written(self, painted: Painted, name: str, look: Look, size: str, session: str) -> Shown:
        place = self.shelf.place(session)
        target = place / name
        finished, notes = write_translation(target, painted, look)
        before, after = place / "before.png", place / "after.png"
        write_small(before, painted.picture.on_white(), PREVIEW)
        write_small(after, finished.on_white(), PREVIEW)
        height, width = finished.pixels.shape[:2]
        facts = " · ".join((f"{width} x {height} pixels", f"painted in {painted.seconds:.1f} s", *notes))
        return Shown(before, after, target, facts, size)

    def _read(self, upload: Path) -> tuple[bytes, str]:
        """The uploaded file; its path was checked by `Guard` and by gradio, and is again."""
        path = upload.resolve()
        if not path.is_relative_to(self.settings.rules.folder):
            raise UserError("the picture is not one that was dropped here")
        try:
            data = path.read_bytes()
            path.touch()  # it is in use, so `remove_old` leaves it
        except OSError:
            raise UserError("the picture is no longer here: choose it again") from None
        if len(data) > self.settings.rules.max_bytes:
            raise UserError(f"{path.name}: larger than {self.settings.rules.max_bytes / 2**20:g} MB")
        return data, path.name

    def _look(self, choices: Choices) -> Look:
        if choices.direction not in self.settings.directions:
            known = " or ".join(self.settings.directions)
            raise UserError(f"direction={choices.direction} is not known: choose {known}")
        if choices.size not in SIZES:  # a large one would take all memory
            raise UserError(f"working size {choices.size} is not offered: choose {', '.join(SIZES[1:])} or its own")
        strength = str(choices.strength)
        return parse_look({"strength": strength, "color": choices.color, "working_size": choices.size})


def write_small(path: Path, pixels: np.ndarray, side: int) -> None:
    """Write (H, W, 3) uint8 as a PNG of at most so many pixels a side, and nothing but pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(path, compress_level=1)


def find_samples(folder: str) -> tuple[Path, ...]:
    """The first few pictures of a folder, none of ""; UserError if one can't be read."""
    if not folder:
        return ()
    paths = sorted(Path(folder).expanduser().iterdir())
    return tuple(path for path in paths if path.suffix.lower() in READABLE_SUFFIXES and path.is_file())[:MOST_SAMPLES]


def write_sample(path: Path, sample: Path, max_megapixels: int) -> None:
    """Write a small copy of a picture that the page offers; UserError if it could not be painted."""
    data = sample.read_bytes()
    check_size(data, sample.name, max_megapixels)
    write_small(path, decode_picture(data, sample.name).on_white(), SAMPLE_SIDE)


def title_of(direction: str) -> str:
    """photo_to_monet as people write it."""
    return " to ".join(part.replace("_", " ").capitalize() for part in direction.split("_to_"))
