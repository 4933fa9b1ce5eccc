from __future__ import annotations

import numpy as np

from bridge.core.matching import content_rank, match_pairs


def rows(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_content_rank_orders_by_the_first_column_first_and_ties_what_is_equal() -> None:
    boxes = np.array([[1.0, 2.0], [1.0, 1.0], [0.0, 9.0], [1.0, 2.0]])
    assert content_rank(boxes).tolist() == [2, 1, 0, 2]
    assert content_rank(rows(1, 0, 0, 1), boxes).tolist() == [2, 1, 0, 2]
    assert content_rank(rows(5, 5, 7, 5), boxes).tolist() == [1, 0, 2, 1]
    assert content_rank(rows()).tolist() == []


def test_the_best_pair_goes_first_and_blocks_its_objects() -> None:
    # 0-0 at .9 blocks 0-1 and 1-0; 1-1 is left although 0-1 with 1-0 would have summed to more.
    matched = match_pairs(rows(0, 0, 1, 1), rows(0, 1, 0, 1), np.array([0.9, 0.8, 0.8, 0.1]), rows(0, 1), rows(0, 1))
    assert matched.tolist() == [0, 3]


def test_equal_values_are_decided_by_content() -> None:
    g, p, v = rows(0, 1), rows(0, 0), np.array([0.5, 0.5])
    assert match_pairs(g, p, v, rows(0, 1), rows(0)).tolist() == [0]
    assert match_pairs(g, p, v, rows(1, 0), rows(0)).tolist() == [1]


def test_values_of_nothing_are_never_matched() -> None:
    values = np.array([0.0, -1.0, np.nan])
    assert match_pairs(rows(0, 1, 2), rows(0, 1, 2), values, rows(0, 1, 2), rows(0, 1, 2)).tolist() == []
    assert match_pairs(rows(), rows(), np.zeros(0), rows(), rows()).tolist() == []


def test_a_long_chain_is_followed_to_its_end() -> None:
    # Each pair blocks the next one: 0, 2, 4 ... remain.
    n = 2_000
    g, p = (np.arange(n) + 1) // 2, np.arange(n) // 2
    matched = match_pairs(g, p, np.linspace(1, 0.5, n), np.arange(n), np.arange(n))
    assert matched.tolist() == list(range(0, n, 2))
