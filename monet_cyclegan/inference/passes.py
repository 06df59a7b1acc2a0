"""In which passes a network runs by rows, what is stored between them, and what that takes; decided before it runs."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from monet_cyclegan.inference.lazy_rows import Norm, Rowwise, Whole, is_known, make_step, works_in_place
from monet_cyclegan.networks.layers import check_size

BUDGETS = (32, 40, 48, 64, 96, 128, math.inf)  # stored values per pixel of the picture: the first that can be held
MOST_WORK = 1.5  # ... with this many times the multiply-adds of one forward pass
CHEAP = 100  # multiply-adds, for which a value isn't worth storing


@dataclass(frozen=True)
class Pass:
    """One run over the rows of ``target``, for its statistics or, the last one, for the picture."""

    target: fx.Node
    nodes: list[fx.Node]  # what is computed or read, in order
    kept: set[fx.Node]  # those of them that are stored from here on, or were before
    freed: set[fx.Node]  # those of them that no later pass reads
    work: float  # multiply-adds per pixel of the picture


@dataclass(frozen=True)
class Plan:
    """All passes, with the most values per pixel of the picture that are stored at the end of each."""

    passes: list[Pass]
    memory: list[float]

    @property
    def work(self) -> float:
        """Multiply-adds of all passes, per pixel of the picture."""
        return sum(step.work for step in self.passes)

    @property
    def peak(self) -> float:
        """The most values per pixel of the picture that are stored at a time."""
        return max(self.memory)

    def excess(self, budget: float) -> float:
        """How far the passes are beyond a budget, in all."""
        return sum(max(0.0, values - budget) for values in self.memory)


class Network:
    """A generator as steps on rows, with the size of their maps and the work they are.

    Args:
        generator: maps (1, C, H, W) to one tensor of that kind.
        size_multiple: what H and W are multiples of.

    Attributes:
        nodes: the steps from `source`, the picture, to `output`, each after those it reads (its ``all_input_nodes``).
        steps: what computes a node's rows.
        size: values of a node's map, per pixel of the picture.
        work: multiply-adds of a node's map, per pixel of the picture.
        checks: arguments of `check_size`, as the generator calls it.

    Raises:
        ValueError: if the generator doesn't return one tensor, or a step's size depends on values.
    """

    def __init__(self, generator: nn.Module, size_multiple: int) -> None:
        self.root = nn.Sequential(generator)
        side = size_multiple * math.ceil(1024 / size_multiple)
        for follow in (True, False):
            self.graph, self.checks = trace(self.root, follow)
            self.nodes = [node for node in self.graph.nodes if node.op != "output"]
            self.source = self.nodes[0]
            self.steps = {node: make_step(node, _called(self.root, node)) for node in self.nodes}
            shapes = self.shapes(3, side, side)
            if all(len(shape) == 4 for shape in shapes.values()):
                break  # otherwise a step makes something else than maps: the generator is one step
        (self.output,) = self.graph.output_node().all_input_nodes
        self.size = {node: shapes[node].numel() / side**2 for node in self.nodes}
        self.work = {
            node: self.size[node] + self.steps[node].work([shapes[one] for one in node.all_input_nodes]) / side**2
            for node in self.nodes
        }
        self.plain_work = sum(self.work.values())

    def shapes(self, channels: int, height: int, width: int) -> dict[fx.Node, torch.Size]:
        """Every map's shape for a picture of this size."""
        shapes = {self.source: torch.Size((1, channels, height, width))}
        for node in self.nodes[1:]:
            inputs = [shapes[one] for one in node.all_input_nodes]
            step = self.steps[node]
            if type(step) is Rowwise and any(shape[2:] != inputs[0][2:] for shape in inputs):
                step = self.steps[node] = Whole(step.function, step.function)  # a sum of maps of unlike sizes
            shapes[node] = step.shape(inputs)
        return shapes

    def best_plan(self) -> Plan:
        """The plan with the least work for the smallest of the budgets that can be held in time."""
        inputs = {one for node in self.nodes if isinstance(self.steps[node], Whole) for one in node.all_input_nodes}
        always = {node for node in self.nodes if isinstance(self.steps[node], Whole)} | inputs
        always -= {self.source}
        candidates = {
            node
            for node in self.nodes
            if node is not self.source and (len(node.users) > 1 or self.work[node] > CHEAP * self.size[node])
        } | always
        for budget in BUDGETS:
            stored = candidates
            plan = self.simulate(stored)
            while plan.excess(budget) > 0:
                options = []
                for node in sorted(stored - always):
                    other = self.simulate(stored - {node})
                    relief = plan.excess(budget) - other.excess(budget)
                    if relief > 0 and other.work <= MOST_WORK * self.plain_work:
                        options.append(((other.work - plan.work) / relief, node))
                if not options:
                    break
                stored = stored - {min(options)[1]}
                plan = self.simulate(stored)
            if plan.excess(budget) <= 0:
                break
        for node in sorted(stored - always):  # what saves neither work nor memory
            other = self.simulate(stored - {node})
            if other.work - plan.work <= CHEAP * self.size[node] and sum(other.memory) <= sum(plan.memory):
                stored, plan = stored - {node}, other
        return plan

    def simulate(self, stored: set[fx.Node]) -> Plan:
        """The passes if these maps are stored from the pass on that first needs them."""
        readers = (Norm, Whole)
        targets = [
            node
            for node in self.nodes
            if any(isinstance(self.steps.get(user), Norm) for user in node.users)
            or (node is not self.source and any(isinstance(self.steps.get(user), readers) for user in node.users))
        ]
        complete: set[fx.Node] = set()
        drafts = []
        for target in [*targets, self.output]:
            needed, work = {target}, 0.0
            for node in reversed(self.nodes):
                if node in needed and node not in complete:
                    work += self.work[node]
                    needed.update(node.all_input_nodes)
            kept = needed & stored
            complete |= kept
            drafts.append((target, [node for node in self.nodes if node in needed], kept, work))
        first = {node: i for i, draft in reversed(list(enumerate(drafts))) for node in draft[2]}
        last = {node: i for i, draft in enumerate(drafts) for node in draft[2]}
        passes, memory = [], []
        for i, (target, nodes, kept, work) in enumerate(drafts):
            passes.append(Pass(target, nodes, kept, {node for node in kept if last[node] == i}, work))
            # One map grows as another shrinks, so the most is held at an end: there are the maps known before and read
            # still, or known now and to be read later. Steps that see everything at once have both.
            before = {node for node in stored if node in last and first[node] < i <= last[node]}
            after = {node for node in stored if node in last and first[node] <= i < last[node]}
            at_once = any(isinstance(self.steps[node], Whole) and first.get(node) == i for node in nodes)
            held = [before | after] if at_once else [before, after]
            memory.append(max(sum(self.size[node] for node in one) for one in held))
        return Plan(passes, memory)


