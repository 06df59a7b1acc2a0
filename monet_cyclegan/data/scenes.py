"""What is in a made-up landscape: light, season, land, water and trees, all drawn from one seed.

Lengths and places are fractions of the picture's side, y grows downwards, colours are RGB in [0, 1]. Nothing here
depends on the size in pixels, so that one seed is one scene at every size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from monet_cyclegan.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

Colour = tuple[float, float, float]


class Light(NamedTuple):
    """The light of one time of day: colours of the sky, of what the sun lights and of what it leaves in shade."""

    zenith: Colour
    horizon: Colour
    key: Colour  # the sun's light on things
    ambient: Colour  # the sky's light on things
    sun_y: tuple[
        float, float
    ]  # range of the sun's height as a fraction of the horizon's y; negative is above the frame
    glow: float
    haze: float


class Season(NamedTuple):
    """The colours that a season gives to ground and leaves."""

    ground: tuple[Colour, ...]
    leaves: tuple[Colour, ...]
    flowers: tuple[Colour, ...]
    leafiness: float  # 1: closed crowns, 0: bare branches


class Tree(NamedTuple):
    """One tree, by the foot of its trunk."""

    x: float
    y: float
    height: float
    kind: str  # poplar, round or bush
    leaves: Colour


LIGHTS = {
    "dawn": Light(
        (0.46, 0.58, 0.74), (0.98, 0.82, 0.70), (0.80, 0.62, 0.46), (0.48, 0.50, 0.58), (0.45, 0.92), 0.5, 0.9
    ),
    "noon": Light(
        (0.19, 0.43, 0.76), (0.70, 0.83, 0.93), (0.86, 0.82, 0.70), (0.36, 0.41, 0.48), (-0.5, -0.1), 0.1, 0.5
    ),
    "afternoon": Light(
        (0.26, 0.46, 0.70), (0.86, 0.85, 0.78), (0.92, 0.77, 0.52), (0.37, 0.40, 0.46), (-0.1, 0.3), 0.35, 0.6
    ),
    "dusk": Light(
        (0.20, 0.25, 0.44), (0.96, 0.60, 0.36), (0.72, 0.42, 0.26), (0.34, 0.33, 0.42), (0.6, 0.97), 0.6, 0.7
    ),
    "overcast": Light(
        (0.60, 0.64, 0.68), (0.82, 0.83, 0.83), (0.26, 0.26, 0.25), (0.62, 0.64, 0.66), (-0.4, 0.2), 0.08, 1.0
    ),
}
SEASONS = {
    "spring": Season(
        ((0.42, 0.56, 0.22), (0.52, 0.62, 0.26), (0.33, 0.48, 0.20)),
        ((0.36, 0.52, 0.18), (0.46, 0.58, 0.22), (0.84, 0.66, 0.70)),
        ((0.95, 0.90, 0.45), (0.96, 0.95, 0.92), (0.75, 0.55, 0.80)),
        0.9,
    ),
    "summer": Season(
        ((0.40, 0.48, 0.20), (0.74, 0.64, 0.34), (0.32, 0.43, 0.19)),
        ((0.20, 0.36, 0.14), (0.27, 0.42, 0.16), (0.16, 0.31, 0.17)),
        ((0.84, 0.16, 0.10), (0.84, 0.16, 0.10), (0.96, 0.95, 0.92)),
        1.0,
    ),
    "autumn": Season(
        ((0.56, 0.46, 0.22), (0.46, 0.44, 0.20), (0.66, 0.53, 0.28)),
        ((0.70, 0.40, 0.12), (0.62, 0.26, 0.10), (0.56, 0.46, 0.14)),
        ((0.72, 0.42, 0.16), (0.60, 0.50, 0.22), (0.70, 0.60, 0.40)),
        0.75,
    ),
    "winter": Season(
        ((0.86, 0.88, 0.92), (0.80, 0.83, 0.88), (0.72, 0.70, 0.66)),
        ((0.36, 0.30, 0.27), (0.42, 0.36, 0.32), (0.22, 0.30, 0.22)),
        ((0.80, 0.78, 0.74), (0.70, 0.66, 0.60), (0.90, 0.90, 0.92)),
        0.35,
    ),
}
_LIGHT_ODDS = (0.2, 0.28, 0.26, 0.15, 0.11)
_SEASON_ODDS = (0.26, 0.36, 0.26, 0.12)
_PLACES = ("lake", "river", "pond", "sea", "meadow")
_PLACE_ODDS = (0.26, 0.22, 0.14, 0.12, 0.26)


@dataclass(frozen=True)
class Scene:
    """Everything that is decided about a landscape before it is drawn."""

    light: Light
    season: Season
    place: str  # lake, river, pond, sea or meadow
    horizon: float  # y
    shore: float  # y where the water begins; 1 without water
    sun: tuple[float, float]  # (x, y)
    cloudiness: float  # 0 to 1
    hills: tuple[tuple[float, float], ...]  # (height, roughness) from far to near
    bank: tuple[float, float]  # y of the near bank at the left and at the right edge; above 1: out of the frame
    bend: tuple[float, float, float]  # river or path: where it meets the horizon (x), its swing, its phase
    trees: tuple[Tree, ...]  # behind the water, from far to near
    near_trees: tuple[Tree, ...]  # in front of it
    haystacks: tuple[tuple[float, float, float], ...]  # (x, y, width), from far to near
    boats: tuple[tuple[float, float, float], ...]  # (x, y, height), from far to near
    ground: Colour
    other_ground: Colour
    flower: Colour
    flowers: float  # share of the meadow in flower
    path: bool


def imagine(seed: int) -> Scene:
    """Make up the scene of a seed; it depends on nothing else."""
    rng = generator(seed, 0)
    light = _vary(LIGHTS[str(rng.choice(list(LIGHTS), p=_LIGHT_ODDS))], rng)
    season = SEASONS[str(rng.choice(list(SEASONS), p=_SEASON_ODDS))]
    place = str(rng.choice(_PLACES, p=_PLACE_ODDS))
    horizon = float(rng.uniform(0.24, 0.36) if place == "pond" else rng.uniform(0.36, 0.6))
    shore = {"meadow": 1.0, "sea": horizon}.get(place, horizon + float(rng.uniform(0.02, 0.05)))
    near_side, far_side = rng.uniform(0.72, 0.92), rng.uniform(0.95, 1.3)
    bank = (near_side, far_side) if rng.random() < 0.5 else (far_side, near_side)
    ground, other_ground = (season.ground[i] for i in rng.choice(3, 2, replace=False))
    in_flower = rng.random() < 0.5 and season.leafiness > 0.5
    return Scene(
        light=light,
        season=season,
        place=place,
        horizon=horizon,
        shore=shore,
        sun=(float(rng.uniform(0.1, 0.9)), horizon * float(rng.uniform(*light.sun_y))),
        cloudiness=float(rng.uniform(0.1, 0.9)),
        hills=_hills(rng, 1 if place == "pond" else int(rng.integers(2, 5)), horizon),
        bank=(float(bank[0]), float(bank[1])),
        bend=(float(rng.uniform(0.25, 0.75)), float(rng.uniform(0.08, 0.24)), float(rng.uniform(0, 6.28))),
        trees=_far_trees(rng, season, place, horizon, shore),
        near_trees=_near_trees(rng, season, place, bank),
        haystacks=_haystacks(rng, horizon) if place == "meadow" and rng.random() < 0.4 else (),
        boats=_boats(rng, shore) if place in ("lake", "sea") and rng.random() < 0.6 else (),
        ground=ground,
        other_ground=other_ground,
        flower=season.flowers[int(rng.integers(3))],
        flowers=float(rng.uniform(0.15, 0.55)) if in_flower else 0.0,
        path=place == "meadow" and bool(rng.random() < 0.5),
    )


def _vary(light: Light, rng: np.random.Generator) -> Light:
    """The same time of day on another day."""

    def near(colour: Colour) -> Colour:
        r, g, b = np.clip(np.array(colour) + rng.normal(0, 0.025, 3), 0, 1)
        return float(r), float(g), float(b)

    return light._replace(
        zenith=near(light.zenith), horizon=near(light.horizon), haze=light.haze * rng.uniform(0.6, 1.3)
    )


def _hills(rng: np.random.Generator, count: int, horizon: float) -> tuple[tuple[float, float], ...]:
    heights = np.sort(rng.uniform(0.1, 0.5, count))[::-1] * horizon * rng.uniform(0.5, 1.0)
    return tuple((float(height), float(rng.uniform(0.3, 1.0))) for height in heights)


def _leaves(rng: np.random.Generator, season: Season, kind: str) -> Colour:
    kinds = 2 if kind == "poplar" else 3  # the third colour may be that of blossom, which no poplar has
    colour = np.array(season.leaves[int(rng.integers(kinds))])
    r, g, b = np.clip(colour * rng.uniform(0.85, 1.2) + rng.normal(0, 0.02, 3), 0, 1)
    return float(r), float(g), float(b)


def _far_trees(rng: np.random.Generator, season: Season, place: str, horizon: float, shore: float) -> tuple[Tree, ...]:
    """Rows of poplars, groups of round trees and bushes on the land behind the water, or all over a meadow."""
    if place == "sea":
        return ()
    depth = 0.25 if place == "meadow" else max(shore - horizon - 0.005, 0.01)
    trees = []
    if rng.random() < 0.45:  # a row of poplars, in perspective
        first, step, height = rng.uniform(-0.1, 0.6), rng.uniform(0.05, 0.09), rng.uniform(0.16, 0.34)
        for i in range(int(rng.integers(4, 10))):
            near = rng.uniform(0.3, 0.5)
            leaves = _leaves(rng, season, "poplar")
            tall = height * rng.uniform(0.85, 1.1) * 0.96**i
            trees.append(Tree(first + step * i, horizon + depth * near, tall, "poplar", leaves))
    for _ in range(int(rng.integers(2, 5))):  # groups
        middle, near, tall = rng.uniform(0, 1), rng.uniform(0.1, 1), rng.uniform(0.07, 0.2)
        for _ in range(int(rng.integers(1, 5))):
            kind = str(rng.choice(["round", "bush", "poplar"], p=[0.5, 0.35, 0.15]))
            height = tall * (0.6 + 0.6 * near) * (0.45 if kind == "bush" else rng.uniform(0.8, 1.3))
            foot = horizon + depth * min(1.0, near * rng.uniform(0.85, 1.1))
            trees.append(Tree(middle + rng.normal(0, 0.09), foot, height, kind, _leaves(rng, season, kind)))
    return tuple(sorted(trees, key=lambda tree: tree.y))


def _near_trees(rng: np.random.Generator, season: Season, place: str, bank: Sequence[float]) -> tuple[Tree, ...]:
    """A tree or two and bushes on the near bank, on its higher side."""
    trees = []
    left = bank[0] < bank[1]
    foot = 1.0 if place == "river" else min(bank) + 0.06
    if rng.random() < (0.55 if place in ("lake", "river", "pond") else 0.25):
        for _ in range(int(rng.integers(1, 3))):
            x = rng.uniform(-0.02, 0.2) if left else rng.uniform(0.8, 1.02)
            kind = "poplar" if rng.random() < 0.3 else "round"
            trees.append(
                Tree(x, foot + rng.uniform(0.0, 0.06), rng.uniform(0.5, 0.8), kind, _leaves(rng, season, kind))
            )
    for _ in range(int(rng.integers(0, 5))):
        x = rng.uniform(-0.05, 0.4) if left else rng.uniform(0.6, 1.05)
        trees.append(Tree(x, rng.uniform(0.92, 1.04), rng.uniform(0.08, 0.16), "bush", _leaves(rng, season, "bush")))
    return tuple(sorted(trees, key=lambda tree: tree.y))


def _haystacks(rng: np.random.Generator, horizon: float) -> tuple[tuple[float, float, float], ...]:
    near = np.sort(rng.uniform(0.25, 0.75, int(rng.integers(1, 4))))
    return tuple(
        (float(rng.uniform(0.1, 0.9)), float(horizon + (1 - horizon) * d), float(0.1 + 0.28 * d)) for d in near
    )


def _boats(rng: np.random.Generator, shore: float) -> tuple[tuple[float, float, float], ...]:
    near = np.sort(rng.uniform(0.04, 0.4, int(rng.integers(1, 4))))
    return tuple((float(rng.uniform(0.1, 0.9)), float(shore + (1 - shore) * d), float(0.08 + 0.35 * d)) for d in near)
