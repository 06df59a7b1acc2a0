"""FID, KID and MiFID as torchmetrics, over the features of any network."""

from __future__ import annotations

from abc import abstractmethod
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric

from monet_cyclegan.metrics.frechet import Moments, add_rows, frechet_distance, frechet_distance_of_rows, merge
from monet_cyclegan.metrics.kernel import kernel_distance, kernel_distance_over_subsets
from monet_cyclegan.metrics.memorization import EPS, memorization_distance, mifid

if TYPE_CHECKING:
    from torch import Tensor, nn

KINDS = ("real", "fake")
BLOCK = 512  # rows that are summed up together


class FeatureMetric(Metric):
    """A comparison of real and generated images by their features.

    Several of them can share one pass through the network: ``update`` takes the features themselves, too.

    Args:
        features: maps uint8 images (N, 3, H, W) to features (N, D), see `monet_cyclegan.metrics.features`.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    def __init__(self, features: nn.Module, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features

    def update(self, images: Tensor, real: bool) -> None:
        """Take uint8 images (N, 3, H, W), or their features (N, D)."""
        if images.dtype == torch.uint8 and images.dim() == 4:
            with torch.no_grad():
                rows = self.features(images)
        elif images.is_floating_point() and images.dim() == 2:
            rows = images.detach()
        else:
            raise ValueError(
                "needs uint8 images (N, 3, H, W) or float features (N, D), "
                f"not {images.dtype} of shape {tuple(images.shape)}"
            )
        if len(rows):
            self._take(rows, real)

    def forward(self, images: Tensor, real: bool) -> None:
        """Take images, as ``update`` does: a batch is of one kind and has no score of its own."""
        self.update(images, real)

    @abstractmethod
    def _take(self, rows: Tensor, real: bool) -> None:
        """Remember features (N, D)."""

    @abstractmethod
    def scores(self) -> dict[str, Tensor]:
        """Everything that was found, by the names under which it is logged."""


class FrechetInceptionDistance(FeatureMetric):
    """FID (arXiv:1706.08500) by running sums: memory doesn't grow with the number of images. NaN below two of each.

    Several over different networks need ``compute_groups=False`` in a `torchmetrics.MetricCollection`.
    """

    def __init__(self, features: nn.Module, **kwargs: Any) -> None:
        super().__init__(features, **kwargs)
        for kind in KINDS:  # a process each in front, once they are joined
            self.add_state(f"{kind}_count", torch.zeros((), dtype=torch.float64), dist_reduce_fx=None)
            self.add_state(f"{kind}_mean", torch.zeros(0, dtype=torch.float64), dist_reduce_fx=None)
            self.add_state(f"{kind}_scatter", torch.zeros(0, 0, dtype=torch.float64), dist_reduce_fx=None)
        self._waiting: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}

    def _take(self, rows: Tensor, real: bool) -> None:
        kind = KINDS[not real]
        self._waiting[kind].append(rows)
        if sum(map(len, self._waiting[kind])) >= BLOCK:  # a matrix (D, D) is touched for each block, not for each batch
            self._sum_up(kind)

    def _sum_up(self, kind: str) -> None:
        rows = self._waiting[kind]
        self._waiting[kind] = []
        if rows:
            self._set(kind, add_rows(self._moments(kind), torch.cat(rows)))

    def _set(self, kind: str, found: Moments) -> None:
        setattr(self, f"{kind}_count", torch.tensor(found.num_rows, dtype=torch.float64, device=self.device))
        setattr(self, f"{kind}_mean", found.mean.to(self.device))
        setattr(self, f"{kind}_scatter", found.scatter.to(self.device))

    def _moments(self, kind: str) -> Moments:
        counts, means, scatters = (getattr(self, f"{kind}_{part}").cpu() for part in ("count", "mean", "scatter"))
        if counts.dim() == 0:
            return Moments(int(counts), means, scatters)
        parts = map(Moments, map(int, counts), means, scatters)
        return reduce(merge, parts)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Sum up what waits; a process without images gets zeros as wide. Also called before a single one computes."""
        for kind in KINDS:
            self._sum_up(kind)
            if not getattr(self, f"{kind}_count").any():
                width = no_rows(self.features).shape[1]
                zeros = torch.zeros(width, width, dtype=torch.float64)
                self._set(kind, Moments(0, zeros[0], zeros))
        super().sync(*args, **kwargs)

    def merge_state(self, incoming_state: Any) -> None:
        """Add what another `FrechetInceptionDistance` has seen."""
        for kind in KINDS:
            self._sum_up(kind)
            incoming_state._sum_up(kind)
            found = merge(self._moments(kind), incoming_state._moments(kind))
            self._set(kind, Moments(found.num_rows, found.mean.clone(), found.scatter.clone()))

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._waiting = {kind: [] for kind in KINDS}

    def compute(self) -> Tensor:
        """Compare what was seen so far."""
        return frechet_distance(self._moments("real"), self._moments("fake"))

    def scores(self) -> dict[str, Tensor]:
        """FID."""
        return {"fid": self.compute()}


