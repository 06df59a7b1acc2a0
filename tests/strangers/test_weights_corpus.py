"""Every case of the corpus of weights ends as it is to: read, or refused with one line, in little time and memory."""

from __future__ import annotations

from collections import Counter

import made_onnx
import pytest
import torch
from cases import Case, mistakes, run_case
from corpus_weights import CASES

from monet_cyclegan.inference.onnx_limits import OPERATIONS
from monet_cyclegan.networks import ResNetGenerator, UNetGenerator
from monet_cyclegan.weights import Description


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.door} {case.name}"[:120])
def test_a_stranger_s_weights_are_read_or_refused_with_one_line(case: Case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = run_case(case, tmp_path)
    assert mistakes(case, outcome) == [], outcome


def test_the_corpus_is_large_and_has_no_case_twice():
    assert len(CASES) >= 170
    assert max(Counter((case.door, case.name) for case in CASES).values()) == 1
    assert {case.result for case in CASES} == {"read", "refused"}


def test_the_operations_that_are_let_in_are_those_that_the_export_writes(tmp_path):
    onnx = pytest.importorskip("onnx")
    from monet_cyclegan.inference.onnx_generator import open_onnx, write_onnx

    torch.manual_seed(0)
    options = {"num_levels": 2, "base_channels": 2, "upsampling": "resize"}
    description = Description({"_target_": "monet_cyclegan.networks.unet.UNetGenerator", **options}, ("a_to_b",))
    write_onnx(tmp_path / "x.onnx", UNetGenerator(**options).eval(), description, half=True)
    skipping = ResNetGenerator(1, 2, norm="none", image_skip=True)
    write_onnx(tmp_path / "y.onnx", skipping.eval(), description)
    for name in ("x.onnx", "y.onnx"):
        open_onnx(tmp_path / name)
    # The other one is a ResNet with transposed convolutions, in float32.
    files = [made_onnx.exported(), *((tmp_path / name).read_bytes() for name in ("x.onnx", "y.onnx"))]
    written = {node.op_type for data in files for node in onnx.load_from_string(data).graph.node}
    assert written == OPERATIONS
