"""A network's steps as operations on some rows of their maps, each exactly what the whole layer gives there."""

from __future__ import annotations

import copy
import operator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from monet_cyclegan.networks.layers import Doubling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


class Rowwise:
    """A step whose output rows are made of the same rows of its inputs: activations and sums."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function

    def shape(self, inputs: list[torch.Size]) -> torch.Size:
        """The output's shape."""
        return torch.broadcast_shapes(*inputs)

    def rows(self, start: int, stop: int, height: int) -> tuple[int, int]:
        """The rows of an input of this height that output rows [start, stop) are made of."""
        return start, stop

    def compute(self, inputs: list[Tensor], start: int, stop: int, height: int) -> Tensor:
        """Output rows [start, stop) from exactly those `rows` of the inputs: (1, C, rows, W) -> (1, C', rows', W')."""
        return self.function(*inputs)

    def work(self, inputs: list[torch.Size]) -> int:
        """Multiply-adds for the whole map, 0 if they are few."""
        return 0


class Join(Rowwise):
    """Maps stacked along their channels; ``joined`` are the places of the joined ones among the inputs."""

    def __init__(self, function: Callable[..., Tensor], joined: list[int]) -> None:
        super().__init__(function)
        self.joined = joined

    def shape(self, inputs: list[torch.Size]) -> torch.Size:
        """See `Rowwise`."""
        return torch.Size((1, sum(inputs[place][1] for place in self.joined), *inputs[0][2:]))


class Whole(Rowwise):
    """Any other step: it sees its whole inputs, once. ``sizes_only`` is the same for tensors without data."""

    def __init__(self, function: Callable[..., Tensor], sizes_only: Callable[..., Tensor]) -> None:
        super().__init__(function)
        self.sizes_only = sizes_only

    def shape(self, inputs: list[torch.Size]) -> torch.Size:
        """See `Rowwise`; ValueError if it depends on the inputs' values."""
        try:
            with torch.device("meta"), torch.inference_mode():
                return self.sizes_only(*(torch.empty(shape) for shape in inputs)).shape
        except RuntimeError as error:
            raise ValueError(f"can't tell what size a step's output has without its values: {error}") from error

    def rows(self, start: int, stop: int, height: int) -> tuple[int, int]:
        """All."""
        return 0, height

    def compute(self, inputs: list[Tensor], start: int, stop: int, height: int) -> Tensor:
        """The whole output; on copies, in the layout that views expect, as the step may be one that works in place."""
        output = self.function(*(x.clone(memory_format=torch.contiguous_format) for x in inputs))
        return output.contiguous(memory_format=torch.channels_last)


