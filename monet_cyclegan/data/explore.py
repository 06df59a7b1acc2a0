"""The data report: what is in the two domains, what is in them twice, and what can't be read.

    python -m monet_cyclegan.data.explore data.root=DIR [data.swap=true] [output=FILE.html]
    python -m monet_cyclegan.data.explore data.a=PHOTOS data.b=PAINTINGS [output=FILE.html]

DIR is a folder or .zip with a known layout; PHOTOS and PAINTINGS are any two folders or .zip files.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.data.report import render_report, summarize
from monet_cyclegan.data.sources import Domains, EncodedSource, find_domains, open_folders
from monet_cyclegan.data.survey import Copy, DomainFacts, find_duplicates, survey
from monet_cyclegan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEFAULTS = {
    "data.root": Path("data/gan-getting-started"),
    "data.swap": False,
    "data.a": "",
    "data.b": "",
    "output": Path("data_report.html"),
}
_LISTED = 10


@exit_with_one_line()
def main(argv: Sequence[str]) -> None:
    """Report on the data that the key=value arguments name, on the terminal and as a page."""
    if {"-h", "--help"} & {*argv}:
        print(__doc__)
        return
    values = parse_key_values(argv, _DEFAULTS)
    domains = _survey_all(_open_domains(values))
    duplicates = find_duplicates(domains)
    print_report(domains, duplicates)
    _write(values["output"], render_report(domains, duplicates))
    print(f"report: {values['output']}")


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


def _open_domains(values: Mapping[str, Any]) -> Domains:
    a, b, swap = values["data.a"], values["data.b"], values["data.swap"]
    if bool(a) != bool(b):
        raise UserError("data.a and data.b go together: give both, or data.root instead")
    if not a:
        return find_domains(values["data.root"], swap)
    a, b = Path(a).expanduser(), Path(b).expanduser()
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
    main(sys.argv[1:])
