"""What is scored: images that lie in two folders, or a checkpoint's translations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from monet_cyclegan.checkpoint import build_generator, directions, load_checkpoint, saved_config
from monet_cyclegan.data.sources import Domains, Source, find_domains
from monet_cyclegan.data.sources import open_folders as open_domains
from monet_cyclegan.data.split import Joined, split
from monet_cyclegan.errors import UserError
from monet_cyclegan.evaluation.image_sets import (
    ImageSet,
    Preparation,
    matching,
    open_image_set,
    prepared_batches,
    survey,
)
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.inference.translator import Translator
from monet_cyclegan.metrics.jpeg import jpeg_round_trip
from monet_cyclegan.weights import find_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from omegaconf import DictConfig
    from torch import Tensor, nn

    Read = Callable[[Sequence[int] | None], Iterator[Tensor]]


class Trained(NamedTuple):
    """What translates, as far as scoring it has to know.

    Attributes:
        directions: that there are weights for, and which of the two ways each is: {"photo_to_monet": "ab"}.
        build: makes the generator of a direction; UserError for one that it doesn't have.
        data: settings of the data that it learnt from, as far as they are known.
    """

    directions: dict[str, str]
    build: Callable[[str], nn.Module]
    data: dict[str, Any]


@dataclass(frozen=True)
class Subjects:
    """Generated images and the real ones that they are compared with.

    Args:
        fake: the generated images, or the pictures that a checkpoint translates.
        real: the real ones.
        read_fake: reads generated images by index, or all, as they are scored: uint8 batches (n, 3, H, W).
        read_real: reads real ones likewise.
        read_source: reads what generated ones were made from likewise; None where that isn't known.
        title: the generated images in words.
        compressed: whether all generated images are JPEGs when they are scored.
        untouched: whether all images are scored as they lie in their files.
        skipped: what was left out, and why.
    """

    fake: ImageSet
    real: ImageSet
    read_fake: Read
    read_real: Read
    read_source: Read | None
    title: str
    compressed: bool
    untouched: bool
    skipped: tuple[str, ...]


def open_folders(cfg: DictConfig) -> Subjects:
    """Two folders, or .zip files, of images."""
    fake = open_image_set("fake", str(cfg.fake), cfg.limit, cfg.seed)
    real = open_image_set("real", str(cfg.real))
    for_fake, for_others = Preparation(cfg.size, cfg.jpeg), Preparation(cfg.size, jpeg=False)
    source = matching(open_image_set("source", str(cfg.source)), fake) if cfg.source else None
    return Subjects(
        fake,
        real,
        partial(prepared_batches, fake, for_fake, cfg.batch_size),
        partial(prepared_batches, real, for_others, cfg.batch_size),
        partial(prepared_batches, source, for_others, cfg.batch_size) if source else None,
        str(cfg.fake),
        compressed=bool(cfg.jpeg) or (all(fake.is_jpeg) and for_fake.keeps_sizes(fake)),
        untouched=for_fake.leaves_alone(fake) and for_others.leaves_alone(real),
        skipped=(*fake.skipped, *real.skipped, *(source.skipped if source else ())),
    )


def open_translations(cfg: DictConfig, device: torch.device) -> Subjects:
    """A checkpoint's translations of its data set, or of another.

    Raises:
        UserError: an unknown direction, or no data.
    """
    trained = _open_trained(str(cfg.ckpt))
    saved = trained.data
    direction = cfg.direction or next(iter(trained.directions))
    translator = Translator(trained.build(direction), device)
    a_to_b = trained.directions[direction] == "ab"
    domains = _find_domains(cfg, saved)
    photos, real_source = (0, 1) if a_to_b else (1, 0)

    def choose(index: int, held_out: bool) -> Source:
        return _held_out(domains, index, saved, f"ckpt={cfg.ckpt}") if held_out else _everything(domains, index)

    translated = choose(photos, cfg.held_out)
    images = survey("data", translated, cfg.limit, cfg.seed)
    real = survey("data", choose(real_source, cfg.real_held_out))
    preparation = Preparation(cfg.size, jpeg=False)
    read_source = partial(prepared_batches, images, preparation, cfg.batch_size)

    def read_fake(indices: Sequence[int] | None) -> Iterator[Tensor]:
        for batch in read_source(indices):
            fake = translator.translate_batch(batch).cpu()
            yield jpeg_round_trip(fake) if cfg.jpeg else fake

    which = "held-out images" if cfg.held_out else "images"
    return Subjects(
        images,
        real,
        read_fake,
        partial(prepared_batches, real, preparation, cfg.batch_size),
        read_source,
        f"{cfg.ckpt} ({direction}) on {which} of {translated.location}",
        compressed=bool(cfg.jpeg),
        untouched=False,
        skipped=(*images.skipped, *real.skipped),
    )


def _open_trained(name: str) -> Trained:
    """A checkpoint; or weights that were handed on, whose record says how many images of each domain were held out."""
    path = find_weights(name)
    if path.suffix.lower() not in (".safetensors", ".onnx"):
        checkpoint = load_checkpoint(path)
        return Trained(directions(checkpoint), partial(build_generator, checkpoint), saved_config(checkpoint)["data"])
    model = open_model(str(path))
    description, record = model.description, model.description.record
    name_of_a = next(iter(record.trained_on), description.directions[0].partition("_to_")[0])
    ways = {known: "ab" if known.startswith(f"{name_of_a}_to_") else "ba" for known in description.directions}
    counts = dict(zip(("val_a", "val_b"), record.held_out.values(), strict=False))
    return Trained(ways, model.build, {**counts, "split_seed": record.split_seed})


def _find_domains(cfg: DictConfig, saved: dict[str, Any]) -> Domains:
    """The data that the command names, else those of the training."""
    given = {key: value for key, value in cfg.data.items() if value is not None}
    for key, other in (("a", "b"), ("b", "a")):
        if key in given and other not in given:
            raise UserError(f"data.{key}={given[key]} needs data.{other}, too")
    place = given if {"root", "a", "b"} & {*given} else {**saved, **given}
    if place.get("a") and place.get("b"):
        return open_domains(str(place["a"]), str(place["b"]))
    if place.get("root"):
        swap = place.get("swap", saved.get("swap", False))
        same = Path(str(place["root"])).resolve() == Path(str(saved.get("root"))).resolve()
        if swap and not same and "swap" not in given:
            raise UserError(
                f"ckpt={cfg.ckpt} was trained with A and B swapped: add data.swap=true, or false, for data.root"
            )
        return find_domains(str(place["root"]), bool(swap))
    raise UserError(f"ckpt={cfg.ckpt} was trained on no files: give data.root=DIR, or data.a=DIR and data.b=DIR")


def _everything(domains: Domains, index: int) -> Source:
    train, test = domains[index], domains[index + 2]
    assert train is not None
    return train if test is None else Joined(train, test)


def _held_out(domains: Domains, index: int, saved: dict[str, Any], name: str) -> Source:
    train, test = domains[index], domains[index + 2]
    assert train is not None
    key = ("val_a", "val_b")[index]
    count, seed = saved.get(key), saved.get("split_seed")
    if test is not None:
        return test
    if not isinstance(count, int | float) or not isinstance(seed, int):
        raise UserError(f"{name} doesn't say what it held out: data.{key}={count}, data.split_seed={seed}")
    return split(train, count, seed, f"data.{key}")[1]
