"""ONNX files, made as a stranger might: one that is right, and graphs of any kind."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from made_weights import GENERATOR, description

from monet_cyclegan.weights import KEY, Description

if TYPE_CHECKING:
    from collections.abc import Callable


@cache
def exported() -> bytes:
    """What our export writes of a tiny network."""
    import torch

    from monet_cyclegan.inference.onnx_generator import write_onnx
    from monet_cyclegan.networks import ResNetGenerator

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.onnx"
        network = dict(GENERATOR)
        write_onnx(path, ResNetGenerator(1, 2).eval(), Description(network, ("photo_to_monet",)))
        return path.read_bytes()


def with_change(change: Callable[[Any], None]) -> bytes:
    """A small right graph, changed in place."""
    model = _small()
    change(model)
    return model.SerializeToString()


def graph(nodes: list[Any], constants: dict[str, Any] | None = None, **options: Any) -> bytes:
    """A model of nodes that makes ``translated`` of ``images``; inputs, outputs and metadata may be others."""
    return _model(nodes, constants or {}, **options).SerializeToString()


def node(operation: str, given: str, made: str = "translated", **attributes: Any) -> Any:
    """A node of inputs that are separated by spaces; - stands for none."""
    from onnx import helper

    domain = attributes.pop("domain_", "")
    inputs = [name if name != "-" else "" for name in given.split()]
    return helper.make_node(operation, inputs, made.split(), domain=domain, **attributes)


def _small() -> Any:
    return _model([node("Tanh", "images")], {"unused": np.zeros((2, 2), np.float32)})


def _model(nodes: list[Any], constants: dict[str, Any], **options: Any) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    def value(name: str) -> Any:
        dims = options.get("dims", ["n", 3, "h", "w"])
        return helper.make_tensor_value_info(name, options.get("kind", TensorProto.FLOAT), dims)

    made = helper.make_graph(
        nodes,
        "graph",
        [value(name) for name in options.get("inputs", ["images"])],
        [value(name) for name in options.get("outputs", ["translated"])],
        [numpy_helper.from_array(data, name) for name, data in constants.items()],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in options.get("opsets", [("", 20)])]
    model = helper.make_model(made, opset_imports=opsets, ir_version=10)
    helper.set_model_props(model, {KEY: options.get("told", json.dumps(description()))})
    return model