class Norm(Rowwise):
    """Instance norm by statistics of the whole map, which the caller has to provide."""

    def __init__(self, layer: nn.InstanceNorm2d) -> None:
        super().__init__(layer)
        self.layer = layer

    def normalise(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """(1, C, rows, W) with the map's mean and biased variance (1, C, 1, 1) -> the same, in its own type."""
        scale = (variance + self.layer.eps).rsqrt()
        if self.layer.weight is not None:
            scale = scale * self.layer.weight[:, None, None].float()
        y = x.sub(mean).mul_(scale)
        if self.layer.bias is not None:
            y += self.layer.bias[:, None, None]
        return y.to(x.dtype)


class Window(Rowwise):
    """A convolution or pooling: output row i is made of ``reach`` rows of the padded input, from i * stride on.

    Args:
        function: what makes the output of padded rows.
        reach: rows and columns that an output pixel sees, as are all pairs here.
        stride: ... and by how many it moves.
        padding: left, right, above and below.
        mode: "zeros", "reflect" or "replicate".
        columns: how much padding on both sides ``function`` does itself.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        reach: tuple[int, int],
        stride: tuple[int, int],
        padding: Sequence[int] = (0, 0, 0, 0),
        mode: str = "zeros",
        columns: int = 0,
    ) -> None:
        super().__init__(function)
        self.reach, self.stride, self.padding, self.mode, self.columns = reach, stride, padding, mode, columns

    def shape(self, inputs: list[torch.Size]) -> torch.Size:
        """See `Rowwise`."""
        (_, channels, height, width), (left, right, above, below) = inputs[0], self.padding
        height = (height + above + below - self.reach[0]) // self.stride[0] + 1
        width = (width + left + right - self.reach[1]) // self.stride[1] + 1
        return torch.Size((1, channels, height, width))

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The rows [low, high) of the padded input, where those of the picture begin at 0."""
        above = self.padding[2]
        return start * self.stride[0] - above, (stop - 1) * self.stride[0] - above + self.reach[0]

    def rows(self, start: int, stop: int, height: int) -> tuple[int, int]:
        """Those of the span that exist, those that are mirrored in the border, and at least one."""
        low, high = self.span(start, stop)
        first, last = min(max(low, 0), height - 1), min(high, height)
        if low < 0:
            last = max(last, 1 - low if self.mode == "reflect" else 1)
        if high > height and self.mode == "reflect":
            first = min(first, 2 * height - 1 - high)
        return first, max(last, first + 1)

    def compute(self, inputs: list[Tensor], start: int, stop: int, height: int) -> Tensor:
        """See `Rowwise`."""
        (x,), (left, right, *_) = inputs, self.padding
        low, high = self.span(start, stop)
        first, last = self.rows(start, stop, height)
        padding = (left - self.columns, right - self.columns, max(first - low, 0), max(high - last, 0))
        if any(padding):
            x = F.pad(x, padding, "constant" if self.mode == "zeros" else self.mode)
        offset = low - (first - padding[2])
        return self.function(x[:, :, offset : offset + high - low])


class Convolution(Window):
    """nn.Conv2d of any shape, padded by zeros, reflection or replication."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer
        padding = layer._reversed_padding_repeated_twice  # the layer's own reading of "same"
        columns = padding[0] if layer.padding_mode == "zeros" and padding[0] == padding[1] else 0
        stride = layer.stride[0], layer.stride[1]
        super().__init__(self._convolve, _reach(layer), stride, padding, layer.padding_mode, columns)

    def _convolve(self, x: Tensor) -> Tensor:
        layer, padding = self.layer, (0, self.columns)
        return F.conv2d(x, layer.weight, layer.bias, layer.stride, padding, layer.dilation, layer.groups)

    def shape(self, inputs: list[torch.Size]) -> torch.Size:
        """See `Rowwise`."""
        return torch.Size((1, self.layer.out_channels, *super().shape(inputs)[2:]))

    def work(self, inputs: list[torch.Size]) -> int:
        """See `Rowwise`."""
        return self.shape(inputs).numel() * self.layer.weight[0].numel()


class TransposedConvolution(Rowwise):
    """nn.ConvTranspose2d of any shape: input row i adds to the output rows i * stride - padding + tap * dilation."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__(layer)
        self.layer = layer
        self.stride, self.padding, self.reach = layer.stride[0], int(layer.padding[0]), _reach(layer)

    def shape(self, inputs: list[torch.Size]) -> torch.Size:
        """See `Rowwise`."""
        layer = self.layer
        height, width = (
            (size - 1) * layer.stride[i] - 2 * int(layer.padding[i]) + self.reach[i] + layer.output_padding[i]
            for i, size in enumerate(inputs[0][2:])
        )
        return torch.Size((1, layer.out_channels, height, width))

    def rows(self, start: int, stop: int, height: int) -> tuple[int, int]:
        """The rows that add to any of [start, stop), and one at or before ``start`` to count from."""
        first = -((self.reach[0] - 1 - start - self.padding) // self.stride)
        first = min(max(min(first, (start + self.padding) // self.stride), 0), height - 1)
        last = min((stop - 1 + self.padding) // self.stride + 1, height)
        return first, max(last, first + 1)

    def compute(self, inputs: list[Tensor], start: int, stop: int, height: int) -> Tensor:
        """See `Rowwise`."""
        layer, (x,) = self.layer, inputs
        first, last = self.rows(start, stop, height)
        origin = first * self.stride - self.padding
        end = (last - 1) * self.stride - self.padding + self.reach[0]
        # Rows below all taps, between those of a large stride or in output_padding, hold the bias only.
        sizes = (0, int(layer.padding[1])), (max(0, stop - end), layer.output_padding[1])
        y = F.conv_transpose2d(x, layer.weight, layer.bias, layer.stride, *sizes, layer.groups, layer.dilation)
        return y[:, :, start - origin : stop - origin]

    def work(self, inputs: list[torch.Size]) -> int:
        """See `Rowwise`."""
        return inputs[0].numel() * self.layer.weight[0].numel()


class Upsampling(Rowwise):
    """nn.Upsample to the nearest pixel, by a whole number."""

    def __init__(self, layer: nn.Upsample) -> None:
        super().__init__(layer)
        self.scale = int(layer.scale_factor)  # type: ignore[arg-type]

    def shape(self, inputs: list[torch.Size]) -> torch.Size:
        """See `Rowwise`."""
        return torch.Size((*inputs[0][:2], *(self.scale * size for size in inputs[0][2:])))

    def rows(self, start: int, stop: int, height: int) -> tuple[int, int]:
        """See `Rowwise`."""
        return start // self.scale, (stop - 1) // self.scale + 1

    def compute(self, inputs: list[Tensor], start: int, stop: int, height: int) -> Tensor:
        """See `Rowwise`."""
        skipped = start % self.scale
        return self.function(*inputs)[:, :, skipped : skipped + stop - start]


POINTWISE = {nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU}
FUNCTIONS = {operator.mul, torch.atanh, torch.tanh, torch.sigmoid, torch.relu, F.relu, F.leaky_relu, F.gelu, F.silu}
SUMS: dict[Any, Any] = {operator.add: operator.add, operator.iadd: operator.add, torch.add: torch.add}


def is_known(node: fx.Node) -> bool:
    """Whether a traced function can be computed in rows, given maps of one size."""
    if node.target is torch.cat:
        return (node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) in (1, -3)
    return node.op == "call_function" and (node.target in FUNCTIONS or node.target in SUMS)


def works_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a traced step writes over its first input."""
    return bool(getattr(module, "inplace", False) or node.kwargs.get("inplace") or node.target is operator.iadd)


def make_step(node: fx.Node, module: Any) -> Rowwise:
    """What computes the rows of a traced node, out of place; ``module`` is what it calls, None for a function.

    It takes the node's ``all_input_nodes``, in their order.
    """
    # The very class, as a subclass may do anything, and so may a hook.
    kind = None if module is None or module._forward_hooks or module._forward_pre_hooks else type(module)
    if kind is nn.Conv2d and module.padding_mode != "circular":
        return Convolution(module)
    if kind is nn.ConvTranspose2d:
        return TransposedConvolution(module)
    if kind is nn.InstanceNorm2d and module.running_mean is None:
        return Norm(module)
    if kind in (nn.Upsample, Doubling) and module.mode == "nearest" and module.scale_factor in range(1, 9):
        return Upsampling(module)
    if kind is nn.AvgPool2d and module.padding in (0, (0, 0)) and not module.ceil_mode:
        return Window(module, _pair(module.kernel_size), _pair(module.stride))

    target: Any = node.target if module is None else module
    target = SUMS.get(target, target)
    kwargs = {name: value for name, value in node.kwargs.items() if name != "inplace"}
    if kind in POINTWISE and hasattr(module, "inplace"):
        target = copy.copy(module)  # which shares what was learned
        target.inplace = False

    def call(target: Any, *inputs: Tensor) -> Tensor:
        known = dict(zip(node.all_input_nodes, inputs, strict=True))
        return target(*fx.map_arg(node.args, known.__getitem__), **fx.map_arg(kwargs, known.__getitem__))

    fixed = kind in (nn.BatchNorm2d, nn.InstanceNorm2d) and module.running_mean is not None
    if target is torch.cat and is_known(node):
        joined: Any = node.args[0] if node.args else kwargs["tensors"]
        return Join(partial(call, target), [node.all_input_nodes.index(one) for one in joined])
    if kind in POINTWISE or fixed or node.op == "placeholder" or (module is None and is_known(node)):
        return Rowwise(partial(call, target))
    return Whole(partial(call, target), partial(call, target if module is None else _without_data(module)))


def _reach(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, int]:
    height, width = (
        dilation * (size - 1) + 1 for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)
    )
    return height, width


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _without_data(module: nn.Module) -> nn.Module:
    """A copy whose tensors have only sizes."""
    known: dict[int, Any] = {
        id(weight): nn.Parameter(weight.detach().to("meta"), False) for weight in module.parameters()
    }
    known |= {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    return copy.deepcopy(module, known)
