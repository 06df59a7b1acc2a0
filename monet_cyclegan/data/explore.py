"""The data report: what is in the two domains, what is in them twice, and what can't be read.

    python -m monet_cyclegan.data.explore data.root=DIR [data.swap=true] [output=FILE.html]
    python -m monet_cyclegan.data.explore data.a=PHOTOS data.b=PAINTINGS [output=FILE.html]

DIR is a folder or .zip with a known layout; PHOTOS and PAINTINGS are any two folders or .zip files.
"""

from __future__ import annotations

import difflib
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from monet_cyclegan.data.report import render_report, summarize
from monet_cyclegan.data.sources import Domains, EncodedSource, find_domains, open_folders
from monet_cyclegan.data.survey import Copy, DomainFacts, find_duplicates, survey
from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULTS = {
    "data.root": "data/gan-getting-started",
    "data.swap": "false",
    "data.a": "",
    "data.b": "",
    "output": "data_report.html",
}
_LISTED = 10


def main(arguments: Sequence[str]) -> int:
    """Report on the data that the key=value arguments name, on the terminal and as a page; returns the exit status."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        options = parse_arguments(arguments)
        domains = _survey_all(_open_domains(options))
        duplicates = find_duplicates(domains)
        print_report(domains, duplicates)
        _write(Path(options["output"]), render_report(domains, duplicates))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"report: {options['output']}")
    return 0


def parse_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Merge key=value arguments into the defaults; UserError for an unknown key or an impossible value."""
    options = dict(DEFAULTS)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key not in DEFAULTS or not equals:
            near = difflib.get_close_matches(key, DEFAULTS, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}=...? " if near else ""
            raise UserError(f"unknown argument {argument!r}: {hint}known are {'=, '.join(DEFAULTS)}=")
        options[key] = value
    if options["data.swap"].lower() not in ("true", "false"):
        raise UserError(f"data.swap={options['data.swap']}: choose true or false")
    if bool(options["data.a"]) != bool(options["data.b"]):
        raise UserError("data.a and data.b go together: give both, or data.root instead")
    return options


def print_report(domains: Sequence[DomainFacts], duplicates: Sequence[Sequence[Copy]]) -> None:
    """Print a table of all domains, and below it plain lines that a script can read."""
    table = Table("", *(facts.title for facts in domains))
    for label, cells in summarize(domains, duplicates).items():
        table.add_row(label, *cells)
    Console(markup=False, emoji=False, highlight=False).print(table)
    for facts in domains:
        dimensions = str(np.array(sorted(facts.sizes), dtype=int).reshape(-1, 2)).replace("\n", "")
        modes = f"{{{', '.join(map(repr, sorted(facts.modes)))}}}"
        print(f"{facts.title}: {len(facts.digests)} images, dimensions {dimensions}, colour modes {modes}")
    _print_some("byte-identical", [" = ".join(f"{copy.domain} {copy.name}" for copy in group) for group in duplicates])
    _print_some("unreadable", [reason for facts in domains for reason in facts.unreadable.values()])


def _print_some(label: str, lines: Sequence[str]) -> None:
    for line in lines[:_LISTED]:
        print(f"{label}: {line}")
    if len(lines) > _LISTED:
        print(f"{label}: {len(lines) - _LISTED} more, all are in the page")


def _open_domains(options: dict[str, str]) -> Domains:
    swap = options["data.swap"].lower() == "true"
    if not options["data.a"]:
        return find_domains(options["data.root"], swap)
    a, b = options["data.a"], options["data.b"]
    return open_folders(b, a) if swap else open_folders(a, b)


def _survey_all(opened: Domains) -> list[DomainFacts]:
    sources = zip(("A", "B", "A held out", "B held out"), opened, strict=True)
    domains = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for key, source in sources:
            if isinstance(source, EncodedSource):
                task = progress.add_task(f"Reading {key}", total=len(source))
                domains.append(survey(key, source, partial(progress.advance, task)))
    return domains


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"output={path}: {error.strerror or error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
