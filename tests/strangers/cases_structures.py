"""Cases of checkpoints that are whole and plain, and say what none of ours says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import made_weights as made
import torch
from cases_files import saving

from monet_cyclegan import CHECKPOINT_FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from cases_files import Row

NO_CHECKPOINT = "x.ckpt is not a checkpoint of this project"
_MARK = "monet_cyclegan"
_NETWORK = f"{_MARK}/config/model/generator"
_LARGE = "not a number from"


def _changing(path: str, value: Any, base: Callable[[], dict[str, Any]] = made.checkpoint) -> Callable[..., Any]:
    return saving(lambda: made.changed(base(), path, value))


def _nested(levels: int) -> Any:
    found: Any = 0
    for _ in range(levels):
        found = [found]
    return found


def _without(name: str) -> Callable[..., Any]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def _renamed(old: str, new: str) -> Callable[..., Any]:
    return lambda state: {key.replace(old, new): value for key, value in state.items()}


def _weights(**changes: Any) -> Callable[..., Any]:
    return lambda state: {**state, **changes}


_CONTENTS: dict[str, Any] = {
    "an empty dict": {},
    "a list": [1, 2],
    "a number": 3,
    "a text": "weights",
    "a tensor": torch.zeros(2),
    "Lightning's own": {"state_dict": {}, "epoch": 1, "pytorch-lightning_version": "2.0.0"},
    "a state dict alone": {"weight": torch.zeros(2)},
}
_MARKS: dict[str, tuple[str, Any, str]] = {
    "a format of text": ("format", "1", "holds no monet_cyclegan config"),
    "no format": ("format", None, "holds no monet_cyclegan config"),
    "a newer format": ("format", CHECKPOINT_FORMAT + 1, "written by a newer version"),
    "a format of 200 bits": ("format", 1 << 62, "written by a newer version"),
    "a newer version of 100,000 letters": ("version", "9" * 100_000, ""),
    "no config": ("config", None, "holds no"),
    "a config of text": ("config", "resnet", "holds no"),
    "names of numbers": ("config/data/names", {"a": 1, "b": 2}, "holds no"),
    "names with line breaks": ("config/data/names", {"a": "x\n", "b": "y"}, "domains have the names"),
    "names that leave the folder": ("config/data/names", {"a": "../../x", "b": "y"}, "domains have the names"),
    "names of a terminal's commands": ("config/data/names", {"a": "\x1b[2J", "b": "y"}, "domains have the names"),
    "names of 10,000 letters": ("config/data/names", {"a": "x" * 10_000, "b": "y"}, "domains have the names"),
    "one name for both": ("config/data/names", {"a": "x", "b": "x"}, "domains have the names"),
    "empty names": ("config/data/names", {"a": "", "b": "y"}, "domains have the names"),
    "a config 20 levels deep": ("config/deep", _nested(20), "nested more than 16"),
    "a tensor in its config": ("config/tensor", torch.zeros(1), "holds a"),
    "a record of tensors": ("record", {"seconds": torch.zeros(1)}, "holds a"),
    "overrides of numbers": ("overrides", [1, 2], "holds no"),
    "overrides as one text": ("overrides", "seed=3", "holds no"),
    "10,000 overrides": ("overrides", ["seed=3"] * 10_000, "holds no"),
}
_NETWORKS: dict[str, tuple[str, Any, str]] = {
    "10**9 blocks": ("num_residual_blocks", 10**9, _LARGE),
    "10**7 blocks": ("num_residual_blocks", 10**7, _LARGE),
    "-1 blocks": ("num_residual_blocks", -1, _LARGE),
    "no blocks": ("num_residual_blocks", 0, "at least 1"),
    "2 blocks": ("num_residual_blocks", 2, "doesn't fit its config"),
    "256 blocks": ("num_residual_blocks", 256, "doesn't fit its config"),
    "half a block": ("num_residual_blocks", 0.5, "not like 9"),
    "NaN blocks": ("num_residual_blocks", float("nan"), _LARGE),
    "infinite blocks": ("num_residual_blocks", float("inf"), _LARGE),
    "True blocks": ("num_residual_blocks", True, "not like 9"),
    "blocks of text": ("num_residual_blocks", "1", "not like 9"),
    "None blocks": ("num_residual_blocks", None, "not like 9"),
    "a list of blocks": ("num_residual_blocks", [1], "not a plain value"),
    "10**12 channels": ("base_channels", 10**12, _LARGE),
    "2**63 channels": ("base_channels", 2**63 - 1, _LARGE),
    "60,000 channels": ("base_channels", 60_000, "more than 500 million weights"),
    "0 channels": ("base_channels", 0, _LARGE),
    "3 channels": ("base_channels", 3, "doesn't fit its config"),
    "a norm of 10 MB": ("norm", "x" * 900_000, "not a plain value"),
    "an unknown norm": ("norm", "batch", "unknown norm"),
    "a norm of the environment": ("norm", "${oc.env:HOME}", "not a plain value"),
    "a norm of half an interpolation": ("norm", "x" * 150 + "${", "not a plain value"),
    "dropout of 2": ("dropout", 2.0, "dropout|doesn't fit"),
    "dropout of NaN": ("dropout", float("nan"), _LARGE),
    "an unknown setting": ("colour", "blue", "has no colour"),
    "a setting of Hydra's": ("_args_", 3, "has a setting"),
    "a setting without letters": ("\n", 3, "has a setting"),
    "a setting of 10,000 letters": ("x" * 10_000, 3, "has a setting"),
    "1,000 settings": ("", {f"x{number}": 1 for number in range(1000)}, "settings"),
    "os.system": ("_target_", "os.system", "asks for the network os.system"),
    "torch's own layer": ("_target_", "torch.nn.Linear", "asks for the network"),
    "a module for a network": ("_target_", "monet_cyclegan.networks.resnet", "asks for the network"),
    "no network": ("_target_", None, "asks for the network"),
    "a network of 100,000 letters": ("_target_", "x" * 100_000, "asks for the network"),
    "a network with line breaks": ("_target_", "os\n.system", "asks for the network"),
    "a network of a part": ("_target_", "monet_cyclegan.networks.resnet.ResidualBlock", "doesn't fit its config"),
    "the other network": ("_target_", "monet_cyclegan.networks.unet.UNetGenerator", "doesn't fit its config"),
    "a discriminator": ("_target_", "monet_cyclegan.networks.patchgan.PatchGAN", "doesn't fit its config"),
}
_FIRST = "gen_ab.encoder.0.weight"
_STATES: dict[str, tuple[Any, str]] = {
    "no weights": ({}, "doesn't fit its config: missing"),
    "a weight left out": (_without(_FIRST), "missing 'encoder.0.weight'"),
    "an unknown weight": (_weights(**{"gen_ab.x": torch.zeros(1)}), "unknown 'x'"),
    "weights of another shape": (_weights(**{_FIRST: torch.zeros(2, 3, 7, 8)}), "not \\(2, 3, 7, 7\\)"),
    "weights of no shape": (_weights(**{_FIRST: torch.zeros(())}), "is of shape \\(\\)"),
    "weights of whole numbers": (_weights(**{_FIRST: torch.zeros(2, 3, 7, 7, dtype=torch.int64)}), "another kind"),
    "weights of bools": (_weights(**{_FIRST: torch.zeros(2, 3, 7, 7, dtype=torch.bool)}), "another kind"),
    "weights of NaN": (_weights(**{_FIRST: torch.full((2, 3, 7, 7), torch.nan)}), "NaN or infinity"),
    "an infinite weight": (_weights(**{_FIRST: torch.full((2, 3, 7, 7), torch.inf)}), "NaN or infinity"),
    "a number for a weight": (_weights(**{_FIRST: 3}), "are no tensor"),
    "a list for a weight": (_weights(**{_FIRST: [1.0]}), "are no tensor"),
    "numbers for names": (lambda state: dict(enumerate(state.values())), "have no names"),
    "weights with names of 10,000 letters": (_weights(**{"x" * 10_000: torch.zeros(1)}), "have no names"),
    "weights as a list": ([1, 2], "holds no"),
    "weights in another folder": (_renamed("gen_ab.", "generator."), "doesn't fit its config: missing"),
}


def _same(content: Any) -> Any:
    return content


def _all(kind: torch.dtype) -> Callable[..., Any]:
    return lambda state: {name: value.to(kind) for name, value in state.items()}


def _channels_last(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value
        for name, value in state.items()
    }


def _network(key: str, value: Any) -> Callable[..., Any]:
    """With a setting of the generator's; without a key, with many."""
    if key:
        return saving(lambda: made.changed(made.checkpoint(), _NETWORK, lambda old: {**old, key: value}))
    return saving(lambda: made.changed(made.checkpoint(), _NETWORK, lambda old: {**old, **value}))


