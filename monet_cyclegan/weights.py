"""Generators alone, in a safetensors file whose metadata has all that rebuilds them; reading one runs nothing."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from monet_cyclegan import __version__
from monet_cyclegan.assembly import assemble, check_network_config
from monet_cyclegan.errors import UserError
from monet_cyclegan.untrusted.bounded import is_file
from monet_cyclegan.untrusted.plain_values import check_plain, is_number
from monet_cyclegan.whole_file import whole_file

if TYPE_CHECKING:
    from torch import Tensor, nn

KEY = "monet_cyclegan"
FORMAT = 1
_LONGEST_TEXT = 1_000_000  # characters of a description
_MOST_DEPTH = 8
_MOST_DIRECTIONS = 16
_MOST_RECIPE = 200
_MOST_DEVICES = 10_000
_LONGEST_ITEM = 1000
_LONGEST_HEADER = 4 << 20  # bytes; ours take about 100 for each tensor
_DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_LARGEST = 1 << 48
PRETRAINED = Path(__file__).parent / "pretrained"  # monet.safetensors there is ckpt=monet
DEFAULT_WEIGHTS = "monet"  # what translates unless ckpt= says otherwise; MODEL_CARD.md tells of it


class Record(NamedTuple):
    """What weights cost and how they scored, as far as is known.

    Attributes:
        seconds: of training, validations included.
        devices: that it ran on.
        pairs: of images that the networks saw.
        crop_size: of these, in pixels.
        trained_on: images by domain.
        held_out: the same of those that were only validated on.
        scores: of these very weights, such as {"val/kid": 0.03}.
        scored_on: what these are scores on, such as "on EfficientNet-Lite0 features".
        scored_images: how many were translated for them, held-out ones first.
        split_seed: which of the images were held out, with their number.
    """

    seconds: float = 0.0
    devices: tuple[str, ...] = ()
    pairs: int = 0
    crop_size: int = 0
    trained_on: Mapping[str, int] = MappingProxyType({})
    held_out: Mapping[str, int] = MappingProxyType({})
    scores: Mapping[str, float] = MappingProxyType({})
    scored_on: str = ""
    scored_images: int = 0
    split_seed: int = 0

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in self._asdict().items()}

    @classmethod
    def from_plain(cls, found: Any) -> Record:
        """Read what `to_plain` or a checkpoint has; anything else is an empty record, since nothing depends on it."""
        match {"split_seed": 0, **found} if isinstance(found, dict) else found:  # which older files don't have
            case {
                "seconds": int() | float() as seconds,
                "devices": list() | tuple() as devices,
                "pairs": int(pairs),
                "crop_size": int(crop_size),
                "trained_on": dict(trained_on),
                "held_out": dict(held_out),
                "scores": dict(scores),
                "scored_on": str(scored_on),
                "scored_images": int(images),
                "split_seed": int(seed),
            } if len(devices) <= _MOST_DEVICES and all(
                isinstance(name, str) and len(name) <= _LONGEST_ITEM and is_number(number)
                for part in (trained_on, held_out, scores, {"": seconds})
                for name, number in part.items()
            ):
                names = tuple(str(device)[:_LONGEST_ITEM] for device in devices)
                return cls(seconds, names, pairs, crop_size, trained_on, held_out, scores, scored_on, images, seed)
        return cls()


class Description(NamedTuple):
    """What belongs to weights.

    Attributes:
        network: the generator's config, of plain values, with its `_target_`.
        directions: such as ("photo_to_monet", "monet_to_photo"), those that there are weights for.
        recipe: the overrides of the run that trained them.
        licence: of the weights, as whoever hands them on says.
        record: of the training.
    """

    network: dict[str, Any]
    directions: tuple[str, ...]
    recipe: tuple[str, ...] = ()
    licence: str = "not stated"
    record: Record = Record()

    def to_text(self) -> str:
        """JSON for the metadata of a file."""
        plain = {**self._asdict(), "record": self.record.to_plain()}
        return json.dumps({"format": FORMAT, "version": __version__, **plain})

    @classmethod
    def from_text(cls, text: str, name: str) -> Description:
        """Read `to_text`'s JSON; UserError that begins with ``name`` unless it is that."""
        found = _parse(text)
        match found:
            case {"format": int(number)} if number > FORMAT:
                raise UserError(f"{name} was written by a newer version, {found.get('version')}: update this one")
            case {
                "format": int(),
                "network": dict(network),
                "directions": [_, *_] as directions,
                "recipe": list(recipe),
                "licence": str(licence),
            } if _are_short(directions, _MOST_DIRECTIONS) and _are_short(recipe, _MOST_RECIPE):
                check_network_config(network, "network")
                record = Record.from_plain(found.get("record"))
                return cls(network, tuple(directions), tuple(recipe), licence, record)
        raise UserError(f"{name} holds no generator of this project")


