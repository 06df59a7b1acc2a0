"""Cases of the classic repository's .pth files, whose old format is a row of pickles."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_weights as made
import torch
from cases_files import FOREIGN, file, folder_called, pipe_called, saving
from made_weights import Call, FakeStorage, fake_tensor, packed, pickled

if TYPE_CHECKING:
    from collections.abc import Callable

    from cases_files import Row


def _classic_state(blocks: int = 6, channels: int = 2) -> dict[str, torch.Tensor]:
    names = {1: (channels, 3, 7, 7), 4: (2 * channels, channels, 3, 3), 7: (4 * channels, 2 * channels, 3, 3)}
    names |= {10 + blocks: (4 * channels, 2 * channels, 3, 3), 13 + blocks: (2 * channels, channels, 3, 3)}
    names |= {17 + blocks: (3, channels, 7, 7)}
    state = {f"model.{index}.weight": torch.zeros(shape) for index, shape in names.items()}
    for block in range(blocks):
        state |= {
            f"model.{10 + block}.conv_block.{i}.weight": torch.zeros(4 * channels, 4 * channels, 3, 3) for i in (1, 5)
        }
    return {**state, f"model.{17 + blocks}.bias": torch.zeros(3)}


def _classic(**changes: Any) -> dict[str, Any]:
    return {**_classic_state(), **changes}


def _old(content: Any, change: Callable[[bytes], bytes] = bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return change(buffer.getvalue())


def _old_claim() -> bytes:
    """A storage of 2**40 values, none of which follow."""
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    tensor = Call(torch._utils._rebuild_tensor_v2, _OldStorage(1 << 40), 0, (1,), (1,), False, OrderedDict())
    return head + pickled({"x": tensor}) + pickle.dumps(["0"], 2) + struct.pack("<q", 1 << 40)


class _OldStorage(FakeStorage):
    def __init__(self, items: int):
        super().__init__(items)
        self.persistent = (*self.persistent, None)  # type: ignore[assignment]


CLASSIC: list[Row] = [
    ("a right one", saving(_classic, "x.pth"), "read", ""),
    ("a right one in the old format", saving(_classic, "x.pth", _use_new_zipfile_serialization=False), "read", ""),
    (
        "with statistics of norms",
        saving(partial(_classic, **{"model.2.running_mean": torch.zeros(2)}), "x.pth"),
        "read",
        "",
    ),
    ("called .ckpt", saving(_classic, "x.ckpt"), "read", ""),
    *(
        (what, file("x.pth", data), "refused", "is no .pth file of weights")
        for what, data in FOREIGN.items()
        if what
        not in (
            "text",
            "a page of HTML",
            "ones",
            "a JPEG's beginning",
            "gzip",
            "7z's beginning",
            "tar",
            "zeros",
            "one byte",
            "a pointer of git-lfs",
        )
    ),
    *(
        (what, file("x.pth", FOREIGN[what]), "refused", "x.pth (is no .pth file|holds more than tensors)")
        for what in ("text", "ones", "gzip", "tar", "zeros")
    ),
    ("a folder", partial(folder_called, "x.pth"), "refused", "^no file at"),
    ("a pipe", partial(pipe_called, "x.pth"), "refused", "^no file at"),
    ("/dev/zero", lambda _: Path("/dev/zero"), "refused", "^no file at /dev/zero"),
    (
        "cut in half",
        file("x.pth", lambda: _old(_classic(), lambda data: data[: len(data) // 2])),
        "refused",
        "cut off|no .pth",
    ),
    ("cut at its last byte", file("x.pth", lambda: _old(_classic(), lambda data: data[:-1])), "refused", "cut off"),
    ("an old one that claims 4 TB", file("x.pth", _old_claim), "refused", "cut off"),
    ("an old one with code", file("x.pth", lambda: _old({"x": Call(os.system, "true")})), "refused", "may be harmful"),
    ("code", saving(lambda: {"x": Call(os.system, "true")}, "x.pth"), "refused", "may be harmful"),
    ("a number", saving(lambda: 3, "x.pth"), "refused", "is no state dict"),
    ("a list", saving(lambda: [torch.zeros(1)], "x.pth"), "refused", "is no state dict"),
    ("numbers for names", saving(lambda: {3: torch.zeros(1)}, "x.pth"), "refused", "is no state dict"),
    ("no weights", saving(dict, "x.pth"), "refused", "missing"),
    ("a checkpoint of ours", saving(made.checkpoint, "x.pth"), "refused", "is no state dict"),
    ("a name of 100,000 letters", saving(lambda: {"x" * 100_000: torch.zeros(1)}, "x.pth"), "refused", "missing"),
    ("names with line breaks", saving(lambda: {"x\n\x1b[31m": torch.zeros(1)}, "x.pth"), "refused", "missing"),
    (
        "a scalar for the first weight",
        saving(partial(_classic, **{"model.1.weight": torch.tensor(1.0)}), "x.pth"),
        "refused",
        "not a number|doesn't fit",
    ),
    (
        "whole numbers for weights",
        saving(partial(_classic, **{"model.4.weight": torch.zeros(4, 2, 3, 3, dtype=torch.int64)}), "x.pth"),
        "refused",
        "numbers of another kind",
    ),
    (
        "another shape",
        saving(partial(_classic, **{"model.4.weight": torch.zeros(5, 2, 3, 3)}), "x.pth"),
        "refused",
        "doesn't fit",
    ),
    (
        "NaN",
        saving(partial(_classic, **{"model.4.weight": torch.full((4, 2, 3, 3), torch.nan)}), "x.pth"),
        "refused",
        "NaN or infinity",
    ),
    (
        "10**12 values of a stride of 0",
        file("x.pth", lambda: packed({"model.1.weight": fake_tensor((10**6, 10**6), 1, (0, 0))})),
        "refused",
        "10{12} values in a storage of 1",
    ),
    (
        "a bomb",
        file("x.pth", partial(packed, {}, b"\0" * 10**8, method=zipfile.ZIP_DEFLATED)),
        "refused",
        "is compressed",
    ),
]
