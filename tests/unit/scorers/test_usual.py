"""What is usual for a class, and what a suspicion tells."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.scorers.usual import ERRORS, PRIOR_LABELS, telling


def test_a_lone_suspicion_tells_all_and_a_common_one_little() -> None:
    chance = np.array([0.9, *[0.0] * 89, *[0.7] * 90])
    label = np.array([0] * 90 + [1] * 90)
    found = telling(chance, label)
    assert found[0] == 1.0
    assert found[90:] == pytest.approx(ERRORS / (ERRORS + 89 / (90 + PRIOR_LABELS)))


def test_the_higher_of_a_class_tell_more_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    chance, label = rng.random(50), rng.integers(0, 3, 50)
    found, order = telling(chance, label), rng.permutation(50)
    assert (telling(chance[order], label[order]) == found[order]).all()
    for kind in range(3):
        by_chance = found[label == kind][np.argsort(chance[label == kind])]
        assert (np.diff(by_chance) > 0).all()
    assert telling(np.zeros(0), np.zeros(0, np.int64)).shape == (0,)
