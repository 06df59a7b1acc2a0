"""ONNX files looked at before a runtime gets them: only what our own export writes, and no more than it says.

A graph can compute its own sizes, which nothing finds out but running it. So the first picture that a file translates
is a tiny one, with a limit on the memory that it may take.
"""

from __future__ import annotations

import struct
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from monet_cyclegan.untrusted.protobuf import BYTES, VARINT, Field, varint, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_BYTES = 1 << 30
MOST_NODES = 5000
# What the export of our generators consists of, which tests/strangers/test_weights_corpus.py holds.
OPERATIONS = {"Add", "Atanh", "AveragePool", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "Div", "Gather"}
OPERATIONS |= {"InstanceNormalization", "LeakyRelu", "Min", "Mod", "Mul", "Pad", "Range", "Relu", "Reshape", "Resize"}
OPERATIONS |= {"Shape", "Squeeze", "Sub", "Tanh"}
_ITEM_SIZES = {1: 4, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}  # float32, int32, int64, bool, float16, float64
_FLOAT, _INT64 = 1, 7
_MOST_INT = 64  # in attributes: kernels have at most 7 pixels, strides 2
_MOST_GROUPS = 4096  # a depthwise convolution has as many as channels, and weights for each in the file
_MOST_CONSTANT = 1024  # a U-Net of 10 levels needs multiples of it
_MOST_SCALE = 2.0
_PROBE_BYTES = 192 << 20
_PROBE_SECONDS = 30.0
_PROBE_SIDE = 32

# Numbers of fields that may be there; all others are refused, such as functions, training or files with values.
_MODEL = {"ir_version": 1, "producer": 2, "producer_version": 3, "model_version": 5, "doc": 6, "graph": 7}
_MODEL |= {"opset": 8, "metadata": 14}
_GRAPH = {"node": 1, "name": 2, "initializer": 5, "doc": 10, "input": 11, "output": 12, "value": 13, "metadata": 16}
_NODE = {"input": 1, "output": 2, "name": 3, "op_type": 4, "attribute": 5, "doc": 6, "domain": 7, "metadata": 9}
_ATTRIBUTE = {"name": 1, "f": 2, "i": 3, "s": 4, "floats": 7, "ints": 8, "doc": 13, "type": 20}
_TENSOR = {"dims": 1, "data_type": 2, "name": 8, "raw": 9, "doc": 12}
_VALUE = {"name": 1, "type": 2, "doc": 3, "metadata": 4}

Fields = dict[str, list[Field[memoryview]]]


def check_graph(data: bytes) -> None:
    """Refuse a model that isn't built as our export builds them.

    Raises:
        ValueError: what is wrong with it.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
    model = _fields(memoryview(data), _MODEL)
    for opset in model["opset"]:
        if any(_text(field.data) for field in walk(opset.data) if field.number == 1):
            raise ValueError("it needs operations that aren't ONNX's own")
    graph = _fields(_only(model["graph"], "graph"), _GRAPH)
    (given,) = _names(graph["input"], "input")
    (made,) = _names(graph["output"], "output")
    if (given, made) != ("images", "translated"):
        raise ValueError(f"it makes {made[:100]} of {given[:100]}, not translated of images")
    constants = dict(_constant(field.data) for field in graph["initializer"])
    if len(graph["node"]) > MOST_NODES or len(constants) > MOST_NODES:
        raise ValueError(f"it has more than {MOST_NODES} nodes")
    for node in graph["node"]:
        _check_node(_fields(node.data, _NODE), constants)


def probe(runtime: Any, data: bytes) -> None:
    """Translate a tiny picture with little memory, and nothing computed before; ``runtime`` is onnxruntime.

    Raises:
        ValueError: it takes more, or what comes out is no picture of the same size.
    """
    _limit_memory(runtime)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.log_severity_level = 4
    running = runtime.RunOptions()
    late = threading.Timer(_PROBE_SECONDS, setattr, (running, "terminate", True))
    late.daemon = True
    late.start()
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"images": np.zeros((1, 3, _PROBE_SIDE, _PROBE_SIDE), np.float32)}, running)
    except Exception as error:  # the runtime's own errors share no class
        raise ValueError(f"it can't translate a tiny picture: {str(error).splitlines()[0][:300]}") from error
    finally:
        late.cancel()
    if found.shape != (1, 3, _PROBE_SIDE, _PROBE_SIDE) or found.dtype != np.float32 or not np.isfinite(found).all():
        raise ValueError(f"it makes {found.dtype} of shape {found.shape} of a tiny picture")


@cache
def _limit_memory(runtime: Any) -> None:
    """For sessions that ask for it, which is the probe's alone."""
    info = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    limits = {"max_mem": _PROBE_BYTES, "arena_extend_strategy": 1, "initial_chunk_size_bytes": 1 << 20}
    runtime.create_and_register_allocator(info, runtime.OrtArenaCfg(limits))