CHECKPOINTS: list[Row] = [
    *(
        (f"a file of {what}", saving(partial(_same, content)), "refused", NO_CHECKPOINT)
        for what, content in _CONTENTS.items()
    ),
    *(
        (what, _changing(f"{_MARK}/{path}", value), "refused" if said else "read", said)
        for what, (path, value, said) in _MARKS.items()
    ),
    *((what, _network(key, value), "refused", said) for what, (key, value, said) in _NETWORKS.items()),
    *((what, _changing("state_dict", value), "refused", said) for what, (value, said) in _STATES.items()),
    ("weights in float16", _changing("state_dict", _all(torch.float16)), "read", ""),
    ("weights in float64", _changing("state_dict", _all(torch.float64)), "read", ""),
    ("weights with channels last", _changing("state_dict", _channels_last), "read", ""),
    (
        "an image history",
        _changing("state_dict/pool_a._extra_state", {"images": torch.zeros(0, dtype=torch.uint8)}),
        "read",
        "",
    ),
    ("an older record", _changing(f"{_MARK}/record", {"seconds": "long"}), "read", ""),
    ("format 0", _changing(f"{_MARK}/format", 0), "read", ""),
]
SHORT: list[Row] = [
    row
    for row in CHECKPOINTS
    if row[0] in ("10**9 blocks", "os.system", "a weight left out", "weights of NaN", "names that leave the folder")
]

