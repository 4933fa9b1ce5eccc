"""Things on the bench that belong to no class: cables, scraps, tools and blobs.

They keep a detector honest: metal, round or long alone is not enough to be a part.
"""

from __future__ import annotations

import numpy as np

from bridge.scenes.parts import Field, Part, Relief, relief_of
from bridge.scenes.textures import F32

KINDS = ("cable", "scrap", "driver", "blob", "disc", "hex key")


def _segment(u: F32, v: F32, start: tuple[float, float], end: tuple[float, float]) -> F32:
    """Distance in pixels to a straight segment."""
    du, dv = end[0] - start[0], end[1] - start[1]
    along = np.clip(((u - start[0]) * du + (v - start[1]) * dv) / max(1e-6, du * du + dv * dv), 0.0, 1.0)
    return np.hypot(u - start[0] - along * du, v - start[1] - along * dv).astype(np.float32)


def cable(rng: np.random.Generator, size: float) -> Part:
    """A bent piece of insulated wire about 2 * size pixels long."""
    bend = float(rng.uniform(-0.5, 0.5)) * size
    second = float(rng.uniform(-0.4, 0.4)) * size
    radius = max(2.5, size * float(rng.uniform(0.045, 0.09)))
    room = abs(bend) + abs(second) + radius + 2

    def relief(u: F32, v: F32) -> Relief:
        t = u / np.float32(size)
        centre = bend * (t * t - 0.4) + second * np.sin(t * 3.0)
        slope = (2 * bend * t + 3 * second * np.cos(t * 3.0)) / size
        across = (v - centre) / np.sqrt(1 + slope * slope)
        distance = np.hypot(across, np.maximum(np.abs(u) - np.float32(size - radius), 0)) - np.float32(radius)
        height = np.sqrt(np.maximum(np.float32(radius * radius) - across * across, np.float32(0.2)))
        return Relief(distance, height, np.ones_like(u), np.zeros_like(u))

    return Part(size + 1, room, radius, relief)


def scrap(rng: np.random.Generator, size: float) -> Part:
    """A torn piece of paper or tape with a few printed lines."""
    half_u, half_v = size * float(rng.uniform(0.5, 0.8)), size * float(rng.uniform(0.25, 0.5))
    ragged = float(rng.uniform(0.0, 0.08)) * size
    period = float(rng.uniform(5, 11))
    ink = float(rng.uniform(0.0, 0.5))
    frequency = float(rng.uniform(0.1, 0.4))

    def relief(u: F32, v: F32) -> Relief:
        edge = ragged * (np.sin(u * frequency) + np.sin(v * frequency * 1.7))
        distance = np.maximum(np.abs(u) - half_u, np.abs(v) - half_v) + edge
        rows = np.sin(v * np.float32(2 * np.pi / period)) > 0.5
        words = np.sin(u * 1.1 + np.floor(v / period) * 2.3) > -0.6
        printed = rows & words & (distance < -4)
        height = 0.004 * u * v + 0.6 * np.sin(u * 0.06)
        tone = np.where(printed, np.float32(1 - ink), np.float32(1.0))
        return Relief(distance.astype(np.float32), height.astype(np.float32), tone, np.zeros_like(u))

    return Part(half_u + 2 * ragged + 1, half_v + 2 * ragged + 1, 1.2, relief)


