"""Cases of torch archives that lie about themselves."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from functools import partial
from typing import TYPE_CHECKING, Any

import cases_claims
import made_weights as made
from cases_files import file, not_files, saving
from made_weights import Call, archive, claiming, fake_tensor, packed, pickled

if TYPE_CHECKING:
    from cases_files import Row

NO_CHECKPOINT = "x.ckpt is not a checkpoint of this project"
HARMFUL = "holds more than tensors.*it may be harmful$"


def _cut(share: float) -> bytes:
    data = made.right_bytes()
    return data[: int(len(data) * share)]


def _replaced(old: bytes, new: bytes, count: int = -1) -> bytes:
    return made.right_bytes().replace(old, new, count)


def _end_elsewhere() -> bytes:
    """Two directories: the last one is what Python reads, and another program may read the first."""
    data = packed(claiming(fake_tensor((1,), 1)))
    return data[:-6] + struct.pack("<L", 0) + data[-2:]


def _twice() -> bytes:
    return packed([], more={"data.pkx": b"N."}).replace(b"data.pkx", b"data.pkl")


def _many_entries() -> bytes:
    return packed([], more={f"data/{number}": b"" for number in range(1, 21_000)})


def _doubling(levels: int = 60) -> Any:
    """A list of two lists of two lists ..., each twice the same."""
    inner: Any = [0]
    for _ in range(levels):
        inner = [inner, inner]
    return inner


def _deep(levels: int, ends: bytes = b"") -> bytes:
    """Lists in lists, or what else ``ends`` wraps around."""
    return b"\x80\x02" + (b"]" * levels + b"a" * (levels - 1) if not ends else b")" + ends * levels) + b"."


def _steps(count: int) -> bytes:
    return b"\x80\x02]" + b"Na" * count + b"."


def _itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def _global(name: str) -> bytes:
    module, _, function = name.rpartition(".")
    return b"\x80\x02c" + module.encode() + b"\n" + function.encode() + b"\n)R."


CHECKPOINTS: list[Row] = [
    *cases_claims.TABLE,
    ("a right checkpoint", saving(made.checkpoint), "read", ""),
    ("a checkpoint that training can go on with", saving(made.training), "read", ""),
    *(
        (f"cut to {share:.1%}", file("x.ckpt", partial(_cut, share)), "refused", NO_CHECKPOINT)
        for share in (0.1, 0.5, 0.9, 0.999)
    ),
    (
        "something behind the end",
        file("x.ckpt", lambda: made.right_bytes() + b"x"),
        "refused",
        "doesn't end as an archive",
    ),
    (
        "something before the beginning",
        file("x.ckpt", lambda: b"#!/bin/sh\n" + made.right_bytes()),
        "refused",
        "as a large archive does",
    ),
    (
        "compressed entries",
        file("x.ckpt", partial(packed, [], method=zipfile.ZIP_DEFLATED)),
        "refused",
        "is compressed",
    ),
    (
        "a bomb of 100 MB of zeros",
        file("x.ckpt", partial(packed, [], b"\0" * 10**8, method=zipfile.ZIP_DEFLATED)),
        "refused",
        "is compressed",
    ),
    ("21,000 entries", file("x.ckpt", _many_entries), "refused", "21003 entries, more than 20000"),
    ("two directories", file("x.ckpt", _end_elsewhere), "refused", NO_CHECKPOINT),
    ("two entries of one name", file("x.ckpt", _twice), "refused", "two entries of one name"),
    (
        "entries that differ in case",
        file("x.ckpt", partial(packed, [], more={"DATA.PKL": b""})),
        "refused",
        "two entries of one name",
    ),
    (
        "an entry outside of the archive",
        file("x.ckpt", partial(packed, [], more={"../../x": b""})),
        "refused",
        "aren't those of torch",
    ),
    (
        "an unknown entry",
        file("x.ckpt", partial(packed, [], more={"run.sh": b""})),
        "refused",
        "aren't those of torch",
    ),
    (
        "a TorchScript archive",
        file("x.ckpt", partial(packed, [], more={"constants.pkl": b"."})),
        "refused",
        "aren't those of torch",
    ),
    ("entries of two archives", file("x.ckpt", lambda: packed([], prefix="a/b")), "refused", "aren't those of torch"),
    (
        "no pickle",
        file("x.ckpt", lambda: made.right_bytes().replace(b"data.pkl", b"data.pkx")),
        "refused",
        "aren't those of torch",
    ),
    (
        "names that differ from the directory's",
        file("x.ckpt", partial(_replaced, b"data.pkl", b"data.pkx", 1)),
        "refused",
        "has two names",
    ),
    (
        "another order of bytes",
        file("x.ckpt", partial(_replaced, b"little", b"bigbig")),
        "refused",
        "another order of bytes",
    ),
    (
        "a version of a megabyte",
        file("x.ckpt", partial(packed, [], more={".format_version": b"1" * 10**6})),
        "refused",
        "has 1000000 bytes",
    ),
    ("a pickle of 9 MB", file("x.ckpt", lambda: archive(_steps(9 << 19))), "refused", "its pickle has"),
    (
        "a pickle of a million instructions",
        file("x.ckpt", lambda: archive(_steps(500_000))),
        "refused",
        "more than 500000 instructions",
    ),
    ("a pickle that is cut off", file("x.ckpt", lambda: archive(pickled({"a": 1})[:-3])), "refused", "cut off"),
    ("a pickle of nothing", file("x.ckpt", lambda: archive(b"")), "refused", "cut off"),
    ("a pickle of text", file("x.ckpt", lambda: archive(b"weights")), "refused", HARMFUL),
    (
        "a pickle that leaves something over",
        file("x.ckpt", lambda: archive(b"\x80\x02]].")),
        "refused",
        "leaves something over",
    ),
    ("a pickle that takes from an empty stack", file("x.ckpt", lambda: archive(b"\x80\x02a.")), "refused", "damaged"),
    (
        "a pickle that asks for what wasn't kept",
        file("x.ckpt", lambda: archive(b"\x80\x02h\x05.")),
        "refused",
        "damaged",
    ),
    ("a pickle of protocol 5", file("x.ckpt", lambda: archive(pickle.dumps({"a": "b"}, 5))), "refused", HARMFUL),
    (
        "a text of 4 GB that isn't there",
        file("x.ckpt", lambda: archive(b"\x80\x02X\xff\xff\xff\xff.")),
        "refused",
        "cut off",
    ),
    ("an integer of 2,000 bits", file("x.ckpt", partial(packed, {"a": 1 << 2000})), "refused", "more than 64 bits"),
    ("an integer of a million bits", file("x.ckpt", partial(packed, {"a": 1 << 10**6})), "refused", HARMFUL),
    (
        "lists within lists, 60 times doubled",
        file("x.ckpt", lambda: packed(_doubling())),
        "refused",
        "nested more than 32",
    ),
    (
        "lists within lists, 25 times doubled",
        file("x.ckpt", lambda: packed(_doubling(25))),
        "refused",
        "more than 500000 values",
    ),
    ("a list within itself", file("x.ckpt", lambda: packed(_itself())), "refused", "nested more than 32"),
    (
        "100,000 lists within one another",
        file("x.ckpt", lambda: archive(_deep(100_000))),
        "refused",
        "nested more than 32",
    ),
    (
        "100,000 tuples within one another",
        file("x.ckpt", lambda: archive(_deep(100_000, b"\x85"))),
        "refused",
        "nested more than 32",
    ),
    (
        "a tuple of tuples as a key",
        file("x.ckpt", lambda: archive(b"\x80\x02})" + b"\x85" * 90_000 + b"Ns.")),
        "refused",
        HARMFUL,
    ),
    (
        "a NEWOBJ",
        file("x.ckpt", lambda: archive(b"\x80\x02ctorch.nn.parameter\nParameter\n)\x81.")),
        "refused",
        HARMFUL,
    ),
    *(
        (f"the function {name}", file("x.ckpt", lambda name=name: archive(_global(name))), "refused", HARMFUL)
        for name in ("posix.system", "builtins.exec", "torch.jit.load", "numpy.core.multiarray._reconstruct")
    ),
    ("a function of 5,000 letters", file("x.ckpt", lambda: archive(_global("x." + "y" * 5000))), "refused", "damaged"),
    (
        "a checkpoint in the old format",
        saving(made.checkpoint, _use_new_zipfile_serialization=False),
        "refused",
        "or only a part",
    ),
    ("a plain pickle", file("x.ckpt", lambda: pickle.dumps(Call(os.system, "true"))), "refused", "or only a part"),
    ("a safetensors file called .ckpt", file("x.ckpt", made.safetensors), "refused", "or only a part"),
]


SHORT: list[Row] = [
    row
    for row in CHECKPOINTS
    if row[0] in ("a right checkpoint", "cut to 50.0%", "two entries of one name", "a bomb of 100 MB of zeros")
]
SHORT += [
    row
    for row in not_files("x.ckpt")
    if row[0] in ("a folder called .ckpt", "a pipe called .ckpt", "text called .ckpt")
]

DAMAGE: list[Row] = [
    (name, make, result, "" if result == "read" else "can't be gone on with: it (is only a part|is empty)")
    for name, make, result, _ in CHECKPOINTS
    if name
    in ("a right checkpoint", "cut to 50.0%", "compressed entries", "a bomb of 100 MB of zeros", "21,000 entries")
]
DAMAGE += [
    ("nothing in it", file("x.ckpt", b""), "refused", "it is empty"),
    ("one bit of a weight", file("x.ckpt", lambda: _flipped()), "refused", "is not what was written"),
]


def _flipped() -> bytes:
    data = bytearray(made.right_bytes())
    place = data.find(made.weights()["gen_ab.encoder.0.weight"].numpy().tobytes())
    data[place] ^= 1
    return bytes(data)
