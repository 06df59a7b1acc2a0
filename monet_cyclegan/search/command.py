"""One search from its settings to its report."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, GridSampler

from monet_cyclegan.errors import UserError
from monet_cyclegan.search.report import Report
from monet_cyclegan.search.search import Search, open_study, run_trials
from monet_cyclegan.search.space import Space, as_text, matching, parse_space
from monet_cyclegan.study_storage import close_storages, quiet_optuna

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hydra.core.config_loader import ConfigLoader
    from hydra.plugins.launcher import Launcher

_DIRECTIONS = ("minimize", "maximize")


def search(
    config: DictConfig,
    settings: Mapping[str, Any],
    arguments: Sequence[str],
    loader: ConfigLoader,
    launcher: Launcher,
) -> None:
    """Search over what ``settings`` and the command line's ``arguments`` span.

    Args:
        config: the whole config, Hydra's part included.
        settings: of the sweeper, see conf/hparams_search/optuna.yaml.
        arguments: overrides of the command line.
        loader: Hydra's, to compose configs with.
        launcher: Hydra's, to run trials with.

    Raises:
        UserError: settings that can't work, or too many failed trials.
        Interrupted: stopped by a signal; the same command goes on.
    """
    plan = _plan(config, settings)
    space = parse_space(settings["params"] or {}, arguments)
    with quiet_optuna():
        sampler = _sampler(settings["sampler"], space)
        whole_grid = isinstance(sampler, GridSampler)
        if whole_grid:
            plan = plan.limited(math.prod(len(values) for values in space.grid().values()))
        start = settings["start_from_defaults"] and not whole_grid
        baseline = _baseline(space, config, loader) if start else {}
        study = open_study(plan, space, baseline, sampler, settings["pruner"] or NopPruner())
        report = Report(
            plan.folder, space, config.objectives, lambda key: bool(loader.get_group_options(key)), plan.storage
        )
        try:
            run_trials(study, plan, space, partial(_launch, launcher), report.update)
            report.finish(study)
        finally:
            close_storages()


def _plan(config: DictConfig, settings: Mapping[str, Any]) -> Search:
    direction = settings["direction"]
    directions = (direction,) if isinstance(direction, str) else tuple(direction)
    for wrong in {*directions} - {*_DIRECTIONS}:
        raise UserError(f"hydra.sweeper.direction={wrong} is unknown: choose {' or '.join(_DIRECTIONS)}")
    if len(directions) != len(config.objectives):
        raise UserError(
            f"objectives={list(config.objectives)} needs as many hydra.sweeper.direction, not {len(directions)}"
        )
    if not isinstance(settings["storage"], str):
        raise UserError(
            f"hydra.sweeper.storage={settings['storage']} keeps nothing: give sqlite:///FILE, "
            "postgresql://USER@HOST/NAME, or a file for a journal"
        )
    for key in ("n_trials", "n_jobs"):
        if not isinstance(settings[key], int) or settings[key] < 1:
            raise UserError(f"hydra.sweeper.{key}={settings[key]} must be a whole number, 1 or more")
    return Search(
        study_name=str(settings["study_name"]),
        storage=settings["storage"],
        directions=directions,
        n_trials=settings["n_trials"],
        n_jobs=settings["n_jobs"],
        max_failures=settings["max_failures"],
        max_retries=settings["max_retries"],
        heartbeat_interval=settings["heartbeat_interval"],
        grace_period=settings["grace_period"],
        folder=Path(config.hydra.sweep.dir),
    )


def _sampler(sampler: Any, space: Space) -> BaseSampler:
    """The sampler; a grid's is given without its grid, which is the space's."""
    if isinstance(sampler, partial) and sampler.func is GridSampler:
        return sampler(space.grid())
    if not isinstance(sampler, BaseSampler):
        raise UserError(f"hydra.sweeper.sampler={sampler} is not a sampler: choose one by hydra/sweeper/sampler=...")
    return sampler


def _baseline(space: Space, config: DictConfig, loader: ConfigLoader) -> dict[str, Any]:
    """The config's own values of the space's parameters; none of them if one lies outside of it."""

    def compose(*overrides: str) -> DictConfig:
        arguments = [*config.hydra.overrides.hydra, *space.fixed, *overrides]
        return loader.load_configuration(config.hydra.job.config_name, arguments, RunMode.RUN)

    cfg = compose()
    values: dict[str, Any] = {}
    for key, distribution in space.distributions.items():
        if loader.get_group_options(key):
            choices = getattr(distribution, "choices", ())
            same = (choice for choice in choices if _same_settings(compose(f"{key}={as_text(choice)}"), cfg))
            default = cfg.hydra.runtime.choices.get(key)
            values[key] = default if default in choices else next(same, None)
        else:
            found = None if key.startswith("+") else OmegaConf.select(cfg, key)
            values[key] = matching(distribution, str(found) if isinstance(found, DictConfig | ListConfig) else found)
        if values[key] is None:
            print(f"the search starts without the config's own settings: its {key} lies outside of what is searched")
            return {}
    return values


def _same_settings(one: DictConfig, other: DictConfig) -> bool:
    def settings(cfg: DictConfig) -> Any:
        return OmegaConf.to_container(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))

    return bool(settings(one) == settings(other))


def _launch(launcher: Launcher, jobs: list[list[str]]) -> list[Any]:
    # Not job.return_value, which raises what the job has raised.
    return [job._return_value for job in launcher.launch(jobs, initial_job_idx=0)]
