"""The pairs that overlap are those of one unit with an IoU above 0, whatever the chunk and whatever comes in."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from ugly import anything, good_boxes, rows_of

from bridge.core.annotations import Box
from bridge.core.geometry import pair_iou
from bridge.core.objects import ObjectTable
from bridge.core.overlaps import overlapping

#: Chunks so small that tiles are cut, and one that takes all at once.
chunks = st.one_of(st.integers(1, 40), st.just(1 << 18))


def table(rows: list[tuple[int, Box]]) -> ObjectTable:
    rows = sorted(rows, key=lambda row: row[0])
    columns = np.array([(*box.xyxy, box.rotation) for _, box in rows], dtype=np.float64).reshape(-1, 5)
    unit = np.array([unit for unit, _ in rows], dtype=np.int64)
    return ObjectTable(unit, np.zeros_like(unit), columns[:, :4], columns[:, 4], np.ones(len(rows)))


def expected(a: ObjectTable, b: ObjectTable) -> list[tuple[int, int, float]]:
    i, j = (x.ravel() for x in np.indices((len(a), len(b))))
    iou = pair_iou(a.xyxy[i], b.xyxy[j], a.rotation[i], b.rotation[j])
    kept = (a.unit[i] == b.unit[j]) & (iou > 0)
    return list(zip(i[kept].tolist(), j[kept].tolist(), iou[kept].tolist(), strict=True))


def found(a: ObjectTable, b: ObjectTable, chunk: int) -> list[tuple[int, int, float]]:
    pieces = list(overlapping(a, b, chunk))
    most = max((int((b.unit == u).sum()) for u in a.unit), default=0)
    assert all(0 < len(i) <= max(chunk, 8 * most) for i, _, _ in pieces)
    return [row for piece in pieces for row in zip(*(column.tolist() for column in piece), strict=True)]


objects = st.lists(st.tuples(st.integers(0, 4), good_boxes()), max_size=24).map(table)


@settings(deadline=None)
@given(objects, objects, chunks)
def test_all_pairs_in_order(a: ObjectTable, b: ObjectTable, chunk: int) -> None:
    assert found(a, b, chunk) == expected(a, b)
    assert found(a, a, chunk) == expected(a, a)


@settings(deadline=None)
@given(rows_of(anything, 5, 9), chunks)
def test_whatever_comes_in(values: np.ndarray, chunk: int) -> None:
    unit = np.arange(9) // 3
    a = ObjectTable(unit, unit, values[:, :4], np.zeros(9), np.ones(9))
    assert found(a, a, chunk) == expected(a, a)
    turned = ObjectTable(unit, unit, values[:, :4], values[:, 4], np.ones(9))
    assert set(found(turned, turned, chunk)) <= set(expected(turned, turned))
