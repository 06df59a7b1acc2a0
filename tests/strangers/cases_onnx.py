"""Cases of ONNX files: graphs that our export doesn't write, and those that would grow without end."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import made_onnx as made
import numpy as np
from cases_files import file
from made_onnx import graph, node, with_change
from made_weights import description

if TYPE_CHECKING:
    from collections.abc import Callable

    from cases_files import Row

NO_FILE = r"x\.onnx is no ONNX file that can be run"
_DOUBLE = np.array([1, 1, 2, 2], np.float32)


def _integer(value: int) -> Any:
    return np.array(value, np.int64)


def _tanh(**options: Any) -> bytes:
    return graph([node("Tanh", "images")], **options)


def _chain(operation: str, count: int, given: str = "{}", **attributes: Any) -> list[Any]:
    """Each takes what the one before it makes."""
    names = ["images", *(f"x{number}" for number in range(count - 1)), "translated"]
    return [node(operation, given.format(names[i], names[i]), names[i + 1], **attributes) for i in range(count)]


def _external(model: Any) -> None:
    constant = model.graph.initializer[0]
    constant.ClearField("raw_data")
    constant.data_location = 1
    for key, value in (("location", "/etc/passwd"), ("length", "16")):
        entry = constant.external_data.add()
        entry.key, entry.value = key, value


def _typed(model: Any) -> None:
    constant = model.graph.initializer[0]
    constant.ClearField("raw_data")
    constant.float_data.extend([0.0] * 4)


def _subgraph(model: Any) -> None:
    from onnx import helper

    model.graph.node[0].attribute.append(helper.make_attribute("body", model.graph))


def _function(model: Any) -> None:
    function = model.functions.add()
    function.name, function.domain = "Tanh", ""


def _sparse(model: Any) -> None:
    model.graph.sparse_initializer.add().dims.extend([10**9])


def _dims(*dims: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return change


def _training(model: Any) -> None:
    model.training_info.add()


def _range_bomb() -> bytes:
    nodes = [node("Mul", "k k", "k2"), node("Mul", "k2 k2", "k4"), node("Range", "zero k4 one", "many")]
    nodes.append(node("Gather", "images many", axis=3))
    return graph(nodes, {"k": _integer(1000), "zero": _integer(0), "one": _integer(1)})


def _outer_bomb() -> bytes:
    """Each place of a row with each of a column, of a million each."""
    nodes = [node("Mul", "k k", "k2"), node("Range", "zero k2 one", "row"), node("Reshape", "row tall", "column")]
    nodes += [node("Add", "row column", "all"), node("Cast", "all", "floats", to=1), node("Add", "images floats")]
    constants = {"k": _integer(1000), "zero": _integer(0), "one": _integer(1), "tall": np.array([-1, 1], np.int64)}
    return graph(nodes, constants)


_CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "values in another file": (_external, "doesn't write \\((13|14)\\)"),
    "values that aren't bytes": (_typed, "doesn't write \\(4\\)"),
    "a graph in a node": (_subgraph, "doesn't write \\(6\\)"),
    "a function": (_function, "doesn't write \\(25\\)"),
    "sparse values": (_sparse, "doesn't write \\(15\\)"),
    "training": (_training, "doesn't write \\(20\\)"),
    "a constant of 10**12 values": (_dims(10**6, 10**6), "in 16 bytes"),
    "a constant of 2**80 values": (_dims(2**40, 2**40), "in 16 bytes"),
    "a constant of a negative shape": (_dims(-4), "strange kind"),
    "a constant of 100 dimensions": (_dims(*[1] * 100), "strange kind"),
}
_OPERATIONS = (
    "Loop",
    "If",
    "Scan",
    "Expand",
    "Tile",
    "ConstantOfShape",
    "Einsum",
    "MatMul",
    "Identity",
    "Constant",
    "RandomNormal",
)
_GRAPHS: dict[str, tuple[Callable[[], bytes], str]] = {
    "an operation of others": (lambda: graph([node("Tanh", "images", domain_="com.evil")]), "doesn't write"),
    "operations of others": (lambda: _tanh(opsets=[("", 20), ("com.microsoft", 1)]), "aren't ONNX's own"),
    "an input of another name": (lambda: graph([node("Tanh", "x")], inputs=["x"]), "not translated of images"),
    "two inputs": (lambda: _tanh(inputs=["images", "more"]), "2 times a input"),
    "two outputs": (
        lambda: graph([node("Tanh", "images"), node("Tanh", "images", "y")], outputs=["translated", "y"]),
        "2 times a output",
    ),
    "an input of 2 dimensions": (lambda: _tanh(dims=["h", "w"]), "isn't of four dimensions"),
    "an input of whole numbers": (lambda: _tanh(kind=7), NO_FILE),
    "an output of another size": (
        lambda: graph([node("Resize", "images - s", mode="nearest")], {"s": _DOUBLE}),
        "of a tiny picture",
    ),
    "kernels of 10**9 pixels": (
        lambda: graph([node("AveragePool", "images", kernel_shape=[10**9, 10**9])]),
        "enormous attribute",
    ),
    "strides of 10**9": (
        lambda: graph(
            [node("ConvTranspose", "images w", strides=[10**9, 10**9])], {"w": np.zeros((3, 3, 1, 1), np.float32)}
        ),
        "enormous attribute",
    ),
    "a border of 10**12 pixels": (
        lambda: graph([node("Pad", "images p")], {"p": np.array([0, 0, 0, 0, 0, 0, 10**6, 10**6], np.int64)}),
        "enormous constant",
    ),
    "a resize by 1,000": (
        lambda: graph([node("Resize", "images - s", mode="nearest")], {"s": np.array([1, 1, 1000, 1000], np.float32)}),
        "doesn't double",
    ),
    "a resize by what is computed": (
        lambda: graph([node("Resize", "images - images", mode="nearest")]),
        "doesn't double",
    ),
    "20 doublings": (
        lambda: graph(_chain("Resize", 20, "{} - s", mode="nearest"), {"s": _DOUBLE}),
        "can't translate a tiny picture",
    ),
    "40 times beside itself": (lambda: graph(_chain("Concat", 40, "{} {}", axis=1)), "can't translate a tiny picture"),
    "a row of 10**12": (_range_bomb, "can't translate a tiny picture"),
    "a table of 10**12": (_outer_bomb, "can't translate a tiny picture"),
    "6,000 nodes": (lambda: graph(_chain("Tanh", 6000)), "more than 5000 nodes"),
    "no nodes": (lambda: graph([]), NO_FILE),
    "a circle": (lambda: graph([node("Add", "images y", "x"), node("Tanh", "x", "y"), node("Tanh", "x")]), NO_FILE),
    "NaN for pictures": (lambda: graph([node("Div", "images images")]), "of a tiny picture|tiny picture"),
    "two graphs": (lambda: _tanh() + _tanh(), "2 times a graph"),
    "no graph": (lambda: b"\x08\x0a", "0 times a graph"),
    "cut in half": (lambda: made.exported()[: len(made.exported()) // 2], NO_FILE),
    "cut at its last byte": (lambda: made.exported()[:-1], NO_FILE),
}
_TOLD: dict[str, tuple[str, str]] = {
    "no description": ("", "holds no generator of this project"),
    "another's description": ("{}", "holds no generator of this project"),
    "a description of 100,000 brackets": ("[" * 100_000, "holds no generator of this project"),
    "a network that isn't ours": (
        json.dumps(description(network={"_target_": "os.system"})),
        "asks for the network os.system",
    ),
    "a newer format": (json.dumps(description(format=2)), "written by a newer version"),
}

TABLE: list[Row] = [
    ("a right ONNX file", file("x.onnx", made.exported), "read", ""),
    ("a small graph of our operations", file("x.onnx", _tanh), "read", ""),
    *(
        (f"ONNX: {what}", file("x.onnx", partial(with_change, change)), "refused", says)
        for what, (change, says) in _CHANGES.items()
    ),
    *(
        (
            f"ONNX: the operation {name}",
            file("x.onnx", partial(lambda name: graph([node(name, "images")]), name)),
            "refused",
            "doesn't write",
        )
        for name in _OPERATIONS
    ),
    *((f"ONNX: {what}", file("x.onnx", make), "refused", says) for what, (make, says) in _GRAPHS.items()),
    *(
        (f"ONNX: {what}", file("x.onnx", partial(_tanh, told=told)), "refused", says)
        for what, (told, says) in _TOLD.items()
    ),
]
