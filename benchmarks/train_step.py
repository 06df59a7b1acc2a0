"""One training step of ours beside the classic loop's, on the same networks, batches and device.

python -m benchmarks.train_step networks=resnet sizes=128 batches=1 blocks=6 channels=32
python -m benchmarks.train_step sizes=128,256,512 batches=1,8,32 compile=false contenders=ours limit_s=30

Ours runs twice: inside of Lightning's Trainer, as train.py runs it, and bare, as the same computation in a plain loop.
All three take turns in one run, in blocks of steps. Memory is measured in a process for each. The share of the matrix
products' rate counts the operations of convolutions, and divides by the rate of a large product in the same precision.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import re
import resource
import statistics
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback, Trainer
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.classic import ClassicLoop
from benchmarks.results import DEFAULT_OUTPUT, write
from monet_cyclegan.cli import exit_with_one_line, parse_key_values
from monet_cyclegan.compilation import begin_step
from monet_cyclegan.cyclegan import CycleGAN
from monet_cyclegan.devices import what_pays
from monet_cyclegan.errors import UserError
from monet_cyclegan.losses import LSGANLoss
from monet_cyclegan.networks.patchgan import PatchGAN
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.networks.unet import UNetGenerator
from monet_cyclegan.steps import total
from monet_cyclegan.training import _quieten

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

GRID = ("networks", "sizes", "batches")
CONTENDERS = ("classic", "bare", "ours")
DEFAULTS = {
    "networks": "resnet",
    "sizes": "128",
    "batches": "1",
    "blocks": 6,
    "channels": 32,
    "disc_channels": 64,
    "device": "auto",
    "precision": "auto",
    "compile": "auto",
    "channels_last": "auto",
    "contenders": ",".join(CONTENDERS),
    "rounds": 8,
    "block": 3,
    "limit_s": 120.0,
    "equal_steps": 20,
    "memory": True,
    "output": DEFAULT_OUTPUT,
}


@dataclass(frozen=True)
class Setting:
    """One row: what is trained on what, and how."""

    network: str
    size: int
    batch: int
    blocks: int
    channels: int
    disc_channels: int
    device: str
    precision: str
    compile: str | bool
    channels_last: bool

    def model(self, lr: float = 2e-4) -> CycleGAN:
        """A CycleGAN, the same for the same setting."""
        torch.manual_seed(0)
        generator: Callable[[], Any] = (
            partial(ResNetGenerator, self.blocks, self.channels)
            if self.network == "resnet"
            else partial(UNetGenerator, int(math.log2(self.size)), self.channels, 8 * self.channels)
        )
        return CycleGAN(
            generator,
            partial(PatchGAN, base_channels=self.disc_channels),
            LSGANLoss(),
            partial(torch.optim.Adam, betas=(0.5, 0.999), fused=True),
            lr=lr,
            compile=self.compile,
            channels_last=self.channels_last,
        ).to(self.device)

    def images(self, count: int = 1, seed: int = 0) -> list[dict[str, Tensor]]:
        """Batches of smooth noise, on the device: (N, 3, S, S) in [-1, 1]."""
        noise = torch.Generator().manual_seed(seed)
        shape = (count, 2, self.batch, 3, self.size // 8, self.size // 8)
        coarse = torch.rand(shape, generator=noise).mul(2).sub(1).flatten(0, 2)
        fine = torch.nn.functional.interpolate(coarse, size=(self.size, self.size), mode="bilinear")
        pairs = fine.unflatten(0, shape[:3]).to(self.device)
        return [{"a": a, "b": b} for a, b in pairs]

    @property
    def autocast(self) -> Any:
        """The context of a step's computation."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16-mixed")


