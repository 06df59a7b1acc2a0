"""A page where a picture is dropped and comes back painted: python -m monet_cyclegan.inference.app ckpt=best.ckpt.

ckpt            the package's own weights, a checkpoint of train.py, or .safetensors or .onnx of an export (monet)
direction       the first one that the page offers; by default the first of the checkpoint's own two
title           of the page; by default the direction's
samples         a folder whose first pictures the page offers
host            address to listen on; 127.0.0.1 can be reached from this machine only, 0.0.0.0 is all it has (127.0.0.1)
port            number, or auto for the first free one from 7860 on (7860)
names           under which it may be called, besides localhost, addresses and this machine's: paint.example.org,b.org
max_megabytes   of an upload (30)
max_megapixels  of a picture (50)
queue           how many pictures may wait while one is painted (20)
keep_minutes    after which pictures are removed; all of them are when the page is closed (60)
tile            auto: large pictures in strips, with the same result; off, or on for all
device          auto (an accelerator if there is one), cpu, cuda, cuda:1, mps
precision       auto, 32-true, or bf16-mixed, which is faster where hardware multiplies it, and off by less than a level

Ctrl-C closes it. It asks nobody who comes: put a proxy with passwords in front of it before others can reach it.
"""

from __future__ import annotations

import errno
import importlib.metadata
import ipaddress
import os
import re
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.app_doors import Rules, close_environment, private_folder, remove_old
from monet_cyclegan.inference.app_studio import Settings, Studio, find_samples, title_of
from monet_cyclegan.inference.hardware import pick_device, pick_precision, pick_tile
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.one_picture import Painter, Recent
from monet_cyclegan.pictures import MAX_PIXELS
from monet_cyclegan.weights import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEFAULTS = {
    "ckpt": DEFAULT_WEIGHTS,
    "direction": "",
    "title": "",
    "samples": "",
    "host": "127.0.0.1",
    "port": "7860",
    "names": "",
    "max_megabytes": 30,
    "max_megapixels": 50,
    "queue": 20,
    "keep_minutes": 60.0,
    "tile": "auto",
    "device": "auto",
    "precision": "auto",
}
FIRST_PORT = 7860
OLDEST_GRADIO, NEXT_GRADIO = (6, 16), (7,)
KEPT_BYTES = 400_000_000  # of the last translations, in memory


def serve(arguments: Sequence[str]) -> None:
    """Run the command line until a signal ends it.

    Raises:
        UserError: anything that can't be used.
        KeyboardInterrupt: after Ctrl-C, when all is closed.
    """
    if {"-h", "--help"} & {*arguments}:
        print(__doc__)
        return
    options = parse_key_values(arguments, DEFAULTS)
    check_options(options)
    options["host"] = options["host"].strip("[]")  # around an address of version 6
    check_gradio()
    port = free_port(options["host"], options["port"])
    with stop_signals() as stop:
        painter, directions = open_painter(options, stop)
        ignored = close_environment(os.environ, options["host"])
        if ignored:
            print(f"not listened to: {', '.join(ignored)} of the environment", file=sys.stderr)
        with private_folder(os.environ) as folder:
            run(options, port, painter, directions, folder, stop)
    leave(painter, stop)


def run(
    options: Mapping[str, Any], port: int, painter: Painter, directions: tuple[str, ...], folder: Path, stop: Stop
) -> None:
    """Serve the page until it is to stop, and keep house meanwhile."""
    from monet_cyclegan.inference.app_page import (
        build_page,
        close_page,
        launch_page,
    )  # gradio, which reads the environment

    settings = Settings(
        painter,
        directions,
        options["title"] or title_of(directions[0]),
        find_samples(options["samples"]),
        Rules(folder, own_names(options["names"]), options["max_megabytes"] * 2**20),
        options["queue"],
        options["keep_minutes"] * 60,
    )
    studio = Studio(settings)
    page = build_page(studio)
    launch_page(page, settings, options["host"], port)
    print(address_line(options["host"], port), flush=True)
    while not stop.event.wait(min(60.0, settings.keep_seconds / 4)):
        remove_old(folder, settings.keep_seconds)
        painter.recent.forget()
    close_page(page)
    studio.close()