class _Value(fx.Proxy):
    """A traced value that knows ``+=`` from ``+``: the former changes what other names for it see."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})


class _Tracer(fx.Tracer):
    """Follows those modules that have only known steps; any other is one step."""

    def __init__(self, followed: set[nn.Module]) -> None:
        super().__init__(autowrap_functions=(check_size,))
        self.followed = followed

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A value of its own kind."""
        return _Value(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one step."""
        return m not in self.followed


def trace(root: nn.Sequential, follow: bool) -> tuple[fx.Graph, list[dict[str, Any]]]:
    """The steps from picture to picture, without those that change nothing; and what sizes it checks, as arguments.

    Raises:
        ValueError: if the result isn't one tensor.
    """
    followed: set[nn.Module] = {root}
    for module in reversed(list(root.modules())) if follow else ():  # the inner ones first
        if type(module) is nn.Sequential or not type(module).__module__.startswith("torch.nn."):
            try:
                steps = _Tracer(followed).trace(module).nodes
            except Exception:  # whatever code makes of values that aren't there
                continue
            if all(
                step.op in ("placeholder", "call_module", "output") or _is_size_check(step) or is_known(step)
                for step in steps
            ):
                followed.add(module)
    graph = _Tracer(followed).trace(root)
    checks = []
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        called = _called(root, node)
        if _is_size_check(node):
            if node.args and node.args[0].op == "placeholder":
                checks.append(dict(node.kwargs))
            graph.erase_node(node)
        elif isinstance(called, (nn.Identity, nn.Dropout, nn.Dropout2d)):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
        elif works_in_place(node, called):  # who reads its input later, reads what it wrote there
            written = node.all_input_nodes[0]
            for user in [user for user in written.users if order[user] > order[node]]:
                user.replace_input_with(written, node)
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    result = graph.output_node().args[0]
    if not isinstance(result, fx.Node):
        raise ValueError(f"the generator has to return one tensor, not {type(result).__name__}")
    return graph, checks


def _is_size_check(node: fx.Node) -> bool:
    return node.target is check_size


def _called(root: nn.Module, node: fx.Node) -> nn.Module | None:
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None
