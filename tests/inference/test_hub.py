"""The folder for a hub, read by the hub's own library and run away from this repository."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_images, tiny_checkpoint
from huggingface_hub import ModelCard
from PIL import Image

from monet_cyclegan import CHECKPOINT_KEY
from monet_cyclegan.errors import UserError
from monet_cyclegan.inference import hub
from monet_cyclegan.inference.export import MOST_SAMPLES, export, find_samples, without_folders
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.own_modules import needed_files, read_imports
from monet_cyclegan.weights import Record

RECORD = Record(
    seconds=5400.0,
    devices=("NVIDIA H100",),
    pairs=100_000,
    crop_size=128,
    trained_on={"photo": 6538, "monet": 270},
    held_out={"photo": 500, "monet": 30},
    scores={"val/kid": 0.0123456, "val/fid": 90.0, "val/kid_error": 0.001},
    scored_on="on EfficientNet-Lite0 features",
    scored_images=300,
)


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory) -> Path:
    path = tiny_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt", ["experiment=x", "data.root=/home/me/monets"])
    whole = torch.load(path, weights_only=True)
    whole[CHECKPOINT_KEY]["record"] = RECORD.to_plain()
    torch.save(whole, path)
    return path


@pytest.fixture(scope="module")
def folder(ckpt, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("hub")
    samples = make_images(place / "pictures", 3)
    export(
        [f"ckpt={ckpt}", "format=hub", f"output={place / 'monet'}", f"samples={samples}", "licence=CC0-1.0"],
    )
    return place / "monet"


def test_the_card_is_read_by_the_hubs_library_with_scores_data_and_licence(folder):
    data = ModelCard.load(folder / "README.md").data
    assert (data.license, data.pipeline_tag, data.library_name) == ("cc0-1.0", "image-to-image", "pytorch")
    found = {result.metric_type: result for result in data.eval_results}
    assert found["kid"].metric_value == 0.01235
    assert found["kid"].metric_name == "KID on EfficientNet-Lite0 features"
    assert found["fid"].dataset_name == "300 images of photo, held out"
    space = data.to_dict()
    assert (space["sdk"], space["app_file"], space["title"]) == ("gradio", "app.py", "Photo To Monet")
    assert space["sdk_version"].startswith("6.")


def test_the_card_tells_cost_data_recipe_and_limits_and_no_folder_of_whoever_trained(folder):
    text = (folder / "README.md").read_text()
    for told in (
        "6,538 images of photo, 270 images of monet",
        "500 images of photo, 30 images of monet",
        "100,000 pairs of squares of 128 pixels",
        "1.5 hours on NVIDIA H100",
        "`experiment=x data.root=monets`",
        "## Limits",
        "samples.jpg",
    ):
        assert told in text
    for file in ("README.md", "config.json", "model.safetensors"):
        assert b"/home/me" not in (folder / file).read_bytes()


def test_the_cards_hash_is_the_files(folder):
    import hashlib

    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert f"model.safetensors#sha256={digest}" in (folder / "README.md").read_text()


def test_what_a_checkpoint_does_not_say_is_said_to_be_unknown(tmp_path):
    ckpt = tiny_checkpoint(tmp_path / "x.ckpt")
    export([f"ckpt={ckpt}", "format=hub", f"output={tmp_path / 'hub'}"])
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "None were measured" in text
    assert "Trained on: unknown" in text
    assert "Cost: unknown" in text
    data = ModelCard(text).data
    assert data.license == "other"
    assert data.eval_results is None
    assert "samples" not in text.lower()
    assert "samples" not in (tmp_path / "hub" / "app.py").read_text()


def test_the_config_tells_other_programs_what_the_tensors_are(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["ResNetGenerator"]
    assert config["network"]["num_residual_blocks"] == 1
    assert config["input"] == {"layout": "NCHW", "channels": "RGB", "range": [-1, 1], "size_multiple": 4}
    assert config["directions"] == ["photo_to_monet", "monet_to_photo"]
    assert config["record"]["scores"]["val/kid"] == RECORD.scores["val/kid"]


def test_the_folders_own_code_builds_the_generator_as_its_card_says(folder, ckpt):
    """In a process that has nothing of this repository on its path."""
    card = (folder / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0]
    code += "import monet_cyclegan\nimages = torch.linspace(-1, 1, 768).reshape(1, 3, 16, 16)\n"
    code += "torch.save((monet_cyclegan.__file__, generator(images)), 'seen.pt')\n"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"]
    subprocess.run(command, cwd=folder, check=True)
    place, made = torch.load(folder / "seen.pt")
    (folder / "seen.pt").unlink()
    assert Path(place).parent == folder / "monet_cyclegan"
    images = torch.linspace(-1, 1, 768).reshape(1, 3, 16, 16)
    with torch.no_grad():
        expected = open_model(str(ckpt)).build("photo_to_monet")(images)
    torch.testing.assert_close(made.detach(), expected)


def test_samples_are_shown_before_and_after_and_have_no_place_in_them(ckpt, folder, tmp_path):
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1100, 1500, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    (tmp_path / "in").mkdir()
    large.save(tmp_path / "in" / "x.jpg", exif=exif)
    export([f"ckpt={ckpt}", "format=hub", f"output={tmp_path / 'hub'}", f"samples={tmp_path / 'in'}"])
    with Image.open(tmp_path / "hub" / "samples" / "00.jpg") as sample:
        assert sample.size == (1024, 751)
        assert not sample.getexif()
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["00.jpg", "01.jpg", "02.jpg"]
    with Image.open(folder / "samples.jpg") as shown:
        assert shown.height > 3 * shown.width / 4  # three rows of two


def test_fp16_halves_the_weights_and_one_direction_is_enough(ckpt, tmp_path):
    sizes = {}
    for precision in ("fp32", "fp16"):
        output = tmp_path / precision
        export([f"ckpt={ckpt}", "format=hub", f"output={output}", f"precision={precision}", "direction=photo_to_monet"])
        sizes[precision] = (output / "model.safetensors").stat().st_size
        assert json.loads((output / "config.json").read_text())["directions"] == ["photo_to_monet"]
    assert sizes["fp16"] < 0.8 * sizes["fp32"]


def test_an_earlier_folder_is_replaced_and_any_other_left_alone(ckpt, tmp_path):
    output = tmp_path / "hub"
    for _ in range(2):
        export([f"ckpt={ckpt}", "format=hub", f"output={output}"])
        (output / "more").touch()
    assert (output / "more").exists()
    export([f"ckpt={ckpt}", "format=hub", f"output={output}"])
    assert not (output / "more").exists()
    (output / "config.json").unlink()
    with pytest.raises(UserError, match=r"hub holds something else already: give another place, or remove it$"):
        export([f"ckpt={ckpt}", "format=hub", f"output={output}"])
    assert (output / "model.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_the_copied_code_needs_no_more_than_is_required():
    """What its files import at once is in requirements.txt; the rest is asked for where it is used."""
    names = {"PIL": "pillow", "starlette": "gradio"}  # the latter is what gradio stands on
    for module, file in needed_files(hub.PAGE, hub.NETWORKS).items():
        for name in {imported.partition(".")[0] for imported in read_imports(file).at_once}:
            known = name in sys.stdlib_module_names or name == "monet_cyclegan"
            assert known or names.get(name, name) in hub.REQUIREMENTS, (module, name)


def test_the_copied_code_leaves_training_out():
    modules = needed_files(hub.PAGE, hub.NETWORKS)
    assert "monet_cyclegan.networks.resnet" in modules
    assert "monet_cyclegan.inference.translator" in modules
    assert not {"monet_cyclegan.training", "monet_cyclegan.cyclegan", "monet_cyclegan.data.datamodule"} & {*modules}


def test_imports_are_found_wherever_they_stand(tmp_path):
    (tmp_path / "x.py").write_text(
        "import a.b\nfrom c import d\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import never\n"
        "def f():\n    import late\n    class G:\n        from e import h\nclass I:\n    import j\n"
    )
    found = read_imports(tmp_path / "x.py")
    assert found.at_once == {"a.b", "c", "c.d", "typing", "typing.TYPE_CHECKING", "j"}
    assert found.anywhere - found.at_once == {"late", "e", "e.h"}


def test_app_py_listens_to_others_only_on_a_space(monkeypatch):
    def arguments(**environment):
        monkeypatch.setattr("os.environ", environment)
        found = {"__file__": __file__, "__name__": "app"}
        monkeypatch.chdir(Path(__file__).parent)
        exec(compile(hub.APP, "app.py", "exec"), found)
        return found["SPACE"]

    assert arguments() == []
    assert arguments(SPACE_HOST="me-monet.hf.space") == ["names=me-monet.hf.space", "host=0.0.0.0"]


@pytest.mark.parametrize(
    ("override", "public"),
    [
        ("model.lr=2e-4", "model.lr=2e-4"),
        ("data.root=/home/me/data/monets", "data.root=monets"),
        ("data.a=~/photos", "data.a=photos"),
        ("data.root=data/monets", "data.root=data/monets"),
    ],
)
def test_a_recipe_is_told_without_folders(override, public):
    assert without_folders(override) == public


def test_samples_are_the_first_pictures_of_a_folder(tmp_path):
    make_images(tmp_path, MOST_SAMPLES + 1)
    (tmp_path / "000.txt").touch()
    assert [path.name for path in find_samples(str(tmp_path))] == [f"{index:03d}.png" for index in range(MOST_SAMPLES)]
    with pytest.raises(UserError, match="is no folder of pictures"):
        find_samples(str(tmp_path / "000.txt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no pictures: \.bmp"):
        find_samples(str(tmp_path / "empty"))
