from __future__ import annotations

import csv
import math

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback

from monet_cyclegan.callbacks.save_best import SaveBest
from monet_cyclegan.callbacks.save_last import SaveLast

NAN, INF = math.nan, math.inf


class Scores(Callback):
    """Logs a given score after each epoch, and knows the one that each epoch's generator has on all images.

    An epoch's generator is known again by its first weight, which training changes.
    """

    def __init__(self, scores, final=()):
        self.scores, self.final = scores, final
        self.marks, self.scored = {}, []

    @staticmethod
    def mark(pl_module):
        generator, _ = pl_module.evaluation_generators
        return next(generator.parameters()).sum().item()

    def on_validation_epoch_end(self, trainer, pl_module):
        self.marks[self.mark(pl_module)] = trainer.current_epoch
        pl_module.log("val/score", self.scores[trainer.current_epoch])

    def score_all(self, trainer, pl_module, num_images):
        epoch = self.marks[self.mark(pl_module)]
        self.scored.append((epoch + 1, num_images))
        return {"score": self.final[epoch], "other": 0.0}


class ScoresWithoutFinal(Callback):
    on_validation_epoch_end = Scores.on_validation_epoch_end
    mark = staticmethod(Scores.mark)

    def __init__(self, scores):
        self.scores, self.marks = scores, {}


def saver(folder, **options):
    return SaveBest(folder / "checkpoints", "val/score", folder / "best.csv", **options)


def train(folder, scores, final=None, best=None, ckpt_path=None, epochs=None):
    """Train one epoch for each score; returns the callbacks."""
    scorer = ScoresWithoutFinal(scores) if final is None else Scores(scores, final)
    best = best or saver(folder)
    last = SaveLast(folder / "checkpoints" / "last.ckpt")
    trainer = tiny_trainer(folder, [scorer, best, last], max_epochs=epochs or len(scores), limit_train_batches=1)
    model = tiny_model()
    trainer.fit(model, tiny_data(folder), ckpt_path=ckpt_path, weights_only=True)
    return scorer, best, model


def epoch_of(path):
    return torch.load(path, weights_only=True)["epoch"] + 1


def kept(folder):
    names = {path.name for path in (folder / "checkpoints").iterdir()} - {"best.ckpt", "last.ckpt"}
    return sorted(epoch_of(folder / "checkpoints" / name) for name in names)


def best_epoch(folder):
    return epoch_of(folder / "checkpoints" / "best.ckpt")


def table(folder):
    with (folder / "best.csv").open() as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(
    ("scores", "options", "best", "kept_epochs"),
    [
        ([5, 3, 4, 1, 2], {}, 4, [2, 4, 5]),
        ([5, 3, 4, 1, 2], {"mode": "max"}, 1, [1, 2, 3]),
        ([1, 2, 3], {"top_k": 1}, 1, [1]),
        ([2, 1, 1], {"top_k": 2}, 2, [2, 3]),  # of equals the earlier one
        ([NAN, 3, NAN, INF, 2, -INF], {}, 5, [2, 5]),
    ],
)
def test_the_best_few_are_kept_and_the_best_of_them_is_best_ckpt(tmp_path, scores, options, best, kept_epochs):
    train(tmp_path, scores, best=saver(tmp_path, **options))
    assert best_epoch(tmp_path) == best
    assert kept(tmp_path) == kept_epochs


def test_scores_that_are_no_finite_numbers_leave_no_best_checkpoint(tmp_path, capsys):
    _, best, _ = train(tmp_path, [NAN, INF, -INF])
    assert best.best is None
    assert kept(tmp_path) == []
    assert not best.best_path.exists()
    assert "val/score is nan after epoch 1: not kept as best" in capsys.readouterr().out


def test_a_score_that_is_never_logged_leaves_no_best_checkpoint(tmp_path):
    best = SaveBest(tmp_path / "checkpoints", "val/misspelt", tmp_path / "best.csv")
    train(tmp_path, [1, 2], best=best)
    assert best.best is None


