"""The outline of a mask as a polygon, for tools and projects that take no masks."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Mask, Polygon, Shape
from bridge.core.masks import MaskCrop
from bridge.core.rle import decode_coco


def outline(mask: MaskCrop, tolerance: float = 1.0) -> Polygon:
    """The outer edge of the mask's largest connected part, simplified.

    Points lie on the edges between pixels (half-open), so a filled rectangle gives exactly its four corners and a mask
    one pixel wide still has area. Holes are filled: a polygon has none.

    Args:
        mask: not empty.
        tolerance: how far, in pixels, the polygon may be from the true edge; less for small masks, whose shape would be
            lost. 0 keeps every corner.

    Returns:
        At least three points in pixels of the image.
    """
    import cv2

    # At twice the size, the outermost half pixels name the edge they touch: left and top ones are even, others odd.
    doubled = np.repeat(np.repeat(mask.bits.astype(np.uint8), 2, axis=0), 2, axis=1)
    rings, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(rings, key=cv2.contourArea)
    ring = _corners((largest[:, 0, :].astype(np.int64) + 1) // 2)
    area = abs(_area(ring))
    # Two percent of a shape's size can hardly be seen; a pixel can, in a shape of ten.
    allowed = min(tolerance, 0.02 * math.sqrt(area))
    if allowed > 0:
        simpler = cv2.approxPolyDP(ring.astype(np.float32)[:, None, :], allowed, True)[:, 0, :].astype(np.float64)
        if len(simpler) >= 3 and abs(_area(simpler)) > 0.95 * area:
            ring = simpler
    return Polygon(tuple((float(x) + mask.left, float(y) + mask.top) for x, y in ring))


def _corners(points: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The ring without repeated points and without those on a straight line between their neighbours."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    # A path that turns back on itself does not turn either, but its end is a corner.
    back = (before * after).sum(axis=1) < 0
    corners: npt.NDArray[np.float64] = points[turns | back].astype(np.float64)
    return corners


def _area(ring: npt.NDArray[np.float64]) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def as_drawn(mask: Mask, beside: Iterable[Annotation]) -> Shape:
    """A mask in the form in which people drew the objects beside it: the outline of its largest part among polygons."""
    shapes = [annotation.shape for annotation in beside]
    if not any(isinstance(s, Polygon) for s in shapes) or any(isinstance(s, Mask) for s in shapes):
        return mask
    crop = MaskCrop.of(decode_coco(mask))
    return mask if crop is None else outline(crop)
