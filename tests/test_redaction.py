from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monet_cyclegan import CHECKPOINT_KEY
from monet_cyclegan.redaction import HIDDEN, redacted, redacted_override, secrets

ROOT = Path(__file__).parents[1]
KEY, TOKEN, PASSWORD = "0123456789abcdef-wandb", "hf_fedcba9876543210", "open-sesame-42"
KNOWN = [KEY, TOKEN]


def test_variables_named_like_secrets_hold_secrets():
    environment = {
        "WANDB_API_KEY": KEY,
        "HF_TOKEN": TOKEN,
        "AWS_SECRET_ACCESS_KEY": "x" * 8,
        "DB_PASSWORD": "y" * 7,
        "KEYBOARD": "qwertyuiop",
        "MONKEY_ISLAND": "guybrush",
        "SHORT_KEY": "abc",
        "HOME": "/home/claude",
    }
    assert secrets(environment) == [KEY, TOKEN, "x" * 8, "y" * 7]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (f"key {KEY}, twice {KEY}", f"key {HIDDEN}, twice {HIDDEN}"),
        ({"a": [TOKEN, 1, None, 0.5, True]}, {"a": [HIDDEN, 1, None, 0.5, True]}),
        ({"api_key": "short", "token": None, "monkey": "ape"}, {"api_key": HIDDEN, "token": None, "monkey": "ape"}),
        ("postgresql://me:pw@host/db", f"postgresql://me:{HIDDEN}@host/db"),
        ("redis://:pw@host", f"redis://:{HIDDEN}@host"),
        ("https://host:443/a@b", "https://host:443/a@b"),
        ("photos/key.jpg", "photos/key.jpg"),
    ],
)
def test_secrets_are_left_out_of_texts_lists_and_dicts(value: object, shown: object):
    assert redacted(value, KNOWN) == shown


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("+logger.wandb.api_key=abc", f"+logger.wandb.api_key={HIDDEN}"),
        ("logger.wandb.token=${oc.env:HF_TOKEN}", "logger.wandb.token=${oc.env:HF_TOKEN}"),
        ("model.lr=1e-4", "model.lr=1e-4"),
        ("hydra.sweeper.storage=postgresql://me:pw@host/db", f"hydra.sweeper.storage=postgresql://me:{HIDDEN}@host/db"),
        ("logger.wandb.token=null", "logger.wandb.token=null"),
    ],
)
def test_secrets_are_left_out_of_arguments(override: str, shown: str):
    assert redacted_override(override) == shown


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run with secrets in .env, in the environment and on the command line, and all that it printed."""
    folder = tmp_path_factory.mktemp("run")
    (folder / ".env").write_text(f"WANDB_API_KEY={KEY}\n", encoding="utf-8")
    command = [sys.executable, ROOT / "train.py", "experiment=demo", "logger=many"]
    tiny = ["data.count_a=4", "data.count_b=4", "data.val_count=2", "data.size=32", "data.load_size=32"]
    tiny += ["data.crop_size=16", "model.generator.base_channels=2", "model.generator.num_levels=2"]
    tiny += ["model.discriminator.base_channels=2", "model.discriminator.num_layers=1", "trainer.max_epochs=1"]
    tiny += ["hydra.run.dir=run", "trainer=cpu"]
    given = [
        "+note=['${oc.env:WANDB_API_KEY}','${oc.env:HF_TOKEN}']",
        f"+logger.csv.password={PASSWORD}",
        f"+place='postgresql://me:{PASSWORD}@host'",
    ]
    environment = {**os.environ, "HF_TOKEN": TOKEN, "WANDB_MODE": "offline"}
    environment.pop("WANDB_API_KEY", None)
    done = subprocess.run(
        [*command, *tiny, given[0], given[2]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wrong = subprocess.run(
        [*command, *tiny, *given, "hydra.run.dir=wrong"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert wrong.returncode == 2
    return folder, done.stdout + done.stderr + wrong.stdout + wrong.stderr


@pytest.mark.slow
@pytest.mark.parametrize("secret", [KEY, TOKEN, PASSWORD])
def test_no_secret_is_in_any_file_or_line_of_a_run(run: tuple[Path, str], secret: str):
    folder, printed = run
    assert secret not in printed
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".env"]
    assert {"config.yaml", "metrics.csv", "last.ckpt"} <= {file.name for file in files}
    assert any(file.suffix == ".wandb" for file in files)
    assert [str(file) for file in files if secret.encode() in file.read_bytes()] == []


@pytest.mark.slow
def test_a_checkpoint_says_that_there_was_a_secret_and_leaves_its_argument_out(run: tuple[Path, str]):
    checkpoint = torch.load(run[0] / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    saved = checkpoint[CHECKPOINT_KEY]
    assert saved["config"]["note"] == [HIDDEN, HIDDEN]
    assert saved["config"]["place"] == f"postgresql://me:{HIDDEN}@host"
    assert "data.count_a=4" in saved["overrides"]
    assert not any("place=" in text for text in saved["overrides"])
    assert not any("note=" in text for text in saved["overrides"])
