"""What a trial tells its study, and how it ends."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace

import optuna
import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback
from optuna.pruners import ThresholdPruner

from monet_cyclegan.callbacks.report_trial import ReportTrial
from monet_cyclegan.callbacks.save_last import SaveLast
from monet_cyclegan.callbacks.translation_time import TranslationTime
from monet_cyclegan.errors import Interrupted, Pruned
from monet_cyclegan.study_storage import close_storages, open_storage, quiet_optuna


class Scores(Callback):
    """Logs a given score at each validation."""

    def __init__(self, scores):
        self.scores = iter(scores)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/score", next(self.scores))


class Ended(Callback):
    """Counts the epochs whose end the callbacks before have seen."""

    epochs = 0

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs += 1


@pytest.fixture
def study(tmp_path):
    with quiet_optuna():
        yield optuna.create_study(study_name="s", storage=open_storage(f"{tmp_path}/journal"))
    close_storages()


def report(tmp_path, number=0, pruner=None, monitor="val/score"):
    return ReportTrial(f"{tmp_path}/journal", "s", number, monitor, pruner)


def train(tmp_path, *callbacks, epochs=3, ckpt_path=None, **options):
    trainer = tiny_trainer(tmp_path, callbacks, max_epochs=epochs, limit_train_batches=2, **options)
    trainer.fit(tiny_model(), tiny_data(tmp_path), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def test_each_evaluation_is_a_step_of_the_trial(tmp_path, study):
    study.ask()
    train(tmp_path, Scores([3.0, 1.0, 2.0]), report(tmp_path))
    assert study.trials[0].intermediate_values == {1: 3.0, 2: 1.0, 3: 2.0}


def test_evaluations_within_an_epoch_are_steps_too(tmp_path, study):
    study.ask()
    train(tmp_path, Scores([3.0, 1.0]), report(tmp_path), epochs=1, val_check_interval=1)
    assert study.trials[0].intermediate_values == {1: 3.0, 2: 1.0}


def test_a_hopeless_trial_ends_after_its_epoch(tmp_path, study):
    study.ask()
    ended = Ended()
    with pytest.raises(Pruned, match="val/score 9 at evaluation 2"):
        train(tmp_path, Scores([3.0, 9.0, 1.0]), ended, report(tmp_path, pruner=ThresholdPruner(upper=5)))
    assert ended.epochs == 2
    assert study.trials[0].intermediate_values == {1: 3.0, 2: 9.0}


def test_a_hopeless_trial_ends_within_a_long_epoch(tmp_path, study):
    study.ask()
    ended = Ended()
    with pytest.raises(Pruned, match="at evaluation 1"):
        train(
            tmp_path,
            Scores([9.0, 1.0]),
            ended,
            report(tmp_path, pruner=ThresholdPruner(upper=5)),
            val_check_interval=1,
        )
    assert ended.epochs == 0


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_finite_number_ends_the_trial(tmp_path, study, score):
    study.ask()
    with pytest.raises(FloatingPointError, match=f"val/score is {score} at evaluation 2"):
        train(tmp_path, Scores([3.0, score]), report(tmp_path))
    assert study.trials[0].intermediate_values == {1: 3.0}


def test_a_score_that_is_never_logged_ends_the_trial(tmp_path, study):
    study.ask()
    with pytest.raises(FloatingPointError, match="val/other is nan at evaluation 1"):
        train(tmp_path, Scores([3.0]), report(tmp_path, monitor="val/other"))


def test_a_trial_that_was_given_up_ends(tmp_path, study):
    trial = study.ask()
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    with pytest.raises(Pruned, match="another worker took it over"):
        train(tmp_path, Scores([3.0, 2.0, 1.0]), report(tmp_path))


def test_a_resumed_trial_reports_what_its_first_attempt_had_found(tmp_path, study):
    study.ask()
    last = tmp_path / "last.ckpt"
    train(tmp_path, Scores([3.0, 2.0]), report(tmp_path), SaveLast(last), epochs=2)
    study.ask()
    train(tmp_path, Scores([1.0]), report(tmp_path, number=1), epochs=3, ckpt_path=last)
    assert study.trials[1].intermediate_values == {1: 3.0, 2: 2.0, 3: 1.0}


def test_without_a_number_nothing_is_reported(tmp_path):
    train(tmp_path, Scores([math.nan] * 3), report(tmp_path, number=None))
    assert not (tmp_path / "journal").exists()


def test_several_objectives_are_not_reported_step_by_step(tmp_path):
    with quiet_optuna():
        study = optuna.create_study(
            study_name="s", storage=open_storage(f"{tmp_path}/journal"), directions=["minimize", "minimize"]
        )
        study.ask()
        train(tmp_path, Scores([3.0, 9.0, 1.0]), report(tmp_path, pruner=ThresholdPruner(upper=5)))
        assert study.trials[0].intermediate_values == {}
    close_storages()


def test_the_trial_is_told_to_the_loggers(tmp_path, study):
    trial = study.ask({"model.lr": optuna.distributions.FloatDistribution(0.1, 0.2)})

    class Logger:
        told = None

        def log_hyperparams(self, params):
            self.told = params

    callback, trainer = report(tmp_path), type("T", (), {"is_global_zero": True, "loggers": [Logger()]})()
    callback.on_fit_start(trainer, None)
    assert trainer.loggers[0].told == {"trial": {"study": "s", "number": 0, "model.lr": trial.params["model.lr"]}}


def test_the_time_of_a_translation_is_a_score(tmp_path):
    trainer = train(tmp_path, TranslationTime(repeats=2), epochs=1)
    assert 0 < trainer.callback_metrics["val/seconds_per_image"] < 1


def test_a_slower_generator_takes_longer(tmp_path):
    class Slow(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, image):
            for _ in range(20):
                made = self.network(image)
            return made

    seconds = []
    for wrap in (lambda network: network, Slow):
        trainer = train(tmp_path, epochs=1)
        model = trainer.lightning_module
        generators = tuple(wrap(network) for network in model.evaluation_generators)
        stand_in = SimpleNamespace(
            evaluation_generators=generators,
            device=model.device,
            log=lambda name, value, **_: seconds.append(value),
        )
        TranslationTime(repeats=5).on_validation_epoch_end(trainer, stand_in)
    assert seconds[1] > 5 * seconds[0]


@pytest.mark.parametrize("ending", [Pruned("val/score 3 at evaluation 1"), Interrupted("SIGTERM", "python train.py")])
def test_endings_reach_a_sweeper_in_another_process_as_they_are(ending):
    again = pickle.loads(pickle.dumps(ending))
    assert type(again) is type(ending)
    assert str(again) == str(ending)
