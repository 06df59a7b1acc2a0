"""Bad steps change nothing: not parameters, optimizers, averages or pools, in whatever way they are bad."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback
from lightning.pytorch.strategies import DDPStrategy

from monet_cyclegan.bad_steps import StepLog, _put_back_unless, one_or_nan, skipped_unless_finite
from monet_cyclegan.callbacks.alarms import Alarms
from monet_cyclegan.callbacks.divergence import Divergence
from monet_cyclegan.clipping import AdaptiveClip, NormClip, gradient_norm
from monet_cyclegan.losses import LSGANLoss
from monet_cyclegan.penalties import R1, WGANGP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from monet_cyclegan.cyclegan import CycleGAN

FUSED = partial(torch.optim.Adam, betas=(0.5, 0.999), fused=True)
UNFUSED = partial(torch.optim.Adam, betas=(0.5, 0.999))
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "fused Adam": partial(FUSED, lr=0.1),
    "Adam": partial(UNFUSED, lr=0.1),
    "fused AdamW": partial(torch.optim.AdamW, fused=True, lr=0.1),
    "fused SGD": partial(torch.optim.SGD, fused=True, lr=0.1),
    "fused SGD with momentum": partial(torch.optim.SGD, fused=True, lr=0.1, momentum=0.9),
    "SGD with momentum and decay": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
    "RMSprop": partial(torch.optim.RMSprop, lr=0.1),
}


# --- one step


def descend(make: Callable[..., torch.optim.Optimizer], factors: list[float], guard: Any) -> torch.Tensor:
    """Steps on Σ x², each gradient multiplied by a factor; None in place of one leaves the step out."""
    x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    optimizer = make([x])
    for factor in factors:
        x.grad = 2 * x.detach() * factor
        with guard(optimizer, torch.linalg.vector_norm(x.grad)):
            optimizer.step()
    return x.detach()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_step_is_as_if_it_had_not_been_wherever_it_comes(name: str, bad: float):
    expected = descend(OPTIMIZERS[name], [1.0, 1.0, 1.0], skipped_unless_finite)
    for factors in ([bad, 1.0, 1.0, 1.0], [1.0, bad, bad, 1.0, 1.0], [1.0, 1.0, 1.0, bad]):
        assert torch.equal(descend(OPTIMIZERS[name], factors, skipped_unless_finite), expected)


@pytest.mark.parametrize("name", ["fused Adam", "fused AdamW", "fused SGD", "SGD with momentum and decay", "RMSprop"])
def test_what_a_device_copies_and_puts_back_is_all_that_a_step_changes(name: str):
    """Not for unfused Adam, which counts its steps on the CPU."""

    def guard(optimizer: torch.optim.Optimizer, norm: torch.Tensor) -> Any:
        return _put_back_unless(norm < math.inf, optimizer)

    expected = descend(OPTIMIZERS[name], [1.0, 1.0, 1.0], skipped_unless_finite)
    for factors in ([math.nan, 1.0, 1.0, 1.0], [1.0, math.nan, 1.0, math.inf, 1.0]):
        assert torch.equal(descend(OPTIMIZERS[name], factors, guard), expected)


def test_a_good_step_leaves_no_trace_on_the_optimizer():
    optimizer = FUSED([torch.ones(2, requires_grad=True)])
    with skipped_unless_finite(optimizer, torch.tensor(1.0)):
        assert float(optimizer.found_inf) == 0.0
    assert not hasattr(optimizer, "found_inf")


def test_a_loss_that_is_no_finite_number_has_gradients_of_nan_though_its_derivative_is_finite():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    for constant, expected in ((0.0, [1.0, 1.0]), (math.inf, [math.nan] * 2), (math.nan, [math.nan] * 2)):
        x.grad = None
        loss = x.sum() + constant
        loss.backward(gradient=one_or_nan(loss))
        assert x.grad is not None
        assert x.grad.tolist() == pytest.approx(expected, nan_ok=True)


# --- the log of steps


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value)


def test_steps_are_read_once_the_latest_of_them_in_their_order_and_a_term_that_was_not_due_is_zero():
    log = StepLog()
    assert log.take().norms.tolist() == []
    for step in range(6):
        lazy = {"r1": scalar(10.0 + step)} if step % 2 else {}
        log.add({"disc": scalar(float(step)), **lazy}, scalar(-float(step)), length=4)
    steps = log.take()
    assert steps.norms.tolist() == [-2.0, -3.0, -4.0, -5.0]
    assert steps.names == ("disc", "r1")
    assert steps.terms.tolist() == [[2.0, 0.0], [3.0, 13.0], [4.0, 0.0], [5.0, 15.0]]
    assert len(log.take().norms) == 0
    log.add({"disc": scalar(6.0)}, scalar(-6.0), length=4)
    assert log.take().terms.tolist() == [[6.0, 0.0]]


# --- runs


class BadLoss(LSGANLoss):
    """Adds NaN to a term at some batches (its gradient is still finite then), or multiplies the term by it."""

    def __init__(self, term: str, batches: tuple[int, ...], multiply: bool = False, rank: int | None = None):
        super().__init__()
        self.term, self.batches, self.multiply, self.rank = term, batches, multiply, rank
        self.model: CycleGAN | None = None

    def _spoilt(self, name: str, value: torch.Tensor) -> torch.Tensor:
        assert self.model is not None
        here = self.rank is None or self.model.global_rank == self.rank
        if name != self.term or self.model.batches_now not in self.batches or not here:
            return value
        return value * math.nan if self.multiply else value + math.nan

    def generator_term(self, fake):
        return self._spoilt("gen", super().generator_term(fake))

    def real_term(self, real):
        return self._spoilt("disc", super().real_term(real))


class Clock(Callback):
    """Tells the loss which batch it is; `batches_done` moves within a batch."""

    def on_train_batch_start(self, trainer, pl_module, *_):
        pl_module.batches_now = pl_module.batches_done
        if isinstance(pl_module.adversarial_loss, BadLoss):
            pl_module.adversarial_loss.model = pl_module


class Without(Clock):
    """Leaves the steps of one optimizer out at some batches, or spoils one number of its gradients."""

    def __init__(self, optimizer: str, batches: tuple[int, ...]):
        self.index, self.batches = ("gen", "disc").index(optimizer), batches

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if optimizer is trainer.optimizers[self.index] and pl_module.batches_now in self.batches:
            optimizer.zero_grad(set_to_none=True)


class InfiniteGradient(Without):
    def on_before_optimizer_step(self, *_):
        pass

    def on_after_backward(self, trainer, pl_module):
        network = pl_module.gen_ba if self.index == 0 else pl_module.disc_b
        gradient = list(network.parameters())[-1].grad
        if gradient is not None and pl_module.batches_now in self.batches and gradient.isfinite().all():
            mine = all(p.requires_grad for p in network.parameters())
            gradient.view(-1)[0] = math.inf if mine else gradient.view(-1)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def fit(folder: Path, *callbacks: Callback, batches: int = 6, **options: Any) -> dict[str, torch.Tensor]:
    """Train, and return all that training changes: networks, averages, pools, optimizers."""
    in_trainer = {"precision": options.pop("precision", "32-true"), "limit_train_batches": batches}
    model = tiny_model(**{"optimizer": FUSED, "lr": 1e-2, **options})
    trainer = tiny_trainer(folder, callbacks, max_epochs=1, limit_val_batches=0, **in_trainer)
    trainer.fit(model, tiny_data(folder, count_a=8, num_workers=0))
    assert model.batches_done == batches  # a step that was skipped counts
    found: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        found[name] = value["images"] if isinstance(value, dict) else value
    for index, optimizer in enumerate(trainer.optimizers):
        for key, state in optimizer.state_dict()["state"].items():
            found |= {f"{index}.{key}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return found


def different(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> list[str]:
    assert left.keys() == right.keys()
    return [name for name, value in left.items() if not torch.equal(value, right[name])]


WAYS: dict[str, dict[str, Any]] = {
    "fused": {},
    "unfused, norm clipped": {"optimizer": UNFUSED, "clip": NormClip(0.1)},
    "adaptively clipped": {"clip": AdaptiveClip()},
    "no average, no history": {"ema_decay": 0.0, "pool_size": 0},
    "penalties": {"penalties": {"gp": WGANGP(), "r1": R1(every_n_steps=2)}},
    "bfloat16": {"precision": "bf16-mixed"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("whose", ["gen", "disc"])
def test_a_step_with_a_loss_of_nan_is_as_if_it_had_been_left_out_and_the_run_goes_on(folder, way, whose):
    bad = fit(folder, Clock(), adversarial_loss=BadLoss(whose, (2, 3)), **WAYS[way])
    assert different(bad, fit(folder, Without(whose, (2, 3)), **WAYS[way])) == []
    assert all(value.isfinite().all() for value in bad.values())


def test_the_runs_compared_do_differ_from_one_with_all_steps(folder):
    whole = fit(folder, Clock())
    for whose in ("gen", "disc"):
        assert different(whole, fit(folder, Without(whose, (2,)))) != []


@pytest.mark.parametrize("whose", ["gen", "disc"])
@pytest.mark.parametrize("optimizer", [FUSED, UNFUSED], ids=["fused", "unfused"])
def test_an_infinite_gradient_is_no_step_either_not_even_the_first(folder, whose, optimizer):
    bad = fit(folder, InfiniteGradient(whose, (0, 4)), optimizer=optimizer)
    # The optimizer that left a step out has no state for its parameters until the next.
    assert different(bad, fit(folder, Without(whose, (0, 4)), optimizer=optimizer)) == []


def test_gradients_of_nan_are_noticed_as_their_terms_are(folder):
    bad = fit(folder, Clock(), adversarial_loss=BadLoss("gen", (1,), multiply=True))
    assert different(bad, fit(folder, Without("gen", (1,)))) == []


def test_images_of_nan_reach_neither_networks_nor_history(folder):
    class Blank(Clock):
        before: dict[str, torch.Tensor]

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            super().on_train_batch_start(trainer, pl_module)
            if batch_idx == 4:
                batch["a"].fill_(math.nan)
                self.before = {name: self.stored(pl_module, name) for name in ("pool_a", "pool_b")}
                self.weights = [p.detach().clone() for p in pl_module.parameters() if p.requires_grad]

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 4:
                assert torch.equal(self.before["pool_b"], self.stored(pl_module, "pool_b"))
                after = [p for p in pl_module.parameters() if p.requires_grad]
                assert all(torch.equal(old, new) for old, new in zip(self.weights, after, strict=True))

        @staticmethod
        def stored(model, name):
            return getattr(model, name).get_extra_state()["images"]

    ended = fit(folder, Blank())
    assert all(value.isfinite().all() for value in ended.values())


class Record(Callback):
    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        weights = torch.cat([parameter.detach().flatten() for parameter in pl_module.parameters()])
        alarms = [float(value) for name, value in sorted(trainer.callback_metrics.items()) if name.startswith("val/")]
        torch.save((weights, alarms), self.folder / f"{trainer.global_rank}.pt")


@pytest.mark.slow
def test_two_processes_skip_together_what_only_one_of_them_saw(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    torch.set_num_threads(1)
    strategy = DDPStrategy(
        process_group_backend="gloo", start_method="spawn", find_unused_parameters=True, broadcast_buffers=False
    )
    model = tiny_model(optimizer=FUSED, adversarial_loss=BadLoss("gen", (1,), rank=1), lr=1e-2)
    callbacks = [Clock(), Divergence(), Alarms(), Record(tmp_path)]
    trainer = tiny_trainer(tmp_path, callbacks, max_epochs=1, devices=2, strategy=strategy)
    trainer.fit(model, tiny_data(tmp_path, count_a=10, batch_size=1, num_workers=0))
    (first, alarms), (second, same_alarms) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert len(alarms) == 10
    assert alarms == same_alarms  # of half of the images each
    assert torch.equal(first, second)
    assert first.isfinite().all()
    lines = {line for line in capfd.readouterr().out.splitlines() if "warning" in line}
    end = "step of the generators skipped (1 of 10 in a row)"
    assert lines == {
        f"warning: process 0: step 1: train/grad_norm_gen is nan, {end}",
        f"warning: process 1: step 1: train/adv_a is nan, {end}",
    }


def test_the_norm_that_decides_is_that_of_all_gradients():
    parameters = [torch.nn.Parameter(torch.zeros(3)) for _ in range(3)]
    for parameter in parameters:
        parameter.grad = torch.ones(3)
    parameters[1].grad[2] = math.inf
    for clip in (gradient_norm, NormClip(1.0), AdaptiveClip()):
        assert not math.isfinite(clip(parameters))
