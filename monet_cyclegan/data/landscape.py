"""Draws a scene as a camera would see it: sky, hills, ground, water, and what stands there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from monet_cyclegan.data.canvas import Canvas, fractal, mix, rgb, smoothstep
from monet_cyclegan.data.figures import draw_boat, draw_haystack, draw_tree

if TYPE_CHECKING:
    from monet_cyclegan.data.scenes import Scene

WHITE = np.ones(3, np.float32)


def draw(scene: Scene, seed: int, size: int) -> Canvas:
    """Draw a scene in (size, size) pixels, from the far to the near."""
    canvas = Canvas(scene, seed, size)
    draw_sky(canvas)
    draw_hills(canvas)
    land = ground_colours(canvas)
    canvas.lay(land, (canvas.y > scene.horizon).astype(np.float32), ground_angle(canvas), 2.2)
    for tree in scene.trees:
        draw_tree(canvas, tree)
    for x, y, width in scene.haystacks:
        draw_haystack(canvas, x, y, width)
    if scene.place != "meadow":
        draw_water(canvas)
        if scene.place == "pond" and scene.season.leafiness > 0.5:
            draw_lilies(canvas)
        if scene.place != "river":
            draw_bank(canvas, land)
    for x, y, height in scene.boats:
        draw_boat(canvas, x, y, height)
    for tree in scene.near_trees:
        draw_tree(canvas, tree)
    np.clip(canvas.colour, 0, 1, out=canvas.colour)
    return canvas


def draw_sky(canvas: Canvas) -> None:
    """The gradient, the sun's glow and clouds."""
    scene, light = canvas.scene, canvas.scene.light
    height = np.clip(1 - canvas.y / scene.horizon, 0, 1)[..., None]  # 0 at the horizon
    sky = mix(rgb(light.horizon), rgb(light.zenith), height**0.65)
    sun_x, sun_y = scene.sun
    distance = np.hypot(canvas.x - sun_x, (canvas.y - sun_y) * 1.15)[..., None]
    halo = np.clip(light.glow * (0.7 * np.exp(-distance / 0.22) + 0.8 * np.exp(-distance / 0.06)), 0, 1)
    glow = np.minimum(rgb(light.key) * 1.3 + 0.12, 1)
    sky = mix(sky, glow, halo)

    # Clouds lie on a ceiling: squeezed towards the horizon.
    ceiling = 1 / (np.clip(1 - canvas.y / scene.horizon, 0, 1) + 0.22)
    texture = fractal(canvas.rng, (256, 256), (5, 4), 6, 0.55)
    u, v = ((canvas.x - 0.5) * ceiling * 62 + 128).astype(np.float32), (ceiling * 70).astype(np.float32)
    billow = cv2.remap(texture, u, v, cv2.INTER_CUBIC, None, cv2.BORDER_REFLECT)
    toward = np.sign(sun_x - 0.5) * 5
    lit_side = billow - cv2.remap(texture, u + np.float32(toward), v + 4, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)
    cover = 1.1 - 2.0 * scene.cloudiness
    amount = smoothstep(cover, cover + 1.3, billow) * (0.35 + 0.6 * smoothstep(0.0, 0.35, height[..., 0]))
    bright = mix(rgb(light.horizon), WHITE, 0.55) * mix(WHITE, np.minimum(rgb(light.key) + 0.22, 1), 0.8 * light.glow)
    dark = mix(rgb(light.zenith), rgb(light.horizon), 0.45) * 0.82 + 0.06
    shade = np.clip(0.62 + 0.3 * lit_side - 0.18 * (billow - cover - 0.6), 0, 1)[..., None]
    clouds = mix(mix(dark, bright, shade), glow, 0.7 * halo)
    sky = mix(sky, clouds, amount[..., None])
    if light.glow > 0.4:
        disk = smoothstep(0.05, 0.018, distance[..., 0]) * (1 - 0.7 * amount)
        sky = mix(sky, np.minimum(glow + rgb((0.3, 0.27, 0.2)), 1), disk[..., None])
    canvas.lay(sky, np.ones_like(canvas.y), 0.1 + 0.3 * canvas.wander, 3.0)


