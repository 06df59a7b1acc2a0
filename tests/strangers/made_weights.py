"""Files with weights, made as a stranger might: right ones, and torch archives and safetensors of any kind."""

from __future__ import annotations

import copy
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from monet_cyclegan import CHECKPOINT_FORMAT, CHECKPOINT_KEY
from monet_cyclegan.networks import PatchGAN, ResNetGenerator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GENERATOR = {
    "_target_": "monet_cyclegan.networks.resnet.ResNetGenerator",
    "_partial_": True,
    "num_residual_blocks": 1,
    "base_channels": 2,
}
DISCRIMINATOR = {
    "_target_": "monet_cyclegan.networks.patchgan.PatchGAN",
    "_partial_": True,
    "num_layers": 1,
    "base_channels": 2,
}


@cache
def _weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    networks = {name: ResNetGenerator(1, 2) for name in ("gen_ab", "gen_ba")}
    networks |= {name: PatchGAN(1, 2) for name in ("disc_a", "disc_b")}
    return {f"{part}.{key}": value for part, network in networks.items() for key, value in network.state_dict().items()}


def weights() -> dict[str, torch.Tensor]:
    """State dict of tiny networks, fresh."""
    return {name: value.clone() for name, value in _weights().items()}


def generator_weights() -> dict[str, torch.Tensor]:
    """Those of the generator from A to B, under its own names."""
    return {name.removeprefix("gen_ab."): value for name, value in weights().items() if name.startswith("gen_ab.")}


def mark(*overrides: str) -> dict[str, Any]:
    """What we write into a checkpoint beside the weights."""
    model = {"generator": dict(GENERATOR), "discriminator": dict(DISCRIMINATOR)}
    config = {"data": {"names": {"a": "photo", "b": "monet"}}, "model": model}
    return {"format": CHECKPOINT_FORMAT, "version": "0.1.0", "config": config, "overrides": list(overrides)}


def checkpoint(*overrides: str) -> dict[str, Any]:
    """One that is right, of networks alone."""
    return {CHECKPOINT_KEY: mark(*overrides), "state_dict": weights()}


def training() -> dict[str, Any]:
    """One that is right, and that training could go on with as far as can be seen before it does."""
    state = {
        "state": {0: {"step": torch.tensor(1.0)}},
        "param_groups": [{"lr": 1e-3, "betas": (0.5, 0.9), "params": [0]}],
    }
    return {
        **checkpoint(),
        "epoch": 1,
        "global_step": 2,
        "pytorch-lightning_version": "2.6.6",
        "loops": {"fit_loop": {"epoch_progress": {"current": {"completed": 1}}, "state_dict": {}}},
        "callbacks": {"SaveBest": {"candidates": []}},
        "optimizer_states": [state, state],
        "lr_schedulers": [],
    }


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a path such as "monet_cyclegan/config/model"; a function makes it of the old one."""
    result = copy.deepcopy(content)
    *parents, last = path.split("/")
    inner: Any = result
    for key in parents:
        inner = inner[key]
    inner[last] = value(inner.get(last)) if callable(value) else value
    return result


def saved(content: Any, path: Path, **options: Any) -> Path:
    """By torch.save."""
    torch.save(content, path, **options)
    return path


# ---- torch's archives by hand ----


class FakeStorage:
    """A storage of any claim."""

    def __init__(self, items: int, key: str = "0", kind: Any = torch.FloatStorage, location: str = "cpu"):
        self.persistent = ("storage", kind, key, location, items)


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


class _Pickler(pickle.Pickler):
    def persistent_id(self, found: Any) -> Any:
        return found.persistent if isinstance(found, FakeStorage) else None


def pickled(content: Any) -> bytes:
    """As torch.save pickles, with `FakeStorage` and `Call` in it."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def fake_tensor(shape: tuple[Any, ...], items: int, stride: tuple[Any, ...] | None = None, **options: Any) -> Call:
    """A tensor that claims a shape out of a storage of so many items."""
    offset = options.pop("offset", 0)
    if stride is None:
        steps = [1]
        for length in reversed(shape[1:]):
            steps.insert(0, steps[0] * length)
        stride = tuple(steps[: len(shape)])
    storage = FakeStorage(items, **options)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, False, OrderedDict())


def claiming(tensor: Any) -> dict[str, Any]:
    """A checkpoint with a made-up tensor among its weights."""
    return {CHECKPOINT_KEY: mark(), "state_dict": {"gen_ab.encoder.0.weight": tensor}}


def archive(pickle_: bytes, records: Mapping[str, bytes] | None = None, **options: Any) -> bytes:
    """A torch archive of a pickle and its storages, by default one of four bytes; others entries by ``more``."""
    prefix, more = options.get("prefix", "archive"), options.get("more", {})
    entries = {"data.pkl": pickle_, "byteorder": b"little", "version": b"3\n"}
    entries |= {f"data/{key}": data for key, data in ({"0": b"\0" * 4} if records is None else records).items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", options.get("method", zipfile.ZIP_STORED)) as file:
        for name, data in (entries | more).items():
            file.writestr(f"{prefix}/{name}", data)
    return buffer.getvalue()


def packed(content: Any, *records: bytes, **options: Any) -> bytes:
    """A torch archive of a content, pickled, and of storages."""
    return archive(
        pickled(content), {str(key): data for key, data in enumerate(records)} if records else None, **options
    )


def right_bytes() -> bytes:
    """A right checkpoint's file."""
    buffer = io.BytesIO()
    torch.save(checkpoint(), buffer)
    return buffer.getvalue()


# ---- safetensors by hand ----


def description(**changes: Any) -> dict[str, Any]:
    """Of a right file, as JSON has it."""
    right = {"format": 1, "version": "0.1.0", "network": dict(GENERATOR), "directions": ["photo_to_monet"]}
    return {**right, "recipe": [], "licence": "not stated", **changes}


def safetensors(header: Any = None, data: bytes | None = None, *, text: str | None = None, **changes: Any) -> bytes:
    """A file of a header and data; by default a right one, with changes to its description."""
    told = {"monet_cyclegan": text if text is not None else json.dumps(description(**changes))}
    right: dict[str, Any] = {"__metadata__": told}
    parts, end = [], 0
    for name, value in generator_weights().items():
        raw = value.numpy().tobytes()
        right[f"photo_to_monet.{name}"] = {
            "dtype": "F32",
            "shape": [*value.shape],
            "data_offsets": [end, end + len(raw)],
        }
        end += len(raw)
        parts.append(raw)
    header = header(right) if callable(header) else right if header is None else header
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + (b"".join(parts) if data is None else data)
