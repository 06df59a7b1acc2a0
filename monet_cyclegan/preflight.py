"""All that can be known to be wrong with a run before its data are read, found at once and told by key."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from monet_cyclegan.config import describe_instantiation, mended, one_line, wrong_types
from monet_cyclegan.devices import device_problems
from monet_cyclegan.errors import UserError, UserErrors
from monet_cyclegan.signatures import unfit_arguments, without

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

    from omegaconf import DictConfig
    from torch import nn

NETWORKS = ("generator", "discriminator")
_DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")
# Of those that nobody else refuses before the data are read: the least, the most, and what else they may be.
_RANGES: dict[str, tuple[float, float, tuple[Any, ...]]] = {
    "seed": (0, 2**32 - 1, ()),
    "data.split_seed": (0, 2**32 - 1, ()),
    "data.num_workers": (0, 1024, ()),
    "data.limit": (1, float("inf"), (None,)),
    "data.val_a": (0, float("inf"), ()),
    "data.val_b": (0, float("inf"), ()),
    "model.pool_size": (0, 1_000_000, ()),
    "model.ema_decay": (0, 0.999999999, ()),
    "trainer.max_epochs": (1, float("inf"), (-1,)),
    "trainer.limit_train_batches": (1e-9, float("inf"), (None,)),
    "trainer.limit_val_batches": (0, float("inf"), (None,)),
    "trainer.check_val_every_n_epoch": (1, float("inf"), ()),
    "trainer.log_every_n_steps": (1, float("inf"), ()),
    "trainer.num_nodes": (1, float("inf"), ()),
    "callbacks.best.top_k": (1, float("inf"), ()),
    "callbacks.evaluate.num_real": (2, float("inf"), (None,)),
    "callbacks.evaluate.jpeg_quality": (1, 100, (None,)),
    "callbacks.log_images.num_images": (1, float("inf"), ()),
    "callbacks.divergence.max_skipped": (0, float("inf"), ()),
}


def check_before_data(cfg: DictConfig) -> None:
    """Refuse a config that would fail later or do something else than it says.

    Raises:
        UserErrors: all that is wrong, a line each.
    """
    wrong = wrong_types(cfg)
    # What else is wrong shows once those are put right; a search's own settings aren't looked at twice.
    cfg = _without_auto(mended(cfg, wrong))
    unfit = unfit_arguments(cfg)
    lines = [
        *wrong.values(),
        *unfit.values(),
        *_missing(cfg),
        *_out_of_range(cfg, unfit),
        *device_problems(cfg),
        *_impossible(cfg),
        *_unbuildable(without(cfg, unfit), unfit),
    ]
    if lines:
        raise UserErrors(dict.fromkeys(lines))


def networks_of(model: Container[str]) -> list[str]:
    """Which networks a model's config has: not all train against discriminators."""
    return [name for name in NETWORKS if name in model]


def _missing(cfg: DictConfig) -> Iterator[str]:
    for key in cfg.needs:
        if OmegaConf.select(cfg, key) is None:
            yield f"{key} is missing: this experiment needs {key}=..."


def _out_of_range(cfg: DictConfig, wrong: Container[str]) -> Iterator[str]:
    for key, (least, most, others) in _RANGES.items():
        value = OmegaConf.select(cfg, key)
        if value is None or value in others or key in wrong or isinstance(value, str):
            continue
        if not least <= value <= most:
            bounds = (
                f"{_number(least)} or more" if most == float("inf") else f"from {_number(least)} to {_number(most)}"
            )
            instead = "".join(f", or {'null' if other is None else other}" for other in others)
            yield f"{key}={value} is not {'above 0' if least == 1e-9 else bounds}{instead}"


def _number(value: float) -> str:
    return f"{value:g}" if value < 1e6 else str(value)


def _impossible(cfg: DictConfig) -> Iterator[str]:
    """Settings that don't go together."""
    trainer = cfg.trainer
    if trainer.get("max_steps", -1) != -1:
        yield (
            f"trainer.max_steps={trainer.max_steps} would count each batch twice, once for each optimizer: "
            "use trainer.max_epochs, trainer.max_time or trainer.limit_train_batches"
        )
    if trainer.get("max_time") is not None and not _DURATION.fullmatch(str(trainer.max_time)):
        yield f"trainer.max_time={trainer.max_time} is not of the form DD:HH:MM:SS, in quotes"
    if not cfg.features and cfg.objective.removeprefix("val/").startswith(("mifid", "fid", "kid", "memorization")):
        yield f"objective={cfg.objective} needs features, and features=none has none: add objective=val/swd"
    if trainer.get("overfit_batches", 0):
        yield "trainer.overfit_batches replaces the project's own sampler: use debug=overfit"
    if cfg.ckpt_path and trainer.get("fast_dev_run"):
        yield "debug=fast_dev_run trains one batch from the start: leave out ckpt_path"


