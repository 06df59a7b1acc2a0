from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from monet_cyclegan.callbacks.divergence import Divergence
from monet_cyclegan.callbacks.save_last import SaveLast
from monet_cyclegan.clipping import gradient_norm
from monet_cyclegan.errors import Diverged, UserError
from monet_cyclegan.launch import clear_errors, traceback_in
from monet_cyclegan.losses import LSGANLoss

if TYPE_CHECKING:
    from collections.abc import Iterable

FUSED = partial(torch.optim.Adam, betas=(0.5, 0.999), fused=True)


class Spoil(Callback):
    """At some batches the adversarial loss of the generators is a given number."""

    def __init__(self, *batches: int, value: float = math.nan):
        self.batches, self.value, self.now = batches, value, 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.now = pl_module.batches_done
        pl_module.adversarial_loss = self.loss()

    def loss(self) -> LSGANLoss:
        add = self.value if self.now in self.batches else 0.0

        class Loss(LSGANLoss):
            def generator_term(self, fake):
                return super().generator_term(fake) + add

        return Loss()


class Rows(Callback):
    """What is logged after each batch, taken after all others."""

    def __init__(self):
        self.skipped: list[float | None] = []

    def on_train_batch_end(self, trainer, *_):
        value = trainer.callback_metrics.get("train/skipped")
        self.skipped.append(None if value is None else float(value))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def fit(folder: Path, *callbacks: Callback, model: Any = None, ckpt_path: Path | None = None, **options: Any):
    model = model or tiny_model(optimizer=FUSED)
    trainer = tiny_trainer(folder, callbacks, **{"limit_val_batches": 0, "max_epochs": 1, **options})
    data = tiny_data(folder, count_a=14)  # 12 batches
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return model


def warnings_in(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]


def test_a_skipped_step_is_named_with_its_term_and_counted(folder, capsys):
    rows = Rows()
    fit(folder, Spoil(2, 3, 7), Divergence(), rows)
    assert warnings_in(capsys) == [
        "warning: step 2: train/adv_a is nan, step of the generators skipped (1 of 10 in a row)",
        "warning: step 3: train/adv_a is nan, step of the generators skipped (2 of 10 in a row)",
        "warning: step 7: train/adv_a is nan, step of the generators skipped (1 of 10 in a row)",
    ]
    assert rows.skipped == [0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3]


def test_a_gradient_is_named_where_all_terms_are_finite(folder, capsys):
    steps = iter(range(100))

    def clip(parameters: Iterable[torch.nn.Parameter]) -> torch.Tensor:
        return gradient_norm(parameters) * (math.inf if next(steps) == 5 else 1)

    fit(folder, Divergence(), model=tiny_model(optimizer=FUSED, clip=clip))
    line = "warning: step 2: train/grad_norm_disc is inf, step of the discriminators skipped (1 of 10 in a row)"
    assert warnings_in(capsys) == [line]


