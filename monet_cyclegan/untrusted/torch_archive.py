"""Files of torch.save, gone through before torch loads them: their structure, with a claim in each tensor's place."""

from __future__ import annotations

import re
import struct
from typing import IO, TYPE_CHECKING, Any

from monet_cyclegan.untrusted.archive_limits import walk
from monet_cyclegan.untrusted.pickle_walk import Claim, Walk
from monet_cyclegan.untrusted.plain_values import check_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_PICKLED = 8 << 20  # bytes; that of a checkpoint of ours takes about 160 for each tensor
_MOST_SMALL = 200  # bytes of an entry that is neither pickle nor tensor
_NAMES = re.compile(
    r"data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d+"
)
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of files from before PyTorch 1.6


def structure(file: IO[bytes], size: int) -> Any:
    """What the archive of ``size`` bytes holds, as far as that can be known without making a tensor.

    Raises:
        Harmful: it holds something else than tensors and plain values.
        ValueError: it is no such archive, damaged, or made to become large.
    """
    entries = walk(file, size)
    prefixes = {entry.name.partition("/")[0] for entry in entries}
    inside = {entry.name.partition("/")[2]: entry for entry in entries}
    unknown = next((name for name in inside if not _NAMES.fullmatch(name)), None)
    if len(prefixes) != 1 or unknown is not None or "data.pkl" not in inside:
        raise ValueError("its entries aren't those of torch.save")
    for name, entry in inside.items():
        if not name.startswith("data") and entry.size > _MOST_SMALL:
            raise ValueError(f"its entry {entry.name} has {entry.size} bytes")
    order = inside.get("byteorder")
    if order is not None and _bytes(file, order.start, order.size) != b"little":
        raise ValueError("it was written by a machine with another order of bytes")
    pickled = inside["data.pkl"]
    if pickled.size > MOST_PICKLED:
        raise ValueError(f"its pickle has {pickled.size} bytes, more than {MOST_PICKLED}")
    reading = Walk(_bytes(file, pickled.start, pickled.size))
    found = reading.next()
    _check_sizes(reading, {name[5:]: entry.size for name, entry in inside.items() if name.startswith("data/")})
    check_plain(found, Claim)
    return found


def old_structure(file: IO[bytes], size: int) -> Any:
    """The same of a file from before PyTorch 1.6, which is a row of pickles, and the tensors' values behind them.

    Raises:
        Harmful: it holds something else than tensors and plain values.
        ValueError: it is no such file, damaged, or made to become large.
    """
    reading = Walk(_bytes(file, 0, min(size, MOST_PICKLED)))
    if reading.next() != _MAGIC or reading.next() != _PROTOCOL:
        raise ValueError("it isn't one of torch.save")
    reading.next()  # of the machine that wrote it
    found = reading.next()
    keys = reading.next()
    if not isinstance(keys, list) or {*map(str, keys)} != {*reading.storages} or len(keys) != len(reading.storages):
        raise ValueError("it doesn't list its storages")
    position, sizes = reading.position, {}
    for key in keys:
        header = _bytes(file, position, 8)
        count = struct.unpack("<q", header)[0] if len(header) == 8 else -1
        if count != reading.storages[key].items:
            raise ValueError(f"its storage {key} has {count} values, not {reading.storages[key].items}")
        sizes[key] = reading.storages[key].size
        position += 8 + sizes[key]
    if position > size:
        raise ValueError("it is cut off")
    _check_sizes(reading, sizes)
    check_plain(found, Claim)
    return found


def _check_sizes(reading: Walk, sizes: Mapping[str, int]) -> None:
    """Refuse storages that aren't in the file, and tensors that together are far more than it holds."""
    for key, storage in reading.storages.items():
        if sizes.get(key) != storage.size:
            raise ValueError(f"its storage {key} has {sizes.get(key, 'no')} bytes, not {storage.size}")
    # Twice, for two names of one tensor; a thousand of them would be a bomb.
    if sum(claim.size for claim in reading.claims) > 2 * sum(storage.size for storage in reading.storages.values()):
        raise ValueError("its tensors share what they hold")


def _bytes(file: IO[bytes], position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
