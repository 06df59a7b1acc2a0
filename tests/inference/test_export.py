"""Generators handed on as safetensors, ONNX and torch.export files, and taken back by predict.py."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pytest
import torch
from conftest import tiny_checkpoint
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from monet_cyclegan.errors import UserError
from monet_cyclegan.inference import Translator, onnx_generator
from monet_cyclegan.inference.export import DEFAULTS, FOLDERS, SUFFIXES, export
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.onnx_generator import write_onnx
from monet_cyclegan.inference.portable import Portable, export_program
from monet_cyclegan.inference.predict import predict
from monet_cyclegan.networks.compact import CompactGenerator
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.networks.unet import UNetGenerator
from monet_cyclegan.networks.vit_unet import ViTUNetGenerator
from monet_cyclegan.weights import KEY, Description, read_description

onnxruntime = pytest.importorskip("onnxruntime")
BOTH = ("photo_to_monet", "monet_to_photo")


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt", ["experiment=tiny"])


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def quiet(*arguments: str) -> None:
    """Export; torch's exporter warns of its own innards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(arguments)


def painted(ckpt, photo, direction: str) -> np.ndarray:
    target = photo.with_name("painted.png")
    predict([f"ckpt={ckpt}", f"input={photo}", f"output={target}", f"direction={direction}", "precision=32-true"])
    return np.array(Image.open(target)).astype(int)


def test_safetensors_translate_as_the_checkpoint_does(ckpt, photo, tmp_path, capsys):
    path = tmp_path / "new" / "monet.safetensors"
    export([f"ckpt={ckpt}", "format=safetensors", f"output={path}", "direction=both", "licence=CC0-1.0"])
    assert capsys.readouterr().out.startswith(f"photo_to_monet, monet_to_photo: {path}, ")
    for direction in BOTH:
        assert np.array_equal(painted(path, photo, direction), painted(ckpt, photo, direction))
    description = read_description(path)
    assert description == Description(open_model(str(ckpt)).description.network, BOTH, ("experiment=tiny",), "CC0-1.0")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_half_the_size_is_nearly_the_same(ckpt, photo, tmp_path):
    for precision in ("fp32", "fp16"):
        path = tmp_path / f"{precision}.safetensors"
        export([f"ckpt={ckpt}", "format=safetensors", f"output={path}", f"precision={precision}"])
    sizes = [sum(t.nbytes for t in tensors(tmp_path / f"{name}.safetensors").values()) for name in ("fp16", "fp32")]
    assert 2 * sizes[0] == sizes[1]
    half, full = (painted(tmp_path / f"{name}.safetensors", photo, BOTH[0]) for name in ("fp16", "fp32"))
    assert 0 < np.abs(half - full).max() <= 8


