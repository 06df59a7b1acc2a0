"""Cases of tensors that claim what they aren't, and of calls that have no place among weights."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import made_weights as made
import torch
from cases_files import file, saving
from made_weights import Call, FakeStorage, claiming, fake_tensor, packed

if TYPE_CHECKING:
    from collections.abc import Callable

    from cases_files import Row

HARMFUL = "holds more than tensors.*it may be harmful$"


_CLAIMS: dict[str, Callable[[], Any]] = {
    "10**12 values in four bytes": lambda: fake_tensor((10**12,), 1),
    "10**12 values by a stride of 0": lambda: fake_tensor((10**6, 10**6), 1, (0, 0)),
    "a storage of 10**12 values": lambda: fake_tensor((1,), 10**12),
    "a storage of -1 values": lambda: fake_tensor((1,), -1),
    "a storage of 2**70 values": lambda: fake_tensor((1,), 2**70),
    "a negative shape": lambda: fake_tensor((-1,), 1),
    "a shape of text": lambda: fake_tensor(("1",), 1, (1,)),
    "a negative stride": lambda: fake_tensor((1,), 1, (-1,)),
    "a stride beyond the storage": lambda: fake_tensor((2,), 1, (10**9,)),
    "an offset beyond the storage": lambda: fake_tensor((1,), 1, offset=10**9),
    "a negative offset": lambda: fake_tensor((1,), 1, offset=-4),
    "1,000 dimensions": lambda: fake_tensor((1,) * 1000, 1),
    "shape and stride of different lengths": lambda: fake_tensor((1, 1), 1, (1,)),
    "a storage that isn't there": lambda: fake_tensor((1,), 1, key="7"),
    "a storage outside of the archive": lambda: fake_tensor((1,), 1, key="../../etc/passwd"),
    "doubles in a float's bytes": lambda: fake_tensor((1,), 1, kind=torch.DoubleStorage),
    "quantized numbers": lambda: fake_tensor((1,), 1, kind=torch.QInt8Storage),
    "complex numbers": lambda: fake_tensor((1,), 1, kind=torch.ComplexFloatStorage),
    "one storage of two kinds": lambda: [fake_tensor((1,), 1), fake_tensor((1,), 1, kind=torch.IntStorage)],
    "1,000 names of one tensor": lambda: [fake_tensor((1,), 1) for _ in range(1000)],
    "a storage of a strange kind": lambda: Call(torch._utils._rebuild_tensor_v2, "storage", 0, (1,), (1,), False, {}),
}
_CALLS: dict[str, Callable[[], Any]] = {
    "a sparse tensor": lambda: torch.zeros(1000, 1000).to_sparse(),
    "a meta tensor": lambda: torch.empty(10**6, 10**6, device="meta"),
    "a quantized tensor": lambda: Call(torch._utils._rebuild_qtensor, FakeStorage(1), 0, (1,), (1,), (), False, {}),
    "a bytearray of 10**12": lambda: Call(bytearray, 10**12),
    "a Counter": lambda: Counter("aab"),
    "a set": lambda: {1, 2},
    "a torch.Size": lambda: torch.Size((1, 2)),
    "a device": lambda: torch.device("cuda:0"),
    "a call of os.system": lambda: Call(os.system, "touch /tmp/stranger_was_here"),
    "a call of eval": lambda: Call(eval, "1 + 1"),
    "a call of torch.load": lambda: Call(torch.load, "x.ckpt"),
    "a parameter with hooks": lambda: Call(torch._utils._rebuild_parameter, fake_tensor((1,), 1), True, {"hook": 1}),
    "an object's own attributes": lambda: Call(OrderedDict, state={"clear": 1}),
}
_UNKNOWN = ("quantized numbers", "complex numbers")  # of which no weight of ours consists
_SAVED = ("a sparse tensor", "a meta tensor")  # by torch itself


def _weight(make: Callable[[], Any]) -> bytes:
    return packed(claiming(make()))


def _beside(make: Callable[[], Any]) -> bytes:
    return packed({**made.checkpoint(), "state_dict": {}, "x": make()})


def _saved_beside(make: Callable[[], Any]) -> dict[str, Any]:
    return {**made.checkpoint(), "x": make()}


def _row(what: str, make: Callable[[], Any]) -> Row:
    if what in _SAVED:
        return f"beside the weights {what}", saving(partial(_saved_beside, make)), "refused", HARMFUL
    return f"beside the weights {what}", file("x.ckpt", partial(_beside, make)), "refused", "harmful|as torch doesn't"


TABLE: list[Row] = [
    *(
        (
            f"a weight of {what}",
            file("x.ckpt", partial(_weight, make)),
            "refused",
            HARMFUL if what in _UNKNOWN else "x.ckpt is not a checkpoint of this project: its? ",
        )
        for what, make in _CLAIMS.items()
    ),
    *(_row(what, make) for what, make in _CALLS.items()),
]
