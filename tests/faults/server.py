"""Runs train.py's job again and again in forks of one process, which has loaded the libraries and composed the config.

Reads a line of JSON for each run and answers with one. A run may be told to kill itself at a named point, or to fail to
write: {"overrides": [...], "folder": DIR, "resume": BOOL, "log": FILE, "die_at": [POINT, OCCASION],
"fail_at": [N, COUNT], "kill_after": SECONDS, "reached": FILE}
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
sys.path.insert(0, str(ROOT))
os.environ.update({"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1", "NO_ALBUMENTATIONS_UPDATE": "1"})

import points
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from monet_cyclegan.intact import intact, latest
from monet_cyclegan.launch import clear_errors, run_dir
from monet_cyclegan.training import train

torch.set_num_threads(1)


@cache
def composed(*overrides: str) -> Any:
    """The config, with Hydra's own part."""
    OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*overrides], return_hydra_config=True)


def run(spec: dict[str, Any]) -> None:
    """What a fork does, as ``python train.py hydra.run.dir=FOLDER [ckpt_path=auto]`` would."""
    log = os.open(spec["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    status = 0
    try:
        cfg = composed(*spec["overrides"])
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = spec["folder"]
            cfg.hydra.overrides.task = list(spec["overrides"])
            HydraConfig.instance().set_config(cfg)
            del cfg.hydra
        points.install(spec.get("die_at"), spec.get("fail_at"), Path(spec["reached"]) if "reached" in spec else None)
        with clear_errors(CONF, "train"):
            folder = Path(spec["folder"])
            last = latest(folder.parent, folder.name) if spec["resume"] else None
            cfg.ckpt_path = str(intact(last)) if last else None
            train(cfg)
    except SystemExit as end:
        status = int(end.code or 0)
    points.report()
    if Path(os.environ["MODULES"]).exists():
        Path(os.environ["MODULES"]).write_text("\n".join(sys.modules))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def supervise(spec: dict[str, Any]) -> dict[str, Any]:
    """Fork a run, and wait for its end, or bring it about."""
    composed(*spec["overrides"])
    gc.freeze()  # collecting what all forks share would copy it into each
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        run(spec)
    if "kill_after" in spec:
        time.sleep(spec["kill_after"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}


def load(names: list[str]) -> None:
    """Import what the first run has imported, so that no other has to; what can't be had alone is left to them."""
    for name in names:
        with suppress(Exception):
            importlib.import_module(name)


if __name__ == "__main__":
    modules = Path(tempfile.mkstemp()[1])
    os.environ["MODULES"] = str(modules)
    for line in sys.stdin:
        print(json.dumps(supervise(json.loads(line))), flush=True)
        if modules.exists() and modules.stat().st_size:
            load(modules.read_text().split())
            modules.unlink()
    os._exit(0)  # libraries would comment on what forks have in common
