"""bridge.core.pixels: by hand, and held against OpenCV and shapely."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from shapely.geometry import Point, Polygon

from bridge.core.masks import MaskCrop
from bridge.core.pixels import boundary_iou, fill_polygon, holes, inner_border, local_mean, parts


def drawn(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows])


def test_local_mean_counts_only_what_is_in_the_image() -> None:
    values = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    assert local_mean(values, 1) == pytest.approx(
        np.array([[1 / 4, 1 / 6, 0], [1 / 6, 10 / 9, 9 / 6], [0, 9 / 6, 9 / 4]])
    )
    assert local_mean(values, 9) == pytest.approx(np.full((3, 3), 10 / 9))
    assert local_mean(values, 0) == pytest.approx(values)
    assert local_mean(np.zeros((0, 4)), 2).shape == (0, 4)


def test_local_mean_is_that_of_opencv_away_from_the_edge() -> None:
    values = np.random.default_rng(0).random((30, 40))
    for radius in (1, 3):
        inside = slice(radius, -radius)
        assert local_mean(values, radius)[inside, inside] == pytest.approx(
            cv2.blur(values, (2 * radius + 1, 2 * radius + 1))[inside, inside]
        )


def test_the_inner_border() -> None:
    mask = np.zeros((7, 7), np.bool_)
    mask[1:6, 1:6] = True
    assert (mask & ~inner_border(mask, 1)).sum() == 9
    assert (mask & ~inner_border(mask, 2)).sum() == 1
    assert (inner_border(mask, 3) == mask).all()
    assert not inner_border(mask, 0).any()
    # The edge of the array is a border too.
    assert inner_border(np.ones((5, 5), np.bool_), 1).sum() == 16


def test_parts_by_hand() -> None:
    mask = drawn("#..#", "#.##", "..#.", "#...", "####")
    assert parts(mask).tolist() == [[1, 0, 0, 2], [1, 0, 2, 2], [0, 0, 2, 0], [3, 0, 0, 0], [3, 3, 3, 3]]
    assert parts(np.zeros((2, 3), np.bool_)).tolist() == [[0] * 3] * 2
    # A corner is no side.
    assert parts(drawn("#.", ".#")).max() == 2
    # Two arms that meet only at the end.
    assert parts(drawn("#.#.#", "#.#.#", "#####")).max() == 1


@pytest.mark.parametrize("share", [0.3, 0.55, 0.6, 0.8])
def test_parts_are_those_of_opencv(share: float) -> None:
    mask = np.random.default_rng(int(share * 100)).random((60, 71)) < share
    count, theirs = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    ours = parts(mask)
    assert ours.max() == count - 1
    assert len(set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))) == count


def test_a_snake_is_one_part() -> None:
    mask = np.ones((41, 41), np.bool_)
    mask[1::4, :-1] = False
    mask[3::4, 1:] = False
    assert parts(mask).max() == 1


def test_polygons_by_hand() -> None:
    square = fill_polygon([(1, 1), (4, 1), (4, 3), (1, 3)], 10, 10)
    assert square is not None
    assert (square.xyxy, square.area) == ((1, 1, 4, 3), 6)
    cut = fill_polygon([(-5, -5), (2.5, -5), (2.5, 50), (-5, 50)], 4, 6)
    assert cut is not None
    assert cut.full(4, 6).tolist() == [[True, True, False, False, False, False]] * 4
    assert fill_polygon([(1, 1), (2, 2)], 9, 9) is None
    assert fill_polygon([(1, 1), (1.2, 1), (1.2, 1.2)], 9, 9) is None
    assert fill_polygon([(1, 1), (float("nan"), 1), (3, 3)], 9, 9) is None
    assert fill_polygon([(20, 1), (30, 1), (30, 9)], 9, 9) is None


def test_polygons_hold_the_pixels_whose_centres_they_contain() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        ring = np.c_[20 + rng.uniform(4, 22, 9) * np.cos(angle), 15 + rng.uniform(4, 19, 9) * np.sin(angle)]
        ring = [(float(x), float(y)) for x, y in ring]
        filled = fill_polygon(ring, 30, 40)
        assert isinstance(filled, MaskCrop)
        shape = Polygon(ring)
        expected = [[shape.contains(Point(x + 0.5, y + 0.5)) for x in range(40)] for y in range(30)]
        assert (filled.full(30, 40) == np.array(expected)).all()


def test_boundary_iou_feels_what_iou_does_not() -> None:
    big = MaskCrop(0, 0, np.ones((100, 100), np.bool_))
    shifted = MaskCrop(2, 0, np.ones((100, 100), np.bool_))
    assert big.iou(shifted) == pytest.approx(98 / 102)
    # Borders 3 wide of 1,164 pixels each; rows share 2 * 3 * 98, columns 2 * 1 * 94.
    shared = 2 * 3 * 98 + 2 * 94
    assert boundary_iou(big, shifted, 3) == pytest.approx(shared / (2 * 1164 - shared))
    assert boundary_iou(big, big, 3) == 1
    assert boundary_iou(big, shifted, 60) == pytest.approx(big.iou(shifted))
    assert big.iou(MaskCrop(500, 0, np.ones((2, 2), np.bool_))) == 0


def test_holes_are_what_no_path_leads_out_of() -> None:
    mask = drawn("####.", "#..#.", "####.", "#.###", "#.#.#")
    assert np.argwhere(holes(mask)).tolist() == [[1, 1], [1, 2]]
    assert not holes(np.ones((2, 2), np.bool_)).any()
