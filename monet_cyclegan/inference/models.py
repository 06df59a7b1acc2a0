"""Whatever holds generators, opened alike: checkpoints, safetensors and ONNX files, here or elsewhere."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from monet_cyclegan.checkpoint import (
    build_generator,
    directions,
    load_checkpoint,
    network_config,
    saved_overrides,
    saved_record,
)
from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.bounded import is_file
from monet_cyclegan.weights import Description, Record, find_weights, load_generator, read_description

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


class Model(NamedTuple):
    """What can translate.

    Attributes:
        description: its network, and the directions that there are weights for, the first of which is the usual one.
        build: makes the generator of a direction, in eval mode; UserError for one that it doesn't have.
    """

    description: Description
    build: Callable[[str], nn.Module]


def open_model(name: str) -> Model:
    """Open a checkpoint, or a file that the export wrote.

    Raises:
        UserError: no such file, or one that isn't ours.
    """
    path = find_weights(name)
    suffix = path.suffix.lower()
    if suffix in (".safetensors", ".onnx") and not is_file(path):
        raise UserError(f"no weights at {path}")
    if suffix == ".safetensors":
        return Model(read_description(path), partial(load_generator, path))
    if suffix == ".onnx":
        from monet_cyclegan.inference.onnx_generator import open_onnx  # needs onnxruntime, an extra

        return open_onnx(path)
    checkpoint = load_checkpoint(path)
    description = Description(
        network_config(checkpoint, "generator"),
        tuple(directions(checkpoint)),
        tuple(saved_overrides(checkpoint)),
        record=Record.from_plain(saved_record(checkpoint)),
    )
    return Model(description, partial(build_generator, checkpoint))