class BareStep:
    """What `CycleGAN.training_step` computes, in a plain loop."""

    def __init__(self, setting: Setting, lr: float = 2e-4):
        self.setting, self.model = setting, setting.model(lr)
        self.opt_gen, self.opt_disc = self.model.configure_optimizers()
        self.steps = 0

    def step(self, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
        """One step; returns the weighted losses."""
        model = self.model
        begin_step(self.setting.compile)
        real_a, real_b = (images.contiguous(memory_format=model.memory_format) for images in (real_a, real_b))
        discriminators = [*model.disc_a.parameters(), *model.disc_b.parameters()]
        with self.setting.autocast:
            for parameter in discriminators:
                parameter.requires_grad_(False)
            fake_a, fake_b, gen_terms = model.generators_pass(real_a, real_b)
            self._optimize(self.opt_gen, gen_terms)
            for parameter in discriminators:
                parameter.requires_grad_(True)
            fake_a, fake_b = model.pool_a.query(fake_a), model.pool_b.query(fake_b)
            disc_terms, *_ = model.discriminators_pass(real_a, real_b, fake_a, fake_b)
            self._optimize(self.opt_disc, disc_terms)
        assert model.ema_ab is not None
        assert model.ema_ba is not None
        model.ema_ab.update(model.gen_ab, self.steps)
        model.ema_ba.update(model.gen_ba, self.steps)
        self.steps += 1
        return {name: term.detach().clone() for name, term in {**gen_terms, **disc_terms}.items()}

    def _optimize(self, optimizer: torch.optim.Optimizer, terms: dict[str, Tensor]) -> None:
        optimizer.zero_grad()
        total(terms).backward()
        self.model.clip([parameter for group in optimizer.param_groups for parameter in group["params"]])
        optimizer.step()


class TakeTurns(Callback):
    """Times Lightning's batches in blocks, and lets the other contenders run a block after each."""

    def __init__(self, others: dict[str, Callable[[], Any]], block: int, rounds: int, device: str):
        self.others, self.block, self.rounds, self.device = others, block, rounds, device
        self.seconds: dict[str, list[float]] = {name: [] for name in (*others, "ours")}
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """At a block's end note its time, and give the others their turn; the first round doesn't count."""
        if (batch_idx + 1) % self.block:
            return
        _wait_for(self.device)
        self.seconds["ours"].append((time.perf_counter() - self._since) / self.block)
        for name, step in self.others.items():
            self.seconds[name].append(_timed(step, self.block, self.device))
        if batch_idx < 2 * self.block:
            for times in self.seconds.values():
                times.clear()
        self._since = time.perf_counter()


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _timed(step: Callable[[], Any], count: int, device: str) -> float:
    start = time.perf_counter()
    for _ in range(count):
        step()
    _wait_for(device)
    return (time.perf_counter() - start) / count


def classic_step(
    setting: Setting, lr: float = 2e-4, error: float = 0.0
) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """The classic loop on networks of ours that start from the same weights, up to a relative ``error``."""
    model = replace(setting, compile=False, channels_last=False).model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + error * torch.randn_like(parameter).sign())
    return ClassicLoop(model.gen_ab, model.gen_ba, model.disc_a, model.disc_b, lr).step


def speeds(setting: Setting, contenders: list[str], block: int, rounds: int) -> dict[str, float]:
    """Seconds a step of each contender, medians over the rounds."""
    (batch,) = setting.images()
    steps: dict[str, Callable[[Setting], Callable[..., Any]]]
    steps = {"classic": classic_step, "bare": lambda setting: BareStep(setting).step}
    others: dict[str, Callable[[], Any]] = {
        name: partial(steps[name](setting), batch["a"], batch["b"]) for name in contenders if name != "ours"
    }
    turns = TakeTurns(others, block, rounds, setting.device)
    trainer = Trainer(
        accelerator=setting.device,
        devices=1,
        precision=setting.precision,  # type: ignore[arg-type]
        max_epochs=1,
        callbacks=[turns],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10,
    )
    batches: Any = [batch] * (block * (rounds + 2))
    trainer.fit(setting.model(), DataLoader(batches, batch_size=None))
    return {name: statistics.median(times) for name, times in turns.seconds.items()}


def peak_megabytes(setting: Setting, contender: str) -> float:
    """Peak memory of three steps, in the process in which this is called: a GPU's, or what the process grows by."""
    (batch,) = setting.images()
    before = _resident()
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step = classic_step(setting) if contender == "classic" else BareStep(setting).step
    for _ in range(3):
        step(batch["a"], batch["b"])
    return torch.cuda.max_memory_allocated() / 1e6 if setting.device == "cuda" else _resident() - before


