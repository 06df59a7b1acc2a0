"""Two processes with half a batch each train like one with the whole batch."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback
from lightning.pytorch.strategies import DDPStrategy

from monet_cyclegan.callbacks.save_last import SaveLast
from monet_cyclegan.cyclegan import HISTORIES
from monet_cyclegan.networks.batch_statistics import BatchStatisticsGAN
from monet_cyclegan.processes import any_says_so
from monet_cyclegan.schedules import constant, constant_then_linear

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = {"count_a": 10, "count_b": 6}  # 8 photos to train on: 4 batches of two


class Recorder(Callback):
    """Writes down what each process saw, since most run elsewhere."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.gradients: list[torch.Tensor] = []
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.gradients.append(torch.cat([parameter.grad.flatten().clone() for parameter in parameters]))
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_end(self, trainer, pl_module):
        weights = torch.cat([parameter.detach().flatten() for parameter in pl_module.parameters()])
        record = {
            "gradients": self.gradients,
            "rates": self.rates,
            "weights": weights,
            "pool": pl_module.pool_a.state_dict()["_extra_state"]["images"],
            "batches": pl_module.batches_done,
            "epoch_batches": trainer.num_training_batches,
        }
        self.folder.mkdir(exist_ok=True)
        torch.save(record, self.folder / f"{trainer.global_rank}.pt")


