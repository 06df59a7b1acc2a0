"""The real compiler on networks of two channels: it changes speed, and nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import tiny_data, tiny_model, tiny_trainer
from lightning import Callback

from monet_cyclegan import compilation
from monet_cyclegan.compilation import check_mode, compiled, why_not
from monet_cyclegan.networks.batch_statistics import BatchStatisticsGAN
from monet_cyclegan.networks.resnet import ResNetGenerator
from monet_cyclegan.penalties import R1, WGANGP

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch):
    """conftest switches it off for all other tests."""
    import torch._dynamo

    monkeypatch.delenv("TORCHDYNAMO_DISABLE")
    with torch._dynamo.config.patch(disable=False):
        yield
    torch.compiler.reset()


class SaveAfter(Callback):
    def __init__(self, batches: int, path: Path):
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer, pl_module, *_: Any):
        if pl_module.batches_done == self.batches:
            trainer.save_checkpoint(self.path)


def train(folder: Path, compile: bool, dropout: float = 0.0, path: Path | None = None, resume: bool = False):
    model = tiny_model(
        1 if resume else 0,
        generator=partial(ResNetGenerator, num_residual_blocks=1, base_channels=2, dropout=dropout),
        optimizer=partial(torch.optim.SGD),  # Adam would blow differences of rounding up
        penalties={"r1": R1(every_n_steps=2), "gp": WGANGP()},
        lr=1e-4,
        compile=compile,
    )
    callbacks = [SaveAfter(3, path)] if path is not None and not resume else []
    trainer = tiny_trainer(folder, callbacks, max_epochs=1, limit_val_batches=0)
    trainer.fit(model, tiny_data(folder), ckpt_path=path if resume else None, weights_only=True if resume else None)
    return {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_a_compiled_run_learns_what_an_eager_one_learns_penalties_included(tmp_path: Path):
    import torch._dynamo.utils

    torch._dynamo.utils.counters.clear()
    eager = train(tmp_path, compile=False)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0
    fast = train(tmp_path, compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    assert eager.keys() == fast.keys()  # a checkpoint doesn't tell them apart
    start = tiny_model().state_dict()
    assert max((eager[name] - start[name]).abs().max() for name in eager) > 1e-3
    for name, value in eager.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_a_compiled_run_goes_on_from_its_checkpoint_bit_for_bit_dropout_included(tmp_path: Path):
    path = tmp_path / "cut.ckpt"
    whole = train(tmp_path, compile=True, dropout=0.5, path=path)
    resumed = train(tmp_path, compile=True, dropout=0.5, path=path, resume=True)
    assert [name for name, value in whole.items() if not torch.equal(value, resumed[name])] == []


@pytest.mark.usefixtures("compiler")
def test_compiled_resize_convolutions_have_finite_gradients_for_a_single_image_in_bfloat16():
    generator = ResNetGenerator(num_residual_blocks=1, base_channels=16, upsampling="resize")
    image = 2 * torch.rand(1, 3, 64, 64) - 1
    gradients = []
    for mode in (False, True):  # torch.nn.Upsample gives NaN in the second case
        generator.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = compiled(lambda images: generator(images).float().square().mean(), mode)(image)
        loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in generator.parameters()]))
    eager, ours = gradients
    assert torch.nn.functional.cosine_similarity(eager, ours, dim=0) > 0.99


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_discriminators_that_remember_images_are_compiled_once_however_many_these_are():
    import torch._dynamo.utils

    torch._dynamo.utils.counters.clear()
    discriminator = partial(BatchStatisticsGAN, 1, 2, head_channels=2, memory_size=3)
    model, images = tiny_model(discriminator=discriminator), torch.rand(4, 1, 3, 16, 16)
    fast = compiled(model.discriminator_losses, True)
    for _ in range(5):
        remembered = {name: memory.recall(images.device) for name, memory in model.memories.items()}
        with torch.no_grad():
            expected, found = (function(*images, remembered) for function in (model.discriminator_losses, fast))
        torch.testing.assert_close(found, expected)
        for name, moments in found[2].items():
            model.memories[name].remember(moments)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_each_of_many_models_in_a_process_is_compiled():
    """A search trains dozens: without forgetting, the ninth and all that follow would run uncompiled, unnoticed."""
    import torch._dynamo
    import torch._dynamo.utils

    images = torch.zeros(1, 3, 16, 16)
    for _ in range(torch._dynamo.config.recompile_limit + 2):
        model = tiny_model(compile=True)
        model.discriminators_pass = compiled(model.discriminator_losses, "default")
        torch._dynamo.utils.counters.clear()
        with torch.no_grad():
            model.discriminators_pass(images, images, images, images)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.usefixtures("compiler")
def test_this_machine_can_compile():
    assert why_not(torch.device("cpu")) is None


def test_a_machine_that_can_not_compile_says_why_in_a_line(monkeypatch: pytest.MonkeyPatch):
    def no_compiler(*_: Any, **__: Any):
        raise RuntimeError("no C++ compiler found\nin 20 places")

    monkeypatch.setattr(compilation.torch, "compile", no_compiler)
    assert why_not(torch.device("cpu")) == "no C++ compiler found"


def test_without_a_mode_nothing_is_compiled():
    assert compiled(len, False) is len


@pytest.mark.parametrize("mode", ["fast", "auto", None, 3])
def test_an_unknown_mode_is_refused_with_the_choices(mode: Any):
    with pytest.raises(ValueError, match="choose true, false, default, reduce-overhead, max-autotune"):
        check_mode(mode)
