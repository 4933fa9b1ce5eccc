"""Laws of learning from verdicts: order is of no account, no verdict counts the other way, and none changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.track_record import Judged, TrackRecord

ROWS = st.tuples(
    st.integers(0, 2),
    st.integers(0, 3),
    st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1e-12]), st.floats(0, 1)),
    st.sampled_from([-1, -1, 0, 1]),
)


@st.composite
def tables(draw: st.DrawFn) -> Judged:
    kind, label, score, verdict = zip(*draw(st.lists(ROWS, min_size=1, max_size=40)), strict=True)
    return Judged(np.array(kind), np.array(label), np.array(score), np.array(verdict))


@given(tables())
def test_probabilities_are_probabilities_and_bounds_hold_what_they_bound(judged: Judged) -> None:
    record = TrackRecord(judged)
    assert ((record.probability >= 0) & (record.probability <= 1)).all()
    expected = record.expect(np.arange(len(judged.score)))
    assert 0 <= expected.low <= expected.value <= expected.high + 1e-9
    assert expected.high <= len(judged.score)


@given(tables(), st.randoms(use_true_random=False))
def test_order_is_of_no_account(judged: Judged, random: object) -> None:
    order = list(range(len(judged.score)))
    random.shuffle(order)
    shuffled = Judged(judged.kind[order], judged.label[order], judged.score[order], judged.verdict[order])
    one, other = TrackRecord(judged), TrackRecord(shuffled)
    np.testing.assert_allclose(other.probability, one.probability[order], atol=1e-7)


@given(tables(), st.integers(5, 9), st.integers(5, 9))
def test_names_are_of_no_account(judged: Judged, a: int, b: int) -> None:
    renamed = replace(judged, kind=a * judged.kind + b, label=b * judged.label + a)
    assert TrackRecord(renamed).probability.tolist() == TrackRecord(judged).probability.tolist()


@given(tables(), st.data())
def test_an_accept_lowers_nothing_and_a_rejection_raises_nothing(judged: Judged, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(judged.score) - 1))
    rejected, unknown, accepted = (
        TrackRecord(replace(judged, verdict=np.where(np.arange(len(judged.score)) == row, v, judged.verdict)))
        for v in (0, -1, 1)
    )
    assert (rejected.probability <= unknown.probability + 1e-7).all()
    assert (unknown.probability <= accepted.probability + 1e-7).all()


@given(tables())
def test_within_a_class_and_band_the_scores_order_stands(judged: Judged) -> None:
    record = TrackRecord(replace(judged, kind=0 * judged.kind, label=0 * judged.label, score=0.6 + 0.1 * judged.score))
    order = np.argsort(judged.score, kind="stable")
    assert (np.diff(record.probability[order]) >= 0).all()


@given(tables())
def test_no_verdict_no_change(judged: Judged) -> None:
    silent = replace(judged, verdict=np.full(len(judged.score), -1))
    assert TrackRecord(silent).probability.tolist() == judged.score.tolist()
