from __future__ import annotations

import torch
from conftest import tiny_data, tiny_model, tiny_trainer

from monet_cyclegan import __version__
from monet_cyclegan.callbacks.save_config import FORMAT, KEY, SaveConfig

CONFIG = {"model": {"lr": 2e-4, "betas": [0.5, 0.999], "clip": None}, "data": {"names": {"a": "photo", "b": "monet"}}}


def test_a_checkpoint_holds_the_config_and_loads_without_running_code(tmp_path):
    callback = SaveConfig(CONFIG, ["model.lr=2e-4"], "model: ...\n", tmp_path / "run")
    trainer = tiny_trainer(tmp_path, [callback], max_epochs=1)
    trainer.fit(tiny_model(), tiny_data(tmp_path))
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    part = torch.load(tmp_path / "saved.ckpt", weights_only=True)[KEY]
    assert part == {"format": FORMAT, "version": __version__, "config": CONFIG, "overrides": ["model.lr=2e-4"]}


def test_the_run_folder_gets_the_config_as_text_before_the_first_batch(tmp_path):
    text = "name: Ölbild # naïve\n"
    callback = SaveConfig(CONFIG, [], text, tmp_path / "new" / "run")
    trainer = tiny_trainer(tmp_path, [callback], max_epochs=0)
    trainer.fit(tiny_model(), tiny_data(tmp_path))
    assert (tmp_path / "new" / "run" / "config.yaml").read_text(encoding="utf-8") == text
