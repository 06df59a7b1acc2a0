"""Generators alone, in a safetensors file whose metadata has all that rebuilds them; reading one runs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from monet_cyclegan import __version__
from monet_cyclegan.checkpoint import assemble, check_network_config
from monet_cyclegan.errors import UserError
from monet_cyclegan.whole_file import whole_file

if TYPE_CHECKING:
    from torch import Tensor, nn

KEY = "monet_cyclegan"
FORMAT = 1
PRETRAINED = Path(__file__).parent / "pretrained"  # monet.safetensors there is ckpt=monet


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

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in self._asdict().items()}

    @classmethod
    def from_plain(cls, found: Any) -> Record:
        """Read what `to_plain` or a checkpoint has; anything else is an empty record, since nothing depends on it."""
        match found:
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
            } if all(
                isinstance(number, int | float) for part in (trained_on, held_out, scores) for number in part.values()
            ):
                return cls(
                    seconds, tuple(map(str, devices)), pairs, crop_size, trained_on, held_out, scores, scored_on, images
                )
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
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        match found:
            case {"format": int(number)} if number > FORMAT:
                raise UserError(f"{name} was written by a newer version, {found.get('version')}: update this one")
            case {
                "format": int(),
                "network": dict(network),
                "directions": [str(), *_] as directions,
                "recipe": list(recipe),
                "licence": str(licence),
            }:
                check_network_config(network, "network")
                record = Record.from_plain(found.get("record"))
                return cls(network, tuple(map(str, directions)), tuple(map(str, recipe)), licence, record)
        raise UserError(f"{name} holds no generator of this project")


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
    path, packaged = Path(name).expanduser(), PRETRAINED / f"{name}.safetensors"
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path
    if packaged.is_file():
        return packaged
    brought = sorted(file.stem for file in PRETRAINED.glob("*.safetensors"))
    raise UserError(f"no checkpoint at {name}; the package's own weights are {', '.join(brought) or 'none so far'}")


def read_description(path: Path) -> Description:
    """What a file says of its weights; UserError unless it is one of `save_weights`."""
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY, "")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is no whole safetensors file ({error})") from error
    return Description.from_text(text, str(path))


def load_generator(path: Path, direction: str) -> nn.Module:
    """Rebuild the generator of a direction, in float32 and eval mode; UserError if the file doesn't have it."""
    description = read_description(path)
    if direction not in description.directions:
        choices = " or ".join(description.directions)
        raise UserError(f"direction={direction} is not in {path}: choose {choices}")
    prefix = f"{direction}."
    with safe_open(path, "pt") as file:
        state = {name[len(prefix) :]: file.get_tensor(name).float() for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    return assemble(description.network, state)
