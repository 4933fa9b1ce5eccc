"""Overlap and rotation against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bridge.core.annotations import Box
from bridge.core.geometry import (
    areas,
    box_corners,
    box_envelope,
    box_from_corner_rotation,
    box_to_corner_rotation,
    clip_to_image,
    envelope,
    iou_matrix,
    pair_iou,
    polygon_area,
)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def test_areas() -> None:
    got = areas(boxes((0, 0, 4, 3), (4, 3, 0, 0), (0, 0, 0, 5), (0, 0, math.inf, 1), (-1e300, -1e300, 1e300, 1e300)))
    assert got.tolist() == [12, 0, 0, 0, np.finfo(np.float64).max]


def test_iou_by_hand() -> None:
    a = boxes((0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 2, 2))
    b = boxes((0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10), (2, 2, 4, 4), (1, 1, 3, 3))
    np.testing.assert_allclose(pair_iou(a, b), [1, 1 / 3, 0, 4 / 100, 1 / 7], rtol=1e-15)


def test_iou_of_areas_beyond_the_range_of_floats() -> None:
    a = boxes((0, 0, 2e200, 2e200), (0, 0, 2e-200, 2e-200), (-1.6e308, -1, 1.6e308, 1))
    b = boxes((0, 0, 1e200, 2e200), (0, 0, 1e-200, 2e-200), (0, -1, 1.6e308, 1))
    np.testing.assert_allclose(pair_iou(a, b), [0.5, 0.5, 0.5], rtol=1e-12)


def test_iou_of_turned_boxes_by_hand() -> None:
    square = boxes((-1, -1, 1, 1))
    # A square of side 2 and the same one on its corner share a regular octagon.
    octagon = 8 * (math.sqrt(2) - 1)
    got = pair_iou(square, square, np.array([0.0]), np.array([45.0]))
    np.testing.assert_allclose(got, octagon / (8 - octagon), rtol=1e-12)
    # Turned by a quarter, a box of 4 x 2 is one of 2 x 4.
    long, tall = boxes((-2, -1, 2, 1)), boxes((-1, -2, 1, 2))
    np.testing.assert_allclose(pair_iou(long, tall, np.array([90.0]), np.array([0.0])), 1, rtol=1e-12)
    np.testing.assert_allclose(pair_iou(long, tall, np.array([180.0]), np.array([0.0])), 4 / 12, rtol=1e-12)


def test_iou_matrix_of_nothing_has_a_shape() -> None:
    assert iou_matrix(boxes(), boxes((0, 0, 1, 1))).shape == (0, 1)


def test_clip_to_image() -> None:
    got = clip_to_image(boxes((-5, 2, 700, 470), (650, 0, 660, 10)), 640, 480)
    assert got.tolist() == [[0, 2, 640, 470], [640, 0, 640, 10]]


def test_label_studio_turns_about_the_corner() -> None:
    # The four corners that Label Studio draws for x=100 y=50 w=40 h=20 turned by 90 degrees clockwise.
    box = box_from_corner_rotation(100, 50, 40, 20, 90)
    np.testing.assert_allclose(box_corners(box), [(100, 50), (100, 90), (80, 90), (80, 50)], atol=1e-12)
    np.testing.assert_allclose(box.xyxy, (70, 60, 110, 80), atol=1e-12)
    np.testing.assert_allclose(box_envelope(box), (80, 50, 100, 90), atol=1e-12)
    np.testing.assert_allclose(box_to_corner_rotation(box), (100, 50, 40, 20, 90), atol=1e-12)
    # By 30 degrees: the corner after the first lies cos 30, sin 30 along the top edge.
    a, b, *_ = box_corners(box_from_corner_rotation(10, 20, 100, 50, 30))
    np.testing.assert_allclose((a, b), [(10, 20), (10 + 100 * math.sqrt(3) / 2, 70)], atol=1e-12)


def test_an_upright_box_is_not_touched_by_the_conversion() -> None:
    box = box_from_corner_rotation(0.1, 0.2, 0.3, 0.4, 0)
    assert (box.x1, box.y1, box.rotation) == (0.1, 0.2, 0)
    assert box_envelope(Box(1, 2, 3, 4)) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([(0, 0), (4, 0), (4, 3), (0, 3)], 12),
        ([(0, 3), (4, 3), (4, 0), (0, 0)], 12),
        ([(0, 0), (4, 0), (0, 3)], 6),
        ([(0, 0), (2, 2), (2, 0), (0, 2)], 0),
        ([(0, 0), (4, 0)], 0),
        ([(1e8, 1e8), (1e8 + 1, 1e8), (1e8 + 1, 1e8 + 1)], 0.5),
        ([(0, 0), (math.inf, 0), (1, 1)], 0),
    ],
)
def test_polygon_area(points: list[tuple[float, float]], area: float) -> None:
    assert polygon_area(points) == area


def test_envelope() -> None:
    assert envelope([(3, 1), (-2, 5), (0, 0)]) == (-2, 0, 3, 5)
