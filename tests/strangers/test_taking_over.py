"""What a stranger's checkpoint has for Lightning to take over: one line where it can't."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer

from monet_cyclegan.errors import UserError
from monet_cyclegan.resumable import going_on_with

LINE = r"^\S+x\.ckpt can't be gone on with: the state of its training isn't what train\.py writes \([^\n]+\); "


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trainer = tiny_trainer(folder, max_epochs=1)
    trainer.fit(tiny_model(), tiny_data(folder))
    trainer.save_checkpoint(folder / "x.ckpt")
    return folder


def go_on(folder: Any, change: Any) -> None:
    content = torch.load(folder / "x.ckpt", weights_only=True)
    change(content)
    (folder / "changed").mkdir(exist_ok=True)
    path = folder / "changed" / "x.ckpt"
    torch.save(content, path)
    with going_on_with(str(path)):
        tiny_trainer(folder, max_epochs=1).fit(tiny_model(), tiny_data(folder), ckpt_path=str(path), weights_only=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(loops={"fit_loop": {"epoch_progress": {}}}),
        lambda content: content["loops"]["fit_loop"].update({"epoch_progress": 3}),
        lambda content: content["loops"]["fit_loop"].update({"epoch_loop.batch_progress": {"total": 3}}),
        lambda content: content["optimizer_states"][0].update(param_groups=[]),
        lambda content: content["optimizer_states"][0]["param_groups"][0].update(params=[0]),
        lambda content: content.update(UnpairedDataModule={"epoch": 1, "colour": 2}),
        lambda content: content.update(UnpairedDataModule=3),
        lambda content: content["state_dict"].pop("gen_ab.encoder.0.weight"),
        lambda content: content["state_dict"].update({"pool_a._extra_state": 3}),
        lambda content: content["state_dict"].update({"pool_a._extra_state": {"images": torch.zeros(())}}),
    ],
)
def test_what_lightning_cannot_take_over_is_one_line(trained, change):
    with pytest.raises(UserError, match=LINE):
        go_on(trained, change)


def test_what_is_right_is_taken_over(trained):
    go_on(trained, lambda content: None)


def test_an_error_of_the_run_itself_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), going_on_with("x.ckpt"):
        raise ZeroDivisionError
