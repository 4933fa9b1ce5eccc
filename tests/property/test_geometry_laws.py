"""Laws of overlap: within [0, 1], symmetric, 1 with itself, blind to how the work is cut up."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import example, given
from hypothesis import strategies as st
from ugly import anything, finite, good_boxes, rows_of

from bridge.core.annotations import Box
from bridge.core.geometry import (
    areas,
    box_corners,
    box_from_corner_rotation,
    box_to_corner_rotation,
    clip_to_image,
    corners,
    iou_matrix,
    pair_iou,
    polygon_area,
)

ROWS = 6


@given(rows_of(anything, 10, ROWS))
def test_iou_is_symmetric_and_a_share_whatever_comes_in(values: np.ndarray) -> None:
    a, b, ra, rb = values[:, :4], values[:, 4:8], values[:, 8], values[:, 9]
    for rotations in ((None, None), (ra, rb), (ra, None)):
        iou = pair_iou(a, b, *rotations)
        assert ((iou >= 0) & (iou <= 1)).all()
        np.testing.assert_array_equal(iou, pair_iou(b, a, *rotations[::-1]))


@given(rows_of(anything, 5, ROWS))
def test_a_box_without_area_or_with_no_number_overlaps_nothing(values: np.ndarray) -> None:
    box, rotation = values[:, :4], values[:, 4]
    bad = ~(np.isfinite(box).all(axis=1) & (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1]))
    assert (pair_iou(box, box)[bad] == 0).all()
    assert (pair_iou(box, box, rotation, rotation)[bad | ~np.isfinite(rotation)] == 0).all()
    assert (areas(box)[bad] == 0).all()
    assert np.isfinite(areas(box)).all()


sides = st.sampled_from((1e-150, 1e-9, 0.37, 1.0, 33.3, 1e8, 1e160))


@given(rows_of(st.floats(-1e4, 1e4), 2, 1), sides, sides, st.floats(-720, 720))
def test_a_box_covers_itself(corner: np.ndarray, width: float, height: float, rotation: float) -> None:
    box = np.hstack([corner, corner + np.array([[width, height]])])
    if (box[:, 2:] > box[:, :2]).all():
        assert pair_iou(box, box)[0] == 1.0
    # The law is asked of one scale of both sides: 1e-150 by 1e160 is no box anyone draws.
    if (box[:, 2:] > box[:, :2]).all() and 1e-6 < width / height < 1e6:
        turn = np.array([rotation])
        np.testing.assert_allclose(pair_iou(box, box, turn, turn), 1.0, atol=1e-9)


@given(st.lists(good_boxes(), min_size=2, max_size=2))
@example([Box(0, 0, 10, 4, 30), Box(0, 0, 10, 4, 210)])
@example([Box(0, 0, 10, 10, 0), Box(0, 0, 10, 10, 90)])
@example([Box(0, 0, 10, 10, 45), Box(10, 0, 20, 10, 45)])
def test_iou_of_turned_boxes_agrees_with_shapely(pair: list[Box]) -> None:
    """Tolerance 1e-9: both clip in double precision."""
    a, b = (np.array([box.xyxy]) for box in pair)
    ra, rb = (np.array([box.rotation]) for box in pair)
    first, second = (shapely.Polygon(box_corners(box)) for box in pair)
    expected = first.intersection(second).area / first.union(second).area
    iou = pair_iou(a, b, ra, rb)
    np.testing.assert_allclose(iou, expected, atol=1e-9)
    np.testing.assert_array_equal(iou, pair_iou(b, a, rb, ra))


@given(good_boxes())
def test_a_turned_box_keeps_its_area(box: Box) -> None:
    ring = corners(np.array([box.xyxy]), np.array([box.rotation]))[0]
    expected = areas(np.array([box.xyxy]))[0]
    np.testing.assert_allclose(polygon_area([(x, y) for x, y in ring.tolist()]), expected, rtol=1e-9)


@given(good_boxes(), st.floats(-720, 720))
def test_turning_about_the_corner_and_back(box: Box, rotation: float) -> None:
    x, y, width, height = box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1
    turned = box_from_corner_rotation(x, y, width, height, rotation)
    np.testing.assert_allclose(box_corners(turned)[0], (x, y), atol=1e-9)
    np.testing.assert_allclose(box_to_corner_rotation(turned), (x, y, width, height, rotation), atol=1e-9)


@given(rows_of(finite, 4, ROWS), st.integers(1, 900), st.integers(1, 900))
def test_clipping_stays_inside_and_changes_nothing_twice(box: np.ndarray, width: int, height: int) -> None:
    once = clip_to_image(box, width, height)
    assert (once >= 0).all()
    assert (once <= [width, height, width, height]).all()
    np.testing.assert_array_equal(once, clip_to_image(once, width, height))


@given(st.lists(good_boxes(), max_size=4), st.lists(good_boxes(), max_size=4))
def test_the_matrix_holds_the_pairs(first: list[Box], second: list[Box]) -> None:
    a, b = (np.array([box.xyxy for box in some]).reshape(-1, 4) for some in (first, second))
    ra, rb = (np.array([box.rotation for box in some]) for some in (first, second))
    matrix = iou_matrix(a, b, ra, rb)
    assert matrix.shape == (len(first), len(second))
    for i in range(len(first)):
        for j in range(len(second)):
            assert matrix[i, j] == pair_iou(a[i : i + 1], b[j : j + 1], ra[i : i + 1], rb[j : j + 1])[0]
