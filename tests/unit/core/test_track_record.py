"""bridge.core.track_record: what verdicts change by hand, and that its promises are kept on simulated reviews."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from bridge.core.track_record import BANDS, Floats, Ints, Judged, TrackRecord, band_of
from bridge.errors import DataError


def table(rows: list[tuple[int, int, float, int]]) -> Judged:
    kind, label, score, verdict = zip(*rows, strict=True)
    return Judged(np.array(kind), np.array(label), np.array(score), np.array(verdict))


def test_without_verdicts_the_scorer_is_believed_to_the_letter() -> None:
    scores = [0.0, 1e-9, 0.003, 0.5, 0.97, 0.9999999, 1.0]
    record = TrackRecord(table([(k % 2, k % 3, s, -1) for k, s in enumerate(scores)]))
    assert record.probability.tolist() == scores


def test_one_verdict_changes_little_and_many_decide() -> None:
    def left(rejected: int) -> float:
        return float(TrackRecord(table([(0, 0, 0.9, 0)] * rejected + [(0, 0, 0.9, -1)])).probability[-1])

    assert 0.7 < left(1) < 0.9
    assert left(5) < left(2) < left(1)
    assert left(20) < 0.2
    assert left(500) < 0.02


def test_many_verdicts_make_the_rate_that_was_seen() -> None:
    rng = np.random.default_rng(2)
    score = rng.uniform(0.55, 0.7, 3000)
    verdict = (rng.random(3000) < 0.2).astype(np.int64)
    record = TrackRecord(Judged(np.zeros(3000, np.int64), np.zeros(3000, np.int64), score, verdict))
    assert record.probability.mean() == pytest.approx(verdict.mean(), abs=0.01)


def test_a_class_borrows_from_its_error_type_and_not_from_others() -> None:
    rejected = [(0, 0, 0.8, 0)] * 12
    same, other_class, far_band, other_kind = TrackRecord(
        table([*rejected, (0, 0, 0.8, -1), (0, 1, 0.8, -1), (0, 0, 0.2, -1), (1, 0, 0.8, -1)])
    ).probability[-4:]
    assert same < other_class < 0.8
    assert 0.02 < far_band < 0.2
    assert other_kind == 0.8


def test_a_scorer_that_is_always_sure_can_be_corrected() -> None:
    probability = TrackRecord(table([(0, 0, 1.0, 0)] * 15 + [(0, 0, 1.0, -1)])).probability
    assert probability[-1] < 0.5


def test_bands_rise_with_the_score() -> None:
    score = np.linspace(0, 1, 1001)
    band = band_of(score)
    assert (np.diff(band) >= 0).all()
    assert sorted(set(band.tolist())) == list(range(BANDS))


def test_nothing_ahead_nothing_expected() -> None:
    record = TrackRecord(table([(0, 0, 0.8, 1)]))
    nothing = record.expect(np.zeros(0, np.int64))
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    empty = TrackRecord(Judged(*(np.zeros(0, np.int64) for _ in range(2)), np.zeros(0), np.zeros(0, np.int64)))
    assert empty.probability.tolist() == []


def test_verdicts_narrow_what_is_expected() -> None:
    def width(verdicts: int) -> float:
        judged = [(0, 0, 0.6, k % 5 < 3) for k in range(verdicts)]
        record = TrackRecord(table([*judged, *[(0, 0, 0.6, -1)] * 50]))
        expected = record.expect(np.arange(verdicts, verdicts + 50))
        assert 0 <= expected.low <= expected.value <= expected.high <= 50
        return expected.high - expected.low

    assert width(0) > width(20) > width(500)
    # What remains is luck: 1.96 * sqrt(50 * .6 * .4) to each side.
    assert width(500) == pytest.approx(2 * 6.8, abs=1.5)


def test_a_table_that_cannot_be() -> None:
    with pytest.raises(DataError, match="differ in length"):
        Judged(np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(1), np.zeros(2, np.int64))
    for wrong in (1.2, -0.1, np.nan):
        with pytest.raises(DataError, match="no probability"):
            table([(0, 0, wrong, -1)])


@dataclass
class Review:
    """A simulated review in rounds of fifty, the likeliest first: hits by round, and whether they were promised."""

    kind: Ints
    label: Ints
    score: Floats
    real: Ints

    def run(self, rounds: int, learn: bool) -> tuple[list[int], list[bool]]:
        verdict = np.full(len(self.score), -1)
        hits, kept = [], []
        for _ in range(rounds):
            record = TrackRecord(Judged(self.kind, self.label, self.score, verdict))
            order = np.argsort(-(record.probability if learn else self.score), kind="stable")
            next_ = order[verdict[order] < 0][:50]
            promise = record.expect(next_)
            hits.append(int(self.real[next_].sum()))
            # People are told whole numbers.
            kept.append(bool(np.floor(promise.low) <= hits[-1] <= np.ceil(promise.high)))
            verdict[next_] = self.real[next_]
        return hits, kept


def simulate(seed: int, *, shift: float, slope: float, spread: float) -> Review:
    """4,000 suspects of four error types and eight classes.

    The log odds of being real are ``shift + slope * z``, z being the scorer's own, and differ by error type and class
    with the standard deviation ``spread``.
    """
    rng = np.random.default_rng(seed)
    kind, label = rng.integers(0, 4, 4000), rng.integers(0, 8, 4000)
    z = rng.normal(-0.5, 2, 4000)
    truth = shift + slope * z + rng.normal(0, spread, 4)[kind] + rng.normal(0, spread, (4, 8))[kind, label]
    real = (rng.random(4000) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    return Review(kind, label, 1 / (1 + np.exp(-z)), real)


HONEST = {"shift": 0.0, "slope": 1.0, "spread": 0.0}


@pytest.mark.parametrize(
    ("scorer", "after"),
    [
        (HONEST, 0),
        ({"shift": 0.0, "slope": 1.0, "spread": 0.7}, 0),
        # Wrong by so much that only verdicts can tell: the promise counts from the fifth round on.
        ({"shift": -2.0, "slope": 1.0, "spread": 0.5}, 4),
        ({"shift": 2.0, "slope": 0.5, "spread": 0.5}, 4),
        ({"shift": -1.0, "slope": 0.4, "spread": 0.5}, 4),
    ],
)
def test_the_promise_for_the_next_fifty_is_kept(scorer: dict[str, float], after: int) -> None:
    kept = [k for seed in range(8) for k in simulate(seed, **scorer).run(20, learn=True)[1][after:]]
    assert np.mean(kept) >= 0.9


def test_learning_from_an_honest_scorer_costs_nothing() -> None:
    """Within noise of the score's own order, which cannot be bettered."""
    learned = sum(sum(simulate(seed, **HONEST).run(20, learn=True)[0]) for seed in range(6))
    plain = sum(sum(simulate(seed, **HONEST).run(20, learn=False)[0]) for seed in range(6))
    assert learned >= 0.985 * plain


def test_learning_finds_more_where_some_classes_are_noise() -> None:
    more = []
    for seed in range(6):
        review = simulate(seed, **HONEST)
        noise = (review.kind == 0) & (review.label < 4)
        review.real[noise] = 0
        learned, plain = (sum(review.run(20, learn=learn)[0]) for learn in (True, False))
        more.append(learned / plain)
    assert min(more) > 1.03


def test_few_verdicts_never_ruin_the_order() -> None:
    """After one round of fifty, the next five are as good as the score's own within chance."""
    ratio = []
    for seed in range(10):
        review = simulate(seed, **HONEST)
        learned, plain = (sum(review.run(6, learn=learn)[0]) for learn in (True, False))
        ratio.append(learned / plain)
    assert np.mean(ratio) > 0.98
