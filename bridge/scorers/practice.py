"""What the models of the planted review learn from: rows as they came, and rows with errors made on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import pair_iou
from bridge.core.objects import ObjectTable
from bridge.scorers import box_planting as planting
from bridge.scorers.box_evidence import (
    SAME_OBJECT,
    Scene,
    Usual,
    label_evidence,
    proposal_evidence,
    propose,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Kinds of rows about labels; 0 is a label as it came.
EXTRA, WRONG_CLASS, IMPRECISE = 1, 2, 3
#: Kinds of rows about proposals; 0 is a proposal as it came.
MISSING = 1
#: A label that the formulas are sure is wrong is left out of the labels as they came with this chance.
THIN = 0.9
#: Planted errors of each kind per label.
SHARE = 0.6
#: Of proposals beside imprecise labels, which are no missing objects, so many per label are shown.
SHARE_BESIDE = 0.05
#: A proposal with a higher IoU with a label is that label's object.
NOT_MISSING = 0.6


@dataclass(frozen=True, slots=True)
class Rows:
    """``columns`` (N, F) float64, ``kind`` (N,) int64 and ``unit`` (N,) int64."""

    columns: Floats
    kind: Ints
    unit: Ints


def label_rows(scene: Scene, size: Floats, usual: Usual, classes: int, chunk: int, rng: np.random.Generator) -> Rows:
    """The labels of a scene, and planted extra boxes, wrong classes and imprecise boxes among them."""
    given = scene.given
    own = np.arange(len(given))
    seen = label_evidence(scene, given, own, usual, chunk)
    doubt = np.maximum.reduce([seen.column(name) for name in ("extra", "wrong_class", "imprecise")])
    kept = np.flatnonzero(rng.random(len(given)) >= THIN * doubt)
    groups = [(0, seen.columns[kept], given.unit[kept])]
    for kind in (EXTRA, WRONG_CLASS, IMPRECISE):
        some = np.flatnonzero(rng.random(len(given)) < SHARE)
        table = given.rows(some)
        if kind == EXTRA:
            planted = planting.added(table, size, given, rng)
        elif kind == WRONG_CLASS:
            planted = planting.swapped(table, some, confusion(scene, classes), rng)
        else:
            planted = planting.shifted(table, some, size, given, rng)
        evidence = label_evidence(scene, planted.table, planted.source, usual, chunk)
        groups.append((kind, evidence.columns, planted.table.unit))
    return Rows(
        np.concatenate([columns for _, columns, _ in groups]),
        np.concatenate([np.full(len(unit), kind) for kind, _, unit in groups]),
        np.concatenate([unit for _, _, unit in groups]),
    )


def proposal_rows(scene: Scene, size: Floats, chunk: int, rng: np.random.Generator) -> Rows:
    """The proposals of a scene that may be missing objects, and those that would be had their label been dropped.

    Every label that a proposal shows can be dropped in thought: the proposal is judged by the second best label. Some
    proposals beside a label that was made imprecise stand among the rows as they came, so that one is not taken for a
    missing object.
    """
    proposals = propose(scene.predicted, chunk)
    row, unit = proposals.row, scene.predicted.unit[proposals.row]
    nearest = scene.first[row]
    open_ = np.flatnonzero(nearest < NOT_MISSING)
    shown = np.flatnonzero(nearest >= SAME_OBJECT)
    dropped = shown[rng.random(len(shown)) < SHARE]
    beside = shown[rng.random(len(shown)) < SHARE_BESIDE]
    labels = scene.first_of[row[beside]]
    order = np.argsort(labels, kind="stable")
    beside, labels = beside[order], labels[order]
    shifted = planting.shifted(scene.given.rows(labels), labels, size, scene.given, rng)
    at = shifted.kept
    beside = beside[at]
    near_shifted = pair_iou(shifted.table.xyxy, scene.predicted.xyxy[row[beside]])
    left = np.maximum(scene.second[row[beside]], near_shifted)
    unclear = left < NOT_MISSING
    beside, left = beside[unclear], left[unclear]
    groups = [(0, open_, nearest[open_]), (0, beside, left), (MISSING, dropped, scene.second[row[dropped]])]
    return Rows(
        np.concatenate([proposal_evidence(scene.predicted, proposals.rows(some), near) for _, some, near in groups]),
        np.concatenate([np.full(len(some), kind) for kind, some, _ in groups]),
        np.concatenate([unit[some] for _, some, _ in groups]),
    )


def confusion(scene: Scene, classes: int) -> Floats:
    """(C, C) float64: what people may take a class for; rows sum to 1 (0 with one class), the diagonal is 0.

    Half of it is what the model sees at labels of a class, a quarter how common the others are, a quarter even.
    """
    g, p, iou = scene.pairs
    seen = np.zeros((classes, classes))
    np.add.at(seen, (scene.given.label[g], scene.predicted.label[p]), scene.predicted.confidence[p] * iou)
    common = np.tile(np.bincount(scene.given.label, minlength=classes) + 1.0, (classes, 1))
    return sum(
        (weight * _rows_to_one(m) for weight, m in ((0.5, seen), (0.25, common), (0.25, np.ones_like(seen)))),
        start=np.zeros_like(seen),
    )


def _rows_to_one(matrix: Floats) -> Floats:
    matrix = matrix * (1 - np.eye(len(matrix)))
    return np.asarray(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-9))


def sizes(widths_heights: Floats, *tables: ObjectTable) -> Floats:
    """(U, 2) float64: image sizes, where unknown (NaN) as far as the boxes reach."""
    reach = np.zeros_like(widths_heights)
    for table in tables:
        np.maximum.at(reach, table.unit, table.xyxy[:, 2:])
    return np.where(np.isnan(widths_heights), reach, widths_heights)
