"""bridge.core.class_maps: outlines on a grid of another size, the smaller over the larger."""

from __future__ import annotations

import numpy as np

from bridge.core.annotations import Box, Mask, Polygon, Shape, TextSpan
from bridge.core.class_maps import NOBODY, off_grid, on_grid, paint
from bridge.core.masks import MaskCrop
from bridge.core.rle import encode_coco

IMAGE = (80, 120)
#: A rectangle of 40 x 20 pixels, drawn in three ways.
RING = Polygon(((20, 10), (60, 10), (60, 30), (20, 30)))
BITS = np.zeros(IMAGE, dtype=np.bool_)
BITS[10:30, 20:60] = True


def test_the_same_object_covers_the_same_cells_however_it_is_drawn() -> None:
    for shape in (RING, encode_coco(BITS), Box(20, 10, 60, 30)):
        crop = on_grid(shape, IMAGE, (40, 30))  # half as many rows, a quarter of the columns
        assert crop is not None
        assert crop.xyxy == (5, 5, 15, 15)
        assert crop.bits.all()


def test_a_grid_may_be_finer_than_the_image() -> None:
    crop = on_grid(RING, IMAGE, (160, 240))
    assert crop is not None
    assert crop.xyxy == (40, 20, 120, 60)
    back = off_grid(crop, (160, 240), IMAGE)
    assert back is not None
    assert (back.full(*IMAGE) == BITS).all()


def test_what_is_no_outline_or_holds_no_middle_is_nothing() -> None:
    speck = Polygon(((20, 10), (21, 10), (21, 11), (20, 11)))
    damaged = Mask(80, 120, (5, 5))
    endless = Polygon(((0, 0), (float("inf"), 0), (9, 9)))
    shapes: list[Shape] = [speck, damaged, endless, TextSpan(0, 4)]
    assert [on_grid(shape, IMAGE, (8, 12)) for shape in shapes] == [None] * 4
    assert off_grid(MaskCrop(0, 0, np.ones((1, 1), np.bool_)), (160, 240), (16, 24)) is None


def test_the_smaller_object_lies_on_top_in_whatever_order_they_come() -> None:
    whole, part = on_grid(Box(0, 0, 60, 60), IMAGE, IMAGE), on_grid(RING, IMAGE, IMAGE)
    for crops, small in (((whole, part), 1), ((part, whole), 0)):
        painting = paint(crops, IMAGE)
        assert (painting.owner == small).sum() == 800
        visible = painting.visible[1 - small]
        assert visible is not None
        assert visible.area == 3600 - 800
        assert (painting.owner == NOBODY).sum() == 80 * 120 - 3600


def test_what_is_wholly_covered_is_not_seen() -> None:
    part = on_grid(RING, IMAGE, IMAGE)
    painting = paint([part, part, None], IMAGE)
    assert sum(v is not None for v in painting.visible) == 1
    assert painting.visible[2] is None
