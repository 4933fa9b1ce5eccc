"""Neighbourhoods in images: local means, borders, connected parts, filled outlines.

Images are (H, W) arrays, rows first; pixel ``(x, y)`` covers ``[x, x + 1) x [y, y + 1)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bridge.core.masks import MaskCrop

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def local_mean(values: Floats, radius: int) -> Floats:
    """The mean over the square of ``2 * radius + 1`` pixels around each pixel, as far as it lies in the image.

    Args:
        values: (H, W) float64.
        radius: pixels, 0 or more; the cost does not depend on it.

    Returns:
        (H, W) float64.
    """
    if radius == 0 or not values.size:
        return values.copy()
    height, width = values.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    top, bottom = _window(height, radius)
    left, right = _window(width, radius)
    sums = (total[bottom] - total[top])[:, right] - (total[bottom] - total[top])[:, left]
    return np.asarray(sums / ((bottom - top)[:, None] * (right - left)[None, :]))


def inner_border(mask: Bools, width: int) -> Bools:
    """The pixels of a mask that lie within ``width`` pixels (in the larger of x and y) of a pixel outside of it.

    What lies beyond the edge of the array counts as outside.
    """
    framed = np.pad(mask, width)
    core = local_mean(framed.astype(np.float64), width) > 1 - 0.5 / (2 * width + 1) ** 2
    return np.asarray(mask & ~core[width:-width, width:-width] if width else np.zeros_like(mask))


def boundary_iou(a: MaskCrop, b: MaskCrop, width: int) -> float:
    """IoU of the inner borders of two masks, ``width`` pixels wide (Cheng et al., CVPR 2021): in [0, 1].

    The IoU of large objects hardly feels their outline; this does. For an object thinner than twice the width the two
    are the same.
    """
    return MaskCrop(a.left, a.top, inner_border(a.bits, width)).iou(
        MaskCrop(b.left, b.top, inner_border(b.bits, width))
    )


def holes(mask: Bools) -> Bools:
    """The pixels outside of a mask from which no path leads to the edge of the array: (H, W) bool."""
    outside = parts(~np.pad(mask, 1))
    return np.asarray(((outside > 0) & (outside != outside[0, 0]))[1:-1, 1:-1])


def parts(mask: Bools) -> Ints:
    """The connected parts of a mask, neighbours sharing a side: (H, W) int64, 0 outside, then 1, 2, ... in the order
    of their first pixels."""
    height, width = mask.shape
    framed = np.zeros((height, width + 2), dtype=np.int8)
    framed[:, 1:-1] = mask
    step = np.diff(framed, axis=1)
    row, start = np.nonzero(step == 1)
    end = np.nonzero(step == -1)[1]
    above, below = _touching_runs(row, start, end, width)
    part = np.arange(len(row))
    while True:
        lower = np.minimum(part[above], part[below])
        smaller = part.copy()
        np.minimum.at(smaller, above, lower)
        np.minimum.at(smaller, below, lower)
        # A root takes its children along, so that long chains take few rounds.
        np.minimum.at(smaller, part, smaller)
        smaller = smaller[smaller]
        if (smaller == part).all():
            break
        part = smaller
    number = np.unique(part, return_inverse=True)[1] + 1
    labels = np.zeros((height, width), dtype=np.int64)
    labels[mask] = np.repeat(number, end - start)
    return labels


def fill_polygon(points: Sequence[tuple[float, float]], height: int, width: int) -> MaskCrop | None:
    """The pixels whose centres lie inside a closed ring (even-odd rule), of an image of that size.

    None where there are none, or where a coordinate is not finite.
    """
    ring = np.array(points, dtype=np.float64).reshape(-1, 2)
    if len(ring) < 3 or not np.isfinite(ring).all():
        return None
    low = np.clip(np.floor(ring.min(axis=0)), 0, [width, height]).astype(np.int64)
    high = np.clip(np.ceil(ring.max(axis=0)), 0, [width, height]).astype(np.int64)
    columns, rows = (high - low).tolist()
    if columns < 1 or rows < 1:
        return None
    middles = np.arange(low[1], high[1]) + 0.5
    flips = np.zeros((rows, columns + 1), dtype=np.int64)
    for (x1, y1), (x2, y2) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
        crossed = np.flatnonzero((middles >= min(y1, y2)) & (middles < max(y1, y2)))
        if crossed.size:
            x = x1 + (middles[crossed] - y1) / (y2 - y1) * (x2 - x1)
            # The first pixel whose centre lies to the right of the edge.
            first = np.clip(np.ceil(x - 0.5), low[0], high[0]).astype(np.int64) - low[0]
            flips[crossed, first] += 1
    inside = flips.cumsum(axis=1)[:, :columns] % 2 == 1
    return MaskCrop.of(inside, int(low[0]), int(low[1]))


def _window(size: int, radius: int) -> tuple[Ints, Ints]:
    places = np.arange(size)
    return np.maximum(places - radius, 0), np.minimum(places + radius + 1, size)


def _touching_runs(row: Ints, start: Ints, end: Ints, width: int) -> tuple[Ints, Ints]:
    """All pairs of runs in neighbouring rows that share a column; runs are sorted by row, then start."""
    line = row * (width + 1)
    # Of the row below, the runs that begin before this one ends and end after it begins.
    first = np.searchsorted(line + end, line + width + 1 + start, side="right")
    stop = np.searchsorted(line + start, line + width + 1 + end, side="left")
    count = np.maximum(stop - first, 0)
    above = np.repeat(np.arange(len(row)), count)
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return above, np.repeat(first, count) + offset
