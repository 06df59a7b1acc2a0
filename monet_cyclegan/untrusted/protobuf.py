"""The wire format of protocol buffers, as much of it as finds a message's fields: nothing in it is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 are groups, which nothing writes any more


Message = TypeVar("Message", bytes, memoryview)  # a view's fields are views, too: nothing is copied


class Field(NamedTuple, Generic[Message]):
    """One field of a message: `value` of a varint, `data` of everything else."""

    number: int
    wire_type: int
    value: int
    data: Message


def walk(message: Message) -> Iterator[Field[Message]]:
    """Yield all fields of a message in order.

    Raises:
        ValueError: if it isn't one.
    """
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        wire_type, value = tag & 7, 0
        if wire_type == VARINT:
            value, end = varint(message, position)
            position = end
        elif wire_type == FIXED64:
            end = position + 8
        elif wire_type == BYTES:
            length, position = varint(message, position)
            end = position + length
        elif wire_type == FIXED32:
            end = position + 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if end > len(message):
            raise ValueError("a field is longer than its message")
        yield Field(tag >> 3, wire_type, value, message[position:end])
        position = end


def fields(message: Message, number: int) -> Iterator[Message]:
    """Yield the values of the length-delimited field `number` of a message, skipping all other fields.

    Raises:
        ValueError: if it isn't one.
    """
    for field in walk(message):
        if field.number == number and field.wire_type == BYTES:
            yield field.data


def varint(message: bytes | memoryview, position: int) -> tuple[int, int]:
    """Decode the base-128 integer at `position` to (value, position after it).

    Raises:
        ValueError: if it has no end.
    """
    value = 0
    for shift, byte in enumerate(message[position : position + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, position + shift + 1
    raise ValueError("an integer has no end")
