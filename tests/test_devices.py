"""Machines that this one isn't are stood in for by what torch and Lightning say of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from monet_cyclegan import devices
from monet_cyclegan.devices import Speed, device_problems, settle_speed, what_pays


def settings(**changes: Any):
    speed = {"precision": "auto", "benchmark": "auto"}
    trainer = {"accelerator": "auto", "devices": 1, **speed}
    model = {"compile": "auto", "channels_last": "auto", "optimizer": {"fused": "auto"}}
    cfg = OmegaConf.create({"trainer": trainer, "model": model})
    return OmegaConf.merge(cfg, OmegaConf.from_dotlist([f"{key}={value}" for key, value in changes.items()]))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Makes this machine one that has certain accelerators, and no compiler to be tried."""

    def has(*names: str) -> None:
        monkeypatch.setattr(devices, "available_accelerators", lambda: sorted(names))
        monkeypatch.setattr(devices, "why_not", lambda device: None)

    return has


def with_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> Speed:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    return what_pays("cuda")


def test_bfloat16_only_where_a_gpu_multiplies_it_and_a_compiler_only_where_triton_knows_the_gpu(monkeypatch):
    hopper, turing, pascal = (with_gpu(monkeypatch, capability) for capability in ((9, 0), (7, 5), (6, 0)))
    assert (hopper.precision, hopper.compile) == ("bf16-mixed", True)
    assert (turing.precision, turing.compile) == ("32-true", True)
    assert (pascal.precision, pascal.compile) == ("32-true", False)


@pytest.mark.parametrize(("avx512_bf16", "amx", "expected"), [
    (False, False, "32-true"), (True, False, "bf16-mixed"), (False, True, "bf16-mixed"),
])  # fmt: skip
def test_bfloat16_only_where_a_processor_multiplies_it(monkeypatch, avx512_bf16: bool, amx: bool, expected: str):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert what_pays("cpu").precision == expected


@pytest.mark.parametrize("accelerator", ["cpu", "mps", "tpu"])
def test_what_is_auto_becomes_what_pays_and_what_was_chosen_stays(machine, accelerator: str):
    machine(accelerator)
    pays = what_pays(accelerator)
    cfg = settings()
    settle_speed(cfg)
    assert (cfg.trainer.precision, cfg.trainer.benchmark) == (pays.precision, pays.benchmark)
    assert (cfg.model.compile, cfg.model.channels_last) == (pays.compile, pays.channels_last)
    assert cfg.model.optimizer.fused == pays.fused

    chosen = {
        "trainer.precision": "32-true",
        "trainer.benchmark": not pays.benchmark,
        "model.compile": not pays.compile,
        "model.channels_last": not pays.channels_last,
        "model.optimizer.fused": not pays.fused,
    }
    cfg = settings(**chosen)
    settle_speed(cfg)
    compile = chosen.pop("model.compile")
    assert cfg.model.compile == (compile and accelerator != "tpu")  # whose compiler is another
    assert {key: OmegaConf.select(cfg, key) for key in chosen} == chosen


def test_an_optimizer_without_fused_is_left_alone(machine):
    machine("cpu")
    cfg = settings()
    cfg.model.optimizer = {"_target_": "torch.optim.RMSprop"}
    settle_speed(cfg)
    assert cfg.model.optimizer == {"_target_": "torch.optim.RMSprop"}


def test_without_a_compiler_training_is_uncompiled_and_says_why(machine, monkeypatch, capsys):
    machine("cpu")
    monkeypatch.setattr(devices, "why_not", lambda device: "no C++ compiler found")
    cfg = settings(**{"model.compile": True})
    settle_speed(cfg)
    assert cfg.model.compile is False
    line = "model.compile=True is not possible here, training goes on without: no C++ compiler found\n"
    assert capsys.readouterr().out == line


def test_the_compiler_is_tried_for_the_device_that_trains(machine, monkeypatch):
    machine("cpu", "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    tried = []
    monkeypatch.setattr(devices, "why_not", lambda device: tried.append(device.type))
    settle_speed(settings())
    settle_speed(settings(**{"trainer.accelerator": "cpu"}))
    settle_speed(settings(**{"model.compile": False}))
    assert tried == ["cuda", "cpu"]


@pytest.mark.parametrize("asked", ["gpu", "cuda", "mps", "tpu"])
def test_a_device_that_is_not_there_is_one_line_with_those_that_are(machine, asked: str):
    machine("cpu")
    found = list(device_problems(settings(**{"trainer.accelerator": asked})))
    assert found == [f"trainer.accelerator={asked} is not on this machine: choose cpu"]


def test_the_line_names_all_that_are_there(machine):
    machine("cpu", "mps")
    (line,) = device_problems(settings(**{"trainer.accelerator": "tpu"}))
    assert line == "trainer.accelerator=tpu is not on this machine: choose cpu or mps"


def test_gpu_means_the_gpu_that_there_is(machine):
    for here in ("cuda", "mps"):
        machine("cpu", here)
        assert devices.chosen_accelerator("gpu") == here
        assert devices.chosen_accelerator("auto") == here


def test_this_machine_has_a_cpu():
    assert "cpu" in devices.available_accelerators()
    assert devices.chosen_accelerator("cpu") == "cpu"


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-true", "64-true", "fp8"])
def test_a_precision_that_trains_badly_is_refused_with_the_choices(precision: str):
    (line,) = device_problems(settings(**{"trainer.accelerator": "cpu", "trainer.precision": precision}))
    assert line == f"trainer.precision={precision} is not supported: choose auto or 32-true or bf16-mixed"


@pytest.mark.parametrize("count", [2, "[0,1]", -1])
def test_several_devices_without_processes_that_know_of_each_other_are_refused(count: Any):
    (line,) = device_problems(settings(**{"trainer.accelerator": "cpu", "trainer.devices": count}))
    assert line.endswith("needs processes that know of each other: add trainer=ddp")
