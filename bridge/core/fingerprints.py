"""Which images are alike: near-duplicates and frames of one video, told from small pictures of them.

Two images are compared by the correlation of the brightness steps between neighbouring cells of a 16 x 16 grid. That
survives another size, compression and exposure, and a shift by a fortieth of the width; photographs of different
things, blood smears of one microscope included, stay below 0.45, copies above 0.75.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bridge.errors import DataError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

CELLS = 16
#: Images at least so alike are copies of one another.
ALIKE = 0.7
#: Neighbours by number and of one size that are at least so alike, moved by at most so many cells against each other,
#: are frames of one video.
ALIKE_FRAMES = 0.6
_MOVED = 2
_AHEAD = 3
#: Thresholds to fall back to where the ones above leave too few groups, as with a camera that never moves.
_STRICTER = (0.85, 0.95, 0.99)
_CHUNK = 2048
#: Pixels along the shorter side that are enough for the mean of a cell.
_ENOUGH = 512


def thumbnail(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Mean brightness in the cells of a grid; of large images every so many rows and columns count.

    Args:
        image: (H, W, 3) uint8 RGB, H and W at least 1.

    Returns:
        (16, 16) uint8.
    """
    every = max(1, min(image.shape[:2]) // _ENOUGH)
    grey = image[::every, ::every].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    for axis in (0, 1):
        edges = np.linspace(0, grey.shape[axis], CELLS + 1)
        # Cells of an image smaller than the grid share its pixels.
        first = np.minimum(np.floor(edges[:-1]), grey.shape[axis] - 1).astype(np.int64)
        stop = np.maximum(np.ceil(edges[1:]), first + 1).astype(np.int64)
        sums = np.insert(np.cumsum(grey, axis=axis, dtype=np.float64), 0, 0.0, axis=axis)
        wide = (stop - first).reshape((-1, 1) if axis == 0 else (1, -1))
        grey = ((sums.take(stop, axis) - sums.take(first, axis)) / wide).astype(np.float32)
    return np.rint(grey).clip(0, 255).astype(np.uint8)


def steps(thumbnails: npt.NDArray[np.uint8] | Floats) -> Floats:
    """Thumbnails as vectors whose dot product tells how alike the images are, 1 for copies.

    Args:
        thumbnails: (N, H, W) uint8, or float32 in the same range.

    Returns:
        (N, steps) float32 of length 1; of length 0 for an image of a single colour, which is like no other.
    """
    grey = thumbnails.astype(np.float32)
    down, across = np.diff(grey, axis=1), np.diff(grey, axis=2)
    flat = np.concatenate([part.reshape(len(grey), math.prod(part.shape[1:])) for part in (down, across)], axis=1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return (flat / np.where(length > 0, length, 1.0)).astype(np.float32)


def group_alike(
    thumbnails: npt.NDArray[np.uint8], names: Sequence[str], sizes: Sequence[tuple[int, int]], largest: int
) -> tuple[Ints, float]:
    """Put images that are alike, directly or through others, into one group.

    Args:
        thumbnails: (N, 16, 16) uint8.
        names: of the image files, for the numbers in them.
        sizes: (width, height) of the images in pixels.
        largest: where a group would hold more images than this, only images that are more alike count as such.

    Returns:
        (N,) int64 group of each image, numbered from 0 in the order of their first images; and how alike images had to
        be.

    Raises:
        DataError: the three do not have the same length.
    """
    if not len(thumbnails) == len(names) == len(sizes):
        raise DataError(f"{len(thumbnails)} thumbnails, {len(names)} names and {len(sizes)} sizes")
    vectors = steps(thumbnails)
    first, second, alike = alike_pairs(vectors, ALIKE)
    frames = _frame_pairs(thumbnails, names, sizes)
    for threshold in (ALIKE, *_STRICTER):
        near = alike >= threshold
        pairs = [np.stack([first[near], second[near]], axis=1)]
        if threshold == ALIKE:
            pairs.append(frames)
        groups = _connected(len(vectors), np.concatenate(pairs))
        if not len(groups) or np.bincount(groups).max() <= largest:
            return groups, threshold
    return np.arange(len(vectors), dtype=np.int64), 1.0


def alike_pairs(vectors: Floats, threshold: float, most: int | None = None) -> tuple[Ints, Ints, Floats]:
    """Pairs (i < j) of rows at least so alike, and how much.

    Exact: every pair is looked at, in blocks (a minute and a half of CPU time and 0.1 GB for 100,000 images).

    Args:
        vectors: (N, D) float32, from :func:`steps`.
        most: where more pairs are alike, those that are less so are left out; bounds the memory.

    Returns:
        (P,) int64 each, and (P,) float32.
    """
    rows, columns, values = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    for start in range(0, len(vectors), _CHUNK):
        found = [(rows, columns, values)]
        for other in range(start, len(vectors), _CHUNK):
            alike = vectors[start : start + _CHUNK] @ vectors[other : other + _CHUNK].T
            i, j = np.nonzero(alike >= threshold)
            kept = i + start < j + other
            i, j = i[kept], j[kept]
            found.append((i + start, j + other, alike[i, j]))
        rows, columns, values = (np.concatenate(column) for column in zip(*found, strict=True))
        if most is not None and len(values) > most:
            threshold = float(np.partition(values, -most)[-most])
            kept = values > threshold
            rows, columns, values = rows[kept], columns[kept], values[kept]
    return rows, columns, values


def _frame_pairs(thumbnails: npt.NDArray[np.uint8], names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> Ints:
    """(P, 2) pairs of images that follow one another by number, have one size and are alike when moved a little."""
    numbered = []
    for k, name in enumerate(names):
        # Label Studio puts eight hex digits before the name of an uploaded file.
        found = re.search(r"^(?:[0-9a-f]{8}-)?(.*?)(\d{1,18})(\.\w+)?$", name)
        if found:
            numbered.append((found[1], sizes[k], int(found[2]), k))
    numbered.sort()
    # Frames of several videos may have the same names, so that the next frame is not the next name.
    found_pairs = [
        (a[3], b[3])
        for ahead in range(1, _AHEAD + 1)
        for a, b in zip(numbered, numbered[ahead:], strict=False)
        if a[:2] == b[:2]
    ]
    pairs = np.array(found_pairs, np.int64).reshape(-1, 2)
    near = [
        _alike_moved(thumbnails[part[:, 0]], thumbnails[part[:, 1]])
        for part in np.split(pairs, range(_CHUNK, len(pairs), _CHUNK))
    ]
    return pairs[np.concatenate(near) >= ALIKE_FRAMES]


def _alike_moved(before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> Floats:
    """(P,) how alike pairs of thumbnails are at best, moved by up to two cells against each other."""
    alike = np.zeros(len(before), np.float32)
    for down, across in itertools.product(range(-_MOVED, _MOVED + 1), repeat=2):
        ours = steps(before[:, max(0, down) : CELLS + min(0, down), max(0, across) : CELLS + min(0, across)])
        theirs = steps(after[:, max(0, -down) : CELLS + min(0, -down), max(0, -across) : CELLS + min(0, -across)])
        alike = np.maximum(alike, (ours * theirs).sum(axis=1))
    return alike


def _connected(count: int, pairs: Ints) -> Ints:
    """(count,) int64: connected components, numbered from 0 in the order of their first members."""
    parent = list(range(count))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for a, b in pairs.tolist():
        ra, rb = root(a), root(b)
        parent[max(ra, rb)] = min(ra, rb)
    roots = np.array([root(k) for k in range(count)], np.int64)
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)
