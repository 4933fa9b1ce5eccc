"""Outlines of masks: exact where they can be, close to the mask everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from shapely import Polygon as Shapely
from shapely import box, unary_union

from bridge.core.masks import MaskCrop
from bridge.outlines import outline


def area_of(mask: MaskCrop) -> Shapely:
    """The mask's pixels as squares: the oracle."""
    rows, columns = np.nonzero(mask.bits)
    x, y = columns + mask.left, rows + mask.top
    return unary_union(box(x, y, x + 1, y + 1))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (9, 1), (2, 2), (30, 20), (300, 2)])
def test_a_filled_rectangle_gives_its_four_half_open_corners(width: int, height: int) -> None:
    found = outline(MaskCrop(7, 5, np.ones((height, width), bool)))
    assert sorted(found.points) == sorted([(7, 5), (7, 5 + height), (7 + width, 5), (7 + width, 5 + height)])


def test_a_disc_is_close_with_few_points() -> None:
    y, x = np.mgrid[:200, :200] + 0.5
    mask = MaskCrop.of((x - 100) ** 2 + (y - 90) ** 2 < 70**2, 40, 10)
    assert mask is not None
    found = outline(mask)
    polygon, truth = Shapely(found.points), area_of(mask)
    assert polygon.intersection(truth).area / polygon.union(truth).area > 0.97
    assert len(found.points) < 60


def test_the_largest_part_counts_and_holes_are_filled() -> None:
    bits = np.zeros((20, 40), bool)
    bits[2:5, 2:5] = True
    bits[3:18, 10:35] = True
    bits[8:12, 20:25] = False
    assert sorted(outline(MaskCrop(0, 0, bits)).points) == [(10, 3), (10, 18), (35, 3), (35, 18)]


@settings(max_examples=150, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(0, 50))
def test_every_outline_is_a_ring_with_area_around_its_part(bits: np.ndarray, left: int) -> None:
    mask = MaskCrop.of(bits, left, 3)
    if mask is None:
        return
    found = outline(mask, tolerance=0)
    points = np.array(found.points)
    x1, y1, x2, y2 = mask.xyxy
    assert len(points) >= 3
    assert (points >= (x1, y1)).all()
    assert (points <= (x2, y2)).all()
    # Corner to corner across a diagonal, an eight-connected edge cuts the pixel's corner off at most.
    labels, count = ndimage.label(mask.bits, np.ones((3, 3)))
    parts = [ndimage.binary_fill_holes(labels == k) for k in range(1, count + 1)]
    sizes = [np.count_nonzero(part) for part in parts]
    area = Shapely(found.points).buffer(0).area
    assert area > 0
    assert area <= max(sizes) + len(points) / 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_ordinary_shapes_are_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(90, 120)), 9)
    labels, count = ndimage.label(field > 0.3 * field.max())
    sizes = ndimage.sum_labels(labels > 0, labels, np.arange(1, count + 1))
    blob = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes)))
    mask = MaskCrop.of(blob)
    assert mask is not None
    if mask.area < 40:
        return
    polygon, truth = Shapely(outline(mask).points).buffer(0), area_of(mask)
    assert polygon.intersection(truth).area / polygon.union(truth).area > 0.93
