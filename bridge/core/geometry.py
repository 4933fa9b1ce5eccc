"""Boxes and polygons in the one geometry of the house: areas, overlap and rotation.

Arrays of boxes are (N, 4) float64 ``x1, y1, x2, y2`` in pixels, half-open, origin top-left; rotations are (N,) float64
degrees clockwise about the centre of the box. Every function takes any float: a box with a coordinate that is not
finite, or without area, has area 0 and overlaps nothing. No function answers NaN or warns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Box, Xyxy

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Point = tuple[float, float]

#: How far from a line, in units of the larger box, a point still counts as on it: well above rounding, far below a
#: pixel.
_ON_LINE = 1e-12
#: Products of two sides between these bounds can be added and divided without overflow or loss of digits.
_SAFE_AREA = (1e-280, 1e300)
#: Pairs of turned boxes that are clipped at a time; each takes about 2 kB.
_CLIP_ROWS = 65_536


def areas(xyxy: Floats) -> Floats:
    """Areas of boxes in square pixels, (N,) float64, at least 0; an area too large for a float is the largest float."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = xyxy[:, 2:] - xyxy[:, :2]
        area = np.where((size > 0).all(axis=1), size[:, 0] * size[:, 1], 0.0)
    area[~np.isfinite(xyxy).all(axis=1)] = 0.0
    return np.minimum(area, np.finfo(np.float64).max)


def pair_iou(a: Floats, b: Floats, rotation_a: Floats | None = None, rotation_b: Floats | None = None) -> Floats:
    """Intersection over union of box ``a[k]`` with box ``b[k]``.

    Exact for turned boxes too; only pairs in which a rotation is no multiple of 180 degrees pay for it.

    Args:
        a, b: (P, 4) float64 boxes.
        rotation_a, rotation_b: (P,) float64 degrees; None where nothing is turned.

    Returns:
        (P,) float64 in [0, 1]; the same whichever box comes first.
    """
    with np.errstate(all="ignore"):
        iou = _upright_iou(a, b)
        turned = _is_turned(rotation_a, len(a)) | _is_turned(rotation_b, len(b))
        if turned.any():
            rows = np.flatnonzero(turned)
            none = np.zeros(len(a))
            ra = none if rotation_a is None else rotation_a
            rb = none if rotation_b is None else rotation_b
            iou[rows] = _turned_iou(a[rows], b[rows], ra[rows], rb[rows])
    return iou


def iou_matrix(a: Floats, b: Floats, rotation_a: Floats | None = None, rotation_b: Floats | None = None) -> Floats:
    """IoU of each of ``a`` (N, 4) with each of ``b`` (M, 4): (N, M) float64 in [0, 1]; see :func:`pair_iou`."""
    i, j = (x.ravel() for x in np.indices((len(a), len(b))))
    ra = None if rotation_a is None else rotation_a[i]
    rb = None if rotation_b is None else rotation_b[j]
    return pair_iou(a[i], b[j], ra, rb).reshape(len(a), len(b))


def clip_to_image(xyxy: Floats, width: float, height: float) -> Floats:
    """Boxes (N, 4) cut to ``[0, width] x [0, height]`` pixels; one wholly outside comes back without area."""
    return np.clip(xyxy, 0.0, np.array([width, height, width, height], dtype=np.float64))


def corners(xyxy: Floats, rotation: Floats) -> Floats:
    """The corners of turned boxes: (N, 4, 2) float64 pixels, clockwise on the screen from the one that was top-left."""
    centre = xyxy[:, None, :2] / 2 + xyxy[:, None, 2:] / 2
    half = xyxy[:, None, 2:] / 2 - xyxy[:, None, :2] / 2
    offset = half * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    angle = np.deg2rad(rotation)[:, None]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.stack([offset[..., 0] * cos - offset[..., 1] * sin, offset[..., 0] * sin + offset[..., 1] * cos], -1)
    return np.asarray(centre + turned)


def box_corners(box: Box) -> tuple[Point, Point, Point, Point]:
    """The four corners of one box in pixels, clockwise on the screen from the one that was top-left."""
    a, b, c, d = corners(np.array([box.xyxy], dtype=np.float64), np.array([box.rotation], dtype=np.float64))[0].tolist()
    return (a[0], a[1]), (b[0], b[1]), (c[0], c[1]), (d[0], d[1])


