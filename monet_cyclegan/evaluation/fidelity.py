"""torch-fidelity on the same images and features, as a cross-check by somebody else's code.

    python -m monet_cyclegan.evaluation.fidelity --feature-extractor efficientnet-lite0 --fid --input1 ... --input2 ...

is its ``fidelity`` command, with EfficientNet-Lite0 as a further extractor.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.utils import glob_samples_paths

from monet_cyclegan.metrics.features import EfficientNetLite0Features, FeatureExtractor, InceptionFeatures

if TYPE_CHECKING:
    from torch import Tensor

    from monet_cyclegan.evaluation.image_sets import ImageSet

LITE0 = "efficientnet-lite0"
FOUND_ANYWAY = frozenset({".png", ".jpg", ".jpeg"})  # unless other kinds are asked for


def command(
    features: FeatureExtractor,
    weights: Path | str | None,
    fake: str,
    real: str,
    subset_size: int,
    suffixes: frozenset[str],
    one_size: bool,
) -> str | None:
    """The command that gives the same FID, and KID over subsets, on two folders; None for features it can't have.

    Args:
        features: what the images were scored on.
        weights: the file that they came from, if it was given.
        fake: folder of the generated images.
        real: folder of the real ones.
        subset_size: images in each of KID's subsets.
        suffixes: of the image files.
        one_size: whether all images have the same size.
    """
    if isinstance(features, InceptionFeatures):
        program = ["fidelity"]
        if weights is not None:
            program += ["--feature-extractor-weights-path", str(Path(weights).expanduser())]
    elif isinstance(features, EfficientNetLite0Features):
        program = ["python", "-m", "monet_cyclegan.evaluation.fidelity", "--feature-extractor", LITE0]
    else:
        return None
    options = ["--fid", "--kid", "--kid-subset-size", str(subset_size), "--samples-find-deep", "--no-cache"]
    if suffixes - FOUND_ANYWAY:
        options += ["--samples-find-ext", _listed(suffixes)]
    if not one_size:
        options += ["--batch-size", "1"]
    return shlex.join([*program, *options, "--input1", fake, "--input2", real])


def reads_alike(images: ImageSet, folder: str, suffixes: frozenset[str]) -> bool:
    """Whether torch-fidelity finds the very same files in a folder, in the same order, and the same pixels in them.

    Args:
        images: what was scored.
        folder: where torch-fidelity would look for it.
        suffixes: of both sets' files.
    """
    if not images.is_plain:
        return False
    kinds = _listed(suffixes if suffixes - FOUND_ANYWAY else FOUND_ANYWAY)
    found = glob_samples_paths(folder, samples_find_deep=True, samples_find_ext=kinds, verbose=False)
    return found == [os.path.realpath(path) for path in images.paths()]


def _listed(suffixes: frozenset[str]) -> str:
    return ",".join(sorted(suffix.lstrip(".") for suffix in suffixes))


class _Lite0(FeatureExtractorBase):
    """EfficientNet-Lite0 in torch-fidelity's dress."""

    def __init__(self, name: str, features_list: list[str], **kwargs: Any) -> None:
        super().__init__(name, features_list)
        self.network = EfficientNetLite0Features()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return (str(EfficientNetLite0Features.num_features),)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return str(EfficientNetLite0Features.num_features)

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.network(images),)


def main() -> None:
    """Run torch-fidelity's command line."""
    from torch_fidelity.fidelity import main as fidelity
    from torch_fidelity.registry import register_feature_extractor

    register_feature_extractor(LITE0, _Lite0)
    fidelity()


if __name__ == "__main__":
    main()
