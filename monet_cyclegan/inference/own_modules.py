"""Which files of this package a module of it needs, so that a copy of these runs without the rest."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[2]  # what the package's folder lies in
PACKAGE = "monet_cyclegan"


class Imports(NamedTuple):
    """What a file imports: module names, or those of things in modules, of all and of what runs when it is loaded."""

    anywhere: frozenset[str]
    at_once: frozenset[str]


def needed_files(module: str, more: Iterable[str] = ()) -> dict[str, Path]:
    """Files by module name: the module's, those that it imports anywhere, and so on, beside ``more`` of them."""
    found: dict[str, Path] = {}
    remaining = [module, *more]
    while remaining:
        name = remaining.pop()
        file = _file_of(name)
        if file is not None and name not in found:
            found[name] = file
            remaining += [name.rpartition(".")[0], *read_imports(file).anywhere]
    return dict(sorted(found.items()))


def read_imports(file: Path) -> Imports:
    """Read a file's imports, without those that only type checkers see."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return Imports(frozenset(_walk(tree, into_functions=True)), frozenset(_walk(tree, into_functions=False)))


def _walk(node: ast.AST, *, into_functions: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom) and child.module:
            yield from (child.module, *(f"{child.module}.{alias.name}" for alias in child.names))
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        if into_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(child, into_functions=into_functions)


def _file_of(module: str) -> Path | None:
    """The file of a module of this package; None for anything else."""
    if module.partition(".")[0] != PACKAGE:
        return None
    place = ROOT.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
