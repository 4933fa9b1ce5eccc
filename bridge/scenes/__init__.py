"""Synthetic scenes: small machine parts on a workbench, seen from above, with their true boxes.

The scenes teach the embedded detector and stand in for a customer's photographs in the demo and the
tests. They are drawn, never downloaded, and the same (seed, width, height) gives the same pixels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bridge.scenes.clutter import KINDS, draw_clutter
from bridge.scenes.parts import Colour, Field, Part, Relief, draw_part
from bridge.scenes.textures import F32, draw_surface, grain, noise, paint, resize

CLASSES = ("bolt", "nut", "washer", "gear", "spring")

_KEPT_SHARE = 0.55
_CLUTTER = "clutter"


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture and what is on it.

    image: (H, W, 3) uint8, RGB.
    xyxy: (N, 4) float64 pixels, origin top-left, half-open, tight around the visible pixels of each part.
    labels: N names out of `CLASSES`, in the order of `xyxy`.
    """

    image: NDArray[np.uint8]
    xyxy: NDArray[np.float64]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Light:
    """The lamp: where its light falls to in the picture, how high it stands, how hard its shadows are."""

    azimuth: float
    slope: float
    ambient: float
    softness: float
    sky: F32
    tint: F32


@dataclass(frozen=True, slots=True)
class _Finish:
    """Surface of one part: base colour 0..1, shine of its highlights, metal or not, wear and rust 0..1."""

    colour: Colour
    shine: float
    gloss: float
    metal: float
    rust: float


@dataclass(frozen=True, slots=True)
class _Sprite:
    """A rendered part: (3, h, w) colour 0..1.2, (h, w) coverage 0..1, and its shadow's reach in pixels."""

    colour: F32
    alpha: F32
    thickness: float


@dataclass(slots=True)
class _Bench:
    """The picture in progress.

    colour: (3, H, W), about 0..1. owner: (H, W), which object each pixel shows (-1: the bench).
    whole, seen: per object its pixels in all, also those outside the picture, and those still visible.
    """

    colour: F32
    owner: NDArray[np.int16]
    whole: NDArray[np.int64]
    seen: NDArray[np.int64]
    labels: list[str]


def _light(rng: np.random.Generator) -> _Light:
    elevation = float(rng.uniform(0.6, 1.15))
    warmth = float(rng.uniform(-0.06, 0.08))
    return _Light(
        azimuth=float(rng.uniform(0, 2 * np.pi)),
        slope=float(1 / np.tan(elevation)),
        ambient=float(rng.uniform(0.32, 0.55)),
        softness=float(rng.uniform(0.25, 0.8)),
        sky=rng.uniform(0.0, 1.0, 6).astype(np.float32),
        tint=np.asarray((1 + warmth, 1.0, 1 - warmth), dtype=np.float32)[:, None, None],
    )


def _finish(rng: np.random.Generator, label: str) -> _Finish:
    if label == _CLUTTER:
        vivid = rng.uniform(0.12, 0.8, 3)
        metal = float(rng.random() < 0.35)
        muted = vivid.mean() + (vivid - vivid.mean()) * (0.04 if metal else 0.65)
        red, green, blue = (float(value) for value in muted)
        return _Finish((red, green, blue), float(rng.uniform(0.1, 0.5)), float(rng.uniform(6, 30)), metal, 0.0)
    metals: tuple[tuple[Colour, float], ...] = (
        ((0.62, 0.63, 0.65), 0.30),
        ((0.72, 0.73, 0.72), 0.20),
        ((0.76, 0.68, 0.46), 0.08),
        ((0.80, 0.61, 0.28), 0.16),
        ((0.15, 0.15, 0.16), 0.14),
        ((0.50, 0.46, 0.43), 0.12),
    )
    chosen = int(rng.choice(len(metals), p=[share for _, share in metals]))
    shift = rng.uniform(-0.04, 0.04) + rng.uniform(-0.012, 0.012, 3)
    red, green, blue = (float(value) for value in np.asarray(metals[chosen][0]) + shift)
    rusty = chosen == 5 or (chosen == 0 and rng.random() < 0.2)
    return _Finish(
        (red, green, blue),
        shine=float(rng.uniform(0.25, 0.9)) * (0.6 if rusty else 1.0),
        gloss=float(rng.uniform(10, 60)),
        metal=float(rng.uniform(0.5, 1.0)) * (0.4 if rusty else 1.0),
        rust=float(rng.uniform(0.45, 1.0)) if rusty else float(rng.uniform(0.0, 0.12)),
    )


