from __future__ import annotations

import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback

from monet_cyclegan import CHECKPOINT_KEY
from monet_cyclegan.callbacks.run_record import RunRecord
from monet_cyclegan.callbacks.save_best import SaveBest
from monet_cyclegan.weights import Record


class Score(Callback):
    """Logs a score of 3 after the first epoch, 2 after the second, and one that is no number beside it."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/kid", 3.0 - trainer.current_epoch)
        pl_module.log("val/fid", float("nan"))


def trained(folder, *callbacks, ckpt_path=None, **options):
    trainer = tiny_trainer(folder, [RunRecord("on some features"), *callbacks], **options)
    trainer.fit(tiny_model(), tiny_data(folder), ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    trainer.save_checkpoint(folder / "last.ckpt")
    return record(folder / "last.ckpt")


def record(path):
    return torch.load(path, weights_only=True)[CHECKPOINT_KEY]["record"]


def test_a_checkpoint_says_what_it_cost_and_of_which_images(tmp_path):
    found = trained(tmp_path)
    assert 0 < found["seconds"] < 60
    assert (found["batches"], found["pairs"], found["crop_size"]) == (10, 10, 16)
    assert (found["trained_on"], found["held_out"]) == ({"photo": 5, "monet": 3}, {"photo": 2, "monet": 2})
    assert found["scored_images"] == 2
    assert found["split_seed"] == 0
    assert len(found["devices"]) == 1
    assert Record.from_plain(found).trained_on == {"photo": 5, "monet": 3}


def test_the_best_checkpoint_has_the_scores_by_which_it_was_chosen_and_no_others(tmp_path):
    best = SaveBest(tmp_path, "val/kid", tmp_path / "best.csv", top_k=2)
    trained(tmp_path, Score(), best)
    scores = {candidate.epoch: record(tmp_path / candidate.file)["scores"] for candidate in best.candidates}
    assert scores == {2: {"val/kid": 2.0}, 1: {"val/kid": 3.0}}
    assert record(best.best_path)["scored_on"] == "on some features"


def test_weights_that_were_trained_on_since_have_no_scores(tmp_path):
    class SaveLater(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if pl_module.batches_done == 7:
                trainer.save_checkpoint(tmp_path / "between.ckpt")

    assert trained(tmp_path, Score(), SaveLater())["scores"] == {"val/kid": 2.0}
    assert record(tmp_path / "between.ckpt")["scores"] == {}


def test_a_resumed_run_goes_on_counting(tmp_path):
    first = trained(tmp_path, max_epochs=1)
    whole = torch.load(tmp_path / "last.ckpt", weights_only=True)
    whole[CHECKPOINT_KEY]["record"] |= {"seconds": 1000.0, "devices": ["another"]}
    torch.save(whole, tmp_path / "last.ckpt")
    second = trained(tmp_path, ckpt_path=tmp_path / "last.ckpt")
    assert second["seconds"] > 1000
    assert second["devices"] == ["another", *first["devices"]]
    assert second["batches"] == 2 * first["batches"]


def test_a_record_survives_json_and_what_is_none_is_empty():
    full = Record(1.5, ("cpu",), 10, 16, {"photo": 5}, {"photo": 2}, {"val/kid": 0.5}, "on x", 2, 7)
    assert Record.from_plain(full.to_plain()) == full
    older = {name: value for name, value in full.to_plain().items() if name != "split_seed"}
    assert Record.from_plain(older) == full._replace(split_seed=0)
    for stranger in (None, [], {"seconds": "1"}, {**full.to_plain(), "scores": {"val/kid": "<script>"}}):
        assert Record.from_plain(stranger) == Record()
