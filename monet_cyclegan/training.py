"""From a composed config to a trained model: the only place where data, model, callbacks and loggers meet."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class, instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.syntax import Syntax
from rich.table import Table
from rich.tree import Tree

from monet_cyclegan.callbacks import wandb_run
from monet_cyclegan.callbacks.evaluate import Evaluate
from monet_cyclegan.callbacks.open_row import OpenRow
from monet_cyclegan.callbacks.run_record import RunRecord
from monet_cyclegan.callbacks.save_best import SaveBest
from monet_cyclegan.callbacks.save_config import SaveConfig
from monet_cyclegan.checkpoint import has_discriminators, load_networks, network_config, saved_config
from monet_cyclegan.devices import settle_speed
from monet_cyclegan.errors import Pruned, UserError
from monet_cyclegan.inference.models import open_model
from monet_cyclegan.preflight import check_before_data, networks_of
from monet_cyclegan.randomness import reseed_torch
from monet_cyclegan.redaction import redacted, redacted_override
from monet_cyclegan.resumable import going_on_with, load_to_go_on, load_to_start_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning import Trainer
    from torch import nn

    from monet_cyclegan.cyclegan import CycleGAN
    from monet_cyclegan.data.datamodule import UnpairedDataModule

# Each of these is settled here, so that a warning on the screen is worth reading.
_EXPECTED_WARNINGS = (
    ".*does not have many workers.*",  # with decoded images in memory few are enough
    ".*your dataloader is not resumable.*",  # the data module keeps the position
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run writes where it wrote before
    ".*The number of training batches .* is smaller than the logging interval.*",
    ".*module\\(s\\) in eval mode at the start of training.*",  # the averaged generators always are
    ".*broadcast_buffers.*",  # of DDP; its new name isn't known to torch 2.10
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # torchmetrics has joined the processes' scores already
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning's to change
)
_USED_WITH = "translate with: python predict.py ckpt={} input=photos output=paintings"


def train(cfg: DictConfig) -> float | tuple[float | None, ...] | None:
    """Train as the config says; returns ``cfg.objectives`` for a sweep, a single one as a number.

    ``cfg.objective`` is the best checkpoint's score; others are what was measured last; None is what wasn't measured.

    Raises:
        UserError: a config, data or a checkpoint that can't work.
        Interrupted: the run was stopped by a signal, its checkpoint saved.
        Pruned: a trial of a search was stopped, because others do better.
    """
    _quieten()
    resumed = load_to_go_on(cfg.ckpt_path) if cfg.ckpt_path else None
    initial = load_to_start_from(cfg.init_from) if cfg.init_from and resumed is None else None
    if cfg.init_from:
        take_networks(cfg, resumed or initial or {})
    if resumed is not None:
        check_same_networks(cfg, resumed)  # first, since a stranger's overrides may ask for enormous ones
    check_before_data(cfg)
    teachers = open_teachers(cfg)
    if resumed is not None:
        _continue_wandb_run(cfg, resumed)
    settle_speed(cfg)
    is_trial = OmegaConf.select(cfg, "callbacks.report_trial.number") is not None
    if not is_trial:  # dozens of them on the screen would bury the search's own lines; config.yaml has each
        print_config(cfg)

    # First, since the metrics' weights may have to be downloaded, and a run without them should end at once.
    named = [callback for callback in instantiate(cfg.callbacks).values() if callback is not None]
    scored_on = next((callback.label for callback in named if isinstance(callback, Evaluate)), "")
    callbacks = [RunRecord(scored_on), OpenRow(), *named, _config_saver(cfg)]
    datamodule: UnpairedDataModule = instantiate(cfg.data)
    reseed_torch(cfg.seed)  # the networks' first weights
    model: CycleGAN = instantiate(cfg.model)
    if initial is not None:
        load_networks(model, initial)
    if teachers is not None:
        model.learn_from(*teachers)  # type: ignore[operator]
    trainer: Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=list(instantiate(cfg.logger).values()))
    for logger in trainer.loggers:
        if type(logger).__name__ == "WandbLogger":
            reach_wandb(logger)
        logger.log_hyperparams(_plain(cfg))
    try:
        with going_on_with(cfg.ckpt_path):
            trainer.fit(model, datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
    except BaseException as error:
        _finish_wandb(exit_code=0 if isinstance(error, Pruned) else 1)
        raise
    _finish_wandb(exit_code=0)
    check_saved(trainer)
    if not is_trial:
        _print_summary(cfg, trainer)
    values = tuple(_objective(cfg.objective, name, trainer) for name in cfg.objectives)
    return values if len(values) > 1 else values[0]


def check_saved(trainer: Trainer) -> None:
    """End with an error if what matters most isn't on the disk."""
    unsaved: dict[Path, str] = getattr(trainer.strategy.checkpoint_io, "unsaved", {})
    if unsaved:
        lost = ", ".join(f"{path} ({why})" for path, why in unsaved.items())
        raise UserError(f"training is done, but not all was written: {lost}; make room, and go on with ckpt_path=auto")