def test_when_training_ends_the_best_few_are_scored_on_all_images_and_the_winner_is_best_ckpt(tmp_path):
    scorer, best, _ = train(tmp_path, [5, 1, 2, 3, 9], final=[0, 30, 10, 20, 0], best=saver(tmp_path, rescore_images=7))
    assert scorer.scored == [(2, 7), (3, 7), (4, 7)]
    assert best_epoch(tmp_path) == 3
    assert [candidate.epoch for candidate in best.candidates] == [3, 4, 2]
    assert best.best.final == 10
    header, *rows = table(tmp_path)
    assert header == ["file", "epoch", "batches", "val/score", "val/score on 7 images", "best"]
    assert [row[1:] for row in rows] == [
        ["3", "3", "2.0", "10", "best.ckpt"],
        ["4", "4", "3.0", "20", ""],
        ["2", "2", "1.0", "30", ""],
    ]
    assert all((tmp_path / "checkpoints" / row[0]).is_file() for row in rows)


def test_a_final_score_that_is_no_number_never_wins(tmp_path):
    train(tmp_path, [1, 2, 3], final=[NAN, 8, INF])
    assert best_epoch(tmp_path) == 2


def test_scoring_again_leaves_the_trained_weights_as_they_were(tmp_path):
    _, _, scored = train(tmp_path / "a", [1, 2, 3], final=[1, 2, 3])
    _, _, plain = train(tmp_path / "b", [1, 2, 3])
    for key, value in plain.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, scored.state_dict()[key]), key


@pytest.mark.parametrize("options", [{"rescore": False}, {"top_k": 1}])
def test_nothing_is_scored_again_if_not_wanted_or_if_nothing_is_left_to_decide(tmp_path, options):
    scorer, _, _ = train(tmp_path, [2, 1, 3], final=[1, 2, 3], best=saver(tmp_path, **options))
    assert scorer.scored == []
    assert best_epoch(tmp_path) == 2


def test_a_resumed_run_goes_on_with_the_candidates_of_before(tmp_path):
    train(tmp_path, [5, 3, 4])
    train(tmp_path, [0, 0, 0, 6, 1], ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert best_epoch(tmp_path) == 5
    assert kept(tmp_path) == [2, 3, 5]


def test_a_resumed_run_that_only_gets_worse_keeps_the_best(tmp_path):
    train(tmp_path, [1, 2])
    before = (tmp_path / "checkpoints" / "best.ckpt").read_bytes()
    train(tmp_path, [0, 0, 3, 4], ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert (tmp_path / "checkpoints" / "best.ckpt").read_bytes() == before
    assert kept(tmp_path) == [1, 2, 3]


def test_a_run_that_moved_with_its_best_and_last_checkpoint_alone_keeps_the_best(tmp_path):
    train(tmp_path, [1, 5, 6])
    before = (tmp_path / "checkpoints" / "best.ckpt").read_bytes()
    for path in (tmp_path / "checkpoints").glob("epoch*.ckpt"):
        path.unlink()
    train(tmp_path, [0, 0, 0, 4], ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert (tmp_path / "checkpoints" / "best.ckpt").read_bytes() == before
    assert kept(tmp_path) == [1, 4]


def test_resuming_from_the_best_checkpoint_knows_it_as_the_best(tmp_path):
    train(tmp_path, [4, 1, 3])
    train(tmp_path, [0, 0, 5], ckpt_path=tmp_path / "checkpoints" / "best.ckpt")
    assert best_epoch(tmp_path) == 2
    assert kept(tmp_path) == [1, 2, 3]


def test_best_ckpt_takes_no_further_space_and_outlives_its_other_name(tmp_path):
    _, best, _ = train(tmp_path, [2, 1])
    other = tmp_path / "checkpoints" / best.best.file
    assert best.best_path.samefile(other)
    other.unlink()
    assert best_epoch(tmp_path) == 2


def test_without_hard_links_best_ckpt_is_a_copy(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("not supported")

    monkeypatch.setattr("os.link", refuse)
    _, best, _ = train(tmp_path, [2, 1])
    assert best_epoch(tmp_path) == 2
    assert best.best_path.read_bytes() == (tmp_path / "checkpoints" / best.best.file).read_bytes()
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.mark.parametrize("options", [{"mode": "least"}, {"top_k": 0}])
def test_settings_that_make_no_sense_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match=r"mode=least|top_k=0"):
        saver(tmp_path, **options)
