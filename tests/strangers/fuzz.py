"""Feed our parsers what no one would write, guided by which lines of theirs it reaches.

python tests/strangers/fuzz.py target=all inputs=1000000
prints how many inputs each parser took, and writes it into benchmarks/results/fuzz.json. Each target runs in a process
of its own, where Atheris (libFuzzer) changes the seeds; an exception that isn't one of a parser's own, ten seconds for
one input or two gigabytes end it, and leave the input in a file that the last line names.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `tests` isn't a package here: one of torch-fidelity has that name


class Target(NamedTuple):
    """A parser.

    Attributes:
        module: of this folder, which has `seeds() -> list[bytes]` and `feed(data: bytes) -> None` for it: the
            functions ``seeds_<name>`` and ``feed_<name>``.
        instrumented: modules whose lines guide the search; imported here, first.
        longest: bytes of an input.
    """

    module: str
    instrumented: tuple[str, ...]
    longest: int = 2048


class Run(NamedTuple):
    """What became of a target: inputs it took, and the input it failed on, with the last lines printed."""

    inputs: int
    seconds: float
    failed: Path | None
    tail: str


_ZIP = ("monet_cyclegan.untrusted.zips", "monet_cyclegan.data.files", "zipfile")
_RECORDS = ("monet_cyclegan.data.tfrecord", "monet_cyclegan.untrusted.protobuf")
_PLAIN = ("monet_cyclegan.checkpoint", "monet_cyclegan.untrusted.plain_values")
_ARCHIVE = tuple(f"monet_cyclegan.untrusted.{name}" for name in ("torch_archive", "archive_limits", "pickle_walk"))
_WEIGHTS = ("monet_cyclegan.weights", "monet_cyclegan.assembly", "monet_cyclegan.untrusted.plain_values")
_ONNX = ("monet_cyclegan.inference.onnx_limits", "monet_cyclegan.untrusted.protobuf")
TARGETS: dict[str, Target] = {
    # fuzz_files.py has those of pictures and data, fuzz_weights.py those of checkpoints and commands
    "records": Target("fuzz_files", _RECORDS),
    "example": Target("fuzz_files", _RECORDS),
    "zip": Target("fuzz_files", _ZIP, 4096),
    "structure": Target("fuzz_weights", _PLAIN),
    "archive": Target("fuzz_weights", (*_ARCHIVE, "zipfile"), 4096),
    "safetensors": Target("fuzz_weights", _WEIGHTS),
    "description": Target("fuzz_weights", _WEIGHTS),
    "override": Target("fuzz_weights", ("monet_cyclegan.saved_settings",), 256),
    "onnx": Target("fuzz_weights", _ONNX),
}


PLANTED = {"planted": Target("fuzz_planted", ("fuzz_planted",), 16)}  # a parser with a defect, which has to be found


def functions(name: str) -> tuple[Callable[[], list[bytes]], Callable[[bytes], None]]:
    """A target's seeds and what feeds it."""
    module = importlib.import_module({**TARGETS, **PLANTED}[name].module)
    return getattr(module, f"seeds_{name}"), getattr(module, f"feed_{name}")


def run(name: str, inputs: int, seed: int = 1) -> Run:
    """Fuzz a target in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz_{name}_"))
    command = [sys.executable, __file__, "inside", name, str(inputs), str(seed), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    output = done.stdout + done.stderr
    took = re.search(r"Done (\d+) runs in (\d+) second", output)
    left = sorted(path for path in folder.iterdir() if path.name.startswith(("crash", "timeout", "oom")))
    failed = left[0] if left else folder if took is None else None
    count, seconds = (int(took[1]), float(took[2])) if took else (0, 0.0)
    return Run(count, seconds, failed, "\n".join(output.splitlines()[-30:]))


def _inside(name: str, inputs: int, seed: int, folder: Path) -> None:
    import atheris

    target = {**TARGETS, **PLANTED}[name]
    with atheris.instrument_imports(include=list(target.instrumented)):
        for module in target.instrumented:
            importlib.import_module(module)
    seeds, feed = functions(name)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds()):
        (corpus / f"{number:04d}").write_bytes(data)
    options = [f"-runs={inputs}", f"-seed={seed}", f"-max_len={target.longest}", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, "-timeout=10", "-rss_limit_mb=2048", str(corpus)], feed)
    atheris.Fuzz()


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns its exit status."""
    from benchmarks import results
    from monet_cyclegan.cli import parse_key_values

    defaults = {"target": "all", "inputs": 1_000_000, "seed": 1, "output": results.DEFAULT_OUTPUT}
    options = parse_key_values(arguments, defaults)
    names = list(TARGETS) if options["target"] == "all" else options["target"].split(",")
    runs = {}
    for name in names:
        runs[name] = done = run(name, options["inputs"], options["seed"])
        print(f"{name}: {done.inputs:,} inputs in {done.seconds:.0f} s, {done.failed or 'nothing found'}", flush=True)
        if done.failed:
            print(done.tail)
    failed = [name for name, done in runs.items() if done.failed]
    if not failed:
        summary = [
            (f"inputs to {name}, nothing found", f"{done.inputs:,} in {done.seconds:.0f} s")
            for name, done in runs.items()
        ]
        results.write(
            "fuzz", summary, {}, packages=("atheris",), output=options["output"], program="tests/strangers/fuzz.py"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        _inside(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        sys.exit(main(sys.argv[1:]))