def draw_hills(canvas: Canvas) -> None:
    """Ridges from far to near, each less hazy than the one behind; the last one is wooded."""
    scene, light = canvas.scene, canvas.scene.light
    leaves = rgb(scene.season.leaves[0]) * 0.5 + rgb(scene.season.leaves[1]) * 0.3 + rgb(scene.ground) * 0.2
    count = len(scene.hills)
    for i, (height, roughness) in enumerate(scene.hills):
        far = 1 - i / count  # 1: farthest
        last = i == count - 1
        profile = canvas.outline(2 + i, 6, 0.36 + 0.16 * roughness * far)
        ridge = scene.horizon - height * np.clip(0.5 + 0.28 * profile, 0.06, 1.2)
        texture = canvas.noise((24, 14), 4, 0.7)
        if last:
            ridge = ridge - 0.008 * np.abs(canvas.outline(40, 3, 0.7))
        slope = np.gradient(cv2.GaussianBlur(ridge[None].astype(np.float32), (0, 0), canvas.size / 40)[0]) * canvas.size
        facing = np.sign(0.5 - scene.sun[0]) * -slope
        lit = np.clip(0.45 + 0.8 * facing + (0.22 + 0.12 * last) * texture, 0, 1.2)[..., None]
        albedo = mix(leaves, rgb(scene.ground), np.clip(0.35 + 0.3 * canvas.noise((10, 5), 3), 0, 0.9)[..., None])
        hill = albedo * (rgb(light.ambient) + rgb(light.key) * lit)
        mist = np.clip((canvas.y - ridge) / max(height, 0.05), 0, 1)[..., None]
        air = mix(rgb(light.horizon), rgb(light.zenith), 0.45 * far)
        haze = np.clip(light.haze * (0.22 + 0.62 * far + 0.25 * mist * far), 0, 0.93)
        angle = np.arctan(slope)[None, :] + 0.35 * canvas.wander
        canvas.lay(mix(hill, air, haze), canvas.edge(canvas.y - ridge), angle, 2.2)


def ground_angle(canvas: Canvas) -> np.ndarray:
    """Far fields are stroked level, near grass upright."""
    return 0.4 * canvas.wander - 1.1 * smoothstep(0.25, 0.9, canvas.near)


def ground_colours(canvas: Canvas) -> np.ndarray:
    """A meadow up to the horizon: patches, grass, flowers, a path."""
    scene, light = canvas.scene, canvas.scene.light
    texture = fractal(canvas.rng, (512, 512), (64, 64), 3, 0.8)
    broad = canvas.on_ground(fractal(canvas.rng, (256, 256), (12, 12), 3), 0.35)
    grain = canvas.on_ground(texture, 1.0)
    blades = canvas.noise((18, 72), 3, 0.8) * smoothstep(0.1, 1.0, canvas.near)
    albedo = mix(rgb(scene.ground), rgb(scene.other_ground), smoothstep(-0.6, 1.0, broad)[..., None])
    lit = 0.62 + 0.1 * broad + 0.14 * grain + 0.17 * blades
    if scene.flowers:
        spots = canvas.on_ground(fractal(canvas.rng, (512, 512), (110, 110), 2, 0.7), 1.1)
        where = smoothstep(0.9, 1.5, spots + 0.5 * broad + 0.9 * scene.flowers) * smoothstep(0.0, 0.15, canvas.near)
        albedo = mix(albedo, rgb(scene.flower), 0.9 * where[..., None])
        lit = lit + 0.25 * where
    if scene.path:
        off = np.abs(canvas.x - meander(canvas)) - (0.006 + 0.085 * canvas.near)
        track = smoothstep(0.018, -0.012, off + 0.012 * grain * canvas.near)[..., None]
        albedo = mix(albedo, rgb((0.74, 0.64, 0.50)), 0.85 * track)
        lit = mix(lit, 0.72 + 0.07 * grain, track[..., 0])
    ground = albedo * (rgb(light.ambient) + rgb(light.key) * np.clip(lit, 0, 1.2)[..., None])
    haze = np.clip(light.haze * 0.65 * np.exp(-canvas.near * 7), 0, 0.8)[..., None]
    return np.asarray(mix(ground, rgb(light.horizon), haze), np.float32)


def meander(canvas: Canvas) -> np.ndarray:
    """The x of the middle of a river or path: from the horizon to our feet."""
    start, swing, phase = canvas.scene.bend
    return start + swing * np.sqrt(canvas.near) * np.sin(phase + 5.0 * np.sqrt(canvas.near))


