"""torch.hub's entry, loaded as its users do: from another folder, in a process where nothing but torch is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monet_cyclegan.errors import UserError
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.weights import Description, load_generator, save_weights

ROOT = Path(__file__).parents[1]
BLOCKED = ("lightning", "hydra", "omegaconf", "PIL", "cv2", "albumentations", "torchmetrics", "wandb", "rich")
HEAD = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r})); import torch; repo = {str(ROOT)!r}\n"


def run(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", HEAD + code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


RESNET = {"num_residual_blocks": 1, "base_channels": 2}


@pytest.mark.parametrize("options", [RESNET, {"network": "unet", "base_channels": 2, "num_levels": 3}])
def test_generators_are_made_with_torch_alone(tmp_path, options):
    made = f"g = torch.hub.load(repo, 'generator', source='local', **{options!r})\n"
    assert run(made + "print(*g(torch.zeros(1, 3, 16, 24)).shape)", tmp_path) == "1 3 16 24\n"


def test_weights_make_the_network_that_they_are_of(tmp_path):
    torch.manual_seed(0)
    config = {"_target_": "monet_cyclegan.networks.resnet.ResNetGenerator", **RESNET}
    states = {"a_to_b": ResNetGenerator(1, 2).state_dict()}
    save_weights(tmp_path / "x.safetensors", Description(config, ("a_to_b",)), states)
    code = (
        "g = torch.hub.load(repo, 'generator', source='local', pretrained='x.safetensors')\n"
        "torch.save(g(torch.ones(1, 3, 16, 16)), 'out.pt')"
    )
    run(code, tmp_path)
    expected = load_generator(tmp_path / "x.safetensors", "a_to_b")(torch.ones(1, 3, 16, 16))
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), expected)


@pytest.mark.parametrize(
    ("options", "line"),
    [({"network": "vit"}, "network=vit .* choose resnet or unet"), ({"pretrained": "x", "norm": "none"}, "norm: the")],
)
def test_what_cannot_be_made_is_refused(options, line):
    with pytest.raises(ValueError, match=line):
        torch.hub.load(str(ROOT), "generator", source="local", **options)


def test_a_name_and_an_address_are_weights_too():
    for pretrained, line in (("monet_2", "no checkpoint at monet_2"), ("http://host/x.safetensors", "https:// only")):
        with pytest.raises(UserError, match=line):
            torch.hub.load(str(ROOT), "generator", source="local", pretrained=pretrained)