def train(
    folder: Path, processes: int, pool_size: int, epochs: int = 2, ckpt_path: Path | None = None
) -> list[dict[str, Any]]:
    """Train by plain gradient descent, which doesn't blow rounding up as Adam does; a record for each process."""
    torch.set_num_threads(1)
    model = tiny_model(
        optimizer=partial(torch.optim.SGD), pool_size=pool_size, lr=1e-4, schedule=constant_then_linear, ema_decay=0.9
    )
    if ckpt_path or epochs != 2:
        model.schedule = constant  # or a longer training would have another one
    recorder = Recorder(folder / f"{processes}_processes")
    options: dict[str, Any] = {"limit_val_batches": 0, "devices": processes, "max_epochs": epochs}
    if processes > 1:
        options["strategy"] = DDPStrategy(
            process_group_backend="gloo", start_method="spawn", find_unused_parameters=True, broadcast_buffers=False
        )
    data = tiny_data(folder, **IMAGES, batch_size=2 // processes)
    callbacks = [recorder, SaveLast(folder / f"epoch{epochs}.ckpt")]
    loading = {"ckpt_path": ckpt_path, "weights_only": True} if ckpt_path else {}
    tiny_trainer(folder, callbacks, **options).fit(model, data, **loading)
    return [torch.load(recorder.folder / f"{rank}.pt") for rank in range(processes)]


def test_a_run_of_two_processes_goes_on_to_the_same_weights_with_the_histories_of_both(tmp_path: Path):
    whole = train(tmp_path, 2, pool_size=3, epochs=3)
    begun = train(tmp_path, 2, pool_size=3, epochs=1)
    resumed = train(tmp_path, 2, pool_size=3, epochs=3, ckpt_path=tmp_path / "epoch1.ckpt")
    assert not torch.equal(begun[0]["pool"], begun[1]["pool"])
    for expected, found in zip(whole, resumed, strict=True):
        assert torch.equal(found["pool"], expected["pool"])
        assert torch.equal(found["weights"], expected["weights"])
    checkpoint = torch.load(tmp_path / "epoch1.ckpt", weights_only=True)
    del checkpoint[HISTORIES]
    torch.save(checkpoint, tmp_path / "epoch1.ckpt")  # the negative control: as if only the first one's were kept
    forgetful = train(tmp_path, 2, pool_size=3, epochs=3, ckpt_path=tmp_path / "epoch1.ckpt")
    assert not torch.equal(forgetful[1]["weights"], whole[1]["weights"])


def test_more_processes_than_before_share_the_histories_and_fewer_take_the_first_ones():
    histories = [
        {name: {"images": torch.full((1, 3, 4, 4), rank, dtype=torch.uint8)} for name in "ab"} for rank in (5, 6)
    ]
    for rank, expected in ((0, 5), (1, 6), (2, 5)):
        model: Any = tiny_model()
        model._trainer = SimpleNamespace(global_rank=rank)
        checkpoint = {"state_dict": {}, HISTORIES: histories}
        model.on_load_checkpoint(checkpoint)
        assert {int(state["images"][0, 0, 0, 0]) for state in checkpoint["state_dict"].values()} == {expected}
        assert {*checkpoint["state_dict"]} == {"pool_a._extra_state", "pool_b._extra_state"}


def test_each_process_takes_its_own_memories_of_images(monkeypatch: pytest.MonkeyPatch):
    def trained(rank: int) -> Any:
        model: Any = tiny_model(discriminator=partial(BatchStatisticsGAN, 1, 2))
        for number, memory in enumerate(model.memories.values()):
            memory.remember(torch.full((1, 2, 4), 10.0 * rank + number))
        model._trainer = SimpleNamespace(global_rank=rank)
        return model

    models = [trained(rank) for rank in range(2)]
    histories: list[Any] = []
    monkeypatch.setattr("monet_cyclegan.cyclegan.gather", lambda state: histories.append(state) or histories)
    checkpoint: dict[str, Any] = {}
    for model in models:
        model.on_save_checkpoint(checkpoint)
    for model in models:
        loaded: dict[str, Any] = {"state_dict": {}, **checkpoint}
        model.on_load_checkpoint(loaded)
        for name, memory in model.memories.items():
            assert loaded["state_dict"][f"memories.{name}._extra_state"] == memory.get_extra_state()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    return {processes: train(folder, processes, pool_size=0) for processes in (1, 2)}


def test_gradients_are_those_of_the_joined_batch(records):
    (one,), two = records[1], records[2]
    assert len(one["gradients"]) == 2 * 2 * 4  # two optimizers, two epochs of four batches
    for alone, first, second in zip(one["gradients"], two[0]["gradients"], two[1]["gradients"], strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, alone, rtol=1e-3, atol=1e-3 * float(alone.abs().max()))


def test_weights_and_averages_end_where_those_of_one_process_end(records):
    (one,), two = records[1], records[2]
    assert torch.equal(two[0]["weights"], two[1]["weights"])
    torch.testing.assert_close(two[0]["weights"], one["weights"], rtol=1e-4, atol=1e-5)


def test_steps_and_learning_rates_are_counted_alike(records):
    (one,), two = records[1], records[2]
    assert one["batches"] == two[0]["batches"] == two[1]["batches"] == 8
    assert one["epoch_batches"] == two[0]["epoch_batches"] == 4
    assert one["rates"] == two[0]["rates"] == two[1]["rates"]
    assert one["rates"][-1] < one["rates"][0]


def test_each_process_keeps_a_history_of_its_own(tmp_path: Path):
    first, second = train(tmp_path, 2, pool_size=3)
    assert first["pool"].shape == second["pool"].shape == (3, 3, 16, 16)
    assert not torch.equal(first["pool"], second["pool"])
    assert torch.equal(first["weights"], second["weights"])


def test_one_process_decides_alone_and_at_once():
    trainer: Any = SimpleNamespace(world_size=1)
    assert any_says_so(trainer, True, batch_idx=3)
    assert not any_says_so(trainer, False, batch_idx=9)


def test_several_processes_ask_each_other_at_every_tenth_batch_only():
    asked = []

    def reduce(flag, all):
        asked.append((flag, all))
        return True

    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(reduce_boolean_decision=reduce))
    assert [any_says_so(trainer, False, batch_idx) for batch_idx in range(20)] == [i in (9, 19) for i in range(20)]
    assert asked == [(False, False)] * 2
