"""What stands in a landscape: trees, haystacks, sailing boats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from monet_cyclegan.data.canvas import Canvas, fractal, mix, rgb, sample, smoothstep

if TYPE_CHECKING:
    from monet_cyclegan.data.scenes import Tree


def draw_tree(canvas: Canvas, tree: Tree) -> None:
    """A crown of leafy balls on a trunk, lit from the sun's side."""
    rng, light, tall = canvas.rng, canvas.scene.light, tree.height
    balls = _crown(rng, tree.kind)
    texture = fractal(rng, (128, 128), (14, 14), 4, 0.95)
    width = tall * float(np.max(np.abs(balls[:, 0]) + balls[:, 2]))
    cast_shadow(canvas, tree.x, tree.y, width)
    at = canvas.window(tree.x - width * 1.15, tree.y - tall * 1.1, tree.x + width * 1.15, tree.y)
    if at is None:
        return
    u, v = (canvas.x[at] - tree.x) / tall, (tree.y - canvas.y[at]) / tall  # v: 0 at the foot, 1 at the top
    trunk = canvas.edge((0.02 * (1.15 - v) - np.abs(u + 0.03 * np.sin(3 * v))) * tall) * (v < 0.75) * (v > 0)
    bark = rgb((0.30, 0.24, 0.19)) * (rgb(light.ambient) + 0.5 * rgb(light.key))
    if tree.kind != "bush":
        canvas.lay(bark, trunk.astype(np.float32), 1.57, 3.0, at)

    leafy = sample(texture, u * 120, v * 120)
    toward = np.sign(canvas.scene.sun[0] - tree.x) or 1.0
    relief = leafy - sample(texture, u * 120 + 2.5 * toward, v * 120 + 2.5)
    inside, shade = np.full(u.shape, -9.0, np.float32), np.zeros(u.shape, np.float32)
    for ball_x, ball_y, rx, ry in balls:
        du, dv = (u - ball_x) / rx, (v - ball_y) / ry
        fill = 1 - du * du - dv * dv
        front = fill > inside
        shade = np.where(front, 0.45 * du * toward + 0.62 * dv, shade)
        inside = np.where(front, fill, inside)
    gaps = 1.3 * (1 - canvas.scene.season.leafiness)
    rim = 0.4 if tree.kind == "poplar" else 0.3
    cover = smoothstep(-0.12, 0.16, inside + rim * leafy - 0.12 - gaps * (0.4 + 0.6 * np.abs(leafy)))
    tone = np.clip(0.40 + 0.36 * shade + 0.15 * relief + 0.10 * leafy, 0, 1.2)[..., None]
    leaves = rgb(tree.leaves) * (rgb(light.ambient) * (0.75 + 0.3 * v[..., None]) + 1.15 * rgb(light.key) * tone)
    haze = light.haze * 0.4 * float(np.clip(1 - (tree.y - canvas.scene.horizon) / 0.12, 0, 1))
    angle = 1.57 + 0.3 * canvas.wander[at] if tree.kind == "poplar" else 0.9 * toward + 0.8 * canvas.wander[at]
    canvas.lay(mix(leaves, rgb(light.horizon), haze), cover.astype(np.float32), angle, 1.7, at)


def draw_haystack(canvas: Canvas, x: float, y: float, width: float) -> None:
    """A stack of wheat: a drum with a roof."""
    light = canvas.scene.light
    cast_shadow(canvas, x, y, width * 0.75)
    texture = fractal(canvas.rng, (96, 96), (12, 24), 3, 0.8)
    at = canvas.window(x - width * 0.6, y - width, x + width * 0.6, y + 0.1 * width)
    if at is None:
        return
    u, v = (canvas.x[at] - x) / width, (y - canvas.y[at]) / width
    straw = sample(texture, u * 90 + 48, v * 90)
    v = v - 0.1 * u * u  # its foot is round
    half = np.where(v < 0.42, 0.40 + 0.16 * v, 0.5 * np.sqrt(np.clip((0.86 - v) / 0.44, 0, 1))) + 0.01 * straw
    mask = canvas.edge((half - np.abs(u)) * width) * canvas.edge((v + 0.01) * width)
    toward = np.sign(canvas.scene.sun[0] - x) or 1.0
    tone = np.clip(0.5 + 0.75 * u * toward + 0.22 * (v > 0.42) + 0.13 * straw, 0, 1.15)[..., None]
    hay = rgb((0.82, 0.66, 0.38)) * (rgb(light.ambient) * 0.85 + rgb(light.key) * tone)
    canvas.lay(hay, mask, 0.9 * np.sign(u) + 0.2 * canvas.wander[at], 2.2, at)


