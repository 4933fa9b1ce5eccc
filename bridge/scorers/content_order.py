"""Rows in an order that only their content decides, so that ties come out the same way every time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.objects import ObjectTable
from bridge.scorers import Suspects

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ContentOrder:
    """Both tables in content order, and the way back.

    Attributes:
        given, predicted: sorted; ``unit`` counts in the new order of units.
        units, given_rows, predicted_rows: which unit or row of the originals each one is.
    """

    given: ObjectTable
    predicted: ObjectTable
    units: Ints
    given_rows: Ints
    predicted_rows: Ints

    def restored(self, suspects: Suspects) -> Suspects:
        """Suspects that name rows of the sorted tables, naming rows of the originals."""
        return Suspects(
            error=suspects.error,
            given=original_rows(self.given_rows, suspects.given),
            predicted=original_rows(self.predicted_rows, suspects.predicted),
            score=suspects.score,
            iou=suspects.iou,
        )


def content_order(given: ObjectTable, predicted: ObjectTable, units: Ints) -> ContentOrder:
    """Sort both tables; ``units`` (U,) int64 is the order wanted of the units."""
    place = np.empty(len(units), np.int64)
    place[units] = np.arange(len(units))
    given_rows, given = sort_rows(given, place)
    predicted_rows, predicted = sort_rows(predicted, place)
    return ContentOrder(given, predicted, units, given_rows, predicted_rows)


def sort_rows(table: ObjectTable, place: Ints | None = None) -> tuple[Ints, ObjectTable]:
    """The rows by unit, falling confidence, coordinates and label; and which row of ``table`` each of them is.

    Confidences that differ by rounding alone (1e-10) count as equal as long as something else differs. Rows that are
    equal in all of these are interchangeable. A confidence that is no number counts as 0. ``place`` is
    the new index of each unit, by default the old one.
    """
    unit = table.unit if place is None else place[table.unit]
    confidence = np.clip(np.nan_to_num(table.confidence, nan=0.0), 0.0, 1.0)
    # One number sorts most rows; only those that tie, were it by rounding, are sorted by more, and fewer by all.
    keys = [unit - confidence / 2]
    order = np.argsort(keys[0])
    for more in ((table.xyxy[:, 0],), (-confidence, *table.xyxy.T[1:], table.rotation, table.label)):
        same = np.logical_and.reduce([np.diff(key[order]) == 0 for key in keys])
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        keys.extend(more)
        rows = order[tied]
        order[tied] = rows[np.lexsort([key[rows] for key in reversed(keys)])]
    return order, ObjectTable(
        unit=unit[order],
        label=table.label[order],
        xyxy=table.xyxy[order],
        rotation=table.rotation[order],
        confidence=confidence[order],
    )


def original_rows(order: Ints, rows: Ints) -> Ints:
    """``order[row]`` for each row, -1 staying -1."""
    original = np.full(len(rows), -1)
    original[rows >= 0] = order[rows[rows >= 0]]
    return original
