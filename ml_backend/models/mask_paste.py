"""Instance masks of Mask R-CNN: from a small grid of probabilities to the pixels of the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bridge.core.masks import MaskCrop

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

#: A pixel belongs to the object above this probability.
_THRESHOLD = 0.5

#: Rows of the enlarged mask that are in memory as numbers at a time, times their width.
_STRIP = 1_000_000


def paste(probabilities: Floats, xyxy: npt.NDArray[np.float32], height: int, width: int) -> MaskCrop | None:
    """The object's mask in an image of ``height`` x ``width`` pixels; None where no pixel belongs to it.

    The grid is padded by one cell of zeros, and the box widened by as much, so that the mask's edge is not cut; the
    grid is then enlarged (bilinear, cell centres at one half) to the whole pixels the box touches. The same as
    ``paste_masks_in_image`` of torchvision.models.detection.roi_heads, but only the part of the box that lies inside of
    the image is ever made, strip by strip.

    Args:
        probabilities: (M, M) float32 in [0, 1].
        xyxy: (4,) float32, the object's box in pixels of the image, finite.
    """
    cells = len(probabilities)
    grid = np.pad(np.asarray(probabilities, np.float32), 1)
    left, top, right, bottom = _widened(np.asarray(xyxy, np.float32), np.float32((cells + 2) / cells))
    x1, x2 = max(left, 0), min(right + 1, width)
    y1, y2 = max(top, 0), min(bottom + 1, height)
    if x1 >= x2 or y1 >= y2:
        return None
    columns, next_columns, share = _taps(cells + 2, max(right - left + 1, 1), x1 - left, x2 - left)
    wide = grid[:, columns] * (1 - share) + grid[:, next_columns] * share
    rows, next_rows, shares = _taps(cells + 2, max(bottom - top + 1, 1), y1 - top, y2 - top)
    bits = np.empty((y2 - y1, x2 - x1), np.bool_)
    step = max(1, _STRIP // (x2 - x1))
    for start in range(0, len(bits), step):
        part = slice(start, start + step)
        down = shares[part, None]
        bits[part] = wide[rows[part]] * (1 - down) + wide[next_rows[part]] * down > _THRESHOLD
    return MaskCrop.of(bits, x1, y1)


def _widened(xyxy: npt.NDArray[np.float32], factor: np.float32) -> tuple[int, int, int, int]:
    """The box made ``factor`` times as wide and high around its centre; coordinates cut towards zero."""
    half = (xyxy[2:] - xyxy[:2]) * np.float32(0.5) * factor
    centre = (xyxy[2:] + xyxy[:2]) * np.float32(0.5)
    (left, top), (right, bottom) = np.trunc(centre - half), np.trunc(centre + half)
    return int(left), int(top), int(right), int(bottom)


def _taps(cells: int, length: int, start: int, stop: int) -> tuple[Places, Places, Floats]:
    """For the pixels ``start`` to ``stop`` of ``length`` that show ``cells``: the two nearest cells, and the share of
    the second."""
    at = np.maximum((np.arange(start, stop, dtype=np.float64) + 0.5) * (cells / length) - 0.5, 0.0)
    first = np.minimum(np.floor(at).astype(np.int64), cells - 1)
    return first, np.minimum(first + 1, cells - 1), (at - first).astype(np.float32)
