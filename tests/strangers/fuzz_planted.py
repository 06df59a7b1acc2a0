"""A parser with a defect three branches deep: whoever finds nothing here doesn't look."""

from __future__ import annotations


def seeds_planted() -> list[bytes]:
    return [b"text"]


def feed_planted(data: bytes) -> None:
    if data[:1] == b"M" and data[1:2] == b"Z" and len(data) > 5 and data[2] == 0:
        raise IndexError(data)
