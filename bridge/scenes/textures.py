"""Procedural workbench surfaces for the synthetic scenes of `bridge.scenes`.

Every surface is a float32 array of shape (3, height, width), sRGB-like values in 0..1, drawn from the
generator that is passed in and from nothing else. Colour planes come first because whole planes are
what numpy multiplies fast.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

F32 = NDArray[np.float32]
Surface = Callable[[np.random.Generator, int, int], F32]


def resize(field: F32, height: int, width: int) -> F32:
    """Bicubic resize of a (h, w) float32 field to (height, width)."""
    return np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def noise(rng: np.random.Generator, height: int, width: int, cells_y: float, cells_x: float) -> F32:
    """Smooth noise (height, width), about -1..1, with roughly cells_y x cells_x bumps over the surface."""
    grid = rng.uniform(-1.0, 1.0, (max(2, round(cells_y)) + 1, max(2, round(cells_x)) + 1)).astype(np.float32)
    return resize(grid, height, width)


def grain(rng: np.random.Generator, height: int, width: int) -> F32:
    """White noise (height, width), standard deviation about 1, in 256 levels."""
    levels = rng.standard_normal(256, dtype=np.float32)
    return levels[rng.integers(0, 256, (height, width), dtype=np.uint8)]


def clouds(rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 3) -> F32:
    """Several octaves of `noise`, about -1..1; the coarsest has `cells` bumps across."""
    rows, columns = (height + 1) // 2, (width + 1) // 2
    total = np.zeros((rows, columns), dtype=np.float32)
    for octave in range(octaves):
        scale = 2.0**octave
        total += noise(rng, rows, columns, cells * scale * height / width, cells * scale) * np.float32(0.6 / scale)
    return resize(total, height, width)


def scratches(rng: np.random.Generator, height: int, width: int, count: int, reach: float) -> F32:
    """Thin straight scores (height, width), -1 (dark) .. 1 (bright), each up to `reach` pixels long."""
    field = Image.new("F", (width, height))
    pen = ImageDraw.Draw(field)
    for _ in range(count):
        x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        angle, length = float(rng.uniform(0, np.pi)), float(rng.uniform(0.15, 1.0)) * reach
        end = (x + length * float(np.cos(angle)), y + length * float(np.sin(angle)))
        pen.line((x, y, *end), fill=float(rng.uniform(-1.0, 1.0)), width=1)
    return np.array(field, dtype=np.float32)


def paint(colour: tuple[float, float, float], value: F32) -> F32:
    """A colour (0..1 per channel) scaled by a (height, width) brightness map: (3, height, width)."""
    return value * np.asarray(colour, dtype=np.float32)[:, None, None]


def _pick(rng: np.random.Generator, colours: tuple[tuple[float, float, float], ...]) -> tuple[float, float, float]:
    red, green, blue = colours[int(rng.integers(len(colours)))]
    shift = rng.uniform(-0.03, 0.03, 3)
    return red + float(shift[0]), green + float(shift[1]), blue + float(shift[2])


def _grid(height: int, width: int) -> tuple[F32, F32]:
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]
    return rows, columns


def wood(rng: np.random.Generator, height: int, width: int) -> F32:
    """Planks with growth rings, fibres and seams; the grain runs along x or y."""
    along_y = rng.random() < 0.4
    rows, columns = (width, height) if along_y else (height, width)
    warp = noise(rng, rows, columns, 5, 2) * 1.3 + noise(rng, rows, columns, 16, 3) * 0.35
    position = np.linspace(0.0, 1.0, rows, dtype=np.float32)[:, None]
    plank = float(rng.uniform(0.22, 0.6))
    start = float(rng.uniform(0.0, plank))
    index = np.floor((position + start) / plank)
    tone = rng.uniform(-0.09, 0.09, 8).astype(np.float32)[index.astype(np.int64)]
    rings = np.sin((position * float(rng.uniform(14, 34)) + warp + index * 3.7) * np.float32(2 * np.pi * 0.5))
    fibre = resize(grain(rng, rows, max(2, columns // 40)), rows, columns)
    pores = np.clip(resize(grain(rng, rows, max(2, columns // 12)), rows, columns) - 1.5, 0.0, 1.0)
    value = 0.92 + 0.07 * rings + 0.035 * fibre + tone - 0.16 * pores
    seam = np.abs((position + start) / plank - np.rint((position + start) / plank)) * (plank * rows)
    value = value * (1.0 - 0.55 * np.exp(-((seam / 1.3) ** 2)))
    colours = ((0.72, 0.53, 0.34), (0.55, 0.38, 0.24), (0.80, 0.66, 0.47), (0.40, 0.28, 0.19), (0.62, 0.55, 0.47))
    surface = paint(_pick(rng, colours), value.astype(np.float32))
    surface[2] -= 0.02 * rings
    return np.ascontiguousarray(surface.transpose(0, 2, 1)) if along_y else surface


def brushed_metal(rng: np.random.Generator, height: int, width: int) -> F32:
    """A steel plate: long scratches across, broad soft reflections and a few deep scores."""
    lines = resize(grain(rng, height, 3), height, width) * 0.6 + resize(grain(rng, height, 14), height, width) * 0.5
    sheen = noise(rng, height, width, 3, 4) * 0.11 + noise(rng, height, width, 2, 9) * 0.04
    value = 0.62 + float(rng.uniform(-0.16, 0.12)) + 0.035 * lines + sheen
    value += 0.16 * scratches(rng, height, width, int(rng.integers(3, 14)), 0.5 * width)
    return paint(_pick(rng, ((0.97, 0.99, 1.0), (1.0, 0.98, 0.95))), value.astype(np.float32))


def cloth(rng: np.random.Generator, height: int, width: int) -> F32:
    """A shop towel: weave of warp and weft threads with soft folds."""
    rows, columns = _grid(height, width)
    period = float(rng.uniform(3.2, 6.0))
    wobble = noise(rng, height, width, 6, 8) * 2.0
    phase = np.float32(2 * np.pi / period)
    weft = np.sin((rows + wobble) * phase)
    warp = np.sin((columns + wobble) * phase)
    over = np.where(np.sin((rows + wobble) * phase * 0.5) * np.sin((columns + wobble) * phase * 0.5) > 0, weft, warp)
    folds = noise(rng, height, width, 3, 3) * 0.12
    value = 0.85 + 0.09 * over + folds + 0.05 * grain(rng, height, width)
    colours = ((0.62, 0.22, 0.20), (0.30, 0.40, 0.56), (0.66, 0.64, 0.58), (0.28, 0.30, 0.30), (0.50, 0.52, 0.40))
    surface = paint(_pick(rng, colours), value.astype(np.float32))
    if rng.random() < 0.4:
        stripe = np.sin(columns * float(2 * np.pi / rng.uniform(60, 120))) > 0.8
        surface += (stripe * 0.12).astype(np.float32)
    return surface


def concrete(rng: np.random.Generator, height: int, width: int) -> F32:
    """A cast floor: blotches, aggregate speckle, pits and now and then a hairline crack."""
    fine = resize(grain(rng, height // 2, width // 2), height, width)
    value = 0.6 + float(rng.uniform(-0.14, 0.12)) + 0.07 * clouds(rng, height, width, 6, 4) + 0.035 * fine
    value -= 0.16 * np.clip(resize(grain(rng, height // 3, width // 3), height, width) - 2.0, 0.0, 1.0)
    if rng.random() < 0.4:
        rows, columns = _grid(height, width)
        path = noise(rng, 1, width, 2, 14)[:1] * float(rng.uniform(8, 30)) + float(rng.uniform(0.1, 0.9)) * height
        tilt = float(rng.uniform(-0.5, 0.5))
        value -= 0.25 * np.exp(-(((rows - path - tilt * (columns - width / 2)) / 1.1) ** 2))
    return paint(_pick(rng, ((0.98, 0.97, 0.93), (0.93, 0.96, 1.0), (1.0, 0.95, 0.88))), value.astype(np.float32))


def cutting_mat(rng: np.random.Generator, height: int, width: int) -> F32:
    """A self-healing mat: coloured, finely stippled, with a printed grid and knife marks."""
    rows, columns = _grid(height, width)
    value = 0.9 + 0.05 * grain(rng, height, width) + 0.07 * clouds(rng, height, width, 4, 2)
    colours = ((0.13, 0.40, 0.33), (0.14, 0.27, 0.45), (0.20, 0.21, 0.23), (0.45, 0.20, 0.26))
    surface = paint(_pick(rng, colours), value.astype(np.float32))
    pitch = float(rng.uniform(26, 58))
    angle = float(rng.uniform(-0.25, 0.25))
    x = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle)) + float(rng.uniform(0, pitch))
    y = rows * np.float32(np.cos(angle)) - columns * np.float32(np.sin(angle)) + float(rng.uniform(0, pitch))
    strength = float(rng.uniform(0.12, 0.32))
    printed = np.zeros((height, width), dtype=np.float32)
    for axis in (x, y):
        printed += np.clip(1.3 - np.abs(axis / pitch - np.rint(axis / pitch)) * pitch, 0.0, 1.0)
        finer = axis * (5 / pitch)
        printed += 0.2 * np.clip(1.1 - np.abs(finer - np.rint(finer)) * (pitch / 5), 0.0, 1.0)
    marks = scratches(rng, height, width, int(rng.integers(4, 24)), 0.3 * width)
    surface += strength * printed + 0.06 * marks
    return surface


def ribbed_tray(rng: np.random.Generator, height: int, width: int) -> F32:
    """A plastic parts tray: moulded ribs with a lit and a shaded flank, over a leathery grain."""
    rows, columns = _grid(height, width)
    pitch = float(rng.uniform(34, 80))
    angle = float(rng.uniform(0, np.pi))
    across = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))
    offset = (across / pitch - np.rint(across / pitch)) * pitch
    width_px = float(rng.uniform(1.4, 3.2))
    flank = -(offset / width_px) * np.exp(-((offset / width_px) ** 2))
    leather = resize(grain(rng, height // 2, width // 2), height, width)
    value = 0.9 + float(rng.uniform(0.15, 0.5)) * flank + 0.045 * leather + 0.06 * noise(rng, height, width, 3, 4)
    colours = ((0.20, 0.24, 0.30), (0.58, 0.60, 0.62), (0.16, 0.16, 0.17), (0.70, 0.36, 0.14), (0.20, 0.34, 0.58))
    return paint(_pick(rng, colours), value.astype(np.float32))


def cardboard(rng: np.random.Generator, height: int, width: int) -> F32:
    """Corrugated board or kraft paper: faint flutes, fibres and a crease."""
    rows, columns = _grid(height, width)
    flute = np.sin(columns * np.float32(2 * np.pi / rng.uniform(9, 16)) + noise(rng, height, width, 4, 3))
    fibres = resize(grain(rng, height // 2, width // 5), height, width) + grain(rng, height, width) * 0.6
    value = 0.93 + 0.02 * flute + 0.035 * fibres + 0.06 * clouds(rng, height, width, 3, 2)
    crease = rows - height * float(rng.uniform(0, 1)) - float(rng.uniform(-0.4, 0.4)) * (columns - width / 2)
    value = value + 0.12 * (crease / 2.5) * np.exp(-((crease / 2.5) ** 2))
    colours = ((0.74, 0.59, 0.41), (0.66, 0.52, 0.37), (0.84, 0.82, 0.77))
    return paint(_pick(rng, colours), value.astype(np.float32))


def rubber_mat(rng: np.random.Generator, height: int, width: int) -> F32:
    """A bench mat: speckled rubber, worn and dusty in places."""
    fleck = np.clip(grain(rng, height, width) - 2.1, 0.0, 1.0) * float(rng.uniform(0.1, 0.5))
    wear = np.clip(clouds(rng, height, width, 4, 4), 0.0, 1.0) * float(rng.uniform(0.1, 0.4))
    value = 0.88 + wear + 0.05 * resize(grain(rng, height // 2, width // 2), height, width)
    colours = ((0.22, 0.38, 0.56), (0.17, 0.17, 0.18), (0.42, 0.44, 0.46), (0.30, 0.36, 0.30), (0.12, 0.30, 0.34))
    surface: F32 = paint(_pick(rng, colours), value.astype(np.float32)) + fleck
    return surface


def enamel(rng: np.random.Generator, height: int, width: int) -> F32:
    """Painted sheet steel: nearly even paint with soft reflections, chips to bare metal and dust."""
    value = 0.92 + 0.1 * noise(rng, height, width, 2, 3) + 0.018 * grain(rng, height, width)
    colours = ((0.56, 0.64, 0.60), (0.78, 0.77, 0.72), (0.30, 0.36, 0.44), (0.62, 0.63, 0.66), (0.72, 0.60, 0.30))
    surface = paint(_pick(rng, colours), value.astype(np.float32))
    chips = np.clip((clouds(rng, height, width, 14, 3) - float(rng.uniform(0.55, 0.75))) * 9.0, 0.0, 1.0)
    bare = np.asarray((0.42, 0.36, 0.32), dtype=np.float32)[:, None, None]
    chipped: F32 = surface * (1.0 - chips) + chips * bare
    return chipped


def draw_surface(rng: np.random.Generator, height: int, width: int) -> F32:
    """One of the surfaces at random, with stains: (3, height, width) float32, about 0..1."""
    surfaces: tuple[Surface, ...] = (
        wood, wood, brushed_metal, cloth, concrete, cutting_mat, ribbed_tray, cardboard, rubber_mat, enamel,
    )  # fmt: skip
    surface = surfaces[int(rng.integers(len(surfaces)))](rng, height, width)
    if rng.random() < 0.5:
        oil = np.clip((clouds(rng, height, width, 3, 4) - float(rng.uniform(0.1, 0.5))) * 2.2, 0.0, 1.0)
        surface = surface * (1.0 - float(rng.uniform(0.06, 0.22)) * oil)
    return np.clip(surface, 0.02, 1.0).astype(np.float32)