def draw_water(canvas: Canvas) -> None:
    """All that stands behind the shore, upside down in the ripples, and the sun on them."""
    scene, light = canvas.scene, canvas.scene.light
    shore = scene.shore
    near = np.clip((canvas.y - shore) / (1 - shore), 0, 1)
    ripple = canvas.on_ground(fractal(canvas.rng, (512, 512), (110, 22), 3, 0.6), 0.55)
    swell = canvas.noise((60, 5), 2) * near
    dx = (0.004 + 0.02 * near) * ripple
    dy = (0.003 + 0.05 * near) * (ripple + 0.6 * swell)
    rows = np.clip((2 * shore - canvas.y + dy) * canvas.size - 0.5, 0, shore * canvas.size - 0.5)
    columns = np.clip((canvas.x + dx) * canvas.size - 0.5, 0, canvas.size - 1)
    mirror = cv2.remap(canvas.colour, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR)
    mirror = cv2.GaussianBlur(mirror, (0, 0), canvas.size / 220, sigmaY=canvas.size / 90)
    deep = (rgb((0.16, 0.30, 0.30)) + 0.15 * rgb(light.zenith)) * (rgb(light.ambient) + 0.5 * rgb(light.key))
    clear = np.clip(0.9 - 0.5 * near**1.3 - 0.06 * ripple, 0, 1)[..., None]
    water = mix(deep, mirror * 0.95, clear)
    water += (0.04 * near * ripple)[..., None] * rgb(light.horizon)
    if light.glow > 0.2:  # the sun's road on the water
        sparkle = smoothstep(-0.1, 1.1, ripple + 0.7 * swell)
        road = np.exp(-(((canvas.x - scene.sun[0]) / (0.03 + 0.12 * near)) ** 2)) * sparkle
        glitter = np.minimum(rgb(light.key) * 1.2 + 0.2, 1)
        water = mix(water, glitter, np.clip(light.glow * 1.3 * road, 0, 0.9)[..., None])
    mask = canvas.edge(canvas.y - shore)
    if scene.place == "river":
        wobble = 0.012 * canvas.noise((12, 12), 3)
        half = 0.02 + 0.36 * near
        mask = mask * canvas.edge(half - np.abs(canvas.x - meander(canvas)) + wobble)
    canvas.lay(water, mask, 0.06 * canvas.wander, 4.0)


def draw_bank(canvas: Canvas, land: np.ndarray) -> None:
    """The bank that we stand on: grass, or sand by the sea."""
    scene, light = canvas.scene, canvas.scene.light
    left, right = scene.bank
    brink = left + (right - left) * smoothstep(0, 1, canvas.x) + 0.01 * canvas.outline(9, 4, 0.6)
    if scene.place == "sea":
        land = mix(land, rgb((0.78, 0.70, 0.56)) * (rgb(light.ambient) + 0.6 * rgb(light.key)), 0.7)
    wet = smoothstep(0.03, 0.0, canvas.y - brink)[..., None]
    canvas.lay(land * (1 - 0.35 * wet), canvas.edge(canvas.y - brink), ground_angle(canvas), 2.2)


def draw_lilies(canvas: Canvas) -> None:
    """Rafts of lily pads with a few blossoms."""
    light = canvas.scene.light
    pads = canvas.on_ground(fractal(canvas.rng, (512, 512), (110, 70), 2), 0.6)
    rafts = canvas.on_ground(fractal(canvas.rng, (256, 256), (16, 10), 2), 0.35)
    where = smoothstep(0.75, 1.15, 0.8 * pads + rafts) * smoothstep(0.1, 0.25, canvas.near)
    tone = np.clip(0.6 + 0.22 * pads, 0, 1.1)[..., None]
    canvas.lay(rgb((0.42, 0.56, 0.34)) * (rgb(light.ambient) + rgb(light.key) * tone), 0.9 * where, 0.0, 1.8)
    blossoms = where * smoothstep(1.8, 2.2, pads + 0.2 * rafts)
    canvas.lay(rgb((0.96, 0.78, 0.84)) * np.minimum(rgb(light.ambient) + rgb(light.key), 1), blossoms, 0.0, 1.3)