def _patch(part: Part, angle: float, tilt: float, toward: float) -> tuple[F32, F32]:
    """The part's u and v over its patch, (h, w) float32: rotated by `angle`, seen `tilt` radians off."""
    cosine, sine = abs(np.cos(angle)), abs(np.sin(angle))
    half_x = int(np.ceil(part.half_u * cosine + part.half_v * sine)) + 2
    half_y = int(np.ceil(part.half_u * sine + part.half_v * cosine)) + 2
    y = np.arange(-half_y, half_y + 1, dtype=np.float32)[:, None]
    x = np.arange(-half_x, half_x + 1, dtype=np.float32)[None, :]
    cosine_t, sine_t = np.float32(np.cos(toward)), np.float32(np.sin(toward))
    along: Field = (x * cosine_t + y * sine_t) / np.float32(np.cos(tilt))
    across = y * cosine_t - x * sine_t
    true_x: Field = along * cosine_t - across * sine_t
    true_y: Field = along * sine_t + across * cosine_t
    u: Field = true_x * np.float32(np.cos(angle)) + true_y * np.float32(np.sin(angle))
    v: Field = true_y * np.float32(np.cos(angle)) - true_x * np.float32(np.sin(angle))
    return u.astype(np.float32, copy=False), v.astype(np.float32, copy=False)


def _slopes(height: F32) -> tuple[F32, F32]:
    """Central differences of a height field along x and y, limited to steep but finite slopes."""
    padded = np.pad(height, 1, mode="edge")
    along_x = np.clip((padded[1:-1, 2:] - padded[1:-1, :-2]) * np.float32(0.5), -2.2, 2.2)
    along_y = np.clip((padded[2:, 1:-1] - padded[:-2, 1:-1]) * np.float32(0.5), -2.2, 2.2)
    return along_x, along_y


