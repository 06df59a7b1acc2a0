"""What a study leaves behind: its trials as CSV, the best one's experiment file, pictures, a table on the screen."""

from __future__ import annotations

import csv
import io
import secrets
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
import rich
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.study import StudyDirection
from optuna.trial import TrialState
from rich.table import Table

from monet_cyclegan.redaction import redacted_override
from monet_cyclegan.search.search import ERROR
from monet_cyclegan.search.space import as_text, described, short_name
from monet_cyclegan.study_storage import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from optuna import Study
    from optuna.trial import FrozenTrial

    from monet_cyclegan.search.space import Space

_SHOWN = 5
_SHOWN_IN_LEGEND = 12
_NOT_OF_A_RUN = ("hparams_search", "experiment", "name")


class Report:
    """Write a study's files into ``folder``; several workers write the same.

    Args:
        folder: of the search.
        space: of its trials.
        objectives: names of the scores, in the order of the study's directions.
        is_group: whether a key is a config group, such as ``model/generator``.
        storage: of the study.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        objectives: Sequence[str],
        is_group: Callable[[str], bool],
        storage: str,
    ):
        self.folder = folder
        self.space = space
        self.objectives = objectives
        self.is_group = is_group
        self.storage = storage

    def update(self, study: Study) -> None:
        """Write trials.csv and the best trials' experiment files."""
        _write(self.folder / "trials.csv", trials_csv(study, self.objectives).encode())
        best = self.best(study)
        for path, trial in best.items():
            _write(path, self.experiment(study, trial, path).encode())
        for path in {*self.folder.glob("best_*.yaml")} - {*best}:  # no longer among the best of several objectives
            path.unlink()

    def finish(self, study: Study) -> None:
        """Write all, with the pictures, and print the best trials."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.update(study)
        pictures = draw(study, self.folder, self.objectives)
        rich.print(self.table(study))
        for path, trial in self.best(study).items():
            print(f"best trial {trial.number}, {self._scores(trial)}: {trial.user_attrs.get('folder', '')}")
            print(f"train with its settings: python train.py experiment={path}")
        print(f"trials: {self.folder / 'trials.csv'}; pictures: {', '.join(map(str, pictures)) or 'none yet'}")
        print(f"look at all: optuna-dashboard {shown(self.storage)} --artifact-dir {self.folder / 'artifacts'}")

    def best(self, study: Study) -> dict[Path, FrozenTrial]:
        """The best trial; of several objectives, all that no other beats in each."""
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return {}
        if len(self.objectives) == 1:
            return {self.folder / "best.yaml": study.best_trial}
        return {self.folder / f"best_{trial.number:04d}.yaml": trial for trial in study.best_trials}

    def experiment(self, study: Study, trial: FrozenTrial, path: Path) -> str:
        """An experiment file with a trial's settings."""
        baseline = next((other for other in study.trials if _is_scored_baseline(other)), None)
        beside = f"; the settings it began with: {self._scores(baseline)}" if baseline else ""
        defaults, values, left_out = self._settings(trial)
        name = f"{study.study_name}_best" + ("" if len(self.objectives) == 1 else f"_{trial.number}")
        lines = [
            "# @package _global_",
            f"# Trial {trial.number} of {study.study_name}: {self._scores(trial)}{beside}.",
            f"# python train.py experiment={path} {' '.join(left_out)}".rstrip(),
        ]
        body = yaml.safe_dump({"defaults": defaults} if defaults else {}, sort_keys=False) if defaults else ""
        rest = yaml.safe_dump({"name": name, **values}, sort_keys=False)
        return "\n".join(lines) + "\n" + body + "\n" + rest

    def table(self, study: Study) -> Table:
        """The best trials, and the one with the settings that the search began with."""
        table = Table(title=_counts(study))
        for column in ("trial", *self.objectives):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("settings", overflow="fold")
        scored = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(self.objectives) == 1:
            sign = 1 if study.direction == StudyDirection.MINIMIZE else -1
            shown = sorted(scored, key=lambda trial: sign * trial.values[0])[:_SHOWN]
        else:
            shown = study.best_trials
        shown += [trial for trial in scored if _is_scored_baseline(trial) and trial not in shown]
        for trial in shown:
            title = f"{trial.number}, the first settings" if _is_scored_baseline(trial) else str(trial.number)
            scores = [f"{value:.5g}" for value in trial.values]
            table.add_row(title, *scores, described(trial.params))
        return table

    def _settings(self, trial: FrozenTrial) -> tuple[list[Any], dict[str, Any], list[str]]:
        """A trial's overrides as a defaults list, values, and those which a file can't express."""
        defaults: list[Any] = []
        values = OmegaConf.create({})
        left_out = []
        parser = OverridesParser.create()
        for text in self.space.overrides(trial.params):
            override = parser.parse_override(text)
            key = override.key_or_group
            if key == "experiment":
                defaults.insert(0, f"/experiment/{override.value()}")
            elif key in _NOT_OF_A_RUN:
                continue
            elif override.is_delete() or redacted_override(text) != text:
                left_out.append(text)
            elif self.is_group(key):
                prefix = "" if override.is_add() else "override "
                defaults.append({f"{prefix}/{key}": override.value()})
            else:
                OmegaConf.update(values, key, override.value(), force_add=True)
        plain = OmegaConf.to_container(values)
        assert isinstance(plain, dict)
        return defaults, {str(key): value for key, value in plain.items()}, left_out

    def _scores(self, trial: FrozenTrial) -> str:
        return ", ".join(f"{name} {value:.5g}" for name, value in zip(self.objectives, trial.values, strict=True))


