"""Agreement does not depend on who is named first, nor on what the classes are called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.agreement import class_counts, cohen_kappa, fleiss_kappa, krippendorff_alpha

MOST = 4


@st.composite
def rated(draw: st.DrawFn, lowest: int = -1) -> np.ndarray:
    rows, raters = draw(st.integers(0, 8)), draw(st.integers(1, 4))
    flat = draw(st.lists(st.integers(lowest, MOST - 1), min_size=rows * raters, max_size=rows * raters))
    return np.array(flat, dtype=np.int64).reshape(rows, raters)


def same(a: float | None, b: float | None) -> bool:
    return a == b if a is None or b is None else a == pytest.approx(b)


@given(rated(), st.permutations(range(4)), st.permutations(range(MOST)), st.randoms(use_true_random=False))
def test_raters_subjects_and_names_may_come_in_any_order(
    ratings: np.ndarray, raters: list[int], names: list[int], random: object
) -> None:
    subjects = list(range(len(ratings)))
    random.shuffle(subjects)
    mixed = ratings[subjects][:, [r for r in raters if r < ratings.shape[1]]]
    renamed = np.where(mixed < 0, -1, np.array(names)[mixed])
    assert same(krippendorff_alpha(ratings), krippendorff_alpha(renamed))
    if ratings.shape[1] > 1:
        swapped = np.array(names)
        a, b = ratings[:, 0], ratings[:, 1]
        there = cohen_kappa(np.where(b < 0, -1, swapped[b]), np.where(a < 0, -1, swapped[a]))
        assert same(cohen_kappa(a, b), there)


@given(rated())
def test_never_above_one_and_one_only_for_full_agreement(ratings: np.ndarray) -> None:
    alpha = krippendorff_alpha(ratings)
    if alpha is not None:
        counts = class_counts(ratings)
        split = (np.count_nonzero(counts, axis=1) > 1).any()
        assert alpha <= 1
        assert (alpha == pytest.approx(1)) == (not split)


@given(rated(lowest=0))
def test_alpha_is_kappa_but_for_the_small_sample(ratings: np.ndarray) -> None:
    """With no gaps, 1 - alpha = (1 - kappa of Fleiss) * (n - 1) / n, n being the number of ratings."""
    kappa, alpha = fleiss_kappa(class_counts(ratings)), krippendorff_alpha(ratings)
    if kappa is not None and alpha is not None:
        n = ratings.size
        assert 1 - alpha == pytest.approx((1 - kappa) * (n - 1) / n, abs=1e-9)