def driver(rng: np.random.Generator, size: float) -> Part:
    """The end of a screwdriver: grip, ferrule, plain shaft and flat or pointed tip."""
    shaft = max(3.0, size * float(rng.uniform(0.05, 0.08)))
    grip = shaft * float(rng.uniform(2.2, 3.0))
    collar = float(rng.uniform(-0.35, 0.1)) * size
    pointed = rng.random() < 0.5

    def relief(u: F32, v: F32) -> Relief:
        taper = np.clip((u - np.float32(size * 0.78)) / np.float32(size * 0.22), 0.0, 1.0)
        reach = shaft * (1.0 - taper * (0.75 if pointed else -0.25))
        rod = np.maximum(np.abs(v) - reach, u - np.float32(size))
        rod = np.maximum(rod, np.float32(collar) - u)
        waist = grip * (1.0 - 0.22 * np.exp(-(((u - collar + grip) / grip) ** 2)))
        handle = np.maximum(np.abs(v) - waist, np.maximum(u - np.float32(collar), -u - np.float32(size)))
        flutes = np.abs(np.sin(np.clip(v / grip, -1, 1) * 5.0))
        height = np.where(
            handle < 0,
            np.sqrt(np.maximum(waist * waist - v * v, 1.0)) + 1.5 * flutes,
            np.sqrt(np.maximum(reach * reach - v * v, 0.3)) * (1.0 - 0.8 * taper),
        )
        tone = np.where(handle < 0, np.float32(0.55), np.float32(1.1))
        return Relief(np.minimum(rod, handle).astype(np.float32), height.astype(np.float32), tone, np.zeros_like(u))

    return Part(size + 1, grip + 1, 2 * shaft, relief)


def blob(rng: np.random.Generator, size: float) -> Part:
    """A lump of putty, wax or dried glue."""
    radius = size * float(rng.uniform(0.16, 0.34))
    phases = rng.uniform(0, 2 * np.pi, 3)
    swell = rng.uniform(0.03, 0.2, 3) * radius

    def relief(u: F32, v: F32) -> Relief:
        angle = np.arctan2(v, u)
        outline: Field = np.hypot(u, v) - np.float32(radius)
        for wave in range(3):
            outline = outline + np.float32(swell[wave]) * np.sin(angle * (wave + 2) + np.float32(phases[wave]))
        height = np.sqrt(np.clip(-outline, 0.0, None) * np.float32(radius)) * 0.8
        return relief_of(outline, height, np.ones_like(u), np.zeros_like(u))

    room = radius + float(swell.sum()) + 1
    return Part(room, room, radius * 0.5, relief)


def disc(rng: np.random.Generator, size: float) -> Part:
    """A blank or coin: round like a washer, but without a hole."""
    radius = size * float(rng.uniform(0.2, 0.36))
    rim = float(rng.uniform(0.82, 0.92)) * radius

    def relief(u: F32, v: F32) -> Relief:
        outline = np.hypot(u, v) - np.float32(radius)
        height = np.clip(-outline / 2.0, 0.0, 1.0) * 1.6 - 0.8 * np.clip((rim - radius - outline) / 1.5, 0.0, 1.0)
        return Relief(outline, height.astype(np.float32), np.ones_like(u), np.clip(-outline, 0, 1) * 0.7)

    return Part(radius + 1, radius + 1, max(2.0, radius * 0.12), relief)


def hex_key(rng: np.random.Generator, size: float) -> Part:
    """An L-shaped hexagon key."""
    arm = float(rng.uniform(0.3, 0.5)) * size
    radius = max(2.4, size * float(rng.uniform(0.04, 0.06)))

    def relief(u: F32, v: F32) -> Relief:
        corner = (-size + radius, arm / 2 - radius)
        long = _segment(u, v, corner, (size - radius, corner[1]))
        short = _segment(u, v, corner, (corner[0], -arm / 2 + radius))
        nearest = np.minimum(long, short)
        height = np.clip(radius - nearest, 0.0, radius * 0.6)
        return Relief(nearest - np.float32(radius), height.astype(np.float32), np.ones_like(u), np.zeros_like(u))

    return Part(size + 1, arm / 2 + 1, radius, relief)


def draw_clutter(rng: np.random.Generator, kind: str, scale: float) -> Part:
    """One object of `kind` (of `KINDS`); `scale` as in `bridge.scenes.parts.draw_part`."""
    size = scale * float(rng.uniform(44, 84))
    makers = {"cable": cable, "scrap": scrap, "driver": driver, "blob": blob, "disc": disc, "hex key": hex_key}
    return makers[kind](rng, size)
