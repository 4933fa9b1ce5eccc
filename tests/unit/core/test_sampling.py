"""bridge.core.sampling: shares by hand; and that the intervals hold what they promise, on simulated verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.sampling import estimate_rate, expect_hits, precision, stratified_sample
from bridge.errors import DataError


def shares(sizes: list[int], count: int) -> list[int]:
    stratum = np.repeat(np.arange(len(sizes)), sizes)
    rows = stratified_sample([str(k) for k in range(len(stratum))], stratum, count, seed=0)
    return np.bincount(stratum[rows], minlength=len(sizes)).tolist()


def test_every_stratum_has_its_share() -> None:
    assert shares([50, 30, 20], 10) == [5, 3, 2]
    assert shares([50, 30, 20], 100) == [50, 30, 20]
    assert shares([50, 30, 20], 999) == [50, 30, 20]
    assert shares([96, 2, 2], 10) == [8, 1, 1]
    assert sum(shares([10, 10, 10, 10], 2)) == 2
    assert shares([5], 0) == [0]
    assert stratified_sample([], np.zeros(0, np.int64), 3, seed=0).tolist() == []


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.integers(0, 60),
    st.integers(0, 9),
    st.randoms(use_true_random=False),
)
def test_a_sample_is_one_whatever_the_order(sizes: list[int], count: int, seed: int, random: object) -> None:
    stratum = np.repeat(np.arange(len(sizes)), sizes)
    keys = [f"finding {k}" for k in range(len(stratum))]
    rows = stratified_sample(keys, stratum, count, seed)
    assert len(rows) == len(set(rows.tolist())) == min(count, len(keys))
    if len(sizes) <= count:
        assert set(stratum[rows].tolist()) == set(range(len(sizes)))
    order = list(range(len(keys)))
    random.shuffle(order)
    again = stratified_sample([keys[k] for k in order], stratum[order], count, seed)
    assert {keys[k] for k in rows} == {keys[order[k]] for k in again}


def test_every_finding_of_a_stratum_is_drawn_as_often() -> None:
    keys, stratum = [str(k) for k in range(30)], np.repeat([0, 1], [20, 10])
    drawn = np.zeros(30)
    for seed in range(600):
        drawn[stratified_sample(keys, stratum, 6, seed)] += 1
    assert np.abs(drawn / 600 - 0.2).max() < 0.08


def test_the_rate_of_the_whole_is_estimated_without_bias_and_its_interval_holds_it() -> None:
    """Two strata of unlike size and rate, one of them with hardly any error; 400 samples of one tenth."""
    rng = np.random.default_rng(0)
    stratum = np.repeat([0, 1, 2], [600, 300, 100])
    real = rng.random(1000) < np.array([0.03, 0.4, 0.85])[stratum]
    keys = [str(k) for k in range(1000)]
    size = np.bincount(stratum)
    estimates = []
    for seed in range(400):
        rows = stratified_sample(keys, stratum, 100, seed)
        judged = np.bincount(stratum[rows], minlength=3)
        hits = np.bincount(stratum[rows], real[rows], 3).astype(np.int64)
        estimates.append(estimate_rate(size, judged, hits))
    truth = real.mean()
    assert np.mean([e.value for e in estimates]) == pytest.approx(truth, abs=0.005)
    held = np.mean([e.low <= truth <= e.high for e in estimates])
    assert 0.93 <= held <= 1
    # An unstratified sample of 100 would give an interval of about +- .085.
    assert np.mean([e.high - e.low for e in estimates]) < 0.16


def test_the_ends_of_the_rate() -> None:
    ten = np.array([10])
    assert estimate_rate(ten, np.array([0]), np.array([0])).high == 1
    everything = estimate_rate(ten, ten, np.array([3]))
    assert (everything.low, everything.value, everything.high) == (0.3, 0.3, 0.3)
    none = estimate_rate(np.array([100]), ten, np.array([0]))
    assert (none.low, none.value) == (0, 0)
    assert 0.2 < none.high < 0.35
    with pytest.raises(DataError, match="more verdicts than findings"):
        estimate_rate(ten, np.array([11]), np.array([3]))


def test_precision_is_that_of_the_parent_until_verdicts_come_in() -> None:
    alpha, beta = precision(np.array([80, 0, 0]), np.array([18, 0, 40]), np.array([0, 0, 1]))
    mean = alpha / (alpha + beta)
    assert mean[1] == pytest.approx(0.81)
    assert mean[0] == pytest.approx((80 + 4 * 0.81) / 102)
    assert mean[2] < 0.03
    with pytest.raises(DataError, match="negative"):
        precision(np.array([-1]), np.array([0]), np.array([0]))


def test_the_promise_for_the_next_findings_is_kept() -> None:
    """Eight classes of two scorers, their precision unknown; 0 to 30 verdicts each, then the next fifty findings."""
    rng = np.random.default_rng(1)
    parent = np.repeat([0, 1], 4)
    held, off = [], []
    for _ in range(1500):
        centre = rng.beta(4, 3, 2)
        real = rng.beta(centre[parent] * 6, (1 - centre[parent]) * 6)
        judged = rng.integers(0, 31, 8)
        accepted = rng.binomial(judged, real)
        ahead = rng.multinomial(50, np.full(8, 1 / 8))
        promise = expect_hits(accepted, judged - accepted, parent, ahead)
        hits = rng.binomial(ahead, real).sum()
        held.append(promise.low - 0.5 <= hits <= promise.high + 0.5)
        off.append(hits - promise.value)
    assert 0.93 <= np.mean(held) <= 0.99
    assert abs(np.mean(off)) < 0.5


def test_nothing_ahead_nothing_promised() -> None:
    zero = np.zeros(1, np.int64)
    promise = expect_hits(zero, zero, zero, zero)
    assert (promise.value, promise.low, promise.high) == (0, 0, 0)
    unknown = expect_hits(zero, zero, zero, np.array([50]))
    assert (unknown.value, unknown.low, unknown.high) == (25, 0, 50)
