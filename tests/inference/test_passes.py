from __future__ import annotations

import pytest
import torch
from torch import nn

from monet_cyclegan.inference.lazy_rows import Whole
from monet_cyclegan.inference.passes import Network, Plan
from monet_cyclegan.networks import ResNetGenerator, UNetGenerator


def planned(generator: nn.Module) -> tuple[Network, Plan]:
    network = Network(generator.eval(), int(getattr(generator, "size_multiple", 1)))
    return network, network.best_plan()


def stored(plan: Plan) -> set[str]:
    return {str(node.target).removeprefix("0.") for current in plan.passes for node in current.kept}


@pytest.fixture(scope="module", params=["transposed", "resize"])
def resnet(request: pytest.FixtureRequest) -> tuple[Network, Plan]:
    with torch.device("meta"):
        return planned(ResNetGenerator(upsampling=request.param))


def test_a_resnet_takes_one_pass_for_each_norm_and_a_last_one(resnet: tuple[Network, Plan]) -> None:
    network, plan = resnet
    assert len(plan.passes) == 23 + 1
    assert plan.passes[-1].target is network.output


def test_a_resnet_stores_two_maps_at_a_time_and_works_little_more_than_once(resnet: tuple[Network, Plan]) -> None:
    network, plan = resnet
    assert plan.peak == 32
    assert plan.work / network.plain_work < 1.12


def test_a_resnet_stores_half_and_quarter_resolution_and_computes_full_resolution_again(
    resnet: tuple[Network, Plan],
) -> None:
    network, plan = resnet
    kept = {node for current in plan.passes for node in current.kept}
    assert {network.size[node] for node in kept} == {16, 32}
    assert "encoder.3" in stored(plan)
    assert "blocks.4.body.0" in stored(plan)
    assert "encoder.0" not in stored(plan)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("residual", [False, True])
def test_a_unet_works_little_more_than_once_within_the_budget(upsampling: str, residual: bool) -> None:
    with torch.device("meta"):
        network, plan = planned(UNetGenerator(upsampling=upsampling, residual=residual))
    assert plan.peak <= 32
    assert plan.work / network.plain_work < 1.1


def test_without_norms_one_pass_stores_nothing() -> None:
    for generator in (ResNetGenerator(2, 4, norm="none"), UNetGenerator(3, 4, norm="none")):
        network, plan = planned(generator)
        assert len(plan.passes) == 1
        assert plan.peak == 0
        assert plan.work == network.plain_work


def test_a_wider_network_gets_more_memory_rather_than_much_more_time() -> None:
    with torch.device("meta"):
        network, plan = planned(ResNetGenerator(base_channels=128))
    assert plan.peak == 64
    assert plan.work / network.plain_work < 1.5


def test_every_map_is_known_before_what_needs_it_and_freed_after_its_last_reader() -> None:
    _, plan = planned(UNetGenerator(4, 4))
    known: set[object] = set()
    gone: set[object] = set()
    for current in plan.passes:
        assert not gone & set(current.nodes)
        for node in current.nodes:
            assert all(source in current.nodes or node in known for source in node.all_input_nodes)
        known |= current.kept
        gone |= current.freed
    assert known == gone


def test_multiply_adds_are_those_of_the_formulas() -> None:
    network, _ = planned(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 4, 2, stride=2)))
    values = 3 + 8 / 4 + 4
    assert network.plain_work == pytest.approx(values + 3 * 9 * 8 / 4 + 8 / 4 * 4 * 4)


class Parts(nn.Module):
    """Known steps around one that fx can't follow."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.Dropout(0.5))
        self.odd = Odd()
        self.after = nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.odd(self.before(x)))


class Odd(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.shape[2] > 2 else -x


def test_what_cannot_be_followed_is_one_step_among_known_ones() -> None:
    network = Network(Parts().eval(), 1)
    assert [str(node.target) for node in network.nodes[1:]] == ["0.before.0", "0.odd", "0.after"]
    assert [isinstance(network.steps[node], Whole) for node in network.nodes[1:]] == [False, True, False]


def test_a_generator_with_steps_that_are_no_maps_is_one_step() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3, 1024, 1024)))
    network, plan = planned(flat)
    assert len(network.nodes) == 2
    assert len(plan.passes) == 1


def test_a_generator_that_returns_several_tensors_is_refused() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Tanh()

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.layer(x), x

    with pytest.raises(ValueError, match="has to return one tensor, not tuple"):
        Network(Pair(), 1)


def test_a_size_that_depends_on_values_is_refused() -> None:
    class Cut(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, : int(x.sum())]

    with pytest.raises(ValueError, match="can't tell what size"):
        Network(Cut(), 1)
