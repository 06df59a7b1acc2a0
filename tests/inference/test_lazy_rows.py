from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monet_cyclegan.inference.lazy_rows import Join, Norm, Rowwise, Whole
from monet_cyclegan.inference.passes import Network
from monet_cyclegan.networks.layers import Doubling


def last_step(module: nn.Module) -> tuple[Network, Rowwise]:
    network = Network(module.eval(), size_multiple=1)
    return network, network.steps[network.output]


def assert_any_rows_are_those_of_the_module(module: nn.Module, height: int = 9, width: int = 11) -> None:
    """Each [start, stop) of the output is computed from just the rows asked for, as they are in the whole map."""
    network, step = last_step(module)
    x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = module(x.clone())  # it may work in place
        assert network.shapes(*x.shape[1:])[network.output] == whole.shape
        asked = [0] * len(network.output.all_input_nodes)
        for start in range(whole.shape[2]):
            for stop in range(start + 1, whole.shape[2] + 1):
                first, last = step.rows(start, stop, height)
                assert 0 <= first < last <= height
                rows = step.compute([x[:, :, first:last] for _ in asked], start, stop, height)
                torch.testing.assert_close(rows, whole[:, :, start:stop], atol=1e-5, rtol=1e-5)
            low, _ = step.rows(start, whole.shape[2], height)
            assert all(step.rows(later, whole.shape[2], height)[0] >= low for later in range(start, whole.shape[2]))


@pytest.mark.parametrize("seed", range(24))
def test_rows_of_any_convolution(seed: int) -> None:
    draw = random.Random(seed)
    mode = draw.choice(["zeros", "reflect", "replicate"])
    padding = (draw.randint(0, 4), draw.randint(0, 4))
    module = nn.Conv2d(
        *(3, draw.choice([3, 6])),
        kernel_size=(draw.randint(1, 5), draw.randint(1, 5)),
        stride=(draw.randint(1, 3), draw.randint(1, 3)),
        padding=padding,
        dilation=(draw.randint(1, 2), draw.randint(1, 2)),
        groups=draw.choice([1, 3]),
        bias=draw.random() < 0.5,
        padding_mode=mode,
    )
    assert_any_rows_are_those_of_the_module(module)


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate"])
def test_rows_of_a_convolution_that_keeps_the_size(kernel: int, mode: str) -> None:
    assert_any_rows_are_those_of_the_module(nn.Conv2d(3, 2, kernel, padding="same", padding_mode=mode, dilation=2))


@pytest.mark.parametrize("seed", range(16))
def test_rows_of_any_transposed_convolution(seed: int) -> None:
    draw = random.Random(seed)
    stride = draw.randint(1, 4)
    kernel = draw.randint(1, 5)
    dilation = draw.randint(1, 2)
    module = nn.ConvTranspose2d(
        *(3, draw.choice([3, 6])),
        kernel_size=kernel,
        stride=stride,
        padding=draw.randint(0, min(2, dilation * (kernel - 1))),
        output_padding=draw.randint(0, max(stride, dilation) - 1),
        dilation=dilation,
        groups=draw.choice([1, 3]),
        bias=draw.random() < 0.5,
    )
    assert_any_rows_are_those_of_the_module(module)


@pytest.mark.parametrize("kernel", [3, 4])
def test_rows_of_the_transposed_convolutions_that_double(kernel: int) -> None:
    module = nn.ConvTranspose2d(3, 2, kernel, stride=2, padding=1, output_padding=4 - kernel)
    assert_any_rows_are_those_of_the_module(module)


class Function(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    "module",
    [
        nn.Upsample(scale_factor=2),
        Doubling(),
        nn.Upsample(scale_factor=3, mode="nearest"),
        nn.AvgPool2d(2),
        nn.AvgPool2d((3, 2), stride=(2, 1)),
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.LeakyReLU(0.2, inplace=True),
        nn.PReLU(3),
        nn.ELU(inplace=True),
        nn.Tanh(),
        nn.Sigmoid(),
        nn.GELU(),
        nn.SiLU(inplace=True),
        nn.BatchNorm2d(3),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        Function(torch.tanh),
        Function(lambda x: F.relu(x, True)),
        Function(lambda x: F.leaky_relu(x, negative_slope=0.1)),
        Function(lambda x: x + x),
        Function(lambda x: x + 1.5),
        Function(lambda x: torch.cat([x, x], dim=1)),
        Function(lambda x: torch.cat((x, x, x), -3)),
    ],
    ids=repr,
)
def test_rows_of_other_layers_and_functions(module: nn.Module) -> None:
    assert not isinstance(last_step(module)[1], Whole)
    assert_any_rows_are_those_of_the_module(module)


@pytest.mark.parametrize("affine", [False, True])
def test_instance_norm_of_some_rows_with_the_statistics_of_all(affine: bool) -> None:
    module = nn.InstanceNorm2d(3, eps=1e-2, affine=affine)
    if affine:
        nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(module.bias, generator=torch.Generator().manual_seed(2))
    _, step = last_step(module)
    assert isinstance(step, Norm)
    x = 3 + torch.randn(1, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    with torch.inference_mode():
        torch.testing.assert_close(step.normalise(x[:, :, 2:5], mean, variance), module(x)[:, :, 2:5])


@pytest.mark.parametrize(
    "module",
    [
        nn.AdaptiveAvgPool2d(1),
        nn.Softmax(dim=2),
        nn.AvgPool2d(2, padding=1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
        nn.GroupNorm(1, 3),
        nn.BatchNorm2d(3, track_running_stats=False),
        Function(lambda x: x.flip(2)),
        Function(lambda x: torch.cat([x, x], dim=2)),
    ],
    ids=repr,
)
def test_what_is_not_known_sees_its_whole_input(module: nn.Module) -> None:
    network, step = last_step(module)
    assert isinstance(step, Whole)
    x = torch.randn(1, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    with torch.inference_mode():
        output = step.compute([x], 0, 8, 8)
        assert torch.equal(x, before)
        torch.testing.assert_close(output, module(x))
        assert network.shapes(3, 8, 10)[network.output] == output.shape


def test_a_hook_or_a_subclass_may_do_anything() -> None:
    class Odd(nn.Conv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input).flip(2)

    hooked = nn.Conv2d(3, 3, 1)
    hooked.register_forward_hook(lambda module, args, output: output.flip(2))
    assert isinstance(last_step(Odd(3, 3, 1))[1], Whole)
    assert isinstance(last_step(hooked)[1], Whole)


def test_a_sum_with_a_map_of_another_size_sees_it_whole() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.pool(x)

    assert isinstance(last_step(Gate())[1], Whole)


def test_channels_are_joined_in_their_order() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tanh = nn.Tanh()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.tanh(x), x], 1)

    _, step = last_step(Two())
    assert isinstance(step, Join)
    a, b = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    assert step.compute([a, b], 0, 2, 2)[0, :, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]
