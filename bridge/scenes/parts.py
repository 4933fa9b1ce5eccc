"""The machine parts of the synthetic scenes: each one a little relief, drawn in pixels.

A part is described by a signed distance to its outline and by a height field. `bridge.scenes` turns
both into pixels: the distance gives coverage and shadow, the slope of the height gives the shading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.scenes.textures import F32

Colour = tuple[float, float, float]
Field = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Relief:
    """What one part looks like on a patch of pixels; every array is (h, w) float32.

    distance: signed distance to the outline in pixels, negative inside.
    height: height above the bench in pixels; only its slope matters.
    tone: factor on the part's colour, 0..about 1.3 (holes, grooves, inserts).
    turned: 0..1, how much the face is lathe-turned, so that it shows radial highlights.
    """

    distance: F32
    height: F32
    tone: F32
    turned: F32


@dataclass(frozen=True, slots=True)
class Part:
    """A part before it is placed: half extents in pixels along its own u and v axes, and its relief.

    relief: takes u and v, (h, w) float32 pixels from the part's middle, and returns a `Relief`.
    thickness: height of the body in pixels; sets the length of its shadow.
    """

    half_u: float
    half_v: float
    thickness: float
    relief: Callable[[F32, F32], Relief]


def relief_of(distance: Field, height: Field, tone: Field, turned: Field) -> Relief:
    """A `Relief` of the four fields in float32."""
    return Relief(*(field.astype(np.float32, copy=False) for field in (distance, height, tone, turned)))


def _ones(like: F32) -> F32:
    return np.ones_like(like)


def _box(u: F32, v: F32, half_u: float, half_v: float, radius: float = 0.0) -> F32:
    """Signed distance to a rectangle with rounded corners."""
    du = np.abs(u) - np.float32(half_u - radius)
    dv = np.abs(v) - np.float32(half_v - radius)
    outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
    distance: F32 = outside + np.minimum(np.maximum(du, dv), 0) - np.float32(radius)
    return distance


def _polygon(u: F32, v: F32, sides: int, inradius: float) -> F32:
    """Distance to a regular polygon's sides (exact inside, a lower bound near corners outside)."""
    step = 2 * np.pi / sides
    angle = np.arctan2(v, u)
    folded = angle - np.float32(step) * np.rint(angle / np.float32(step))
    distance: F32 = np.hypot(u, v) * np.cos(folded) - np.float32(inradius)
    return distance


def _bevel(distance: Field, width: float, depth: float) -> F32:
    """A height that rises from the outline over `width` pixels to `depth` and stays flat."""
    rise = np.clip(-distance / np.float32(width), 0.0, 1.0)
    height: F32 = np.float32(depth) * (1.0 - (1.0 - rise) ** 2)
    return height


def _dome(across: F32, radius: float) -> F32:
    """The profile of a lying cylinder of the given radius, `across` pixels from its axis."""
    height: F32 = np.sqrt(np.maximum(np.float32(radius * radius) - across * across, np.float32(0.04 * radius * radius)))
    return height