def box_envelope(box: Box) -> Xyxy:
    """The smallest upright box around a turned one, in pixels."""
    return envelope(box_corners(box)) if box.rotation % 180 else box.xyxy


def box_from_corner_rotation(x: float, y: float, width: float, height: float, rotation: float) -> Box:
    """A box that was turned clockwise about its own top-left corner, as Label Studio turns, as one turned about its
    centre.

    Args:
        x, y: the corner that rotation leaves where it is, pixels.
        width, height: pixels, before rotation.
        rotation: degrees clockwise.
    """
    cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    centre_x = x + (width * cos - height * sin) / 2
    centre_y = y + (width * sin + height * cos) / 2
    if rotation == 0:
        return Box(x, y, x + width, y + height)
    return Box(centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2, rotation)


def box_to_corner_rotation(box: Box) -> tuple[float, float, float, float, float]:
    """Inverse of :func:`box_from_corner_rotation`: ``x, y, width, height`` in pixels and ``rotation`` in degrees."""
    width, height = box.x2 - box.x1, box.y2 - box.y1
    if box.rotation == 0:
        return box.x1, box.y1, width, height, 0.0
    (x, y), *_ = box_corners(box)
    return x, y, width, height, box.rotation


def envelope(points: Sequence[Point]) -> Xyxy:
    """The smallest upright box around points (at least one), in pixels."""
    xs, ys = zip(*points, strict=True)
    return (min(xs), min(ys), max(xs), max(ys))


def polygon_area(points: Sequence[Point]) -> float:
    """Area of a closed ring in square pixels, whichever way round it runs (shoelace formula).

    A ring that crosses itself counts what it winds around both ways as nothing; fewer than three points have area 0.
    """
    if len(points) < 3:
        return 0.0
    # Measured from the first point, so that a small ring far from the origin keeps its digits.
    x0, y0 = points[0]
    ring = [(x - x0, y - y0) for x, y in points]
    doubled = sum(ax * by - bx * ay for (ax, ay), (bx, by) in zip(ring, ring[1:] + ring[:1], strict=True))
    area = abs(doubled) / 2
    return area if math.isfinite(area) else 0.0


def _is_turned(rotation: Floats | None, rows: int) -> npt.NDArray[np.bool_]:
    if rotation is None or not rotation.any():
        return np.zeros(rows, dtype=np.bool_)
    return np.asarray(np.fmod(rotation, 180.0) != 0.0)


def _upright_iou(a: Floats, b: Floats) -> Floats:
    """IoU as if nothing were turned."""
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    iou = np.zeros(len(a))
    # False for NaN, and for a box without area: what two boxes share is never wider than either.
    touching = np.flatnonzero((width > 0) & (height > 0))
    a, b, inter = a[touching], b[touching], width[touching] * height[touching]
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    union = area_a + area_b - inter
    shares = np.minimum(inter / union, 1.0)
    odd = np.flatnonzero(~((inter > _SAFE_AREA[0]) & (union < _SAFE_AREA[1])))
    if odd.size:
        shares[odd] = _scaled_iou(a[odd], b[odd])
    iou[touching] = shares
    return iou


def _scaled_iou(a: Floats, b: Floats) -> Floats:
    """IoU of pairs whose areas leave the range of floats: each axis is first measured in its own larger side."""
    finite = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    a, b = _tamed(a, b)
    side_a, side_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    shared = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    scale = np.maximum(side_a, side_b)
    wa, wb, ws = (np.where(scale > 0, side / scale, 0.0).prod(axis=1) for side in (side_a, side_b, shared))
    union = wa + wb - ws
    return np.where(finite & (union > 0), np.minimum(ws / np.where(union > 0, union, 1.0), 1.0), 0.0)