def _unbuildable(cfg: DictConfig, unfit: Iterable[str]) -> Iterator[str]:
    """What the parts themselves refuse: each is made, the networks without memory for their weights.

    ``unfit`` settings were left out, and whoever needs them isn't to say so again.
    """
    made = partial(_made, unfit=tuple(unfit))
    networks: dict[str, nn.Module | None] = {}
    for name in networks_of(cfg.model):
        networks[name], lines = made(partial(_on_meta, cfg.model[name]), f"model.{name}")
        yield from lines
    data, lines = made(partial(instantiate, cfg.data), "data")
    yield from lines
    for name in ("adversarial_loss", "penalties", "clip", "schedule"):
        if cfg.model.get(name) is not None:
            yield from made(partial(instantiate, cfg.model[name]), f"model.{name}")[1]
    yield from made(partial(_optimizer, cfg), "model.optimizer")[1]
    if data is not None and all(networks.values()):
        yield from size_problems(int(data.crop_size), networks)
        if data.eval_size != data.crop_size:
            yield from size_problems(int(data.eval_size), {"generator": networks["generator"]}, "data.eval_size")
        stand_ins = {name: partial(_itself, network) for name, network in networks.items()}
        with torch.device("meta"):
            model, lines = made(partial(instantiate, cfg.model, **stand_ins), "model")
        yield from lines
        for name in ("perceptual", "style"):
            least = int(getattr(getattr(model, name, None), "min_size", 1))
            if int(data.crop_size) < least:
                yield f"data.crop_size={data.crop_size} is too small for model/{name}=vgg, which needs {least}"


def _without_auto(cfg: DictConfig) -> DictConfig:
    """A copy in which "auto", which the device decides later, is off."""
    copy = cfg.copy()
    for key in ("model.compile", "model.channels_last", "model.optimizer.fused"):
        if OmegaConf.select(copy, key) == "auto":
            OmegaConf.update(copy, key, False)
    return copy


def _made(make: Callable[[], Any], path: str, unfit: tuple[str, ...]) -> tuple[Any, list[str]]:
    """What ``make`` makes, or why it can't: a defect of ours comes up again, with its traceback."""
    try:
        return make(), []
    except (InstantiationException, UserError, TypeError, ValueError) as error:
        cause = (error.__cause__ or error) if isinstance(error, InstantiationException) else error
        if isinstance(cause, UserErrors):
            return None, list(cause.lines)
        if isinstance(cause, UserError):
            return None, [str(cause)]
        if isinstance(cause, TypeError) and any(key.startswith(f"{path}.") for key in unfit):
            return None, []
        line = describe_instantiation(error) if isinstance(error, InstantiationException) else one_line(error)
        return None, [line if re.match(rf"{path}\b", line) else f"{path}: {line}"] if line else []


def _on_meta(config: DictConfig) -> nn.Module:
    with torch.device("meta"):
        return instantiate(config)()


def _itself(network: Any) -> Any:
    return network


def _optimizer(cfg: DictConfig) -> None:
    """One for nothing, as it looks at its own settings."""
    for key in ("lr", "lr_disc"):
        rate = cfg.model.get(key)
        if rate is not None and not 0 <= rate < float("inf"):
            raise UserError(f"model.{key}={rate} is not a learning rate: give a number above 0")
    instantiate(cfg.model.optimizer)([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)


def size_problems(crop: int, networks: dict[str, Any], key: str = "data.crop_size") -> Iterator[str]:
    """Why networks can't take squares of ``crop`` pixels, if so."""
    generator, discriminator = networks["generator"], networks.get("discriminator")
    multiple = int(getattr(generator, "size_multiple", 1))
    if crop % multiple:
        nearest_size = max(multiple, round(crop / multiple) * multiple)
        fewer = ", or fewer model.generator.num_levels" if hasattr(generator, "down") else ""
        yield (
            f"{key}={crop} must be a multiple of {multiple} for this {type(generator).__name__}: "
            f"try {nearest_size}{fewer}"
        )
    else:
        yield from _refusal(generator, crop, key)
    if discriminator is None:
        return
    minimum = int(getattr(discriminator, "min_size", 1))
    if crop < minimum:
        yield (
            f"data.crop_size={crop} is too small for this {type(discriminator).__name__}, which needs {minimum}: "
            "try a larger crop or fewer model.discriminator.num_layers"
        )
    else:
        yield from _refusal(discriminator, crop, key)


def _refusal(network: nn.Module, crop: int, key: str) -> Iterator[str]:
    """What a network says of such an image, by sizes alone."""
    try:
        network(torch.empty(1, 3, crop, crop, device="meta"))
    except (ValueError, RuntimeError) as error:
        yield f"{key}={crop} is not for this {type(network).__name__}: {one_line(error)}"