def bolt(rng: np.random.Generator, length: float) -> Part:
    """A bolt lying on its side, `length` pixels long: hexagonal, cylindrical or domed head."""
    shank = length * float(rng.uniform(0.075, 0.125))
    head = shank * float(rng.uniform(1.65, 2.1))
    head_length = shank * float(rng.uniform(1.2, 1.9))
    kind = int(rng.choice(4, p=(0.5, 0.2, 0.18, 0.12)))
    pitch = max(2.6, shank * float(rng.uniform(0.32, 0.5)))
    plain = float(rng.uniform(0.0, 0.45)) if rng.random() < 0.6 else 0.0
    facet = float(rng.uniform(-0.35, 0.35))
    washer_face = rng.random() < 0.3
    half = length / 2

    def relief(u: F32, v: F32) -> Relief:
        under = np.float32(-half + head_length)
        middle = (under + half) / 2
        body = _box(u - middle, v, half - float(middle), shank, shank * 0.18)
        thread_from = under + np.float32(plain) * (np.float32(half) - under)
        threaded = np.clip((u - thread_from) / 2.0, 0.0, 1.0)
        ridge = np.sin((u + v * np.float32(pitch / (4 * shank))) * np.float32(2 * np.pi / pitch))
        tip = np.clip((u - np.float32(half - shank * 0.5)) / np.float32(shank * 0.5), 0.0, 1.0)
        groove = np.float32(0.35 * min(1.0, pitch / 4))
        body = body + threaded * (1.0 - ridge) * groove + tip * np.float32(shank * 0.14)
        height = _dome(v, shank) + threaded * ridge * np.float32(0.16 * pitch)
        tone = 1.0 - threaded * (0.16 - 0.16 * ridge)

        at = u + np.float32(half - head_length / 2)
        if kind == 2:
            face = at - np.float32(head_length / 2)
            cap = np.hypot(face, v * np.float32(head_length / head)) - np.float32(head_length)
            cap = np.maximum(cap, face)
            cap_height = np.sqrt(np.maximum(np.float32(head * head) - v * v - at * at * 0.6, np.float32(1.0)))
            cap_tone = _ones(u)
        elif kind == 3:
            taper = np.clip((at + np.float32(head_length / 2)) / np.float32(head_length), 0.0, 1.0)
            cap = np.maximum(np.abs(v) - head + (head - shank) * taper, np.abs(at) - np.float32(head_length / 2))
            cap_height = np.sqrt(np.maximum((head - (head - shank) * taper) ** 2 - v * v, np.float32(1.0)))
            cap_tone = _ones(u)
        else:
            cap = _box(at, v, head_length / 2, head, head * 0.12)
            cap_height, cap_tone = _head_faces(at, v, head, head_length, kind == 1, facet)
        in_head = cap < 0
        height = np.where(in_head, cap_height, height)
        tone = np.where(in_head, cap_tone, tone)
        neck = np.exp(-(((u - under) / 2.2) ** 2)) * (~in_head).astype(np.float32)
        tone = tone * (1.0 - 0.5 * neck)
        distance = np.minimum(body, cap)
        if washer_face:
            flange = _box(u - under, v, shank * 0.13, head * 1.18, 1.0)
            height = np.where(flange < 0, _dome(v, head * 1.2), height)
            tone = np.where(flange < 0, np.float32(1.1), tone)
            distance = np.minimum(distance, flange)
        return relief_of(distance, height, tone, np.zeros_like(u))

    return Part(half + 1, head * (1.2 if washer_face else 1.0) + 1, shank * 1.6, relief)


def _head_faces(at: F32, v: F32, head: float, length: float, round_head: bool, facet: float) -> tuple[F32, F32]:
    """Height and tone of a bolt head seen from the side: hexagon faces, or a knurled cylinder."""
    if round_head:
        knurl = np.sin(np.arcsin(np.clip(v / np.float32(head), -1, 1)) * np.float32(max(6.0, head)))
        return _dome(v, head) + 0.5 * knurl, 1.0 + 0.12 * knurl
    first, second = (facet - 0.55) * head, (facet + 0.55) * head
    slope = np.where(v < first, np.float32(0.75), np.where(v > second, np.float32(-0.75), np.float32(-facet * 0.5)))
    height = np.where(
        v < first,
        slope * (v - np.float32(first)),
        np.where(v > second, slope * (v - np.float32(second)), slope * (v - np.float32(first))),
    )
    edge = np.minimum(np.abs(v - np.float32(first)), np.abs(v - np.float32(second)))
    outer = np.clip((-at - np.float32(length * 0.28)) / np.float32(length * 0.22), 0.0, 1.0)
    height = height - outer * np.float32(length * 0.12) + np.float32(head)
    tone: F32 = 1.0 + 0.22 * np.exp(-((edge / 1.1) ** 2)) + np.where(v > second, np.float32(-0.12), np.float32(0.0))
    return height, tone


