"""Wrong boxes made from given ones, to learn from what a wrong box looks like beside a model's predictions.

Every label lends itself to every kind of error at once: an altered copy is judged in place of its source while all
other labels stay as they are. Tables in, tables out, no loop over boxes; all chance comes from the generator passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import pair_iou
from bridge.core.objects import ObjectTable
from bridge.scorers.box_evidence import Runs, overlaps

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: IoU of an imprecise box with what it was made from.
IMPRECISE_IOU = (0.3, 0.75)
#: Most IoU of an extra box with any label.
EXTRA_IOU = 0.15
_STEPS = 14
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Planted:
    """Wrong boxes.

    Attributes:
        table: grouped by unit.
        source: (N,) int64, the given label each stands in for; -1 for one that stands beside all of them.
        kept: (N,) int64, which of the rows asked for became these.
    """

    table: ObjectTable
    source: Ints
    kept: Ints


def swapped(some: ObjectTable, source: Ints, confusion: Floats, rng: np.random.Generator) -> Planted:
    """Labels with another class, drawn from its row of ``confusion`` (C, C): weights with an empty diagonal.

    Args:
        some: the labels to alter.
        source: (N,) int64, which rows of the given labels they are.
    """
    weights = confusion[some.label]
    total = weights.sum(axis=1)
    drawn = rng.random(len(some)) * total
    label = (np.cumsum(weights, axis=1) <= drawn[:, None]).sum(axis=1)
    rows = np.flatnonzero((total > 0) & (label < len(confusion)))
    return Planted(some.rows(rows, label=label), source[rows], rows)


def shifted(some: ObjectTable, source: Ints, size: Floats, given: ObjectTable, rng: np.random.Generator) -> Planted:
    """Labels moved, resized or cut on some sides, to an IoU within ``IMPRECISE_IOU`` of itself.

    Left out are boxes that come to lie nearer to another label than to their own.

    Args:
        some, source: as in :func:`swapped`.
        size: (U, 2) float64, width and height of the images in pixels, by unit.
    """
    n = len(some)
    # Where each of the four edges goes, in units of the side, for a full step.
    move = rng.normal(0, 1, (n, 2))
    grow = rng.normal(0, 0.7, (n, 2))
    whole = np.hstack([move - grow, move + grow])
    one_side = np.zeros((n, 4))
    edge = rng.integers(0, 4, n)
    one_side[np.arange(n), edge] = rng.choice([-1.0, 1.0], n)
    kind = rng.random(n)
    along = np.where((kind < 0.25)[:, None], one_side, whole)
    along = np.where((kind > 0.65)[:, None], np.hstack([move, move]), along)
    along /= np.maximum(np.abs(along).max(axis=1, keepdims=True), 1e-9)
    target = rng.uniform(*IMPRECISE_IOU, n)
    side = np.tile(some.xyxy[:, 2:] - some.xyxy[:, :2], 2)
    low, high = np.zeros(n), np.full(n, 0.95)
    for _ in range(_STEPS):
        step = (low + high) / 2
        near = pair_iou(_stepped(some.xyxy, along, side, step), some.xyxy) > target
        low, high = np.where(near, step, low), np.where(near, high, step)
    boxes = _clipped(_stepped(some.xyxy, along, side, low), some, size)
    own = pair_iou(boxes, some.xyxy)
    table = some.rows(np.arange(n), xyxy=boxes)
    q, g, iou = overlaps(table, given, _CHUNK)
    elsewhere = Runs(q, n).highest(np.where(g == source[q], 0.0, iou))
    rows = np.flatnonzero((own >= IMPRECISE_IOU[0]) & (own <= IMPRECISE_IOU[1] + 0.1) & (elsewhere < own))
    return Planted(table.rows(rows), source[rows], rows)


def added(some: ObjectTable, size: Floats, given: ObjectTable, rng: np.random.Generator) -> Planted:
    """Boxes where no label is, one for most of ``some``, with the class and about the size of another of them."""
    n = len(some)
    model = rng.integers(0, max(n, 1), n)
    side = (some.xyxy[model, 2:] - some.xyxy[model, :2]) * rng.uniform(0.7, 1.4, (n, 2))
    extent = size[some.unit]
    centre = rng.random((n, 2)) * extent
    inside = rng.random(n) < 0.5
    room = np.clip(centre, np.minimum(side / 2, extent / 2), np.maximum(extent - side / 2, extent / 2))
    centre = np.where(inside[:, None], room, centre)
    boxes = _clipped(np.hstack([centre - side / 2, centre + side / 2]), some, size)
    table = ObjectTable(some.unit, some.label[model], boxes, np.zeros(n), some.confidence)
    q, _, iou = overlaps(table, given, _CHUNK)
    whole = (boxes[:, 2:] - boxes[:, :2] > 0.4 * side).all(axis=1) & np.isfinite(boxes).all(axis=1)
    rows = np.flatnonzero(whole & (Runs(q, n).highest(iou) <= EXTRA_IOU))
    return Planted(table.rows(rows), np.full(len(rows), -1), rows)


def _stepped(box: Floats, along: Floats, side: Floats, step: Floats) -> Floats:
    return np.asarray(box + along * side * step[:, None])


def _clipped(box: Floats, some: ObjectTable, size: Floats) -> Floats:
    limit = np.tile(size[some.unit], 2)
    limit = np.where(np.isnan(limit), np.inf, limit)
    return np.asarray(np.clip(box, 0.0, np.maximum(limit, 0.0)))
