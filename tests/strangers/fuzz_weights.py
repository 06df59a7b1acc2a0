"""What the fuzzer feeds of checkpoints, weights and commands: see fuzz.py."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import struct
from typing import TYPE_CHECKING, Any

import made_onnx
import made_weights as made
import torch

from monet_cyclegan.checkpoint import check_structure
from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.onnx_limits import check_graph
from monet_cyclegan.saved_settings import is_harmless, is_harmless_file
from monet_cyclegan.untrusted.pickle_walk import Claim, Storage
from monet_cyclegan.untrusted.torch_archive import old_structure, structure
from monet_cyclegan.weights import Description, check_header

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = "monet_cyclegan"
_WORDS = (_MARK, "state_dict", "format", "version", "config", "data", "names", "a", "b", "model", "generator")
_WORDS += ("overrides", "record", "_target_", "num_residual_blocks", "photo", "x.weight", "pool_a._extra_state")


# ---- structure: bytes become nested Python values, which a checkpoint might hold ----


def seeds_structure() -> list[bytes]:
    """Right checkpoints, in the bytes that `_decoded` reads."""
    contents = [
        made.checkpoint("seed=3"),
        {_MARK: made.mark(), "state_dict": {}},
        {_MARK: {}, "state_dict": {}},
        {},
        [],
    ]
    return [_encoded(content) for content in contents]


def feed_structure(data: bytes) -> None:
    """The schema of a checkpoint."""
    with contextlib.suppress(UserError):
        check_structure(_decoded(data), "x.ckpt")


def _encoded(value: Any) -> bytes:
    if isinstance(value, dict):
        return bytes([0, min(len(value), 255)]) + b"".join(
            _encoded(key) + _encoded(item) for key, item in value.items()
        )
    if isinstance(value, list):
        return bytes([1, len(value)]) + b"".join(map(_encoded, value))
    if isinstance(value, str):
        return bytes([2, _WORDS.index(value)]) if value in _WORDS else bytes([3, len(value)]) + value.encode()
    if isinstance(value, bool | None):
        return bytes([4, (None, False, True).index(value)])
    if isinstance(value, int):
        return b"\5" + struct.pack("<h", value)
    return b"\6"  # a tensor


def _decoded(data: bytes) -> Any:
    return _value(iter(data), iter(range(300)), 0)


def _value(stream: Iterator[int], budget: Iterator[int], depth: int) -> Any:
    kind, number = next(stream, 4), next(stream, 0)
    if next(budget, None) is None or depth > 100:
        return None
    if kind == 0:
        pairs = ((_value(stream, budget, depth + 1), _value(stream, budget, depth + 1)) for _ in range(number % 20))
        return {key if isinstance(key, _KEYS) else "key": value for key, value in pairs}
    if kind == 1:
        return [_value(stream, budget, depth + 1) for _ in range(number % 20)]
    if kind == 2:
        return _WORDS[number % len(_WORDS)]
    if kind == 3:
        return bytes(itertools.islice(stream, number)).decode("utf-8", "surrogateescape")
    if kind == 5:
        return struct.unpack("<h", bytes([number, next(stream, 0)]))[0]
    if kind == 6:
        return _TENSOR
    return (None, False, True)[number % 3] if kind == 4 else _LEAVES[number % len(_LEAVES)]


_KEYS = (str, int, float, type(None))
_TENSOR = Claim(Storage("FloatStorage", "0", 1), (1,))
_LEAVES = (float("nan"), 1 << 70, -1, (), b"x", {1}, torch.zeros(1), object(), "\ud800", "x" * 600)


# ---- archives: the walk through zip and pickle before torch loads them ----


def seeds_archive() -> list[bytes]:
    """Small archives of both formats."""
    tensor = made.claiming(made.fake_tensor((1,), 1))
    old = io.BytesIO()
    torch.save({"x": torch.zeros(1)}, old, _use_new_zipfile_serialization=False)
    new = io.BytesIO()
    torch.save({"x": torch.zeros(1)}, new)
    contents = [tensor, {"a": [1, 2.0, None, True, "x" * 300]}, [1 << 70, -5, 70_000]]
    return [*(made.archive(made.pickled(content)) for content in contents), old.getvalue(), new.getvalue()]


def feed_archive(data: bytes) -> None:
    """As an archive, as a file of the old format, and as the pickle in an archive."""
    with contextlib.suppress(ValueError):
        structure(io.BytesIO(data), len(data))
    with contextlib.suppress(ValueError):
        old_structure(io.BytesIO(data), len(data))


# ---- safetensors, descriptions, overrides, ONNX ----


def seeds_safetensors() -> list[bytes]:
    """Small files."""
    described = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    headers = [{"x": described, "__metadata__": {"a": "b"}}, {}, {"__metadata__": {}}]
    whole = [made.safetensors(header, b"\0" * (8 if "x" in header else 0)) for header in headers]
    return [*whole, *(json.dumps(header).encode() for header in headers)]


def feed_safetensors(data: bytes) -> None:
    """The header of a safetensors file, as it stands and with its right length in front."""
    for file in (data, struct.pack("<Q", len(data)) + data + bytes(8)):
        with contextlib.suppress(ValueError):
            check_header(io.BytesIO(file), len(file))


def seeds_description() -> list[bytes]:
    """Right ones, and short ones."""
    record = {"seconds": 1.0, "devices": ["cpu"], "pairs": 1, "crop_size": 1, "trained_on": {"a": 1}, "held_out": {}}
    record |= {"scores": {"val/kid": 0.1}, "scored_on": "", "scored_images": 1}
    contents = [made.description(), made.description(record=record, recipe=["seed=3"]), {"format": 2}, [], 3]
    return [json.dumps(content).encode() for content in contents]


def feed_description(data: bytes) -> None:
    """What a file says of its weights."""
    with contextlib.suppress(UserError):
        Description.from_text(data.decode("utf-8", "surrogateescape"), "x.safetensors")


def seeds_override() -> list[bytes]:
    """Those that are taken over, and those that aren't."""
    texts = ["seed=3", "+a.b={c: [1,2], d: 'x y'}", "~a.b", "paths.run=x", "data.root=/x", "name=../x", "a/b=[c,d]"]
    return [text.encode() for text in [*texts, "name=${x}", "paths: {run: x}\na: [1]", "defaults: [x]\nname: y"]]


def feed_override(data: bytes) -> None:
    """An override in a checkpoint, and the text of an experiment's file."""
    text = data.decode("utf-8", "surrogateescape")
    is_harmless(text)
    if b"\n" in data:
        with contextlib.suppress(ValueError):
            is_harmless_file(text)


def seeds_onnx() -> list[bytes]:
    """Small models."""
    import numpy as np

    small = made_onnx.graph([made_onnx.node("Tanh", "images")], told="{}")
    nodes = [made_onnx.node("Resize", "images - s", mode="nearest")]
    resize = made_onnx.graph(nodes, {"s": np.array([1, 1, 2, 2], np.float32), "i": np.array([1, 2])}, told="{}")
    return [small, resize]


def feed_onnx(data: bytes) -> None:
    """A model before the runtime gets it."""
    with contextlib.suppress(ValueError):
        check_graph(data)