def draw_boat(canvas: Canvas, x: float, y: float, height: float) -> None:
    """A sailing boat and its image in the water."""
    light = canvas.scene.light
    at = canvas.window(x - 0.6 * height, y - 1.1 * height, x + 0.6 * height, y + height)
    if at is None:
        return
    u, v = (canvas.x[at] - x) / height, (y - canvas.y[at]) / height
    image = v < -0.06  # below the waterline
    u = u + np.where(image, 0.05 * np.sin(v * 40 + 3 * canvas.wander[at]), 0)
    v = np.where(image, -0.12 - v, v)
    seen = np.where(image, 0.45 * np.clip(1.1 - v, 0, 1), 1).astype(np.float32)
    aside = np.sign(canvas.scene.sun[0] - x) or 1.0
    sail = np.minimum(np.minimum(u - 0.02, 0.42 - 0.42 * v - u), v - 0.1)
    jib = np.minimum(np.minimum(-0.02 - u, 0.3 - 0.34 * v + u), v - 0.1)
    hull = np.minimum(0.06 - np.abs(v), 0.36 + 0.6 * v - np.abs(u))
    daylight = rgb(light.ambient) + rgb(light.key)
    cloth = np.minimum(rgb((0.95, 0.92, 0.86)) * daylight * (0.9 + 0.25 * aside * u[..., None]), 1)
    canvas.lay(cloth, canvas.edge(np.maximum(sail, jib) * height) * seen, 1.3, 2.0, at)
    canvas.lay(rgb((0.30, 0.20, 0.17)) * daylight, canvas.edge(hull * height) * seen, 0.0, 3.0, at)


def cast_shadow(canvas: Canvas, x: float, y: float, width: float) -> None:
    """A soft shadow on the ground, away from the sun."""
    away = np.sign(x - canvas.scene.sun[0]) * 0.5 * width
    at = canvas.window(x - 2 * width, y - width * 0.4, x + 2 * width, y + width * 0.4)
    if at is not None:
        r = np.hypot((canvas.x[at] - x - away) / width, (canvas.y[at] - y) / (0.2 * width))
        dark = (0.55 * smoothstep(1.2, 0.2, r) * min(1.0, float(np.sum(canvas.scene.light.key)) / 2))[..., None]
        canvas.colour[at] *= 1 - dark * rgb((1, 0.92, 0.75))


def _crown(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Balls of leaves as rows of x, y, x-radius, y-radius, in units of the tree's height from its foot."""
    if kind == "poplar":
        heights = np.linspace(0.18, 0.88, 9)
        radii = np.interp(heights, [0.15, 0.4, 0.9], [0.07, 0.105, 0.05]) * rng.uniform(0.9, 1.15, 9)
        return np.stack([rng.normal(0, 0.012, 9), heights, radii, np.full(9, 0.15)], 1)
    if kind == "bush":
        spread = rng.uniform(-0.6, 0.6, 5)
        return np.stack([spread, rng.uniform(0.2, 0.5, 5), rng.uniform(0.3, 0.5, 5), rng.uniform(0.3, 0.5, 5)], 1)
    angle, reach = np.arange(14) * 2.4 + rng.normal(0, 0.3, 14), np.sqrt(np.linspace(0, 1, 14))
    radii = rng.uniform(0.12, 0.19, 14)
    wide, high = rng.uniform(0.22, 0.34), rng.uniform(0.2, 0.26)
    return np.stack([wide * reach * np.cos(angle), 0.60 + high * reach * np.sin(angle), radii, radii * 0.9], 1)
