from __future__ import annotations

import pytest
import torch
from torch import nn

from monet_cyclegan.ema import EMA


def network(weight: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, weight)
    return layer


@pytest.mark.parametrize(
    ("decay", "steps_done", "used"),
    [(0.999, 0, 1 / 10), (0.999, 90, 91 / 100), (0.999, 10**6, 0.999), (0.5, 2, 3 / 12), (0.5, 90, 0.5), (0.0, 90, 0)],
)
def test_an_update_keeps_the_decayed_share_of_the_average(decay: float, steps_done: int, used: float) -> None:
    ema = EMA(network(1.0), decay)
    ema.update(network(3.0), steps_done)
    assert ema.model.weight.item() == pytest.approx(used * 1 + (1 - used) * 3)


def test_without_decay_the_average_is_the_network() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    ema = EMA(model, decay=0.0)
    for steps_done in range(3):
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        ema.update(model, steps_done)
        for ours, theirs in zip(ema.model.parameters(), model.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_buffers_are_copied_not_averaged() -> None:
    torch.manual_seed(0)
    model = nn.BatchNorm2d(2)
    ema = EMA(model)
    model(torch.rand(4, 2, 3, 3) + 5)
    ema.update(model, 1000)
    assert torch.equal(ema.model.running_mean, model.running_mean)
    assert ema.model.num_batches_tracked.item() == 1


def test_the_average_stays_in_eval_mode() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5))
    holder = nn.ModuleList([EMA(model)])
    holder.train()
    assert not any(module.training for module in holder[0].modules())
    assert model[1].training


def test_the_average_is_frozen_and_leaves_the_network_trainable() -> None:
    model = network(1.0)
    ema = EMA(model)
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    model(torch.ones(1, 1)).backward()
    ema.update(model, 10)
    assert model.weight.requires_grad
    assert model.weight.item() == 1


def test_the_state_dict_holds_the_averaged_weights_alone() -> None:
    ema, other = EMA(network(1.0)), EMA(network(2.0))
    assert list(ema.state_dict()) == ["model.weight"]
    other.load_state_dict(ema.state_dict())
    assert other.model.weight.item() == 1


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"decay must be at least 0 and below 1, got {decay}"):
        EMA(network(1.0), decay)
