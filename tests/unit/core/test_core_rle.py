"""Vectors recorded from the tools themselves, and damage by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bridge.core import rle
from bridge.core.annotations import Mask
from bridge.core.masks import MaskCrop
from bridge.errors import DataError

BAR = np.zeros((3, 4), dtype=np.bool_)
BAR[1, 1:3] = True
HALF = np.zeros((260, 256), dtype=np.bool_)
HALF[130:] = True
CHEQUERS = np.indices((4, 5)).sum(axis=0) % 2 == 1

#: What label_studio_sdk 2.x `converter.brush.mask2rle` gave for these masks, in hex.
RECORDED = [
    (BAR, list(bytes.fromhex("00000030391bfe13009fff098000"))),
    (np.zeros((2, 2), dtype=np.bool_), list(bytes.fromhex("00000010391bfdf000"))),
    (np.ones((2, 3), dtype=np.bool_), list(bytes.fromhex("00000018391bfe17ff00"))),
    (HALF, list(bytes.fromhex("00041000391bffffff00ffffe01c1ffc03fffffffffffffe0ffffe"))),
    (
        CHEQUERS,
        list(bytes.fromhex("00000050391bfc6011ffc6011ffc6011ffc6011ffc6011ffc6011ffc6011ffc6011ffc6011ffc6011ff8")),
    ),
]
#: `converter.brush.encode_rle` of four pixels with alpha 255, 200, 127 and 128: single values among the runs.
SHADES = [0, 0, 0, 16, 57, 27, 248, 0, 32, 1, 0, 6, 7, 252, 65, 32, 100, 68, 0, 3, 248, 0, 160, 3, 0, 14, 4, 0]


@pytest.mark.parametrize(("mask", "stream"), RECORDED)
def test_brush_agrees_with_label_studio(mask: np.ndarray, stream: list[int]) -> None:
    np.testing.assert_array_equal(rle.decode_brush(stream, *mask.shape), mask)
    ours = rle.encode_brush(mask)
    # The SDK pads with a whole byte of zeros when there is nothing to pad.
    assert ours == stream[: len(ours)]
    assert stream[len(ours) :] in ([], [0])


def test_brush_takes_the_alpha_byte_and_cuts_it_at_half() -> None:
    assert rle.decode_brush(SHADES, 2, 2).tolist() == [[True, True], [False, True]]


def test_brush_reads_runs_of_different_values() -> None:
    """What the editor's own encoder writes: a flag of 0, and then each value of the run."""
    pixels = [[0, 0, 0, 255], [9, 8, 7, 0], [1, 2, 3, 255]]
    values = [v for pixel in pixels for v in pixel]
    text = (
        f"{12:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
        + "0"
        + "10"
        + f"{11:08b}"
        + "".join(f"{v:08b}" for v in values)
    )
    text += "0" * (-len(text) % 8)
    stream = [int(text[k : k + 8], 2) for k in range(0, len(text), 8)]
    assert rle.decode_brush(stream, 1, 3).tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("stream", "height", "width", "message"),
    [
        ([], 3, 4, "holds no values"),
        ([0, 0, 0, 48], 3, 4, "holds no values"),
        ([255, 255, 255, 255, 57, 27, 255, 255, 255], 3, 4, "holds 4294967295 values"),
        (RECORDED[0][1], 4, 4, "holds 48 values"),
        ([0, 0, 0, 48, 121, *RECORDED[0][1][5:]], 3, 4, "values of 16 bits"),
        (RECORDED[0][1][:9], 3, 4, "ends after 20 of 48"),
        (RECORDED[0][1][:7], 3, 4, "damaged after 0 of 48"),
        ([0, 0, 0, 4, *RECORDED[0][1][4:]], 1, 1, "damaged after 0 of 4"),
        ([0, 0, 0, 48, 57, 27, 256], 3, 4, "no list of bytes"),
        (["a"], 3, 4, "no list of bytes"),
        (RECORDED[0][1], 0, 4, "cannot be 4 x 0"),
        (RECORDED[0][1], 1 << 20, 1 << 20, "cannot be"),
    ],
)
def test_a_damaged_brush_stream_is_named(stream: list[int], height: int, width: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rle.decode_brush(stream, height, width)


def test_coco_runs_down_the_columns_and_begins_with_zeros() -> None:
    mask = np.array([[1, 0], [1, 1], [0, 0]], dtype=np.bool_)
    assert rle.encode_coco(mask) == Mask(3, 2, (0, 2, 2, 1, 1))
    np.testing.assert_array_equal(rle.decode_coco(Mask(3, 2, (0, 2, 2, 1, 1))), mask)


@pytest.mark.parametrize("counts", [(), (5,), (7,), (-1, 7), (6, 0, -1, 1), (2**63, 6 - 2**63), (float("nan"),)])
def test_coco_lengths_that_do_not_fill_the_frame(counts: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="COCO run lengths"):
        rle.decode_coco(Mask(3, 2, counts))


@pytest.mark.parametrize("text", ["\x00", "é", "P", "0P", "ooooooooo0", "\udcff"])
def test_a_damaged_coco_string(text: str) -> None:
    with pytest.raises(DataError, match="compressed COCO mask"):
        rle.coco_counts(text)


def test_cvat_runs_along_the_rows_of_the_inclusive_box() -> None:
    mask = np.zeros((8, 8), dtype=np.bool_)
    mask[3:6, 2:5] = True
    mask[3, 2] = False
    assert rle.encode_cvat(mask) == [1, 8, 2, 3, 4, 5]
    # A crop of 4 x 3 with rows 1110, as CVAT itself stores it.
    crop = rle.decode_cvat([0.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0, 2.0, 3.0, 5.0, 5.0], 8, 8)
    expected = np.zeros((8, 8), dtype=np.bool_)
    expected[3:6, 2:5] = True
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "no list of whole numbers"),
        ([1.5, 0, 0, 0, 0], "no list of whole numbers"),
        ([float("inf"), 0, 0, 0, 0], "no list of whole numbers"),
        ([1, 0, 0, 8, 0], "box is 0, 0, 8, 0"),
        ([1, 3, 0, 2, 0], "box is 3, 0, 2, 0"),
        ([1, -1, 0, 2, 0], "box is -1, 0, 2, 0"),
        ([3, 0, 0, 1, 0], "CVAT run lengths sum to 3"),
    ],
)
def test_a_damaged_cvat_mask_is_named(points: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rle.decode_cvat(points, 8, 8)


def test_an_empty_mask_has_no_cvat_form() -> None:
    with pytest.raises(DataError, match="empty mask"):
        rle.encode_cvat(np.zeros((2, 2), dtype=np.bool_))


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(0, 8), st.integers(0, 8))
def test_a_crop_is_brushed_as_its_whole_frame_is(bits: np.ndarray, left: int, top: int) -> None:
    mask = MaskCrop(left, top, bits)
    assert rle.encode_brush_crop(mask, 11, 12) == rle.encode_brush(mask.full(11, 12))