def trials_csv(study: Study, objectives: Sequence[str]) -> str:
    """All trials, a row each."""
    trials = study.get_trials(deepcopy=False)
    params = list(dict.fromkeys(key for trial in trials for key in trial.params))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", *objectives, "evaluations", "seconds", *params, "folder", "error"])
    for trial in trials:
        values = trial.values if trial.values else [None] * len(objectives)
        seconds = round(trial.duration.total_seconds(), 1) if trial.duration else None
        row = [trial.number, trial.state.name.lower(), *values, len(trial.intermediate_values), seconds]
        row += [as_text(trial.params[key]) if key in trial.params else None for key in params]
        writer.writerow([*row, trial.user_attrs.get("folder"), trial.user_attrs.get(ERROR)])
    return text.getvalue()


def draw(study: Study, folder: Path, objectives: Sequence[str]) -> list[Path]:
    """Draw history, importance of the parameters, parallel coordinates and curves; returns the files drawn."""
    import matplotlib as mpl

    mpl.use("Agg")
    from optuna.visualization import matplotlib as charts

    scored = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not scored:
        return []
    short = _with_short_names(study)
    if len(objectives) == 1:
        written = _draw_one(short, folder, objectives[0], target=None, suffix="")
        return [*written, _save(partial(charts.plot_intermediate_values, short), folder / "curves.png")]
    written = [_save(lambda: charts.plot_pareto_front(short, target_names=list(objectives)), folder / "front.png")]
    for index, name in enumerate(objectives):
        target = partial(_value, index=index)
        written += _draw_one(short, folder, name, target, suffix=f"_{name.rpartition('/')[2]}")
    return written


def _draw_one(
    study: Study, folder: Path, name: str, target: Callable[[FrozenTrial], float] | None, suffix: str
) -> list[Path]:
    from optuna.visualization import matplotlib as charts

    drawings: dict[str, Callable[..., Axes]] = {"history": charts.plot_optimization_history}
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) > 1:  # one says nothing about parameters
        drawings["importance"] = charts.plot_param_importances
        drawings["parallel"] = charts.plot_parallel_coordinate
    return [
        _save(partial(drawing, study, target=target, target_name=name), folder / f"{kind}{suffix}.png")
        for kind, drawing in drawings.items()
    ]


def _value(trial: FrozenTrial, index: int) -> float:
    return float(trial.values[index])


def _save(drawing: Callable[[], Axes], path: Path) -> Path:
    import matplotlib.pyplot as plt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = drawing()
        for lines in axes.collections:
            lines.set_cmap("viridis_r")  # in Optuna's own the worst trials are white
        legend = axes.get_legend()
        if legend and len(legend.get_texts()) > _SHOWN_IN_LEGEND:
            legend.remove()
        figure = axes.get_figure(root=True)
        assert figure is not None
        figure.set_size_inches(11, 5.5)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=110, bbox_inches="tight")
        _write(path, picture.getvalue())
    plt.close("all")
    return path


def _with_short_names(study: Study) -> Study:
    """A copy in memory whose parameters have names that fit on a picture."""
    copied = optuna.create_study(directions=study.directions)
    for trial in study.trials:
        if trial.state.is_finished():
            trial.params, trial.distributions = (  # in this order: the setters don't compare them
                {short_name(key): value for key, value in trial.params.items()},
                {short_name(key): value for key, value in trial.distributions.items()},
            )
            copied.add_trial(trial)
    return copied


def _is_scored_baseline(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and bool(trial.user_attrs.get("baseline"))


def _counts(study: Study) -> str:
    counts = {state: len(study.get_trials(deepcopy=False, states=(state,))) for state in TrialState}
    words = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    return f"{study.study_name}: " + ", ".join(f"{counts[state]} {word}" for state, word in words.items())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all; several workers, which may be on several machines, may end at once."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)