def leave(painter: Painter, stop: Stop) -> None:
    """End as the signal asks for."""
    interrupted = stop.number == signal.SIGINT
    if painter.busy:  # a network that runs can't be stopped, and Python would wait for its thread
        sys.stdout.flush()
        os._exit(130 if interrupted else 0)
    if interrupted:
        raise KeyboardInterrupt


class Stop:
    """Whether it is time to end, and by which signal."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.number = 0

    def __call__(self, number: int, frame: Any) -> None:
        """Handle a signal; the next one of a kind ends the program at once."""
        self.number = number
        self.event.set()
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Take over Ctrl-C and SIGTERM."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_options(options: Mapping[str, Any]) -> None:
    """Look at what needs no model; UserError for what can't be."""
    if not options["ckpt"]:
        raise UserError("ckpt= is missing: python -m monet_cyclegan.inference.app ckpt=best.ckpt")
    for key in ("max_megabytes", "max_megapixels", "queue", "keep_minutes"):
        if not 0 < options[key] < float("inf"):
            raise UserError(f"{key}={options[key]} is not above 0")
    if options["max_megapixels"] > MAX_PIXELS // 10**6:
        raise UserError(f"max_megapixels={options['max_megapixels']} is above {MAX_PIXELS // 10**6}, the most there is")
    if options["samples"] and not Path(options["samples"]).expanduser().is_dir():
        raise UserError(f"samples={options['samples']} is no folder")


def check_gradio() -> None:
    """UserError without gradio, or with one whose doors aren't known to be shut."""
    try:
        version = importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("the page needs pip install 'monet-cyclegan[app]'") from None
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST_GRADIO:
        raise UserError(
            f"gradio {version} has known holes, 6.16 is the first to use: pip install 'monet-cyclegan[app]'"
        )
    if numbers >= NEXT_GRADIO:
        raise UserError(f"gradio {version} may open doors that 6 doesn't have: pip install 'monet-cyclegan[app]'")


def open_painter(options: Mapping[str, Any], stop: Stop) -> tuple[Painter, tuple[str, ...]]:
    """What translates, and the directions that it can, the first one first.

    Raises:
        UserError: anything of these that can't be.
    """
    device = pick_device(options["device"])
    precision, tile = pick_precision(options["precision"], device), pick_tile(options["tile"])
    model = open_model(options["ckpt"])
    directions = model.description.directions
    first = options["direction"] or directions[0]
    if first not in directions:
        raise UserError(f"direction={first} is not one of this model's: choose {' or '.join(directions)}")
    recent = Recent(KEPT_BYTES, options["keep_minutes"] * 60)
    painter = Painter(model.build, device, precision, tile, options["max_megapixels"], recent, stop.event)
    return painter, (first, *(name for name in directions if name != first))


def free_port(host: str, port: str) -> int:
    """The port to listen on.

    Raises:
        UserError: one that isn't free, or no address of this machine.
    """
    if port == "auto":
        return FIRST_PORT if _is_free(host, FIRST_PORT) else _bound(host, 0)
    if not (port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"port={port} is neither auto nor a number from 1 to 65535")
    return _bound(host, int(port))


def own_names(names: str) -> frozenset[str]:
    """Under which the page may be called: those given, and this machine's."""
    given = (name.strip().lower() for name in names.split(","))
    return frozenset(filter(None, (*given, socket.gethostname().lower())))


def address_line(host: str, port: int) -> str:
    """What is printed when the page can be opened."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"open http://{host}:{port}"
    shown = "127.0.0.1" if address.is_unspecified else f"[{address}]" if address.version == 6 else host
    warning = "" if address.is_loopback else " (and so may all who can reach this machine)"
    return f"open http://{shown}:{port}{warning}"


def _is_free(host: str, port: int) -> bool:
    try:
        _bound(host, port)
    except UserError:
        return False
    return True


def _bound(host: str, port: int) -> int:
    """Take a port for a moment; 0 takes any."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(f"host={host} is no address ({error.strerror})") from None
    with socket.socket(family, kind, protocol) as probe:
        if os.name == "posix":  # elsewhere it would find a port free that isn't
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise UserError(f"host={host} is not an address of this machine") from None
            raise UserError(f"port={port} can't be used on {host} ({error.strerror}): try port=auto") from None
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    exit_with_one_line()(serve)(sys.argv[1:])
