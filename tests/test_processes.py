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

from monet_cyclegan.processes import any_says_so
from monet_cyclegan.schedules import constant_then_linear

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


def train(folder: Path, processes: int, pool_size: int) -> list[dict[str, Any]]:
    """Two epochs by plain gradient descent, which doesn't blow rounding up as Adam does; a record for each process."""
    torch.set_num_threads(1)
    model = tiny_model(
        optimizer=partial(torch.optim.SGD), pool_size=pool_size, lr=1e-4, schedule=constant_then_linear, ema_decay=0.9
    )
    recorder = Recorder(folder / f"{processes}_processes")
    options: dict[str, Any] = {"limit_val_batches": 0, "devices": processes}
    if processes > 1:
        options["strategy"] = DDPStrategy(
            process_group_backend="gloo", start_method="spawn", find_unused_parameters=True, broadcast_buffers=False
        )
    data = tiny_data(folder, **IMAGES, batch_size=2 // processes)
    tiny_trainer(folder, [recorder], **options).fit(model, data)
    return [torch.load(recorder.folder / f"{rank}.pt") for rank in range(processes)]


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
