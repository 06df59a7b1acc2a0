"""Nothing in the project unpickles, evaluates or imports what a file says: read out of the sources."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("monet_cyclegan", "benchmarks", "notebooks", "hydra_plugins")
# Calls that run, or may run, what a file or a text holds.
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "_pickle.loads",
    "cPickle.loads",
    "dill.load",
    "dill.loads",
    "cloudpickle.load",
    "cloudpickle.loads",
    "joblib.load",
    "marshal.loads",
    "shelve.open",
    "torch.jit.load",
    "torch.export.load",
    "torch.package.PackageImporter",
    "torch.serialization.add_safe_globals",
    "torch.serialization.safe_globals",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
    "pandas.read_pickle",
    "LightningModule.load_from_checkpoint",
    "CycleGAN.load_from_checkpoint",
}
LOADS = {"torch.load", "torch.hub.load_state_dict_from_url"}  # safe with weights_only=True, as it stands there
ALLOWED: dict[tuple[str, str], str] = {}  # (file, call): why it may be; none so far


def sources() -> list[Path]:
    """All of the project's own Python, its notebooks included."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".ipynb")]
    return sorted([*found, *ROOT.glob("*.py")])


def text_of(path: Path) -> str:
    """A file's Python; of a notebook that of its cells, without the lines that are a shell's."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join("".join(cell["source"]) for cell in cells).splitlines()
    return "\n".join(
        f"{line[: len(line) - len(line.lstrip())]}pass" if line.lstrip()[:1] in ("!", "%") else line for line in lines
    )


def unsafe(text: str) -> list[str]:
    """Calls that could run what a file holds, each with its line."""
    tree = ast.parse(text)
    names = _imported(tree)
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _name(node.func, names)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        last = called.rpartition(".")[2]
        if called in FORBIDDEN or last == "load_from_checkpoint":
            found.append((node.lineno, called))
        elif called in ("torch.load", "torch.hub.load_state_dict_from_url") and not _is(
            given.get("weights_only"), True
        ):
            found.append((node.lineno, f"{called} without weights_only=True"))
        elif last == "fit" and "ckpt_path" in given and not _is(given.get("weights_only"), True):
            found.append((node.lineno, "fit(ckpt_path=...) without weights_only=True"))
        elif called in ("numpy.load", "np.load") and "allow_pickle" in given and not _is(given["allow_pickle"], False):
            found.append((node.lineno, "numpy.load with pickles"))
        elif called == "torch.hub.load":
            found.append((node.lineno, called))
    return [f"line {line}: {what}" for line, what in sorted(found)]


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _imported(tree: ast.AST) -> dict[str, str]:
    """What names of the file stand for: {"load": "torch.load"}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _name(node: ast.expr, names: dict[str, str]) -> str:
    """A call's whole name; model.eval() is not the builtin."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value, names)}.{node.attr}"
    return "?"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_ours_runs_what_another_file_holds(path):
    found = [line for line in unsafe(text_of(path)) if (path.name, line.partition(": ")[2]) not in ALLOWED]
    assert found == []


def test_the_loads_that_are_looked_at_are_there():
    assert len(sources()) > 100
    loads = [path.name for path in sources() if "weights_only=True" in text_of(path)]
    assert {"checkpoint.py", "classic.py", "steps.py", "training.py"} <= {*loads}


@pytest.mark.parametrize(
    "snippet",
    [
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import torch\nsafe = True\ntorch.load('x', weights_only=safe)",
        "import torch as t\nt.load('x')",
        "from torch import load\nload('x')",
        "from torch import load as read\nread('x', mmap=True)",
        "import pickle\npickle.loads(b'')",
        "from pickle import load\nload(file)",
        "def f():\n    import pickle as p\n    return p.Unpickler(file)",
        "import torch\ntorch.jit.load('x')",
        "import torch\ntorch.export.load('x')",
        "import torch\ntorch.hub.load('a/b', 'c')",
        "eval('1')",
        "exec('x = 1')",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "trainer.fit(model, data, ckpt_path='x')",
        "trainer.fit(model, data, ckpt_path='x', weights_only=None)",
        "CycleGAN.load_from_checkpoint('x')",
    ],
)
def test_what_is_unsafe_is_noticed(snippet):
    assert len(unsafe(snippet)) == 1


@pytest.mark.parametrize(
    "snippet",
    [
        "import torch\ntorch.load('x', weights_only=True, mmap=True)",
        "model.eval()",
        "import re\nre.compile('x')",
        "import torch\ntorch.compile(model)",
        "import yaml\nyaml.safe_load(text)",
        "import numpy as np\nnp.load('x')\nnp.load('x', allow_pickle=False)",
        "trainer.fit(model, data)",
        "trainer.fit(model, data, ckpt_path='x', weights_only=True)",
        "import json\njson.load(file)",
    ],
)
def test_what_is_safe_passes(snippet):
    assert unsafe(snippet) == []