def tensors(path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_weights_can_be_exported_again_and_one_direction_taken_out(ckpt, tmp_path):
    both, one = tmp_path / "both.safetensors", tmp_path / "one.safetensors"
    export([f"ckpt={ckpt}", "format=safetensors", f"output={both}", "direction=both"])
    export([f"ckpt={both}", "format=safetensors", f"output={one}", "direction=monet_to_photo"])
    assert read_description(one).directions == ("monet_to_photo",)
    assert {name.partition(".")[0] for name in tensors(one)} == {"monet_to_photo"}
    with pytest.raises(UserError, match=r"^direction=photo_to_monet is not in \S+: choose monet_to_photo$"):
        open_model(str(one)).build("photo_to_monet")


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        (None, "holds no generator of this project"),
        ({KEY: "no json"}, "holds no generator of this project"),
        ({KEY: '{"format": 1, "directions": []}'}, "holds no generator of this project"),
        ({KEY: '{"format": 99, "version": "9.9"}'}, r"was written by a newer version, 9\.9: update this one"),
        ({KEY: "TARGET"}, "os.system, which is not one of"),
    ],
)
def test_a_strangers_weights_call_nothing_and_are_one_line(tmp_path, metadata, line):
    evil = {"format": 1, "network": {"_target_": "os.system"}, "directions": ["x"], "recipe": [], "licence": ""}
    told = metadata and {key: value.replace("TARGET", json.dumps(evil)) for key, value in metadata.items()}
    save_file({"x.y": torch.zeros(1)}, tmp_path / "x.safetensors", told)
    with pytest.raises(UserError, match=line):
        open_model(str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_a_damaged_file_and_none_at_all_are_one_line(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_bytes(b"\x10\0\0\0\0\0\0\0nonsense")
    for name, line in ((f"x{suffix}", r"x\S+ is no (whole safetensors|ONNX) file"), (f"no{suffix}", "^no weights at ")):
        with pytest.raises(UserError, match=line) as error:
            open_model(str(tmp_path / name))
        assert "\n" not in str(error.value)


def test_onnx_runs_without_us_in_any_number_and_size_and_says_what_it_is(ckpt, photo, tmp_path, capsys):
    quiet(f"ckpt={ckpt}", "format=onnx", f"output={tmp_path / 'm.onnx'}", "direction=both", "licence=MIT")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for direction, line in zip(BOTH, lines, strict=True):
        path = tmp_path / f"m_{direction}.onnx"
        assert float(line.split("at most ")[1].split()[0]) <= 1e-3
        session = onnxruntime.InferenceSession(path)
        told = session.get_modelmeta().custom_metadata_map
        assert (told["direction"], told["licence"], told["recipe"]) == (direction, "MIT", "experiment=tiny")
        pixels = np.array(Image.open(photo)).transpose(2, 0, 1)[None].astype(np.float32) / 255
        (found,) = session.run(None, {"images": np.concatenate([pixels, pixels[:, :, ::-1]])})
        expected = painted(ckpt, photo, direction)
        assert np.abs(found[0].transpose(1, 2, 0) * 255 - expected).max() <= 0.51
        assert np.abs(painted(path, photo, direction) - expected).max() <= 1
        with pytest.raises(UserError, match=rf"is not in \S+: choose {direction}$"):
            open_model(str(path)).build(BOTH[1 - BOTH.index(direction)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: ViTUNetGenerator(2, 4, 1, 12, 3, 12),
        lambda: ResNetGenerator(1, 4, upsampling="resize", norm="none"),
        lambda: ResNetGenerator(1, 4, upsampling="resize", norm="none", image_skip=True),
        lambda: UNetGenerator(3, 4, upsampling="resize"),
        lambda: UNetGenerator(8, 2, max_channels=8, residual=False),
        lambda: CompactGenerator(1, 16),
        lambda: CompactGenerator(1, 2, norm="instance", image_skip=False),
    ],
)
def test_every_generator_gives_the_same_in_onnx(tmp_path, make):
    torch.manual_seed(0)
    generator = make().eval()
    description = Description({"_target_": "monet_cyclegan.networks.resnet.ResNetGenerator"}, ("a_to_b",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert write_onnx(tmp_path / "x.onnx", generator, description) < 1e-4
        full = (tmp_path / "x.onnx").stat().st_size
        write_onnx(tmp_path / "x.onnx", generator, description, half=True)
    assert (tmp_path / "x.onnx").stat().st_size < full


@pytest.mark.slow
def test_a_file_with_convolutions_of_each_of_128_channels_alone_is_read_back(tmp_path):
    torch.manual_seed(0)
    network = {"_target_": "monet_cyclegan.networks.compact.CompactGenerator", "num_residual_blocks": 1}
    generator = CompactGenerator(num_residual_blocks=1).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_onnx(tmp_path / "x.onnx", generator, Description(network, ("a_to_b",)))
    images = torch.rand(1, 3, 24, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(open_model(str(tmp_path / "x.onnx")).build("a_to_b")(images), generator(images))


def test_a_file_whose_pictures_would_be_others_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_generator, "_difference", lambda *_: 0.01)
    description = Description({"_target_": "monet_cyclegan.networks.resnet.ResNetGenerator"}, ("a_to_b",))
    generator = ResNetGenerator(1, 2).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match=r"not written, since .* 1\.0e-02 of 1 from PyTorch"):
            write_onnx(tmp_path / "x.onnx", generator, description)
    assert not list(tmp_path.iterdir())


def test_a_torch_program_takes_any_size(ckpt, tmp_path, capsys):
    quiet(f"ckpt={ckpt}", "format=torch", f"output={tmp_path / 'm.pt2'}")
    assert "loading such a file can run code" in capsys.readouterr().out
    program = torch.export.load(tmp_path / "m.pt2").module()
    portable = Portable(open_model(str(ckpt)).build(BOTH[0]))
    for shape in ((1, 3, 16, 16), (3, 3, 33, 50)):
        images = torch.rand(shape)
        with torch.no_grad():
            torch.testing.assert_close(program(images), portable(images))


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (31, 33)])
@pytest.mark.parametrize("levels", [3, 8])
def test_borders_are_mirrored_as_predict_does(size, levels):
    torch.manual_seed(0)
    generator = UNetGenerator(levels, 2, max_channels=4).eval()
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    with torch.no_grad():
        found = Portable(generator)(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0) * 255
    assert np.abs(found.numpy() - Translator(generator)(image)).max() <= 0.51


def test_networks_still_check_sizes_after_an_export():
    generator = ResNetGenerator(1, 2).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_program(generator)
    with pytest.raises(ValueError, match="multiples of 4"):
        generator(torch.zeros(1, 3, 17, 16))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("ckpt= format=onnx output=x.onnx", r"^ckpt= is missing"),
        ("ckpt={ckpt} output=x.onnx", r"^format= is missing"),
        ("ckpt={ckpt} format=pb output=x.pb", r"^format=pb is not known: choose onnx, safetensors, torch, hub, web$"),
        ("ckpt={ckpt} format=onnx output=x.pb", r"^output=x\.pb is no \.onnx file, which format=onnx makes$"),
        ("ckpt={ckpt} format=onnx output=x.onnx precision=int8", r"^precision=int8 .* choose fp32 or fp16$"),
        ("ckpt={ckpt} format=torch output=x.pt2 precision=fp16", r"^precision=fp16 is not for torch programs"),
        ("ckpt={ckpt} format=onnx output=x.onnx direction=up", r"^direction=up .* photo_to_monet or .* or both$"),
        ("ckpt={ckpt} format=hub output=x.zip", r"^output=x\.zip is no folder, which format=hub makes$"),
        ("ckpt={ckpt} format=web output=x.html", r"^output=x\.html is no folder, which format=web makes$"),
        ("ckpt={ckpt} format=onnx output=x.onnx samples=x", r"^samples=x is for format=hub and format=web$"),
        ("ckpt=https://host/x.onnx#sha256=0 format=torch output=x.pt2", r"has no weights that could be exported again"),
        ("ckpt=x.onnx format=torch output=x.pt2", r"^ckpt=x\.onnx has no weights that could be exported again"),
    ],
)
def test_a_mistake_is_one_line(ckpt, arguments, line):
    with pytest.raises(UserError, match=line):
        export([word.format(ckpt=ckpt) for word in arguments.split()])


def test_help_explains_every_key_and_format(capsys):
    export(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n{key} " in text for key in DEFAULTS)
    assert all(kind in text for kind in (*SUFFIXES, *FOLDERS))


@pytest.mark.parametrize("module", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_libraries_the_line_says_how_to_get_them(ckpt, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'monet-cyclegan\[onnx\]'$"):
        export([f"ckpt={ckpt}", "format=onnx", f"output={tmp_path / 'x.onnx'}"])
