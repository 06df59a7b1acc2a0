"""The rule of who may import whom: it keeps the networks usable without Lightning, and the algorithm without Hydra."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "monet_cyclegan"

# First name below monet_cyclegan: its layer. A file imports from lower layers; see SIDEWAYS for its own.
LAYERS = {
    "__init__": 0,
    "assembly": 4,
    "bad_steps": 0,
    "cli": 0,
    "clipping": 0,
    "compilation": 0,
    "device_name": 0,
    "diff_augment": 0,
    "ema": 0,
    "errors": 0,
    "feature_memory": 0,
    "redaction": 0,
    "image_pool": 0,
    "image_zip": 0,
    "images": 0,
    "losses": 0,
    "networks": 0,
    "page": 0,
    "penalties": 0,
    "perceptual": 0,
    "pictures": 0,
    "precision": 0,
    "processes": 0,
    "progress": 0,
    "randomness": 0,
    "remote": 0,
    "schedules": 0,
    "steps": 0,
    "untrusted": 0,
    "whole_file": 0,
    "data": 1,
    "metrics": 1,
    "study_storage": 1,
    "cyclegan": 2,
    "distillation": 2,
    "pretraining": 2,
    "callbacks": 3,
    "checkpoint_io": 3,
    "loggers": 3,
    "checkpoint": 4,
    "config": 4,
    "preflight": 4,
    "signatures": 4,
    "devices": 4,
    "evaluation": 4,
    "inference": 4,
    "intact": 0,
    "launch": 4,
    "resumable": 4,
    "saved_settings": 4,
    "search": 4,
    "training": 4,
    "weights": 4,
}
SIDEWAYS = {0, 1, 4}  # layers whose files may import from their own; elsewhere only an __init__ from its folder

# Library: where it may be imported, by the beginnings of module names. Elsewhere its types may still be named.
HOMES = {
    "lightning": ("data", "metrics", *(name for name, layer in LAYERS.items() if layer >= 2)),
    "wandb": ("callbacks", "loggers", *(name for name, layer in LAYERS.items() if layer == 4)),
    "torchmetrics": ("metrics", "callbacks"),
    "albumentations": ("data.transforms",),
    "hydra": tuple(name for name, layer in LAYERS.items() if layer == 4),
    "omegaconf": tuple(name for name, layer in LAYERS.items() if layer == 4),
}
# Beyond layers: the algorithm gets its networks as arguments, and observers know no algorithm.
STRANGERS = {
    ("cyclegan", "networks"),
    ("distillation", "networks"),
    ("pretraining", "networks"),
    ("callbacks", "cyclegan"),
}


class Import(NamedTuple):
    module: str
    for_types_only: bool


def modules() -> list[str]:
    return [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in sorted(PACKAGE.rglob("*.py"))]


def imports(source: str, known: set[str]) -> list[Import]:
    """All imports of a file, also inside functions; `from monet_cyclegan import x` means a module x if there is one."""
    tree = ast.parse(source)
    guarded = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = "." * node.level + (node.module or "")
            children = [f"{parent}.{alias.name}" for alias in node.names]
            names = [child if child.removeprefix("monet_cyclegan.") in known else parent for child in children]
        else:
            continue
        found += [Import(name, node in guarded) for name in names]
    return found


def violations(module: str, source: str, known: set[str]) -> list[str]:
    """What the imports of a module break, a line each."""
    room = module.split(".")[0]
    if room not in LAYERS:
        return [f"{module} has no layer: place {room!r} in LAYERS of {Path(__file__).name}"]
    packages = {name.rpartition(".")[0] for name in known}
    broken = []
    for name, for_types_only in imports(source, known | packages):
        library = name.split(".")[0]
        if name.startswith("."):
            broken.append(f"{module} imports {name!r} relatively, write monet_cyclegan.…")
        elif library != "monet_cyclegan":
            homes = HOMES.get(library, (module,))
            if not for_types_only and not any(f"{module}.".startswith(f"{home}.") for home in homes):
                broken.append(f"{module} imports {library}, which only these may: {', '.join(homes)}")
        else:
            target = name.removeprefix("monet_cyclegan").removeprefix(".").split(".")[0] or "__init__"
            own, other = LAYERS[room], LAYERS.get(target, -1)
            reexport = target == room and module == f"{room}.__init__"
            if other > own or (other == own and own not in SIDEWAYS and not reexport):
                broken.append(f"{module} (layer {own}) imports {name} (layer {other})")
            if (room, target) in STRANGERS:
                broken.append(f"{module} must not know {target}")
    return broken


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_its_layer_may(module):
    source = PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    assert not violations(module, source, set(modules()))


KNOWN = {
    "__init__",
    "errors",
    "images",
    "networks.__init__",
    "networks.resnet",
    "data.sources",
    "cyclegan",
    "checkpoint",
}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("somewhere", ""),
        ("images", "import torchmetrics"),
        ("images", "def f():\n    from hydra.utils import instantiate"),
        ("networks.resnet", "import lightning.pytorch as pl"),
        ("networks.resnet", "from ..errors import UserError"),
        ("networks.resnet", "from monet_cyclegan.data.sources import Source"),
        ("images", "from monet_cyclegan import cyclegan"),
        ("images", "if TYPE_CHECKING:\n    from monet_cyclegan.data.sources import Source"),
        ("data.cache", "import albumentations as A"),
        ("data.cache", "from omegaconf import DictConfig"),
        ("cyclegan", "from monet_cyclegan.networks.resnet import ResNetGenerator"),
        ("cyclegan", "import monet_cyclegan.networks"),
        ("cyclegan", "from monet_cyclegan import networks"),
        ("cyclegan", "from torchmetrics import Metric"),
        ("callbacks.evaluate", "from monet_cyclegan.cyclegan import CycleGAN"),
        ("callbacks.evaluate", "from monet_cyclegan.callbacks.log_images import LogImages"),
        ("callbacks.evaluate", "from monet_cyclegan.checkpoint import load"),
        ("loggers", "from hydra.utils import instantiate"),
    ],
)
def test_what_breaks_the_rule_is_noticed(module, source):
    assert len(violations(module, source, KNOWN)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("images", "import torch\nfrom monet_cyclegan.errors import UserError"),
        ("networks.__init__", "from monet_cyclegan.networks.resnet import ResNetGenerator"),
        ("data.transforms", "import albumentations as A"),
        ("data.cache", "if TYPE_CHECKING:\n    import albumentations"),
        ("data.cache", "from monet_cyclegan.data.sources import Source\nfrom monet_cyclegan import images"),
        ("cyclegan", "from lightning import LightningModule\nfrom monet_cyclegan.losses import cycle_loss"),
        ("callbacks.evaluate", "from torchmetrics import Metric\nfrom monet_cyclegan import __version__"),
        ("callbacks.__init__", "from monet_cyclegan.callbacks.evaluate import Evaluate"),
        ("training", "from hydra.utils import instantiate\nfrom monet_cyclegan.checkpoint import load"),
    ],
)
def test_what_keeps_the_rule_passes(module, source):
    assert violations(module, source, KNOWN) == []