def _resident() -> float:
    """This process's peak so far, in MB; of Linux's two figures the one that doesn't begin with the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1e3  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def flops(setting: Setting) -> float:
    """Multiplications and additions of one step's convolutions, forwards and backwards."""
    (batch,) = setting.images()
    bare = BareStep(replace(setting, compile=False))
    with FlopCounterMode(display=False) as counter:
        bare.step(batch["a"], batch["b"])
    return float(counter.get_total_flops())


def matrix_rate(device: str, precision: str) -> float:
    """Operations a second of a large matrix product, the best of ten."""
    side = 8192 if device == "cuda" else 2048
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16 if precision == "bf16-mixed" else None)
    return 2 * side**3 / min(_timed(lambda: matrix @ matrix, 1, device) for _ in range(11))


def differences(setting: Setting, steps: int) -> dict[str, float]:
    """How far our losses go away from the classic loop's, by what differs.

    At the usual learning rate Adam turns rounding errors into whole steps wherever a gradient is nearly zero, and two
    copies of the classic loop itself, whose weights differ in the last digit, part within a few steps. So equality
    shows at a hundredth of the rate; "classic" is the classic loop beside itself with weights off by 1e-7.
    """
    exact = replace(setting, precision="32-true")
    contenders = {
        f"{name}, lr {lr:g}": (step, lr)
        for lr in (2e-6, 2e-4)
        for name, step in {
            "32-true": BareStep(exact, lr).step,
            setting.precision: BareStep(setting, lr).step,
            "classic": classic_step(exact, lr, error=1e-7),
        }.items()
    }
    return {
        name: difference(step, classic_step(exact, lr), setting.images(steps))
        for name, (step, lr) in contenders.items()
    }


def difference(left: Callable[..., Any], right: Callable[..., Any], batches: list[dict[str, Tensor]]) -> float:
    """The largest relative difference between the total losses of two loops, of generators or discriminators."""
    largest = 0.0
    for batch in batches:
        losses = [step(batch["a"], batch["b"]) for step in (left, right)]
        for names in (("adv_", "cycle_", "identity_"), ("disc_",)):
            one, other = (
                sum(float(term.detach()) for name, term in each.items() if name.startswith(names)) for each in losses
            )
            largest = max(largest, abs(one - other) / other)
    return largest