def _parse(text: str) -> Any:
    """The JSON of a description; None for anything else, what has a key twice, and what is too long or too deep."""
    if len(text) > _LONGEST_TEXT:
        return None
    try:
        found = json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)
        check_plain(found, depth=_MOST_DEPTH)
    except (ValueError, RecursionError):
        return None
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What has a key twice is read in one way here and in another elsewhere."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _are_short(texts: list[Any], most: int) -> bool:
    return len(texts) <= most and all(isinstance(text, str) and len(text) <= _LONGEST_ITEM for text in texts)


def save_weights(
    path: Path, description: Description, states: Mapping[str, Mapping[str, Tensor]], *, half: bool = False
) -> None:
    """Write each direction's weights, in float32 or float16; the file is whole or not there.

    Raises:
        UserError: it can't be written.
    """
    kind = torch.float16 if half else torch.float32
    tensors = {
        f"{direction}.{name}": tensor.detach().to(kind).contiguous()
        for direction, state in states.items()
        for name, tensor in state.items()
    }
    with whole_file(path) as unfinished:
        try:
            # Not by save_file, whose files only their owner can read.
            unfinished.write_bytes(save(tensors, {KEY: description.to_text()}))
        except SafetensorError as error:
            raise UserError(f"{path}: can't be written ({error})") from error


def find_weights(name: str) -> Path:
    """The file that ``ckpt=`` means: a path, ``https://...#sha256=...``, or a name of weights that the package brings.

    Raises:
        UserError: an address that can't be fetched, or nothing of this name.
    """
    if "://" in name:
        from monet_cyclegan.remote import fetch_weights, parse_url  # with a progress bar's library

        return fetch_weights(parse_url(name))
    path, packaged = _expanded(name), PRETRAINED / f"{name}.safetensors"
    if is_file(path) or path.suffix or len(path.parts) != 1:
        return path
    if is_file(packaged):
        return packaged
    brought = sorted(file.stem for file in PRETRAINED.glob("*.safetensors"))
    raise UserError(f"no checkpoint at {name}; the package's own weights are {', '.join(brought) or 'none so far'}")


def _expanded(name: str) -> Path:
    """A path, with the user's folder for its ~; UserError if it asks for a user whom there isn't."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UserError(f"no checkpoint at {name}: {error}") from error


def read_description(path: Path) -> Description:
    """What a file says of its weights; UserError unless it is one of `save_weights`."""
    text = _header(path).get("__metadata__", {}).get(KEY, "")
    return Description.from_text(text, str(path))


def load_generator(path: Path, direction: str) -> nn.Module:
    """Rebuild the generator of a direction, in float32 and eval mode; UserError if the file doesn't have it."""
    description = read_description(path)
    if direction not in description.directions:
        choices = " or ".join(description.directions)
        raise UserError(f"direction={direction} is not in {path}: choose {choices}")
    prefix = f"{direction}."
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            state = {name[len(prefix) :]: file.get_tensor(name).float() for name in names}
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} is no whole safetensors file ({error})") from error
    return assemble(description.network, state)


def _header(path: Path) -> dict[str, Any]:
    """The JSON at the head of a safetensors file, once it fits the rest; UserError unless it does."""
    try:
        with path.open("rb") as file:
            return check_header(file, file.seek(0, os.SEEK_END))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no whole safetensors file ({error})") from error


def check_header(file: IO[bytes], size: int) -> dict[str, Any]:
    """The header of a safetensors file of ``size`` bytes, whose tensors lie one behind another and fill it.

    Raises:
        ValueError: it is none, or damaged, or its tensors are no weights.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= min(size - 8, _LONGEST_HEADER):
        raise ValueError(f"its header would have {length} bytes")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_each_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("its header is nested without end") from None
    told = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise ValueError("its header isn't built as such files' are")
    end = 0
    tensors = [(name, value) for name, value in header.items() if name != "__metadata__"]
    for _, (start, end_of_it) in sorted(((name, _place(name, value)) for name, value in tensors), key=lambda x: x[1]):
        if start != end:
            raise ValueError("its tensors overlap, or leave gaps")
        end = end_of_it
    if end != size - 8 - length:
        raise ValueError("its tensors don't end where it does")
    return header


def _place(name: str, described: Any) -> tuple[int, int]:
    """Where a tensor's bytes lie, as many as its shape and kind take."""
    match described:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)], **rest} if not rest:
            sizes = [*shape, start, end]
            numbers = len(shape) <= 8 and all(type(number) is int and 0 <= number < _LARGEST for number in sizes)
            if dtype in _DTYPES and numbers and end - start == math.prod(shape) * _DTYPES[dtype]:
                return start, end
    raise ValueError(f"its tensor {name[:100]} isn't described as weights are")