def nut(rng: np.random.Generator, diameter: float) -> Part:
    """A hexagon nut lying flat, `diameter` pixels across its corners; some have a flange or an insert."""
    inradius = diameter / 2 * float(np.cos(np.pi / 6))
    flange = rng.random() < 0.25
    if flange:
        inradius *= 0.8
    hole = inradius * float(rng.uniform(0.5, 0.64))
    insert = rng.random() < 0.22
    insert_tone = float(rng.uniform(0.35, 1.35))
    chamfer = inradius * float(rng.uniform(0.1, 0.2))

    def relief(u: F32, v: F32) -> Relief:
        radius = np.hypot(u, v)
        hexagon = _polygon(u, v, 6, inradius)
        outline = np.maximum(hexagon, radius - np.float32(inradius * 1.135))
        height = _bevel(outline, max(1.5, chamfer * 0.6), chamfer)
        circle = radius - np.float32(inradius * 0.97)
        height = height - np.clip(circle, 0.0, None) * 0.45
        tone = 1.0 + 0.16 * np.exp(-((circle / 1.2) ** 2))
        bore = np.float32(hole) - radius
        countersink = np.clip(1.0 + bore / np.float32(max(2.0, hole * 0.22)), 0.0, 1.0)
        height = height - countersink * np.float32(chamfer)
        tone = tone * (1.0 - 0.3 * countersink)
        if insert:
            ring = (radius < hole * 1.3) & (radius > hole)
            tone = np.where(ring, np.float32(insert_tone), tone)
        distance = np.maximum(outline, bore)
        if flange:
            skirt = radius - np.float32(diameter / 2)
            on_skirt = outline > 0
            height = np.where(on_skirt, -outline * 0.35 - np.float32(chamfer), height)
            tone = np.where(on_skirt, 1.0 - 0.45 * np.exp(-np.clip(outline, 0, None) / 2.0), tone)
            distance = np.maximum(skirt, bore)
        thread = (bore > 0) & (bore < np.float32(hole * 0.2))
        tone = np.where(thread, np.float32(0.3) + 0.25 * np.sin(radius * 2.4), tone)
        distance = np.where(thread, np.float32(-1.0), distance)
        distance = np.where(bore >= np.float32(hole * 0.2), bore - np.float32(hole * 0.2), distance)
        return relief_of(distance, height, tone, np.clip(-circle, 0, 1) * 0.8)

    return Part(diameter / 2 + 1, diameter / 2 + 1, inradius * 0.6, relief)


def washer(rng: np.random.Generator, diameter: float) -> Part:
    """A washer lying flat: plain, domed, or a split lock washer."""
    outer = diameter / 2
    hole = outer * float(rng.uniform(0.36, 0.66))
    kind = int(rng.choice(3, p=(0.65, 0.15, 0.2)))
    gap = float(rng.uniform(0.05, 0.12)) * outer
    edge = max(1.4, outer * float(rng.uniform(0.05, 0.12)))

    def relief(u: F32, v: F32) -> Relief:
        radius = np.hypot(u, v)
        ring = np.maximum(radius - np.float32(outer), np.float32(hole) - radius)
        tone = 1.0 - 0.22 * np.clip(1.0 + ring / np.float32(edge), 0.0, 1.0)
        if kind == 2:
            cut = np.abs(v + 0.35 * (u - np.float32(hole))) - np.float32(gap)
            ring = np.maximum(ring, np.where(u > 0, -cut, np.float32(-1e3)))
        height = _bevel(ring, edge, edge * 0.8)
        if kind == 1:
            height = height - 0.35 * (radius - np.float32(hole))
        return relief_of(ring, height, tone, np.clip(-ring, 0, 1))

    return Part(outer + 1, outer + 1, max(2.0, outer * 0.12), relief)