def _tamed(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The same pairs, those with enormous coordinates made smaller (exactly), so that no difference overflows."""
    largest = np.maximum(np.abs(a).max(axis=1, initial=0.0), np.abs(b).max(axis=1, initial=0.0))
    factor = np.where(largest > _SAFE_AREA[1], 2.0**-4, 1.0)[:, None]
    return a * factor, b * factor


def _turned_iou(a: Floats, b: Floats, rotation_a: Floats, rotation_b: Floats) -> Floats:
    """IoU of pairs of which at least one is turned."""
    iou = np.zeros(len(a))
    finite = np.isfinite(np.hstack([a, b, rotation_a[:, None], rotation_b[:, None]])).all(axis=1)
    a, b = _tamed(a, b)
    usable = finite & (a[:, 2:] > a[:, :2]).all(axis=1) & (b[:, 2:] > b[:, :2]).all(axis=1)
    # Boxes farther apart than the sum of their half diagonals cannot touch.
    centre_a, centre_b = a[:, :2] / 2 + a[:, 2:] / 2, b[:, :2] / 2 + b[:, 2:] / 2
    side_a, side_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    apart = np.hypot(*(centre_b - centre_a).T)
    near = apart < (np.hypot(*side_a.T) + np.hypot(*side_b.T)) / 2
    rows = np.flatnonzero(usable & near)
    for some in np.split(rows, range(_CLIP_ROWS, len(rows), _CLIP_ROWS)):
        # One unit is the longest side of the pair and the origin lies midway, so that what is compared with _ON_LINE
        # below has the size 1 whatever the size of the image, and swapping the boxes mirrors every number exactly.
        scale = np.maximum(side_a[some].max(axis=1), side_b[some].max(axis=1))[:, None]
        wa, wb = side_a[some] / scale, side_b[some] / scale
        away = (centre_b[some] - centre_a[some]) / scale / 2
        quad_a = corners(np.hstack([-away - wa / 2, -away + wa / 2]), rotation_a[some])
        quad_b = corners(np.hstack([away - wb / 2, away + wb / 2]), rotation_b[some])
        area_a, area_b = wa.prod(axis=1), wb.prod(axis=1)
        # Clipping either way differs in the last digits; the mean of both does not depend on which box comes first.
        inter = (_shared_area(quad_a, quad_b) + _shared_area(quad_b, quad_a)) / 2
        inter = np.clip(inter, 0.0, np.minimum(area_a, area_b))
        union = area_a + area_b - inter
        iou[some] = np.where(union > 0, np.minimum(inter / np.where(union > 0, union, 1.0), 1.0), 0.0)
    return iou


def _shared_area(a: Floats, b: Floats) -> Floats:
    """Area shared by convex quadrilaterals ``a[k]`` and ``b[k]``, (P, 4, 2) each, same turning sense, size about 1.

    Green's theorem: the border of what they share is the part of the border of ``a`` that lies in ``b`` and the part of
    the border of ``b`` that lies in ``a``. An edge both have in common is counted with ``a`` only.
    """
    return (_border_integral(a, b, -_ON_LINE) + _border_integral(b, a, _ON_LINE)) / 2


def _border_integral(quad: Floats, window: Floats, margin: float) -> Floats:
    """The sum of ``x dy - y dx`` along those parts of the edges of ``quad`` that lie in ``window``.

    A point is in the window when it is at least ``margin`` inside of each of its four sides.
    """
    start, along = quad, np.roll(quad, -1, axis=1) - quad
    side = np.roll(window, -1, axis=1) - window
    length = np.hypot(side[..., 0], side[..., 1])
    normal = np.stack([-side[..., 1], side[..., 0]], -1) / np.where(length > 0, length, 1.0)[..., None]
    # (P, edge, side): distance of the edge's start inside of the side, and its change along the whole edge.
    inside = np.einsum("pesd,psd->pes", start[:, :, None] - window[:, None], normal) - margin
    change = np.einsum("ped,psd->pes", along, normal)
    crossing = -inside / np.where(change == 0, 1.0, change)
    enter = np.where(change > 0, crossing, np.where((change == 0) & (inside < 0), np.inf, 0.0)).max(axis=2)
    leave = np.where(change < 0, crossing, 1.0).min(axis=2)
    enter, leave = np.maximum(enter, 0.0), np.minimum(leave, 1.0)
    share = np.where(leave > enter, leave - enter, 0.0)
    cross = start[..., 0] * along[..., 1] - start[..., 1] * along[..., 0]
    return np.asarray((share * cross).sum(axis=1))
