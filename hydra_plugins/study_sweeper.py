"""Hydra's way to a search: `python train.py -m hparams_search=optuna`. Hydra looks for sweepers in this folder only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

if TYPE_CHECKING:
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


class StudySweeper(Sweeper):
    """Run the trials of an Optuna study as jobs of Hydra's launcher; conf/hparams_search has the settings."""

    def __init__(self, **settings: Any):
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives, and its launcher."""
        self.config = config
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search over what the settings and the arguments span."""
        # Hydra imports this file before every run, which needn't wait for Optuna.
        from monet_cyclegan.search.command import search

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        search(self.config, self.settings, arguments, self.hydra_context.config_loader, self.launcher)