def _quieten() -> None:
    """Keep the screen for what matters: no tips, no lists of absent devices, no warnings about what is intended."""
    for message in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


@rank_zero_only
def reach_wandb(logger: Any) -> None:
    """Begin W&B's run; where its server can't be reached, one on the disk, which can be uploaded later."""
    os.environ.setdefault("WANDB_INIT_TIMEOUT", "30")  # seconds; W&B's own 90 are long for somebody who waits
    from wandb.errors import CommError

    try:
        with _arguments_without_secrets():  # which W&B keeps with the run
            assert logger.experiment
    except CommError as error:
        print(f"W&B can't be reached, so the run's curves stay on the disk ({_first_line(error)})")
        logger._wandb_init |= {"mode": "offline", "resume": None}
        logger._offline = True
        with _arguments_without_secrets():
            assert logger.experiment
        print(f"upload them later with: wandb sync {Path(logger.experiment.dir).parent}")


@contextmanager
def _arguments_without_secrets() -> Iterator[None]:
    arguments = sys.argv
    sys.argv = [arguments[0], *map(redacted_override, arguments[1:])]
    try:
        yield
    finally:
        sys.argv = arguments


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _finish_wandb(exit_code: int) -> None:
    """End the W&B run, if there is one, inside of the job: the runs of a sweep would merge otherwise."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish(exit_code=exit_code)


def check_same_networks(cfg: DictConfig, checkpoint: dict[str, Any]) -> None:
    """Refuse to resume with networks of another shape than the checkpoint's."""
    saved = saved_config(checkpoint)["model"]
    if networks_of(cfg.model) != networks_of(saved):
        raise UserError(
            f"ckpt_path={cfg.ckpt_path} was trained with {' and '.join(networks_of(saved))}, not "
            f"{' and '.join(networks_of(cfg.model))}: give it as init_from=, which starts a new run"
        )
    for network in networks_of(cfg.model):
        now = OmegaConf.to_container(cfg.model[network], resolve=True)
        assert isinstance(now, dict)
        for key in sorted({*now, *saved[network]}):
            before, after = saved[network].get(key), now.get(key)
            if before != after and key in saved[network]:  # what an older version didn't know was at its default
                raise UserError(
                    f"ckpt_path={cfg.ckpt_path} was trained with model.{network}.{key}={before}, not {after}: "
                    "leave that override out, or start a new run"
                )


def open_teachers(cfg: DictConfig) -> tuple[nn.Module, nn.Module] | None:
    """The generators of ``cfg.teacher``, A to B and B to A, for a model that learns from some; None without."""
    if cfg.teacher is None:
        return None
    if not hasattr(get_class(cfg.model._target_), "learn_from"):
        raise UserError(f"teacher={cfg.teacher} is for models that learn from one: add experiment=distill")
    a, b = cfg.data.names.a, cfg.data.names.b
    teacher = open_model(cfg.teacher)
    gen_ab, gen_ba = teacher.build(f"{a}_to_{b}"), teacher.build(f"{b}_to_{a}")
    multiple = int(getattr(gen_ab, "size_multiple", 1))
    if cfg.data.crop_size % multiple:
        raise UserError(
            f"data.crop_size={cfg.data.crop_size} must be a multiple of {multiple} for teacher={cfg.teacher}"
        )
    return gen_ab, gen_ba