def measure(setting: Setting, options: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    contenders = options["contenders"].split(",")
    row: dict[str, Any] = asdict(setting)
    row["seconds"] = speeds(setting, contenders, options["block"], options["rounds"])
    row["pairs_per_second"] = {name: setting.batch / seconds for name, seconds in row["seconds"].items()}
    rate, operations = matrix_rate(setting.device, setting.precision), flops(setting)
    row |= {"teraflops_per_step": operations / 1e12, "matrix_teraflops_per_second": rate / 1e12}
    row["share_of_matrix_rate"] = operations / row["seconds"]["ours"] / rate
    if options["memory"]:
        context = multiprocessing.get_context("spawn")
        row["megabytes"] = {}
        for name in (name for name in contenders if name != "bare"):
            with ProcessPoolExecutor(1, mp_context=context) as process:
                row["megabytes"][name] = process.submit(peak_megabytes, setting, name).result()
    if options["equal_steps"] and "classic" in contenders and setting.batch == 1:
        row["differences"] = differences(setting, options["equal_steps"])
    return row


def settings(options: dict[str, Any]) -> list[Setting]:
    """All combinations of networks, sizes and batches.

    Raises:
        UserError: an unknown contender, network or device.
    """
    for key, choices in (("contenders", CONTENDERS), ("networks", ("resnet", "unet"))):
        unknown = sorted({*options[key].split(",")} - {*choices})
        if unknown:
            raise UserError(f"{key}={','.join(unknown)} is not known: choose from {', '.join(choices)}")
    if "ours" not in options["contenders"]:
        raise UserError("contenders must include ours, whose loop the others take turns with")
    cuda = torch.cuda.is_available()
    device = ("cuda" if cuda else "cpu") if options["device"] == "auto" else options["device"]
    if device not in ("cpu", *(["cuda"] if cuda else [])):
        raise UserError(f"device={device} is not on this machine: choose {'cpu or cuda' if cuda else 'cpu'}")
    pays = what_pays(device)
    words: dict[str, Any] = {"true": True, "false": False}
    chosen = {
        key: getattr(pays, key) if options[key] == "auto" else words.get(options[key], options[key])
        for key in ("precision", "compile", "channels_last")
    }
    fixed = {key: options[key] for key in ("blocks", "channels", "disc_channels")}
    return [
        Setting(network, int(size), int(batch), device=device, **fixed, **chosen)
        for network, size, batch in itertools.product(*(options[key].split(",") for key in GRID))
    ]


def too_long(setting: Setting, rows: list[dict[str, Any]], limit_s: float) -> bool:
    """Whether a step would take longer than the limit, as the steps before it say."""
    same = [row for row in rows if row["network"] == setting.network]
    per_pixel = [row["seconds"]["ours"] / row["batch"] / row["size"] ** 2 for row in same]
    return bool(same) and min(per_pixel) * setting.batch * setting.size**2 > limit_s


def _how(row: dict[str, Any]) -> str:
    return f"{row['precision']}, {'compiled' if row['compile'] else 'eager'}"


def _named(row: dict[str, Any]) -> str:
    blocks = f"-{row['blocks']}" if row["network"] == "resnet" else ""
    size = f"{row['channels']} channels, {row['size']} pixels, batch {row['batch']}"
    return f"{row['network']}{blocks}, {size}, {_how(row)}"


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table."""
    columns = ("network", "pixels", "batch", "pairs/s", "x\nclassic", "x\nbare", "% of\nproducts", "MB", "MB,\nclassic")
    table = Table(*columns, title=f"Training steps, {rows[0]['channels']} channels, {_how(rows[0])}")
    for row in rows:
        seconds, memory = row["seconds"], row.get("megabytes", {})
        figures = {
            "pairs/s": f"{row['pairs_per_second']['ours']:.2f}",
            "x classic": f"{seconds['classic'] / seconds['ours']:.2f}" if "classic" in seconds else "",
            "x bare": f"{seconds['ours'] / seconds['bare']:.3f}" if "bare" in seconds else "",
            "% of products": f"{100 * row['share_of_matrix_rate']:.0f}",
            "MB": f"{memory['ours']:.0f}" if memory else "",
            "MB, classic": f"{memory['classic']:.0f}" if "classic" in memory else "",
        }
        table.add_row(row["network"], str(row["size"]), str(row["batch"]), *figures.values())
    Console().print(table)
    for row in rows:
        for what, value in row.get("differences", {}).items():
            print(f"largest difference of the losses to the classic loop's: {row['network']}, {what}: {value:.2g}")


def summary(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The lines of the one table of all benchmarks."""
    lines = []
    for row in rows:
        seconds, memory = row["seconds"], row.get("megabytes", {})
        figure = [f"{row['pairs_per_second']['ours']:.2f} pairs/s"]
        if "classic" in seconds:
            figure.append(f"{seconds['classic'] / seconds['ours']:.2f} times the classic loop")
        if "bare" in seconds:
            figure.append(f"Lightning adds {100 * (seconds['ours'] / seconds['bare'] - 1):.1f} %")
        figure.append(f"{100 * row['share_of_matrix_rate']:.0f} % of the matrix products' rate")
        if memory:
            figure.append(
                f"{memory['ours']:.0f} MB" + (f" (classic {memory['classic']:.0f})" if "classic" in memory else "")
            )
        lines.append((_named(row), "; ".join(figure)))
        lines += [
            (
                f"{row['network']}: largest difference of the losses to the classic loop's over 20 steps, {name}",
                f"{value:.1g}",
            )
            for name, value in row.get("differences", {}).items()
        ]
    return lines


@exit_with_one_line()
def main() -> None:
    """Measure, print and write JSON."""
    options = parse_key_values(sys.argv[1:], DEFAULTS)
    _quieten()
    for message in (".*no `val_dataloader`.*", ".*does not have many workers.*"):
        warnings.filterwarnings("ignore", message)
    rows: list[dict[str, Any]] = []
    for setting in settings(options):
        if too_long(setting, rows, options["limit_s"]):
            print(
                f"skipped {setting.network} {setting.size} batch {setting.batch}: over {options['limit_s']:g} s a step"
            )
            continue
        torch.compiler.reset()
        rows.append(measure(setting, options))
        show(rows[-1:])
    show(rows)
    print(write("train_step", summary(rows), {"rows": rows}, rows[0]["device"], output=options["output"]))


if __name__ == "__main__":
    main()