def _fields(message: memoryview, known: dict[str, int]) -> Fields:
    names = {number: name for name, number in known.items()}
    found: Fields = {name: [] for name in known}
    for field in walk(message):
        if field.number not in names:
            raise ValueError(f"it has a part that our export doesn't write ({field.number})")
        found[names[field.number]].append(field)
    return found


def _only(found: list[Field[memoryview]], what: str) -> memoryview:
    """The one field of its kind; of two, programs take the last, or join them."""
    if len(found) != 1 or found[0].wire_type != BYTES:
        raise ValueError(f"it has {len(found)} times a {what}, not once")
    return found[0].data


def _text(data: memoryview) -> str:
    return bytes(data).decode("utf-8")


def _names(values: list[Field[memoryview]], what: str) -> list[str]:
    """The name of the only input or output, of four dimensions."""
    value = _fields(_only(values, what), _VALUE)
    tensor = [field.data for field in walk(_only(value["type"], "type"))]
    shapes = [field.data for part in tensor for field in walk(part) if field.number == 2 and field.wire_type == BYTES]
    if len(shapes) != 1 or sum(1 for _ in walk(shapes[0])) != 4:
        raise ValueError(f"its {what} isn't of four dimensions")
    return [_text(_only(value["name"], "name"))]


def _integers(found: Iterable[Field[memoryview]]) -> Iterator[int]:
    """Numbers, one in each field or many in one."""
    for field in found:
        if field.wire_type == VARINT:
            yield _signed(field.value)
        elif field.wire_type == BYTES:
            position = 0
            while position < len(field.data):
                value, position = varint(field.data, position)
                yield _signed(value)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _constant(data: memoryview) -> tuple[str, tuple[int, memoryview]]:
    """A tensor's name, kind and bytes, which are as many as its shape takes."""
    tensor = _fields(data, _TENSOR)
    (kind, *more), dims = list(_integers(tensor["data_type"])) or [0], list(_integers(tensor["dims"]))
    raw = _only(tensor["raw"], "value of a constant")
    count = 1
    for length in dims:
        count *= max(length, 0)
    if more or kind not in _ITEM_SIZES or len(dims) > 8 or min(dims, default=1) < 1:
        raise ValueError("it has a constant of a strange kind")
    if count * _ITEM_SIZES[kind] != len(raw):
        raise ValueError(f"it has a constant of {count} values in {len(raw)} bytes")
    if kind == _INT64 and (
        count > 64 or any(abs(value) > _MOST_CONSTANT for (value,) in struct.iter_unpack("<q", raw))
    ):
        raise ValueError("it has an enormous constant")
    return _text(_only(tensor["name"], "name of a constant")), (kind, raw)


def _all_small(raw: memoryview) -> bool:
    return len(raw) <= 8 * 64 and all(abs(value) <= _MOST_CONSTANT for (value,) in struct.iter_unpack("<q", raw))


def _check_node(node: Fields, constants: dict[str, tuple[int, memoryview]]) -> None:
    operation = _text(_only(node["op_type"], "type of a node"))
    if operation not in OPERATIONS or any(field.data for field in node["domain"]):
        raise ValueError(f"it has the operation {operation[:100]!r}, which our export doesn't write")
    for attribute in node["attribute"]:
        parts = _fields(attribute.data, _ATTRIBUTE)
        most = _MOST_GROUPS if [field.data for field in parts["name"]] == [b"group"] else _MOST_INT
        if any(abs(value) > most for value in _integers([*parts["i"], *parts["ints"]])):
            raise ValueError(f"its {operation} has an enormous attribute")
    if operation == "Resize":
        _check_scales([_text(field.data) for field in node["input"]], constants)


def _check_scales(inputs: list[str], constants: dict[str, tuple[int, memoryview]]) -> None:
    """A map becomes at most twice as high and wide, by factors that stand in the file."""
    kind, raw = constants.get(inputs[2], (0, memoryview(b""))) if len(inputs) == 3 else (0, memoryview(b""))
    scales = [scale for (scale,) in struct.iter_unpack("<f", raw)] if kind == _FLOAT else []
    if len(scales) != 4 or not all(0 < scale <= _MOST_SCALE for scale in scales):
        raise ValueError("it has a Resize that doesn't double its input")
