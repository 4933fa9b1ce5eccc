"""Trees applied here answer as scikit-learn does."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from bridge.scorers.boosted_trees import BoostedTrees, parameters


@pytest.mark.parametrize(("kinds", "rising"), [((0, 2, 3), None), ((0, 1), [1, 0, -1, 0])])
def test_the_same_probabilities_as_scikit_learn(kinds: tuple[int, ...], rising: list[int] | None) -> None:
    rng = np.random.default_rng(2)
    columns = rng.normal(size=(40_000, 4)).round(2)
    kind = np.array(kinds)[(columns[:, 0] + columns[:, 1] * columns[:, 2] + rng.normal(size=40_000) > 0).astype(int)]
    kind[columns[:, 3] > 1] = kinds[-1]
    oracle = HistGradientBoostingClassifier(**parameters(4000), monotonic_cst=rising)
    told = oracle.fit(columns[:4000], kind[:4000]).predict_proba(columns)
    trees = BoostedTrees.fit(columns[:4000], kind[:4000], rising)
    assert trees is not None
    found = trees.probabilities(columns, 4)
    np.testing.assert_allclose(found[:, list(kinds)], told, rtol=0, atol=1e-12)
    assert found.sum() == pytest.approx(len(columns))


def test_no_number_counts_as_the_lowest_and_infinity_as_the_highest() -> None:
    rng = np.random.default_rng(2)
    columns = rng.normal(size=(2000, 2))
    columns[::3] = np.nan
    trees = BoostedTrees.fit(columns, (np.nan_to_num(columns[:, 0], nan=-9.0) > 0).astype(int), None)
    assert trees is not None
    odd, plain = np.array([[np.nan] * 2, [-np.inf] * 2, [np.inf] * 2]), np.array([[-1e9] * 2, [-1e9] * 2, [1e9] * 2])
    np.testing.assert_array_equal(trees.probabilities(odd, 2), trees.probabilities(plain, 2))
    assert trees.probabilities(odd, 2)[:, 1].tolist() == pytest.approx([0, 0, 1], abs=0.1)


def test_one_kind_teaches_nothing() -> None:
    assert BoostedTrees.fit(np.zeros((5, 2)), np.zeros(5, np.int64), None) is None