class _RowMetric(FeatureMetric):
    """Keeps the features as they come, 8 KB an image with Inception's."""

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, features: nn.Module, **kwargs: Any) -> None:
        super().__init__(features, **kwargs)
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def _take(self, rows: Tensor, real: bool) -> None:
        (self.real if real else self.fake).append(rows)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Give a process without images an empty share of the right width; also called before a single one computes."""
        for kind in KINDS:
            if not len(getattr(self, kind)):
                setattr(self, kind, [no_rows(self.features).to(self.device)])
        super().sync(*args, **kwargs)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Features of all real and of all generated images, (N, D) and (M, D)."""
        return self._joined("real"), self._joined("fake")

    def _joined(self, kind: str) -> Tensor:
        held = getattr(self, kind)
        if isinstance(held, torch.Tensor):  # after the processes' states were joined
            return held
        if len(held) > 1:
            held[:] = [_join(held)]
        return held[0]


class KernelInceptionDistance(_RowMetric):
    """KID (arXiv:1801.01401), over all pairs by default, or over random subsets as papers report it.

    After ``compute``, ``error`` is the standard error or, over subsets, their deviation. NaN below two of each.

    Args:
        features: maps uint8 images (N, 3, H, W) to features (N, D).
        subsets: number of random subsets; 0 uses all pairs once, which is the same on average, and steadier.
        subset_size: images drawn from each set for a subset.
    """

    error: Tensor

    def __init__(self, features: nn.Module, subsets: int = 0, subset_size: int = 1000, **kwargs: Any) -> None:
        super().__init__(features, **kwargs)
        self.subsets = subsets
        self.subset_size = subset_size

    def compute(self) -> Tensor:
        """Compare what was seen so far."""
        real, fake = self.rows()
        if self.subsets:
            value, self.error = kernel_distance_over_subsets(fake, real, self.subsets, self.subset_size)
        else:
            value, self.error = kernel_distance(fake, real)
        return value

    def scores(self) -> dict[str, Tensor]:
        """KID and its error."""
        return {"kid": self.compute(), "kid_error": self.error}


class MiFID(_RowMetric):
    """Memorization-informed FID (arXiv:2106.03062) in the competition's direction.

    The memorization distance is the mean over generated images of the cosine distance to the nearest real one. After
    ``compute``, ``fid`` and ``memorization_distance`` are the parts that it was made of. NaN below two images of each.

    Args:
        features: maps uint8 images (N, 3, H, W) to features (N, D).
        eps: from which memorization distance on nothing is held against the images.
    """

    fid: Tensor
    memorization_distance: Tensor

    def __init__(self, features: nn.Module, eps: float = EPS, **kwargs: Any) -> None:
        super().__init__(features, **kwargs)
        self.eps = eps

    def compute(self) -> Tensor:
        """Compare what was seen so far."""
        real, fake = self.rows()
        self.fid = frechet_distance_of_rows(real, fake)
        self.memorization_distance = memorization_distance(fake, real)
        return mifid(self.fid, self.memorization_distance, self.eps)

    def scores(self) -> dict[str, Tensor]:
        """MiFID, FID and the memorization distance."""
        return {"mifid": self.compute(), "fid": self.fid, "memorization_distance": self.memorization_distance}


def _join(parts: list[Tensor]) -> Tensor:
    """Join rows, and empty the list meanwhile, so that they aren't all held twice."""
    joined = parts[0].new_empty(sum(map(len, parts)), parts[0].shape[1])
    end = len(joined)
    while parts:
        part = parts.pop()
        joined[end - len(part) : end] = part
        end -= len(part)
    return joined


def no_rows(features: nn.Module) -> Tensor:
    """Features of no image (0, D): their width is what the module says of itself, or that of a black image's."""
    if isinstance(width := getattr(features, "num_features", None), int):
        return torch.zeros(0, width)
    device = next((parameter.device for parameter in features.parameters()), torch.device("cpu"))
    with torch.no_grad():
        return features(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device))[:0].cpu()