def take_networks(cfg: DictConfig, checkpoint: dict[str, Any]) -> None:
    """Use the checkpoint's networks for a new run, since its weights fit no others."""
    for network in networks_of(cfg.model):
        if network == "discriminator" and not has_discriminators(checkpoint):
            continue  # those of the new run start anew
        with open_dict(cfg.model):
            cfg.model[network] = {**network_config(checkpoint, network), "_partial_": True}
    rich.print(f"networks, and their shape, from {cfg.ckpt_path or cfg.init_from}")


@rank_zero_only
def print_config(cfg: DictConfig) -> None:
    """Print the config as a tree, a branch for each group; keys from the environment aren't part of it."""
    tree = Tree("config", guide_style="dim")
    for key, value in OmegaConf.create(_plain(cfg)).items():
        if OmegaConf.is_config(value):
            branch = tree.add(str(key), style="dim")
            branch.add(Syntax(OmegaConf.to_yaml(value, resolve=True).rstrip(), "yaml", background_color="default"))
        else:
            tree.add(f"{key!s}: {value}")
    rich.print(tree)


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as it may be shown and saved: resolved, and without secrets."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return redacted({str(key): value for key, value in plain.items()})


def _config_saver(cfg: DictConfig) -> SaveConfig:
    # What belongs to a search isn't part of a run that goes on by itself.
    left_out = ("ckpt_path=", "callbacks.report_trial.")
    overrides = [
        text
        for text in HydraConfig.get().overrides.task
        if not text.startswith(left_out) and redacted_override(text) == text  # a secret is to be given again
    ]
    plain = _plain(cfg)
    return SaveConfig(plain, overrides, OmegaConf.to_yaml(OmegaConf.create(plain)), cfg.paths.run)


def _continue_wandb_run(cfg: DictConfig, checkpoint: dict[str, Any]) -> None:
    logger = cfg.logger.get("wandb")
    if logger is not None and logger.id is None:
        logger.id = checkpoint.get(wandb_run.KEY)


def _objective(selecting: str, name: str, trainer: Trainer) -> float | None:
    """The best checkpoint's if it was chosen by this score, on all images if it was scored on these; else the last."""
    best = _save_best(trainer)
    if name == selecting and best and best.best:
        return best.best.score if best.best.final is None else best.best.final
    measured = trainer.callback_metrics.get(name)
    return None if measured is None else float(measured)


def _save_best(trainer: Trainer) -> SaveBest | None:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, SaveBest)), None)


def _print_summary(cfg: DictConfig, trainer: Trainer) -> None:
    saver = _save_best(trainer)
    if not trainer.is_global_zero or trainer.fast_dev_run or saver is None:  # type: ignore[attr-defined]
        return
    if saver.best is None:
        last = Path(cfg.paths.checkpoints) / "last.ckpt"
        print(f"{cfg.objective} was not measured as a finite number, so there is no best.ckpt: {last}")
        return
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    label = next((callback.label for callback in callbacks if isinstance(callback, Evaluate)), "")
    rich.print(_best_table(cfg.objective, saver, label))
    print(f"best {cfg.objective} {saver.best.score:.4g}, epoch {saver.best.epoch}: {saver.best_path}")
    print(f"pictures by epoch: {Path(cfg.paths.run) / 'samples'}")
    print(getattr(trainer.lightning_module, "used_with", _USED_WITH).format(saver.best_path))


def _best_table(objective: str, saver: SaveBest, label: str) -> Table:
    table = Table(title=f"best checkpoints {label}".strip())
    for column in ("epoch", "batches", objective, saver.final_title):
        table.add_column(column, justify="right")
    table.add_column("file", no_wrap=True)
    for candidate in saver.candidates:
        final = "" if candidate.final is None else f"{candidate.final:.4g}"
        table.add_row(str(candidate.epoch), str(candidate.batches), f"{candidate.score:.4g}", final, candidate.file)
    return table
