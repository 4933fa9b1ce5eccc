"""Which objects of two tables overlap, and how much, for any number of images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import pair_iou
from bridge.core.objects import ObjectTable

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Rows of one unit that are held against all partners at once.
_TILE = 8


def overlapping(a: ObjectTable, b: ObjectTable, chunk: int = 1 << 18) -> Iterator[tuple[Ints, Ints, Floats]]:
    """All pairs of objects of one unit that overlap, with their IoU.

    Args:
        a, b: units not falling.
        chunk: most pairs to look at in one go. Eight rows of ``a`` with more partners than this are not split.

    Yields:
        (row of ``a``, row of ``b``, IoU above 0): (P,) int64, (P,) int64, (P,) float64, ``P`` at least 1. Rows of ``a``
        do not fall, all pairs of one come together, and the rows of ``b`` rise within one of ``a``.
    """
    turned = bool(a.rotation.any() or b.rotation.any())
    for i, j in _near(a, b, chunk):
        rotations = (a.rotation[i], b.rotation[j]) if turned else (None, None)
        iou = pair_iou(a.xyxy.take(i, axis=0), b.xyxy.take(j, axis=0), *rotations)
        touching = np.flatnonzero(iou > 0)
        if touching.size:
            yield i[touching], j[touching], iou[touching]


def _near(a: ObjectTable, b: ObjectTable, chunk: int) -> Iterator[tuple[Ints, Ints]]:
    """The pairs of which the boxes around them touch, and few others: most pairs do not, and four comparisons tell."""
    if not len(a) or not len(b):
        return
    units = np.arange(a.unit[0], a.unit[-1] + 2)
    a_cut, b_cut = np.searchsorted(a.unit, units), np.searchsorted(b.unit, units)
    tiles = -(-np.diff(a_cut) // _TILE)
    tiles[np.diff(b_cut) == 0] = 0
    unit = np.repeat(np.arange(len(tiles)), tiles)
    a_first = a_cut[unit] + _TILE * (np.arange(len(unit)) - np.repeat(np.cumsum(tiles) - tiles, tiles))
    b_first, b_rows = b_cut[unit], np.diff(b_cut)[unit]
    a_rows = np.minimum(a_cut[unit + 1] - a_first, _TILE)
    # The last of each is no box: it touches nothing, and fills tiles up.
    a_edges, b_edges = ([np.append(edge, np.nan) for edge in _around(table).T] for table in (a, b))
    start = 0
    while start < len(unit):
        # Tiles are filled up to the widest of those that are looked at together.
        width = np.maximum.accumulate(b_rows[start : start + max(1, chunk // _TILE)])
        tiles_here = max(1, int(np.searchsorted(width * np.arange(1, len(width) + 1), chunk // _TILE, side="right")))
        here, wide = slice(start, start + tiles_here), int(width[tiles_here - 1])
        one, other = _rows(a_first[here], a_rows[here], _TILE, len(a)), _rows(b_first[here], b_rows[here], wide, len(b))
        x1, y1, x2, y2 = (edge.take(one)[:, :, None] for edge in a_edges)
        left, top, right, bottom = (edge.take(other)[:, None, :] for edge in b_edges)
        touching = x1 < right
        for more in (left < x2, y1 < bottom, top < y2):
            touching &= more
        row, column = np.divmod(np.flatnonzero(touching), wide)
        tile, row = np.divmod(row, _TILE)
        if len(tile):
            yield a_first[here][tile] + row, b_first[here][tile] + column
        start += tiles_here


def _rows(first: Ints, rows: Ints, wide: int, none: int) -> Ints:
    """(T, wide) int64: rows from ``first`` on, as many as there are, then ``none``."""
    step = np.arange(wide)
    return np.where(step < rows[:, None], first[:, None] + step, none)


def _around(table: ObjectTable) -> Floats:
    """(N, 4) float64: the box itself, or one with room for it however it is turned."""
    if not table.rotation.any():
        return table.xyxy
    with np.errstate(all="ignore"):
        centre = table.xyxy[:, :2] / 2 + table.xyxy[:, 2:] / 2
        half = table.xyxy[:, 2:] / 2 - table.xyxy[:, :2] / 2
        # A little more than half the diagonal: rounding must not lose a pair.
        reach = 1.01 * np.hypot(half[:, 0], half[:, 1])[:, None]
        upright = np.fmod(table.rotation, 180.0) == 0.0
        return np.where(upright[:, None], table.xyxy, np.hstack([centre - reach, centre + reach]))
