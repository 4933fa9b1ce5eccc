"""Class maps: what people outlined, painted on the grid of a model's class probabilities.

A grid of (h, w) cells covers the whole image, whatever the image's size. Where objects overlap, the smaller one lies on
top, as a person sees it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Box, Mask, Polygon, Shape
from bridge.core.geometry import box_corners
from bridge.core.masks import MaskCrop
from bridge.core.pixels import fill_polygon
from bridge.core.rle import decode_coco
from bridge.errors import DataError

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

#: (height, width): of an image in pixels, or of a grid in cells.
Size = tuple[int, int]

#: No object.
NOBODY = -1


@dataclass(frozen=True, slots=True)
class Painting:
    """One person's objects on a grid.

    Attributes:
        visible: what of each object no smaller one covers; None where nothing of it is seen on the grid.
        owner: (h, w) int64, the index of the object on top in each cell; ``NOBODY`` where there is none.
    """

    visible: tuple[MaskCrop | None, ...]
    owner: Ints


def paint(crops: Sequence[MaskCrop | None], grid: Size) -> Painting:
    """Objects on a grid, the smaller over the larger; None is an object that shows nothing."""
    owner = np.full(grid, NOBODY, dtype=np.int64)
    seen = [(k, crop) for k, crop in enumerate(crops) if crop is not None]
    for k, crop in sorted(seen, key=lambda one: (-one[1].area, one[1].xyxy)):
        rows, columns = crop.bits.shape
        owner[crop.top : crop.top + rows, crop.left : crop.left + columns][crop.bits] = k
    visible: list[MaskCrop | None] = [None] * len(crops)
    for k, crop in seen:
        rows, columns = crop.bits.shape
        mine = owner[crop.top : crop.top + rows, crop.left : crop.left + columns] == k
        visible[k] = MaskCrop.of(mine, crop.left, crop.top)
    return Painting(tuple(visible), owner)


def on_grid(shape: Shape, image: Size, grid: Size) -> MaskCrop | None:
    """A polygon, a mask or a box in cells of a grid: those whose middles it holds.

    None for other shapes, for damaged ones, and for what holds the middle of no cell.
    """
    if isinstance(shape, Polygon | Box):
        points = box_corners(shape) if isinstance(shape, Box) else shape.points
        if not all(math.isfinite(v) and abs(v) < 1e6 for point in points for v in point):
            return None
        across, down = grid[1] / image[1], grid[0] / image[0]
        return fill_polygon([(x * across, y * down) for x, y in points], *grid)
    if not isinstance(shape, Mask):
        return None
    try:
        whole = decode_coco(shape)
    except DataError:
        return None
    rows, columns = _middles(grid[0], whole.shape[0]), _middles(grid[1], whole.shape[1])
    return MaskCrop.of(whole[rows[:, None], columns[None, :]])


def off_grid(crop: MaskCrop, grid: Size, image: Size) -> MaskCrop | None:
    """Cells of a grid as pixels of the image: those whose middles lie in the cells; None where none does."""
    rows, columns = _middles(image[0], grid[0]) - crop.top, _middles(image[1], grid[1]) - crop.left
    height, width = crop.bits.shape
    y, x = np.flatnonzero((rows >= 0) & (rows < height)), np.flatnonzero((columns >= 0) & (columns < width))
    if not y.size or not x.size:
        return None
    return MaskCrop.of(crop.bits[rows[y][:, None], columns[x][None, :]], int(x[0]), int(y[0]))


def _middles(count: int, of: int) -> Ints:
    """(count,) int64: in which of ``of`` cells the middles of ``count`` cells of the same line lie."""
    return np.minimum(((np.arange(count) + 0.5) * of / count).astype(np.int64), of - 1)
