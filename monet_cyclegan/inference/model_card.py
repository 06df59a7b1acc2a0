"""The README of weights that are handed on: what hubs read in its first lines, and what people want to know."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from monet_cyclegan.weights import Description, Record

_TITLES = {
    "val/kid": "KID",
    "val/fid": "FID",
    "val/mifid": "MiFID",
    "val/memorization_distance": "memorization distance",
    "val/swd": "sliced Wasserstein distance",
}
_MODEL_CARD_LICENCES = {"mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "openrail"}


class Contents(NamedTuple):
    """What else the card tells of.

    Attributes:
        parameters: of one generator.
        sha256: of the weights' file.
        size_multiple: of the sides that the network takes.
        samples: whether there is a samples.jpg.
        gradio: version that the page runs with.
    """

    parameters: int
    sha256: str
    size_multiple: int
    samples: bool
    gradio: str


def spoken(direction: str) -> str:
    """Say a direction: photo_to_monet is "photo to monet"."""
    return direction.replace("_", " ")


def model_card(description: Description, contents: Contents) -> str:
    """Markdown with front matter; what isn't known of the weights is said to be unknown."""
    title = spoken(description.directions[0])
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(description, contents), sort_keys=False, allow_unicode=True)}---\n",
        f"# {title[:1].upper()}{title[1:]}\n",
        _what_it_is(description, contents),
        "![Before and after](samples.jpg)\n" if contents.samples else "",
        _use(description, contents),
        _scores(description.record),
        _training(description),
        _LIMITS,
        f"## Licence\n\nOf the weights: {description.licence}. Of the code in `monet_cyclegan/`: MIT.\n",
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(description: Description, contents: Contents) -> dict[str, Any]:
    title = spoken(description.directions[0])
    licence = description.licence.lower()
    found: dict[str, Any] = {
        "license": licence if licence in _MODEL_CARD_LICENCES else "other",
        "library_name": "pytorch",
        "pipeline_tag": "image-to-image",
        "tags": ["image-to-image", "unpaired-image-to-image-translation", "cyclegan", "pytorch", "safetensors"],
    }
    if found["license"] == "other":
        found["license_name"] = "not-stated" if licence == "not stated" else licence.replace(" ", "-")
    names = list(dict.fromkeys([*description.record.trained_on]))
    scores = {name: value for name, value in description.record.scores.items() if name in _TITLES}
    if scores:
        result = {
            "task": {"type": "image-to-image", "name": title},
            "dataset": {"type": "_".join(names) or "unknown", "name": _scored_images(description.record)},
            "metrics": [
                {"type": name.partition("/")[2], "name": _named(name, description.record), "value": round(value, 5)}
                for name, value in scores.items()
            ],
        }
        found["model-index"] = [{"name": title, "results": [result]}]
    # The same folder is a Space, too, whose fields these are.
    space = {"title": title.title(), "emoji": "🎨", "colorFrom": "blue", "colorTo": "green", "sdk": "gradio"}
    return {**found, **space, "sdk_version": contents.gradio, "app_file": "app.py"}


def _what_it_is(description: Description, contents: Contents) -> str:
    network = str(description.network.get("_target_", "")).rpartition(".")[2]
    told = ", ".join(f"{key} {value}" for key, value in description.network.items() if not key.startswith("_"))
    both = "one for each direction" if len(description.directions) > 1 else "one direction"
    return (
        f"CycleGAN generators ([Zhu et al. 2017](https://arxiv.org/abs/1703.10593)), {both}: "
        f"{' and '.join(map(spoken, description.directions))}. They learnt from unpaired pictures, and translate any "
        f"picture from 16 pixels on into one of the same size.\n\n"
        f"Network: {network} ({told}), {contents.parameters / 1e6:.1f} million parameters.\n"
    )


