"""The pickled part of torch's files, gone through without making anything: what it would make, and of what size.

torch's own reader with `weights_only=True` runs no strange code, but it makes what it is told: a tensor of a million
million values out of one, say. So this one goes first. It knows the few instructions that torch.save writes for tensors
and plain values, and notes the tensors instead of making them.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass
from pickle import decode_long
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_STEPS = 500_000  # a checkpoint of ours has about ten thousand
_MOST_DIMENSIONS = 8
_LARGEST = 1 << 48
ITEM_SIZES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
_FLOATING = ("DoubleStorage", "FloatStorage", "HalfStorage", "BFloat16Storage")


class Harmful(ValueError):  # noqa: N818 - a file is
    """A pickle asks for something that has no place among tensors and plain values."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Memory that a file says it holds: ``items`` values of a kind, under a key."""

    kind: str
    key: str
    items: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.items * ITEM_SIZES[self.kind]


@dataclass(frozen=True, slots=True)
class Claim:
    """A tensor that a file says it holds."""

    storage: Storage
    shape: tuple[int, ...]

    @property
    def is_floating(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.storage.kind in _FLOATING

    @property
    def size(self) -> int:
        """In bytes, once it is made."""
        return _product(self.shape) * ITEM_SIZES[self.storage.kind]


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


_CALLABLE = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
}
_KNOWN = _CALLABLE | {f"torch {kind}" for kind in ITEM_SIZES}


class Walk:
    """Goes through pickles that lie one behind another.

    Attributes:
        position: of the next byte.
        storages: what was asked for, by key.
        claims: all tensors.
    """

    def __init__(self, data: bytes) -> None:
        self.position = 0
        self.storages: dict[str, Storage] = {}
        self.claims: list[Claim] = []
        self._data = data
        self._left = MOST_STEPS
        self._reset()

    def next(self) -> Any:
        """What the next pickle makes, a `Claim` in each tensor's place.

        Raises:
            Harmful: it names something that is neither tensor nor plain value.
            ValueError: it is damaged, or too large.
        """
        self._reset()
        while True:
            code = self._take(1)
            if code == b".":
                if len(self._stack) != 1 or self._below:
                    raise ValueError("its pickle leaves something over")
                return self._stack.pop()
            step = _STEPS.get(code)
            if step is None:
                raise Harmful(f"instruction {code!r}")
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"its pickle has more than {MOST_STEPS} instructions")
            try:
                step(self)
            except (IndexError, KeyError, UnicodeDecodeError) as error:
                raise ValueError("its pickle is damaged") from error

    def _reset(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def _take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self._data):
            raise ValueError("its pickle is cut off")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _since_mark(self) -> list[Any]:
        found = self._stack
        self._stack = self._below.pop()
        return found

    def _protocol(self) -> None:
        self._take(1)

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise ValueError("its pickle is damaged")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise ValueError("its pickle is damaged")
        for place in range(0, len(items), 2):
            _check_key(items[place])
            target[items[place]] = items[place + 1]

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _append(self) -> None:
        self._extend([self._stack.pop()])

    def _text(self) -> None:
        self._push(str(self._take(self._number("<I")), "utf-8", "surrogatepass"))

    def _bytes(self, form: str) -> None:
        self._push(self._take(self._number(form)).decode("ascii"))  # as Python 2 wrote names

    def _long(self) -> None:
        self._push(decode_long(self._take(self._number("B"))))

    def _global(self) -> None:
        name = f"{self._line()} {self._line()}"
        if name not in _KNOWN:
            raise Harmful(name)
        self._push(_Global(name))

    def _line(self) -> str:
        end = self._data.find(b"\n", self.position, self.position + 200)
        if end < 0:
            raise ValueError("its pickle is damaged")
        return self._take(end + 1 - self.position)[:-1].decode("utf-8")

    def _storage(self) -> None:
        match self._stack.pop():
            case ("storage", _Global(name), str(key), str(), int(items), *view) if (
                0 <= items < _LARGEST and view in ([], [None]) and name not in _CALLABLE
            ):
                new = Storage(name.removeprefix("torch "), key, items)
                if self.storages.setdefault(key, new) != new:
                    raise ValueError(f"its storage {key} is described in two ways")
                self._push(new)
            case _:
                raise ValueError("it describes a storage as torch doesn't")

    def _call(self) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if not isinstance(called, _Global) or called.name not in _CALLABLE:
            raise Harmful("a call")
        if not isinstance(arguments, tuple):
            raise ValueError("its pickle is damaged")
        if called.name == "collections OrderedDict":
            self._push(_ordered(arguments))
        elif called.name == "torch._utils _rebuild_parameter":
            match arguments:
                case (Claim() as claim, bool(), dict(hooks)) if not hooks:
                    self._push(claim)
                case _:
                    raise ValueError("it describes a parameter as torch doesn't")
        else:
            claim = _claim(arguments)
            self.claims.append(claim)
            self._push(claim)

    def _build(self) -> None:
        """An ordered dict's attributes: only the one with which modules mark theirs."""
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is not OrderedDict or not isinstance(state, dict) or {*state} - {"_metadata"}:
            raise Harmful("an object's state")
        self._attributes(state)

    def _attributes(self, state: dict[str, Any]) -> None:
        for module, versions in (state["_metadata"] if isinstance(state.get("_metadata"), dict) else {}).items():
            if not isinstance(module, str) or not isinstance(versions, dict):
                raise ValueError("it describes its modules as torch doesn't")