def test_a_step_that_neither_could_take_is_one_line(folder, capsys):
    class Blank(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 3:
                batch["b"].fill_(math.nan)

    fit(folder, Blank(), Divergence())
    (line,) = warnings_in(capsys)
    assert line.startswith(
        "warning: step 3: train/adv_a is nan, step of the generators and discriminators skipped (1 of"
    )


def test_on_a_device_several_steps_are_told_in_one_line_when_the_log_has_one(folder, capsys):
    rows = Rows()
    fit(folder, Spoil(1, 2, 6, value=math.inf), Divergence(at_once=False), rows, log_every_n_steps=4)
    assert warnings_in(capsys) == [
        "warning: step 1: train/adv_a is inf, 2 steps of the generators skipped (2 of 10 in a row)",
        "warning: step 6: train/adv_a is inf, step of the generators skipped (1 of 10 in a row)",
    ]
    assert rows.skipped == [None] * 3 + [2] * 4 + [3] * 5


class CountReads(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
        return func(*args, **(kwargs or {}))


def test_on_a_device_nothing_is_read_but_for_a_line_of_the_log_skipped_steps_included(folder, monkeypatch):
    taken: list[int] = []
    mode = CountReads()

    class Watch(Callback):
        def on_train_start(self, trainer, pl_module):
            mode.__enter__()
            for log in pl_module.step_logs.values():
                take = log.take
                monkeypatch.setattr(log, "take", lambda take=take: taken.append(len(counts)) or take())

        def on_train_batch_end(self, *_):
            counts.append(mode.count)

        def on_train_end(self, *_):
            mode.__exit__(None, None, None)

    counts: list[int] = []
    fit(folder, Spoil(0, 1, 5), Divergence(at_once=False), Watch(), log_every_n_steps=4)
    assert taken == [3, 3, 7, 7, 11, 11]
    assert len(counts) == 12
    assert len(set(counts)) == 1  # without a logger there is nothing else that reads


def test_more_skipped_steps_in_a_row_than_allowed_end_the_run_with_a_good_checkpoint(tmp_path, capsys):
    last = tmp_path / "checkpoints" / "last.ckpt"
    every = Spoil(*range(14, 100))
    with pytest.raises(Diverged) as ended:
        fit(tmp_path, every, Divergence(3, last.parent), SaveLast(last, every_n_minutes=0), max_epochs=2)
    assert str(ended.value) == (
        "training diverged at step 14: train/adv_a is nan, and more than callbacks.divergence.max_skipped=3 steps of "
        f"the generators in a row had to be skipped; the last good checkpoint is {last}: "
        "try a lower model.lr, model/clip=norm or trainer.precision=32-true"
    )
    assert len(warnings_in(capsys)) == 4
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] // 2 == 15  # after the first bad step, which may have been its batch's fault
    for value in saved["state_dict"].values():
        assert value["images"].isfinite().all() if isinstance(value, dict) else value.isfinite().all()
    for optimizer in saved["optimizer_states"]:
        assert all(value.isfinite().all() for state in optimizer["state"].values() for value in state.values())
    fit(tmp_path, Divergence(3, last.parent), max_epochs=2, ckpt_path=last)


def test_a_state_without_a_way_on_is_not_saved_until_there_is_one(tmp_path):
    last, saved = tmp_path / "last.ckpt", []

    class Watch(Callback):
        def on_train_batch_end(self, *_):
            saved.append(torch.load(last, weights_only=True)["global_step"] // 2 if last.exists() else None)

    # Also at the end of an epoch, after batches 12 and 24; once a step could be taken it is made up for.
    callbacks = [Spoil(10, 11, 12, 20, 22, 23), Divergence(at_once=False), SaveLast(last), Watch()]
    fit(tmp_path, *callbacks, max_epochs=2, log_every_n_steps=50)
    assert saved == [None] * 13 + [14] * 11
    assert torch.load(last, weights_only=True)["global_step"] // 2 == 14


def test_as_many_as_allowed_do_not(folder):
    assert fit(folder, Spoil(2, 3, 4, 6, 7, 8), Divergence(3)).batches_done == 12


def test_a_resumed_run_counts_on_those_not_looked_at_when_it_was_saved_included(tmp_path, capsys):
    path = tmp_path / "cut.ckpt"

    class Save(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if pl_module.batches_done == 7:
                trainer.save_checkpoint(path)

    with pytest.raises(Diverged, match="diverged at step 5"):
        fit(tmp_path, Spoil(*range(5, 12)), Divergence(3, at_once=False), Save(), log_every_n_steps=10)
    assert warnings_in(capsys)[0].endswith("2 steps of the generators skipped (2 of 3 in a row)")
    state = next(state for key, state in torch.load(path)["callbacks"].items() if key == "Divergence")
    assert state == {"in_row": {"gen": 2, "disc": 0}, "total": {"gen": 2, "disc": 0}}
    with pytest.raises(Diverged):
        fit(tmp_path, Spoil(*range(7, 9)), Divergence(3), ckpt_path=path)
    assert warnings_in(capsys)[-1].endswith("(4 of 3 in a row)")
    fit(tmp_path, Spoil(*range(8, 11)), Divergence(3), ckpt_path=path)


def test_without_it_steps_are_skipped_all_the_same(folder):
    model = fit(folder, Spoil(*range(2, 12)))
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_run_that_ends_so_says_one_line_and_its_exit_status_is_not_zero(capsys):
    with pytest.raises(SystemExit) as ended, clear_errors(Path("conf"), "train"):
        raise Diverged("training diverged at step 3: train/adv_a is nan")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: training diverged at step 3: train/adv_a is nan\n"


def test_a_trial_that_diverges_fails_alone_like_one_that_crashes(tmp_path):
    """A UserError of the first trial would end a search, since all others would make the same mistake."""
    assert not issubclass(Diverged, UserError)
    with pytest.raises(Diverged), traceback_in(tmp_path):
        raise Diverged("training diverged")
    assert "training diverged" in (tmp_path / "error.txt").read_text()


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="max_skipped must be 0 or more, got -1"):
        Divergence(-1)