def _use(description: Description, contents: Contents) -> str:
    direction = description.directions[0]
    return (
        "## Use\n\n"
        "As a page in the browser, on your own machine:\n\n"
        "```bash\npip install -r requirements.txt\npython app.py\n```\n\n"
        "With the project that made them (PATH is this folder, or an address whose file has this hash):\n\n"
        "```bash\npython predict.py ckpt=PATH/model.safetensors input=photos output=translated\n"
        f"python predict.py ckpt=https://HOST/PATH/model.safetensors#sha256={contents.sha256} input=photos "
        "output=translated\n```\n\n"
        "In Python, with torch and safetensors alone, in this folder:\n\n"
        "```python\nfrom pathlib import Path\n\nimport torch\n\nfrom monet_cyclegan.weights import load_generator\n\n"
        f'generator = load_generator(Path("model.safetensors"), "{direction}")\n'
        f"images = torch.zeros(1, 3, 256, 256)  # RGB in [-1, 1], sides multiples of {contents.size_multiple}\n"
        "with torch.no_grad():\n    translated = generator(images)  # the same\n```\n"
    )


def _scores(record: Record) -> str:
    scores = {name: value for name, value in record.scores.items() if name in _TITLES}
    if not scores:
        return "## Scores\n\nNone were measured on these very weights.\n"
    rows = "\n".join(f"| {_TITLES[name]} | {value:.4g} |" for name, value in scores.items())
    return (
        f"## Scores\n\n| score | |\n|---|---|\n{rows}\n\n"
        f"Measured in training {record.scored_on or 'on unknown features'}, on translations of "
        f"{_scored_images(record)}, after JPEG of quality 75; lower is better, but for the memorization distance.\n"
    )


def _training(description: Description) -> str:
    record = description.record
    lines = []
    for title, counts in (("Trained on", record.trained_on.items()), ("Held out", _held_out(record))):
        told = ", ".join(f"{count:,} images of {name}" for name, count in counts)
        lines.append(f"- {title}: {told or 'unknown'}")
    if record.pairs:
        lines.append(f"- Steps: {record.pairs:,} pairs of squares of {record.crop_size} pixels")
        hours = record.seconds / 3600
        lines.append(f"- Cost: {hours:.1f} hours on {' and then on '.join(record.devices) or 'an unknown device'}")
    else:
        lines.append("- Cost: unknown")
    lines.append(f"- Recipe: `{' '.join(description.recipe) or 'unknown'}`")
    return "## Training\n\n" + "\n".join(lines) + "\n"


_LIMITS = """## Limits

- Nobody told the network what is in a picture. It was shown two piles of them, and keeps what it needs to find the way
  back, so it may recolour a sky, miss a face, or leave regular textures in flat areas.
- It works at the scale that it was trained at: strokes in much larger pictures are finer in proportion.
- It imitates a manner; nothing that it makes is by the painter, nor should it be shown as that.
"""


def _held_out(record: Record) -> list[tuple[str, int]]:
    return [(name, count) for name, count in record.held_out.items() if count]


def _scored_images(record: Record) -> str:
    """Which images a validation translates: held-out ones first, as many as there are."""
    first = next(iter(record.held_out.items()), None)
    if first is None:
        return "unknown images"
    name, held_out = first
    count = record.scored_images or held_out
    more = f", {held_out:,} of them held out" if held_out < count else ", held out"
    return f"{count:,} images of {name}{more}"


def _named(name: str, record: Record) -> str:
    return _TITLES[name] if name == "val/swd" else f"{_TITLES[name]} {record.scored_on}".strip()


def config_json(description: Description, contents: Contents, version: str) -> str:
    """What other programs need to know of the weights."""
    return json.dumps(
        {
            "library": "monet_cyclegan",
            "version": version,
            "architectures": [str(description.network.get("_target_", "")).rpartition(".")[2]],
            "network": description.network,
            "directions": description.directions,
            "tensors": "named direction.parameter",
            "input": {"layout": "NCHW", "channels": "RGB", "range": [-1, 1], "size_multiple": contents.size_multiple},
            "parameters": contents.parameters,
            "recipe": description.recipe,
            "licence": description.licence,
            "record": description.record.to_plain(),
        },
        indent=2,
    )
