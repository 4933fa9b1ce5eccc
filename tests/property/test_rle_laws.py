"""Round trips of the run-length dialects, and that damage is reported as damage."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle

from bridge.core import rle
from bridge.core.annotations import Mask
from bridge.errors import DataError


@st.composite
def bitmaps(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random((height, width))
    mask = noise < draw(st.sampled_from((0.0, 0.02, 0.5, 0.98, 1.0)))
    if draw(st.booleans()):
        mask[draw(st.integers(0, height - 1)) :, : draw(st.integers(1, width))] = True
    return mask


@given(bitmaps())
def test_coco_round_trip_and_pycocotools_agree(mask: np.ndarray) -> None:
    ours = rle.encode_coco(mask)
    np.testing.assert_array_equal(rle.decode_coco(ours), mask)
    assert sum(ours.counts) == mask.size
    theirs = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = rle.coco_string(ours.counts)
    assert text == theirs["counts"].decode()
    assert rle.coco_counts(text) == ours.counts


@given(st.lists(st.one_of(st.integers(0, 40), st.integers(0, 2**38)), max_size=9))
def test_the_compressed_string_holds_any_lengths(counts: list[int]) -> None:
    assert rle.coco_counts(rle.coco_string(counts)) == tuple(counts)


@given(bitmaps())
def test_brush_round_trip(mask: np.ndarray) -> None:
    stream = rle.encode_brush(mask)
    assert all(isinstance(b, int) and 0 <= b <= 255 for b in stream)
    np.testing.assert_array_equal(rle.decode_brush(stream, *mask.shape), mask)
    # Other encoders pad with up to a whole byte.
    np.testing.assert_array_equal(rle.decode_brush([*stream, 0], *mask.shape), mask)


@given(bitmaps())
def test_cvat_round_trip(mask: np.ndarray) -> None:
    if not mask.any():
        return
    points = rle.encode_cvat(mask)
    np.testing.assert_array_equal(rle.decode_cvat([float(n) for n in points], *mask.shape), mask)


@settings(max_examples=300)
@given(bitmaps(), st.data())
def test_a_damaged_brush_stream_is_an_error_or_a_mask(mask: np.ndarray, data: st.DataObject) -> None:
    stream = rle.encode_brush(mask)
    cut = data.draw(st.integers(0, len(stream)))
    broken = stream[:cut] + data.draw(st.lists(st.integers(-1, 256), max_size=6))
    try:
        decoded = rle.decode_brush(broken, *mask.shape)
    except DataError:
        return
    assert decoded.shape == mask.shape
    assert decoded.dtype == np.bool_


@given(st.text(max_size=12))
def test_any_text_is_lengths_or_an_error(text: str) -> None:
    try:
        counts = rle.coco_counts(text)
    except DataError:
        return
    assert all(isinstance(n, int) for n in counts)


@given(st.lists(st.integers(-5, 50), max_size=6), st.integers(1, 9), st.integers(1, 9))
def test_coco_lengths_that_do_not_fill_the_frame_are_an_error(counts: list[int], height: int, width: int) -> None:
    try:
        mask = rle.decode_coco(Mask(height, width, tuple(counts)))
    except DataError:
        assert sum(counts) != height * width or min(counts) < 0
    else:
        assert mask.sum() == sum(counts[1::2])


@given(st.lists(st.one_of(st.integers(-3, 12), st.sampled_from((0.5, float("nan"), 1e300))), max_size=9))
def test_any_cvat_list_is_a_mask_or_an_error(points: list[float]) -> None:
    try:
        mask = rle.decode_cvat(points, 8, 8)
    except DataError:
        return
    assert mask.shape == (8, 8)
