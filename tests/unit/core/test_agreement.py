"""bridge.core.agreement: worked examples from the literature, and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.core.agreement import class_counts, cohen_kappa, fleiss_kappa, krippendorff_alpha, pair_kappas
from bridge.errors import DataError

GAP = -1
#: Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: four observers, twelve units.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3],
        [GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP],
    ]
).T
#: Fleiss (1971) as commonly retold: ten subjects, fourteen raters, five classes.
SUBJECTS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)


def test_published_examples() -> None:
    assert krippendorff_alpha(OBSERVERS) == pytest.approx(0.743, abs=5e-4)
    assert fleiss_kappa(SUBJECTS) == pytest.approx(0.210, abs=5e-4)


def test_cohen_by_hand() -> None:
    """45 of 60 equal; both say 0 in 35 and 30 of 60: p_e = (35 * 30 + 25 * 30) / 3600 = .5."""
    a = np.repeat([0, 0, 1, 1], [25, 10, 5, 20])
    b = np.repeat([0, 1, 0, 1], [25, 10, 5, 20])
    assert cohen_kappa(a, b) == pytest.approx((45 / 60 - 0.5) / 0.5)


def test_scikit_learn_says_the_same() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for classes in (2, 3, 9):
        a = rng.integers(0, classes, 200)
        b = np.where(rng.random(200) < 0.6, a, rng.integers(0, classes, 200))
        assert cohen_kappa(a, b) == pytest.approx(metrics.cohen_kappa_score(a, b))
        with_gaps = np.r_[a, 0, -1, -1], np.r_[b, -1, 2, -1]
        assert cohen_kappa(*with_gaps) == pytest.approx(metrics.cohen_kappa_score(a, b))


def test_where_there_is_no_answer() -> None:
    same = np.zeros(5, np.int64)
    assert cohen_kappa(same, same) is None
    assert cohen_kappa(same, same - 1) is None
    assert krippendorff_alpha(np.zeros((5, 3), np.int64)) is None
    assert krippendorff_alpha(np.array([[0, GAP], [GAP, 1]])) is None
    assert krippendorff_alpha(np.zeros((0, 2), np.int64)) is None
    assert fleiss_kappa(np.zeros((0, 2), np.int64)) is None
    assert fleiss_kappa(np.array([[1, 0], [0, 1]])) is None
    assert fleiss_kappa(np.array([[3, 0], [3, 0]])) is None


def test_fleiss_needs_equal_numbers() -> None:
    with pytest.raises(DataError, match="from 2 to 3 ratings"):
        fleiss_kappa(np.array([[2, 0], [2, 1]]))


def test_the_matrix_of_pairs() -> None:
    ratings = np.array([[0, 0, GAP], [1, 1, GAP], [0, 1, GAP], [1, 1, 0]])
    matrix = pair_kappas(ratings)
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(0.5)
    assert matrix[0, 0] == 1
    assert matrix[0, 2] == 0
    assert np.isnan(matrix[2, 2])


def test_counts() -> None:
    assert class_counts(np.array([[0, 2, 2], [GAP, GAP, 1]])).tolist() == [[1, 0, 2], [0, 1, 0]]
