"""Runs train.py again and again in forks of one process, which has loaded the libraries: python server.py.

Reads a line of JSON for each run and answers with one. A run may be told to kill itself at a named point, or to fail to
write: {"arguments": [...], "log": FILE, "die_at": [POINT, OCCASION], "fail_at": N, "kill_after": SECONDS}
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.update({"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1", "NO_ALBUMENTATIONS_UPDATE": "1"})

import lightning
import torch

torch.set_num_threads(1)
assert lightning

import points

from monet_cyclegan import training


def run(spec: dict) -> None:
    """What a fork does: train.py, as from the command line."""
    log = os.open(spec["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    points.install(spec.get("die_at"), spec.get("fail_at"), Path(spec["reached"]) if "reached" in spec else None)
    sys.argv = ["train.py", *spec["arguments"]]
    status = 0
    try:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    points.report()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def supervise(spec: dict) -> dict:
    """Fork a run, and wait for its end, or bring it about."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        run(spec)
    if "kill_after" in spec:
        time.sleep(spec["kill_after"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}


if __name__ == "__main__":
    assert training
    for line in sys.stdin:
        print(json.dumps(supervise(json.loads(line))), flush=True)