def _shade(rng: np.random.Generator, relief: Relief, finish: _Finish, light: _Light, spin: F32) -> F32:
    """Colour (3, h, w) 0..1.2 of a relief under the lamp: diffuse, highlight, reflected room, turned faces.

    spin: (h, w) angle of each pixel around the part's middle, in radians.
    """
    height, width = relief.height.shape
    along_x, along_y = _slopes(relief.height)
    lean = rng.uniform(-0.14, 0.14, 2)
    normal_z = 1.0 / np.sqrt(1.0 + along_x * along_x + along_y * along_y)
    normal_x = (np.float32(lean[0]) - along_x) * normal_z
    normal_y = (np.float32(lean[1]) - along_y) * normal_z
    length = float(np.hypot(1.0, light.slope))
    lamp_x, lamp_y = -np.cos(light.azimuth) * light.slope / length, -np.sin(light.azimuth) * light.slope / length
    diffuse = np.clip(normal_x * np.float32(lamp_x) + normal_y * np.float32(lamp_y) + normal_z / length, 0.0, 1.0)
    half = float(np.sqrt(2 + 2 / length))
    facing = normal_x * np.float32(lamp_x / half) + normal_y * np.float32(lamp_y / half)
    facing = np.clip(facing + normal_z * np.float32((1 + 1 / length) / half), 0.0, 1.0)
    highlight = np.exp((facing - 1.0) * np.float32(finish.gloss))
    sky = light.sky
    room = 0.5 + 0.28 * np.sin((3.0 + 3 * sky[0]) * normal_x + 6.28 * sky[1])
    room = room + 0.28 * np.sin((3.0 + 3 * sky[2]) * normal_y + 6.28 * sky[3])
    sector = np.square(np.cos(2 * (spin - np.float32(6.28 * sky[4]))))
    brushed = sector * sector * relief.turned
    mottle = resize(grain(rng, height // 2 + 2, width // 2 + 2), height, width)
    matte = np.float32(light.ambient) + np.float32(1.15 - light.ambient) * diffuse
    metal = np.float32(finish.metal)
    value = matte * (1 - 0.55 * metal) + metal * (0.62 * room + 0.22 * diffuse)
    value = value * relief.tone * (1.0 + 0.035 * mottle) + 0.22 * metal * (brushed - 0.3 * relief.turned)
    rust = noise(rng, height, width, 5, 5) + 0.35 * mottle
    rust = np.clip((rust + np.float32(2.2 * finish.rust - 1.2)) * 2.5, 0.0, 1.0)
    corroded = matte * relief.tone * (1 + 0.16 * mottle) * rust
    shine = highlight * np.float32(finish.shine) * relief.tone * (1.0 - 0.8 * rust)
    colour = paint(finish.colour, (value * (1.0 - rust)).astype(np.float32, copy=False))
    colour += paint((0.43, 0.24, 0.13), corroded.astype(np.float32, copy=False))
    colour += shine * light.tint
    return np.clip(colour, 0.0, 1.2, out=colour)


def _sprite(rng: np.random.Generator, part: Part, label: str, light: _Light) -> _Sprite:
    tilt = float(rng.uniform(0.0, 0.5)) if label != _CLUTTER else 0.0
    u, v = _patch(part, float(rng.uniform(0, 2 * np.pi)), tilt, float(rng.uniform(0, np.pi)))
    relief = part.relief(u, v)
    alpha = np.clip(0.5 - relief.distance, 0.0, 1.0)
    colour = _shade(rng, relief, _finish(rng, label), light, np.arctan2(v, u))
    contour = np.clip(1.0 + relief.distance / 2.2, 0.0, 1.0)
    return _Sprite(colour * (1.0 - 0.3 * contour), alpha.astype(np.float32), part.thickness)


def _blur(field: F32, radius: float) -> F32:
    """Soft blur of a (h, w) field in 0..1; wide ones are computed at half size."""
    picture = Image.fromarray((field * 255).astype(np.uint8))
    if radius < 2.5:
        soft = picture.filter(ImageFilter.BoxBlur(radius))
    else:
        soft = picture.reduce(2).filter(ImageFilter.GaussianBlur(radius / 2)).resize(picture.size)
    return np.asarray(soft, dtype=np.float32) * np.float32(1 / 255)


def _window(top: int, left: int, size: tuple[int, int], height: int, width: int) -> tuple[slice, slice, slice, slice]:
    """Slices of the picture and of a patch of `size` whose corner lies at (top, left), cut at the picture's edges."""
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(height, top + size[0]), min(width, left + size[1])
    y1, x1 = max(y0, y1), max(x0, x1)
    return slice(y0, y1), slice(x0, x1), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def _darken(bench: _Bench, alpha: F32, top: int, left: int, radius: float, strength: float) -> None:
    """Lay a blurred copy of `alpha` as shadow on the picture, its corner at (top, left)."""
    margin = int(2 * radius) + 2
    soft = _blur(np.pad(alpha, margin), radius)
    height, width = bench.owner.shape
    rows, columns, own_rows, own_columns = _window(top - margin, left - margin, soft.shape, height, width)
    bench.colour[:, rows, columns] *= 1.0 - np.float32(strength) * soft[own_rows, own_columns]


def _place(rng: np.random.Generator, bench: _Bench, sprite: _Sprite, label: str, light: _Light, touch: bool) -> bool:
    """Put a sprite where it hides no earlier object too much; False when no such place was found.

    touch: whether it may cover others at all.
    """
    height, width = bench.owner.shape
    solid = sprite.alpha > 0.5
    total = int(solid.sum())
    margin = 0 if label != _CLUTTER else -30
    for _ in range(14):
        middle_y, middle_x = rng.uniform(margin, height - margin), rng.uniform(margin, width - margin)
        top, left = int(middle_y) - solid.shape[0] // 2, int(middle_x) - solid.shape[1] // 2
        rows, columns, own_rows, own_columns = _window(top, left, sprite.alpha.shape, height, width)
        inside = solid[own_rows, own_columns]
        if inside.sum() < (0.68 if label != _CLUTTER else 0.2) * total:
            continue
        below = bench.owner[rows, columns][inside]
        hidden = np.bincount(below[below >= 0], minlength=len(bench.labels))
        if np.any(hidden > 0) and not touch:
            continue
        if np.any(((bench.seen - hidden) < _KEPT_SHARE * bench.whole) & (hidden > 0)):
            continue
        reach = min(sprite.thickness, 16.0) * light.slope
        down, right = round(np.sin(light.azimuth) * reach * 0.6), round(np.cos(light.azimuth) * reach * 0.6)
        soft = 1.0 + light.softness * sprite.thickness * 0.35
        _darken(bench, sprite.alpha, top + down, left + right, soft, 0.5)
        _darken(bench, sprite.alpha, top + down // 4, left + right // 4, 1.6, 0.35)
        under = bench.colour[:, rows, columns]
        under += sprite.alpha[own_rows, own_columns] * (sprite.colour[:, own_rows, own_columns] - under)
        bench.owner[rows, columns][inside] = len(bench.labels)
        bench.whole = np.append(bench.whole, total)
        bench.seen = np.append(bench.seen - hidden, int(inside.sum()))
        bench.labels.append(label)
        return True
    return False


def _fill(rng: np.random.Generator, bench: _Bench, light: _Light) -> None:
    """Lay out 3 to 12 parts and 0 to 4 other things, the largest crowds in smaller sizes."""
    height, width = bench.owner.shape
    wanted = int(rng.integers(3, 13))
    room = float(np.sqrt(height * width / (480 * 360)))
    usual = room * float(rng.uniform(0.82, 1.18)) * (1.0 - 0.024 * (wanted - 3))
    crowd = rng.random() < 0.6
    names = [CLASSES[int(index)] for index in rng.integers(0, len(CLASSES), wanted)]
    names += [_CLUTTER] * int(rng.integers(0, 5))
    for index in rng.permutation(len(names)):
        label = names[int(index)]
        scale = usual
        for _ in range(3):
            if label == _CLUTTER:
                part = draw_clutter(rng, KINDS[int(rng.integers(len(KINDS)))], scale)
            else:
                part = draw_part(rng, label, scale)
            touch = crowd and rng.random() < 0.6
            if _place(rng, bench, _sprite(rng, part, label, light), label, light, touch):
                break
            scale *= 0.86


def _develop(rng: np.random.Generator, colour: F32) -> NDArray[np.uint8]:
    """Photograph the bench: uneven light, exposure, lens blur, sensor noise, JPEG; (H, W, 3) uint8."""
    height, width = colour.shape[1:]
    field = 1.0 + float(rng.uniform(0.05, 0.28)) * noise(rng, height, width, 2, 2)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - float(rng.uniform(-0.5, 0.5))
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] - float(rng.uniform(-0.5, 0.5))
    field = field * (1.08 - float(rng.uniform(0.04, 0.22)) * (x * x + y * y)) * float(rng.uniform(0.82, 1.15))
    balance = 1.0 + rng.uniform(-0.06, 0.06, 3).astype(np.float32)
    picture = colour * (255.0 * balance)[:, None, None] * field
    glare = picture - np.float32(196)
    picture -= np.multiply(np.maximum(glare, 0.0, out=glare), np.float32(0.5), out=glare)
    np.clip(picture, 0.0, 255.0, out=picture)
    image = Image.merge("RGB", [Image.fromarray(plane) for plane in picture.astype(np.uint8)])
    image = image.filter(ImageFilter.BoxBlur(float(rng.uniform(0.1, 1.0))))
    deviation = float(rng.uniform(0.5, 5.5))
    levels = np.sort(rng.standard_normal(256)) * deviation
    noisy = np.rint(levels).astype(np.int16)[rng.integers(0, 256, (height, width, 3), dtype=np.uint8)]
    noisy += np.asarray(image)
    np.clip(noisy, 0, 255, out=noisy)
    buffer = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(buffer, "JPEG", quality=int(rng.integers(62, 96)))
    return np.array(Image.open(buffer).convert("RGB"), dtype=np.uint8)


def _boxes(bench: _Bench) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Tight boxes (N, 4) around the visible pixels of every labelled object, and the labels."""
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[str] = []
    for index, label in enumerate(bench.labels):
        if label == _CLUTTER:
            continue
        mine = bench.owner == index
        rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
        boxes.append((float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)))
        labels.append(label)
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4), tuple(labels)


def draw_scene(seed: int, width: int = 480, height: int = 360) -> Scene:
    """Draw the scene of this seed: `width` x `height` pixels, 3 to 12 parts; parts hidden too far are not there.

    Part sizes follow the picture's area: at 480x360 a part is about 40 to 160 pixels long.
    """
    rng = np.random.default_rng(seed)
    light = _light(rng)
    bench = _Bench(
        colour=draw_surface(rng, height, width) * light.tint,
        owner=np.full((height, width), -1, dtype=np.int16),
        whole=np.zeros(0, dtype=np.int64),
        seen=np.zeros(0, dtype=np.int64),
        labels=[],
    )
    _fill(rng, bench, light)
    xyxy, labels = _boxes(bench)
    return Scene(_develop(rng, bench.colour), xyxy, labels)