_DISCRIMINATOR = f"{_MARK}/config/model/discriminator"
START: list[Row] = [
    ("a right checkpoint", saving(made.checkpoint), "read", ""),
    ("10**9 layers to judge", _changing(f"{_DISCRIMINATOR}/num_layers", 10**9), "refused", _LARGE),
    ("10**12 channels to judge", _changing(f"{_DISCRIMINATOR}/base_channels", 10**12), "refused", _LARGE),
    (
        "3 channels to judge",
        _changing(f"{_DISCRIMINATOR}/base_channels", 3),
        "refused",
        "discriminator doesn't fit its config",
    ),
    (
        "10**9 scales to judge",
        _changing(_DISCRIMINATOR, {"_target_": "monet_cyclegan.networks.patchgan.MultiScaleGAN", "num_scales": 10**9}),
        "refused",
        _LARGE,
    ),
    (
        "256 scales to judge",
        _changing(_DISCRIMINATOR, {"_target_": "monet_cyclegan.networks.patchgan.MultiScaleGAN", "num_scales": 256}),
        "refused",
        "million weights|doesn't fit",
    ),
    (
        "10**9 images to remember",
        _changing(
            _DISCRIMINATOR,
            {"_target_": "monet_cyclegan.networks.batch_statistics.BatchStatisticsGAN", "memory_size": 10**9},
        ),
        "refused",
        _LARGE,
    ),
    (
        "60,000 images to remember",
        _changing(
            _DISCRIMINATOR,
            {"_target_": "monet_cyclegan.networks.batch_statistics.BatchStatisticsGAN", "memory_size": 60_000},
        ),
        "refused",
        "memory_size must be from 0 to 1024",
    ),
    ("no discriminator", _changing(_DISCRIMINATOR, None), "refused", "has no model.discriminator"),
    (
        "a discriminator's weight left out",
        _changing("state_dict", _without("disc_b.body.0.weight")),
        "refused",
        "discriminator doesn't fit its config: missing",
    ),
    (
        "only one generator",
        _changing("state_dict", _renamed("gen_ba.", "x.")),
        "refused",
        "generator doesn't fit its config: missing",
    ),
    ("10**9 blocks", _changing(f"{_NETWORK}/num_residual_blocks", 10**9), "refused", _LARGE),
]

