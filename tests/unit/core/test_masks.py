"""Masks as crops: how others cover one, and what is left of it without them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bridge.core.masks import MaskCrop

frames = arrays(np.bool_, (7, 9))


def crop(x1: int, y1: int, x2: int, y2: int) -> MaskCrop:
    return MaskCrop(x1, y1, np.ones((y2 - y1, x2 - x1), np.bool_))


def test_the_surest_of_the_others_counts() -> None:
    mine = crop(10, 10, 20, 20)
    assert mine.cover([]) == 0.0
    assert mine.cover([(crop(0, 0, 15, 30), 0.4)]) == pytest.approx(0.2)
    assert mine.cover([(crop(0, 0, 15, 30), 0.4), (crop(10, 10, 20, 15), 1.0)]) == pytest.approx(0.5 + 0.25 * 0.4)
    assert MaskCrop(0, 0, np.zeros((2, 2), np.bool_)).cover([(mine, 1.0)]) == 0.0


def test_what_is_kept_stays_whoever_holds_it() -> None:
    mine = crop(10, 10, 20, 20)
    assert mine.without([], keep=mine) is mine
    assert mine.without([crop(15, 0, 30, 30)], keep=crop(0, 0, 5, 5)).area == 50
    assert mine.without([crop(15, 0, 30, 30)], keep=crop(0, 0, 30, 15)).area == 75


@given(frames, st.lists(frames, max_size=3), frames)
def test_the_same_on_whole_images(mine: np.ndarray, others: list[np.ndarray], keep: np.ndarray) -> None:
    own = MaskCrop.of(mine)
    if own is None:
        return
    crops = [c for other in others if (c := MaskCrop.of(other)) is not None]
    any_other = np.logical_or.reduce([np.zeros_like(mine), *others])
    kept = MaskCrop.of(keep) or MaskCrop(0, 0, np.zeros((1, 1), np.bool_))
    assert own.cover([(c, 1.0) for c in crops]) == pytest.approx((mine & any_other).sum() / mine.sum())
    assert (own.without(crops, kept).full(7, 9) == (mine & ~(any_other & ~keep))).all()
