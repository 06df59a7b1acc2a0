"""Cases of safetensors files: headers that lie, and descriptions of what isn't ours."""

from __future__ import annotations

import json
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import made_weights as made
import numpy as np
from cases_files import file

if TYPE_CHECKING:
    from collections.abc import Callable

    from cases_files import Row

NO_FILE = r"x\.safetensors is no whole safetensors file"
NOT_OURS = r"x\.safetensors holds no generator of this project"
_FIRST = "photo_to_monet.encoder.0.weight"


def _described(**changes: Any) -> Callable[..., Any]:
    """Another description of the first weights."""
    return lambda right: {**right, _FIRST: {**right[_FIRST], **changes}}


def _shifted(right: dict[str, Any]) -> dict[str, Any]:
    """Bytes that belong to two tensors."""
    start, end = right[_FIRST]["data_offsets"]
    return {
        **right,
        "photo_to_monet.twice": {"dtype": "F32", "shape": [(end - start) // 4], "data_offsets": [start, end]},
    }


def _length(length: int) -> bytes:
    return struct.pack("<Q", length) + made.safetensors()[8:]


def _nan() -> bytes:
    size = sum(value.numel() for value in made.generator_weights().values())
    return made.safetensors(data=np.full(size, np.nan, np.float32).tobytes())


_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut in half": (lambda: made.safetensors()[:-2000], "don't end where it does"),
    "cut in its header": (lambda: made.safetensors()[:200], NO_FILE),
    "7 bytes": (lambda: made.safetensors()[:7], NO_FILE),
    "a byte too many": (lambda: made.safetensors() + b"x", "don't end where it does"),
    "a header of 2**63 bytes": (partial(_length, 2**63), "header would have"),
    "a header of 50 MB": (lambda: struct.pack("<Q", 50 << 20) + b" " * (50 << 20), "header would have"),
    "a header of no bytes": (partial(_length, 0), "header would have"),
    "a header that isn't JSON": (lambda: made.safetensors(b"{" * 50), NO_FILE),
    "a header that isn't text": (lambda: made.safetensors(b"\xff" * 50), NO_FILE),
    "a header of 100,000 brackets": (lambda: made.safetensors(b"[" * 100_000), "nested without end"),
    "a header that is a list": (lambda: made.safetensors([]), "isn't built as such files'"),
    "a header that is a number": (lambda: made.safetensors(b"42"), "isn't built as such files'"),
    "a number of a million digits": (lambda: made.safetensors(b'{"x":' + b"1" * 10**6 + b"}"), NO_FILE),
    "a name twice": (lambda: made.safetensors(b'{"x":1,"x":2}'), "a key twice"),
    "metadata of numbers": (
        lambda: made.safetensors(lambda right: {**right, "__metadata__": {"monet_cyclegan": 3}}),
        "isn't built",
    ),
    "metadata as a list": (lambda: made.safetensors(lambda right: {**right, "__metadata__": []}), "isn't built"),
    "no metadata": (
        lambda: made.safetensors(lambda right: {k: v for k, v in right.items() if k != "__metadata__"}),
        NOT_OURS,
    ),
    "a shape of 10**12": (lambda: made.safetensors(_described(shape=[10**12])), "isn't described as weights"),
    "a shape of 2**40 by 2**40": (
        lambda: made.safetensors(_described(shape=[2**40, 2**40])),
        "isn't described as weights",
    ),
    "a negative shape": (lambda: made.safetensors(_described(shape=[-2, -3, 7, 7])), "isn't described as weights"),
    "a shape of halves": (lambda: made.safetensors(_described(shape=[0.5])), "isn't described as weights"),
    "a shape of 100 dimensions": (lambda: made.safetensors(_described(shape=[1] * 100)), "isn't described as weights"),
    "offsets beyond the end": (
        lambda: made.safetensors(_described(data_offsets=[10**9, 10**9 + 1176])),
        "overlap, or leave gaps",
    ),
    "offsets backwards": (lambda: made.safetensors(_described(data_offsets=[1176, 0])), "isn't described as weights"),
    "offsets of text": (lambda: made.safetensors(_described(data_offsets=["0", "1176"])), "isn't described as weights"),
    "whole numbers": (lambda: made.safetensors(_described(dtype="I32")), "isn't described as weights"),
    "an unknown kind": (lambda: made.safetensors(_described(dtype="F31")), "isn't described as weights"),
    "a kind of 8 bits": (lambda: made.safetensors(_described(dtype="F8_E4M3")), "isn't described as weights"),
    "a tensor that is a number": (
        lambda: made.safetensors(lambda right: {**right, _FIRST: 3}),
        "isn't described as weights",
    ),
    "more about a tensor": (lambda: made.safetensors(_described(file="/etc/passwd")), "isn't described as weights"),
    "bytes of two tensors": (lambda: made.safetensors(_shifted), "overlap, or leave gaps"),
    "another shape of as many": (lambda: made.safetensors(_described(shape=[3, 2, 7, 7])), "doesn't fit its config"),
    "NaN": (_nan, "NaN or infinity"),
    "a checkpoint": (made.right_bytes, NO_FILE),
}
_TEXTS: dict[str, tuple[str, str]] = {
    "no description": ("", NOT_OURS),
    "a description that isn't JSON": ("{", NOT_OURS),
    "a description of 100,000 brackets": ("[" * 100_000, NOT_OURS),
    "a description of 2 MB": (json.dumps(made.description(licence="x" * 2_000_000)), NOT_OURS),
    "a description with a key twice": ('{"format": 1, "format": 1}', NOT_OURS),
    "a description of NaN": ('{"format": NaN}', NOT_OURS),
    "a description of a number": ("3", NOT_OURS),
}
_DESCRIPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a newer format": ({"format": 2}, "written by a newer version"),
    "a newer format of 9,000 letters": ({"format": 2, "version": "x" * 9000}, "written by a newer version"),
    "a format of text": ({"format": "1"}, NOT_OURS),
    "no directions": ({"directions": []}, NOT_OURS),
    "directions of numbers": ({"directions": [1]}, NOT_OURS),
    "directions of lists": ({"directions": [["x"]]}, NOT_OURS),
    "1,000 directions": ({"directions": ["x"] * 1000}, NOT_OURS),
    "a direction of 5,000 letters": ({"directions": ["x" * 5000]}, NOT_OURS),
    "another direction": ({"directions": ["a_to_b"]}, "doesn't fit its config: missing"),
    "a recipe of numbers": ({"recipe": [1]}, NOT_OURS),
    "10,000 overrides": ({"recipe": ["x"] * 10_000}, NOT_OURS),
    "a licence of numbers": ({"licence": 1}, NOT_OURS),
    "a network as a text": ({"network": "resnet"}, NOT_OURS),
    "os.system": ({"network": {"_target_": "os.system"}}, "asks for the network os.system"),
    "10**9 blocks": ({"network": {**made.GENERATOR, "num_residual_blocks": 10**9}}, "not a number from"),
    "10**12 channels": ({"network": {**made.GENERATOR, "base_channels": 10**12}}, "not a number from"),
    "256 levels": (
        {"network": {"_target_": "monet_cyclegan.networks.unet.UNetGenerator", "num_levels": 256}},
        "million weights",
    ),
    "an enormous number": ({"network": {**made.GENERATOR, "base_channels": 10**400}}, NOT_OURS),
    "a record 20 levels deep": ({"record": json.loads("[" * 20 + "]" * 20)}, NOT_OURS),
}

TABLE: list[Row] = [
    ("a right safetensors file", file("x.safetensors", made.safetensors), "read", ""),
    (
        "a record that isn't one",
        file("x.safetensors", partial(made.safetensors, record={"seconds": "long"})),
        "read",
        "",
    ),
    *((f"safetensors: {what}", file("x.safetensors", make), "refused", says) for what, (make, says) in _FILES.items()),
    *(
        (f"safetensors: {what}", file("x.safetensors", partial(made.safetensors, text=text)), "refused", says)
        for what, (text, says) in _TEXTS.items()
    ),
    *(
        (f"safetensors: {what}", file("x.safetensors", partial(made.safetensors, **changes)), "refused", says)
        for what, (changes, says) in _DESCRIPTIONS.items()
    ),
]