def gear(rng: np.random.Generator, diameter: float) -> Part:
    """A spur gear lying flat: teeth, a bore (some with a keyway), and a hub, spokes or lightening holes."""
    outer = diameter / 2
    teeth = int(rng.integers(10, max(12, min(26, int(outer * 0.42)))))
    depth = min(outer * 0.24, outer * 4.4 / teeth) * float(rng.uniform(0.85, 1.0))
    root = outer - depth
    bore = outer * float(rng.uniform(0.12, 0.28))
    hub = bore + outer * float(rng.uniform(0.1, 0.2))
    kind = int(rng.integers(4))
    spokes = int(rng.integers(3, 7))
    keyway = rng.random() < 0.4

    def relief(u: F32, v: F32) -> Relief:
        radius = np.hypot(u, v)
        angle = np.arctan2(v, u)
        wave = np.cos(angle * np.float32(teeth))
        flank = np.clip(wave * 2.3 + 0.25, -1.0, 1.0)
        outline = radius - np.float32(root + depth / 2) - flank * np.float32(depth / 2)
        inner = np.float32(bore) - radius
        if keyway:
            slot = np.maximum(np.abs(v) - np.float32(bore * 0.3), np.abs(u - np.float32(bore)) - np.float32(bore * 0.4))
            inner = np.maximum(inner, -slot)
        rim = np.float32(root * 0.82)
        web = np.maximum(radius - rim, np.float32(hub) - radius)
        height = _bevel(outline, 2.0, 1.6) - np.clip(1.0 + inner / 1.8, 0.0, 1.0) * 1.5
        tone = 1.0 - 0.18 * np.clip(1.0 + outline / 2.0, 0.0, 1.0)
        distance = np.maximum(outline, inner)
        if kind in (1, 2):
            sunk = np.clip(-web / 2.0, 0.0, 1.0)
            height = height - 3.0 * sunk
            tone = tone * (1.0 - 0.2 * sunk) * (1.0 - 0.3 * np.exp(-((web / 1.6) ** 2)))
        if kind in (2, 3):
            middle = (float(rim) + hub) / 2
            size = min((float(rim) - hub) * 0.36, middle * float(np.sin(np.pi / spokes)) * 0.72)
            step = np.float32(2 * np.pi / spokes)
            folded = angle - step * np.rint(angle / step)
            centre = np.hypot(radius * np.cos(folded) - np.float32(middle), radius * np.sin(folded))
            distance = np.maximum(distance, np.float32(size) - centre)
        return relief_of(distance, height, tone, np.clip(-distance, 0, 1) * 0.9)

    return Part(outer + 1, outer + 1, max(3.0, outer * 0.2), relief)


def spring(rng: np.random.Generator, length: float) -> Part:
    """A helical spring lying on its side; the far half of the coil shows dark through the gaps."""
    coil = length * float(rng.uniform(0.12, 0.2))
    wire = max(1.7, coil * float(rng.uniform(0.12, 0.2)))
    pitch = wire * float(rng.uniform(2.7, 4.2))
    turns = max(4, round((length - 2 * wire) / pitch))
    pitch = (length - 2 * wire) / turns
    hooks = rng.random() < 0.3
    half = length / 2

    def strand(u: F32, v: F32, lean: float) -> F32:
        sway = np.arcsin(np.clip(v / np.float32(coil), -1.0, 1.0)) * np.float32(lean * pitch / (2 * np.pi))
        turn = (u - sway) / np.float32(pitch)
        nearest = np.clip(np.rint(turn - 0.25 + lean * 0.25), -turns / 2, turns / 2)
        along: F32 = (turn - nearest - 0.25 + np.float32(lean * 0.25)) * np.float32(pitch)
        return along

    def relief(u: F32, v: F32) -> Relief:
        reach = np.abs(v) - np.float32(coil)
        inside = np.sqrt(np.clip(1.0 - (v / np.float32(coil)) ** 2, 0.0, 1.0))
        near, far = strand(u, v, 1.0), strand(u, v, -1.0)
        front = np.hypot(near, np.maximum(reach, 0)) - np.float32(wire)
        back = np.hypot(far, np.maximum(reach, 0)) - np.float32(wire)
        if hooks:
            for side in (-1.0, 1.0):
                ring = np.hypot(u * side - np.float32(half - coil * 0.55), v) - np.float32(coil * 0.55)
                hook = np.maximum(np.abs(ring) - np.float32(wire), np.float32(half - coil * 0.6) - u * side)
                front = np.minimum(front, hook)
        on_front = front < 0
        height = np.where(on_front, inside * np.float32(coil * 0.6) + _dome(near, wire), _dome(far, wire))
        tone = np.where(on_front, 0.78 + 0.3 * inside, 0.48 - 0.18 * inside)
        return relief_of(np.minimum(front, back), height, tone, np.zeros_like(u))

    return Part(half + wire + 1, coil + wire + 1, coil * 1.3, relief)


def draw_part(rng: np.random.Generator, label: str, scale: float) -> Part:
    """A part of class `label`; `scale` is 1 for the usual size at 480x360 and multiplies its pixels."""
    spread = float(rng.uniform(0.0, 1.0))
    if label == "bolt":
        return bolt(rng, scale * (84 + 76 * spread))
    if label == "nut":
        return nut(rng, scale * (46 + 40 * spread))
    if label == "washer":
        return washer(rng, scale * (46 + 50 * spread))
    if label == "gear":
        return gear(rng, scale * (66 + 62 * spread))
    return spring(rng, scale * (76 + 66 * spread))
