"""ONNX files: made of generators, and run by ONNX Runtime as a generator is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from monet_cyclegan.assembly import first_line
from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.models import Model
from monet_cyclegan.inference.onnx_limits import check_graph, probe
from monet_cyclegan.inference.portable import Portable, export_program
from monet_cyclegan.weights import KEY, Description
from monet_cyclegan.whole_file import whole_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CHECKED_SIZES = ((1, 64, 64), (2, 33, 77), (1, 16, 130), (1, 256, 256))  # number, height, width
MOST_DIFFERENCE = 1e-3  # of 1, between ONNX Runtime's pictures and PyTorch's
MOST_DIFFERENCE_HALF = 0.1  # a pixel's at most; weights in float16 are another network, if hardly
OPSET = 20
_NEEDED = "pip install 'monet-cyclegan[onnx]'"


class OnnxGenerator(nn.Module):
    """Runs an ONNX file: (N, 3, H, W) in [-1, 1] to the same, of any size from 16 pixels."""

    size_multiple: int = 1
    in_one_piece: bool = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(f"{path}: ONNX files are run with {_NEEDED}") from error
        self.path = path
        try:
            data = path.read_bytes()
            check_graph(data)
            probe(onnxruntime, data)
            # From memory: then nothing in the file can name another file to be read.
            self.session = onnxruntime.InferenceSession(data, providers=onnxruntime.get_available_providers())
        except Exception as error:  # the runtime's own errors share no class
            raise UserError(f"{path} is no ONNX file that can be run ({first_line(error)})") from error
        digest = np.frombuffer(hashlib.blake2b(data, digest_size=32).digest(), np.uint8)
        self.register_buffer("digest", torch.from_numpy(digest.copy()))  # so that its state tells it from others

    def forward(self, images: Tensor) -> Tensor:
        """Translate images."""
        fed = ((images.float() + 1) / 2).clamp(0, 1).cpu().numpy()
        try:
            (translated,) = self.session.run(None, {"images": fed})
        except Exception as error:  # as above; sizes may be computed, so some are found out only now
            size = "x".join(map(str, images.shape[-2:]))
            raise UserError(f"{self.path} can't translate an image of {size} ({first_line(error)})") from error
        return (torch.from_numpy(translated) * 2 - 1).to(images.device)


def open_onnx(path: Path) -> Model:
    """Open a file of `write_onnx`; UserError for any other."""
    generator = OnnxGenerator(path)
    metadata = generator.session.get_modelmeta().custom_metadata_map
    description = Description.from_text(metadata.get(KEY, ""), str(path))

    def build(direction: str) -> nn.Module:
        if direction not in description.directions:
            raise UserError(f"direction={direction} is not in {path}: choose {' or '.join(description.directions)}")
        return generator.eval()

    return Model(description, build)


def write_onnx(path: Path, generator: nn.Module, description: Description, *, half: bool = False) -> float:
    """Write a generator in one direction; returns how far ONNX Runtime's images are from PyTorch's at most, of 1.

    RGB images (N, 3, H, W) from 0 to 1 go in and come out, of any number and size from 16 pixels.

    Raises:
        UserError: without the libraries, if the file can't be written, or if its pictures would be others.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch needs it, and complains at length
    except ImportError as error:
        raise UserError(f"ONNX files are written with {_NEEDED}") from error
    (direction,) = description.directions
    program = torch.onnx.export(
        export_program(generator),
        input_names=["images"],
        output_names=["translated"],
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    model = program.model_proto  # type: ignore[union-attr]
    if half:
        _store_halves(model)
    told = {
        KEY: description.to_text(),
        "direction": direction,
        "layout": "NCHW, RGB",
        "range": "0 to 1, in and out",
        "licence": description.licence,
        "recipe": " ".join(description.recipe),
    }
    onnx.helper.set_model_props(model, told)
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    difference = _difference(onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]), generator)
    if difference > (MOST_DIFFERENCE_HALF if half else MOST_DIFFERENCE):
        raise UserError(f"{path}: not written, since ONNX Runtime's pictures are {difference:.1e} of 1 from PyTorch's")
    with whole_file(path) as unfinished:
        unfinished.write_bytes(data)
    return difference


def _difference(session, generator: nn.Module) -> float:  # type: ignore[no-untyped-def]
    """The largest over several sizes."""
    portable = Portable(generator).eval()
    noise = torch.Generator().manual_seed(0)
    largest = 0.0
    for number, height, width in CHECKED_SIZES:
        images = torch.rand(number, 3, height, width, generator=noise)
        with torch.inference_mode():
            expected = portable(images)
        (found,) = session.run(None, {"images": images.numpy()})
        largest = max(largest, float((torch.from_numpy(found) - expected).abs().max()))
    return largest


def _store_halves(model) -> None:  # type: ignore[no-untyped-def]
    """Keep weights in float16, cast back where they are used: half the size, computed as before."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT and len(weight.dims) > 1:
            name = weight.name
            stored = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{name}_half")
            casts.append(helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT))
            weight.CopyFrom(stored)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
