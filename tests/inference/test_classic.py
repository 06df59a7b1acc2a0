"""Generators of the classic repository, whose network is written out here in its own terms."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from conftest import ClassicGenerator
from PIL import Image
from torch import nn

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference.classic import convert, main
from monet_cyclegan.inference.export import export
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.predict import predict
from monet_cyclegan.weights import read_description


def classic(blocks: int = 6, seed: int = 0, **options) -> ClassicGenerator:
    torch.manual_seed(seed)
    return ClassicGenerator(blocks, **options).eval()


def saved(path, network: nn.Module, prefix: str = "", **more):
    torch.save({f"{prefix}{key}": value for key, value in network.state_dict().items()} | more, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("blocks", "dropout"), [(6, False), (9, False), (9, True)])
def test_what_comes_over_gives_the_same_pictures(tmp_path, blocks, dropout, prefix):
    theirs = classic(blocks, dropout=dropout)
    running = {f"{prefix}model.2.running_mean": torch.zeros(4), f"{prefix}model.2.num_batches_tracked": torch.tensor(1)}
    path = saved(tmp_path / "latest_net_G.pth", theirs, prefix, **running)
    main([f"input={path}", f"output={tmp_path / 'monet.safetensors'}"])
    ours = open_model(str(tmp_path / "monet.safetensors")).build("photo_to_monet")
    images = torch.rand(2, 3, 32, 40) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-4)


def test_both_directions_go_into_one_file_and_predict_takes_it(tmp_path, capsys):
    there, back = (saved(tmp_path / f"{name}.pth", classic(seed=seed)) for seed, name in enumerate("ab"))
    output = tmp_path / "new" / "monet.safetensors"
    main([f"input={there}", f"reverse={back}", f"output={output}", "licence=CC-BY-4.0"])
    assert "photo_to_monet, monet_to_photo: ResNet of 6 blocks, 4 channels" in capsys.readouterr().out
    description = read_description(output)
    assert description.directions == ("photo_to_monet", "monet_to_photo")
    assert description.licence == "CC-BY-4.0"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 21, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    for direction in description.directions:
        predict(
            [
                f"ckpt={output}",
                f"input={tmp_path / 'x.png'}",
                f"output={tmp_path / direction}.png",
                f"direction={direction}",
            ]
        )
    pictures = [(tmp_path / f"{direction}.png").read_bytes() for direction in description.directions]
    assert pictures[0] != pictures[1]


class Reduced:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"model.1.weight": torch.zeros(4, 3, 7, 7)},
            r"missing model\.10\.conv_block\.1\.weight.* unknown none$",
        ),
        ({**classic(6).state_dict(), "model.2.weight": torch.zeros(4)}, r"missing none; unknown model\.2\.weight$"),
        ({"x": 1}, r"is no state dict"),
        ([1, 2], r"is no state dict"),
        ({"x": Reduced()}, r"holds more than tensors, so it was not loaded: it may be harmful$"),
    ],
)
def test_a_wrong_file_is_refused_with_the_keys_that_do_not_fit(tmp_path, capsys, content, line):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=line) as error:
        main([f"input={tmp_path / 'x.pth'}", f"output={tmp_path / 'y.safetensors'}"])
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("output=x.safetensors", r"^input= is missing"),
        ("input=no.pth output=x.safetensors", r"^no file at no\.pth$"),
        ("input=no.pth output=x.ckpt", r"^output=x\.ckpt is no \.safetensors file$"),
        ("input=no.pth output=x.safetensors direction=up", r"^direction=up is not of the form photo_to_monet$"),
    ],
)
def test_a_mistake_is_one_line(arguments, line):
    with pytest.raises(UserError, match=line):
        main(arguments.split())


def test_sizes_that_do_not_fit_each_other_are_refused(tmp_path):
    there, back = saved(tmp_path / "a.pth", classic(6)), saved(tmp_path / "b.pth", classic(9))
    with pytest.raises(UserError, match=r"are networks of different sizes$"):
        main([f"input={there}", f"reverse={back}", f"output={tmp_path / 'x.safetensors'}"])


def test_shapes_that_do_not_fit_are_refused(tmp_path):
    state = classic(6).state_dict()
    state["model.4.weight"] = torch.zeros(5, 4, 3, 3)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match="doesn't fit its config"):
        main([f"input={tmp_path / 'a.pth'}", f"output={tmp_path / 'x.safetensors'}"])


def test_the_config_is_plain_and_complete():
    config, state = convert(classic(6).state_dict(), "x")
    assert json.loads(json.dumps(config)) == config
    assert len(state) == 3 + 2 * 6 + 3 + 1


@pytest.mark.slow
def test_what_comes_over_goes_into_every_export_and_paints_the_same_from_each(tmp_path):
    main([f"input={saved(tmp_path / 'a.pth', classic(6))}", f"output={tmp_path / 'classic.safetensors'}"])
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 21, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter has some of its own
        for kind, output in (("onnx", "m.onnx"), ("safetensors", "m.safetensors"), ("torch", "m.pt2"), ("hub", "hub")):
            export([f"ckpt={tmp_path / 'classic.safetensors'}", f"format={kind}", f"output={tmp_path / output}"])
    pictures = {}
    for name in ("classic.safetensors", "m.safetensors", "m.onnx", "hub/model.safetensors"):
        target = tmp_path / f"{name.replace('/', '_')}.png"
        predict([f"ckpt={tmp_path / name}", f"input={tmp_path / 'x.png'}", f"output={target}", "precision=32-true"])
        pictures[name] = np.array(Image.open(target)).astype(int)
    images = torch.from_numpy(np.array(Image.open(tmp_path / "x.png"))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        program = torch.export.load(tmp_path / "m.pt2").module()(images)[0].permute(1, 2, 0) * 255
    pictures["m.pt2"] = program.numpy()
    for name, picture in pictures.items():
        assert np.abs(picture - pictures["classic.safetensors"]).max() <= 1, name