_BEST = {"file": "epoch0001_batch0000010.ckpt", "epoch": 1, "batches": 10, "score": 1.0, "final": None}
_GROUP = {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
_TRAINING: dict[str, tuple[str, Any, str]] = {
    "an epoch of text": ("epoch", "1", "its epoch is 1"),
    "epoch -1": ("epoch", -1, "its epoch is -1"),
    "epoch True": ("epoch", True, "its epoch is True"),
    "no steps": ("global_step", None, "its global_step is None"),
    "2**62 steps": ("global_step", 2**62, "its global_step is"),
    "no version of Lightning": ("pytorch-lightning_version", None, "no version of Lightning"),
    "a version of 10,000 letters": ("pytorch-lightning_version", "2." + "0" * 10_000, "no version of Lightning"),
    "loops as a list": ("loops", [1], "its loops are a list"),
    "loops that count texts": ("loops/fit_loop", {"current": "1"}, "its loops count 1"),
    "loops that count backwards": ("loops/fit_loop", {"current": -1}, "its loops count -1"),
    "loops that count to 2**60": ("loops/fit_loop", {"current": 2**60}, "its loops count"),
    "callbacks as a text": ("callbacks", "none", "its callbacks are a str"),
    "a best checkpoint of any name": (
        "callbacks/SaveBest",
        {"candidates": [{**_BEST, "file": "../../thesis.docx"}]},
        "among its best checkpoints",
    ),
    "a best checkpoint that is train.py": (
        "callbacks/SaveBest",
        {"candidates": [{**_BEST, "file": "train.py"}]},
        "among its best checkpoints",
    ),
    "a best score of text": (
        "callbacks/SaveBest",
        {"candidates": [{**_BEST, "score": "1"}]},
        "among its best checkpoints",
    ),
    "best checkpoints as a text": ("callbacks/SaveBest", {"candidates": "x"}, "among its best checkpoints"),
    "no optimizers": ("optimizer_states", [], "state of 0 optimizers"),
    "optimizers as a dict": ("optimizer_states", {}, "its optimizer_states are a dict"),
    "an optimizer as a text": ("optimizer_states", ["Adam"] * 2, "aren't built as torch's"),
    "moments as a list": ("optimizer_states", [{"state": [], "param_groups": []}] * 2, "aren't built as torch's"),
    "a moment as a number": ("optimizer_states", [{**_GROUP, "state": {0: 1}}] * 2, "aren't built as torch's"),
    "a learning rate of text": (
        "optimizer_states",
        [{**_GROUP, "param_groups": [{"lr": "x"}]}] * 2,
        "optimizer's lr is x",
    ),
    "an infinite learning rate": (
        "optimizer_states",
        [{**_GROUP, "param_groups": [{"lr": float("inf")}]}] * 2,
        "optimizer's lr is inf",
    ),
    "schedulers as a text": ("lr_schedulers", "none", "its lr_schedulers are a str"),
    "an open row of texts": (f"{_MARK}/open_row", {"step": 1, "metrics": {"loss": "x"}}, "open row"),
    "an open row as a list": (f"{_MARK}/open_row", [1], "open row"),
}
TRAINING: list[Row] = [
    ("what training can go on with", saving(made.training), "read", ""),
    ("a best checkpoint", _changing("callbacks/SaveBest", {"candidates": [_BEST]}, made.training), "read", ""),
    ("networks alone", saving(made.checkpoint), "refused", "its epoch is None"),
    *(
        (what, _changing(path, value, made.training), "refused", said)
        for what, (path, value, said) in _TRAINING.items()
    ),
    ("10**9 blocks", _changing(f"{_NETWORK}/num_residual_blocks", 10**9, made.training), "refused", _LARGE),
]
