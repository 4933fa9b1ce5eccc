"""bridge.core.sampling: shares by hand; and that the intervals hold what they promise, on simulated verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.sampling import estimate_rate, strata, stratified_sample
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


def sizes(keys: list[tuple[str, int, str]], count: int) -> list[int]:
    return sorted(np.bincount(strata(keys, count)).tolist())


def test_strata_are_as_fine_as_the_sample_allows() -> None:
    keys = [("missing", 1, "cat")] * 60 + [("missing", 1, "dog")] * 25 + [("missing", 2, "dog")] * 10
    keys += [("extra", 7, "cat")] * 3 + [("imprecise", 7, "cat")] * 2
    # With 20 of 100 drawn, 20 are needed for a stratum of 4 drawn; the 15 that are left over are one.
    assert sizes(keys, 20) == [15, 25, 60]
    assert sizes(keys, 8) == [40, 60]
    assert sizes(keys, 100) == [5, 10, 25, 60]
    assert sizes(keys, 5) == [15, 85]
    assert strata(keys, 1).tolist() == [0] * 100
    assert strata([], 5).tolist() == []


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.sampled_from("xyz")), max_size=80),
    st.integers(1, 90),
    st.randoms(use_true_random=False),
)
def test_strata_are_the_same_whatever_the_order(keys: list[tuple[str, int, str]], count: int, random: object) -> None:
    stratum = strata(keys, count)
    assert set(stratum.tolist()) == set(range(len(set(stratum.tolist()))))
    order = list(range(len(keys)))
    random.shuffle(order)
    assert strata([keys[k] for k in order], count).tolist() == stratum[order].tolist()
    # All but what is left over are large enough, so that a sample can hold some of each.
    assert sum(np.bincount(stratum, minlength=1) * count < 4 * len(keys)) <= 1


def test_many_small_strata_leave_the_estimate_unbiased() -> None:
    """Sixty classes of ten findings each, half of them errors in one class of three: far more than draws."""
    rng = np.random.default_rng(4)
    label = np.repeat(np.arange(60), 10)
    real = rng.random(600) < np.where(label % 3 == 0, 0.5, 0.05)
    keys, stratum = [str(k) for k in range(600)], strata([("extra", 4, int(k)) for k in label], 60)
    size = np.bincount(stratum)
    held, values = [], []
    for seed in range(300):
        rows = stratified_sample(keys, stratum, 60, seed)
        judged = np.bincount(stratum[rows], minlength=len(size))
        hits = np.bincount(stratum[rows], real[rows], len(size)).astype(np.int64)
        estimate = estimate_rate(size, judged, hits)
        values.append(estimate.value)
        held.append(estimate.low <= real.mean() <= estimate.high)
    assert np.mean(values) == pytest.approx(real.mean(), abs=0.01)
    assert 0.92 <= np.mean(held) <= 1