def _ordered(arguments: tuple[Any, ...]) -> OrderedDict[Any, Any]:
    """Python 2 hands its pairs over; later ones set them one by one."""
    match arguments:
        case ():
            return OrderedDict()
        case (list(pairs),) if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            for key, _ in pairs:
                _check_key(key)
            return OrderedDict(pairs)
    raise ValueError("its pickle is damaged")


def _claim(arguments: tuple[Any, ...]) -> Claim:
    """The tensor that torch would make: one that needs no more memory than its storage has."""
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(stride), *rest) if len(rest) in (0, 2):
            pass
        case _:
            raise ValueError("it describes a tensor as torch doesn't")
    if rest and (not isinstance(rest[0], bool) or not isinstance(rest[1], dict) or rest[1]):
        raise ValueError("it describes a tensor as torch doesn't")
    if len(shape) != len(stride) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"it has a tensor of {len(shape)} dimensions")
    if not all(type(number) is int and 0 <= number < _LARGEST for number in (offset, *shape, *stride)):
        raise ValueError("it has a tensor whose shape isn't made of numbers")
    count = _product(shape)
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True)) if count else 0
    if count > storage.items or last >= max(storage.items, 1):
        raise ValueError(f"it has a tensor of {count} values in a storage of {storage.items}")
    return Claim(storage, shape)


def _product(numbers: tuple[int, ...]) -> int:
    total = 1
    for number in numbers:
        total *= number
    return total


def _check_key(key: Any) -> None:
    """Others, such as a tuple of tuples of tuples, could take for ever to be looked up."""
    if not isinstance(key, str | int | float | bool | None):
        raise Harmful(f"a key of the kind {type(key).__name__}")


_STEPS: dict[bytes, Callable[[Walk], None]] = {
    b"\x80": Walk._protocol,
    b"(": Walk._mark,
    b"N": lambda walk: walk._push(None),
    b"\x88": lambda walk: walk._push(True),
    b"\x89": lambda walk: walk._push(False),
    b"K": lambda walk: walk._push(walk._number("B")),
    b"M": lambda walk: walk._push(walk._number("<H")),
    b"J": lambda walk: walk._push(walk._number("<i")),
    b"G": lambda walk: walk._push(walk._number(">d")),
    b"\x8a": Walk._long,
    b"X": Walk._text,
    b"U": lambda walk: walk._bytes("B"),
    b")": lambda walk: walk._push(()),
    b"]": lambda walk: walk._push([]),
    b"}": lambda walk: walk._push({}),
    b"t": lambda walk: walk._push(tuple(walk._since_mark())),
    b"\x85": lambda walk: walk._tuple(1),
    b"\x86": lambda walk: walk._tuple(2),
    b"\x87": lambda walk: walk._tuple(3),
    b"a": Walk._append,
    b"e": lambda walk: walk._extend(walk._since_mark()),
    b"s": Walk._set_item,
    b"u": lambda walk: walk._set_items(walk._since_mark()),
    b"q": lambda walk: walk._put(walk._number("B")),
    b"r": lambda walk: walk._put(walk._number("<I")),
    b"h": lambda walk: walk._push(walk._memo[walk._number("B")]),
    b"j": lambda walk: walk._push(walk._memo[walk._number("<I")]),
    b"c": Walk._global,
    b"Q": Walk._storage,
    b"R": Walk._call,
    b"b": Walk._build,
}
