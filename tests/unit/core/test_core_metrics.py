from __future__ import annotations

import numpy as np
import pytest

from bridge.core.metrics import average_precision, confusion_matrix, histogram, wilson_interval
from bridge.errors import DataError


def test_confusion_counts_what_has_no_partner_in_the_last_row_and_column() -> None:
    given, predicted = np.array([0, 0, 1, 1, -1, 0]), np.array([0, 1, 1, -1, 0, 0])
    assert confusion_matrix(given, predicted, 2).tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert confusion_matrix(np.zeros(0, int), np.zeros(0, int), 1).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("bad", [-2, 2])
def test_confusion_names_a_class_out_of_range(bad: int) -> None:
    with pytest.raises(DataError, match="predicted has the class"):
        confusion_matrix(np.array([0]), np.array([bad]), 2)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        # The four examples of Newcombe (Statistics in Medicine 17, 1998, table I), then the ends.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval(hits: int, total: int, low: float, high: float) -> None:
    np.testing.assert_allclose(wilson_interval(hits, total), (low, high), atol=5e-5)


@pytest.mark.parametrize("total", range(1, 40))
def test_wilson_interval_holds_the_rate(total: int) -> None:
    for hits in range(total + 1):
        low, high = wilson_interval(hits, total)
        assert 0 <= low <= hits / total <= high <= 1


def test_wilson_refuses_more_hits_than_trials() -> None:
    with pytest.raises(DataError, match="3 hits of 2"):
        wilson_interval(3, 2)


def test_histogram_counts_one_in_the_last_bin_and_skips_what_is_no_share() -> None:
    values = np.array([0, 0.05, 0.1, 0.95, 1, 1.01, -0.1, np.nan])
    assert histogram(values).tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert histogram(np.zeros(0), bins=2).tolist() == [0, 0]


def test_average_precision_by_hand() -> None:
    # Precision 1 at the first hit, 2/3 at the second, and one of three errors never found.
    assert average_precision(np.array([True, False, True, False]), 3) == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision(np.array([False]), 1) == 0
    assert average_precision(np.zeros(0, bool), 0) == 0


def test_average_precision_refuses_an_error_counted_twice() -> None:
    with pytest.raises(DataError, match="2 hits but only 1"):
        average_precision(np.array([True, True]), 1)


def test_average_precision_is_scikit_learns() -> None:
    """Where every error is found and no score ties, both are the same sum."""
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    hits = np.random.default_rng(1).random(500) < 0.3
    scores = np.linspace(1, 0, 500)
    expected = sklearn_metrics.average_precision_score(hits, scores)
    assert average_precision(hits, int(hits.sum())) == pytest.approx(expected, abs=1e-12)
