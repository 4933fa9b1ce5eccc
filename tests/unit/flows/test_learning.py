"""bridge.flows.ranking, sample and outlook: verdicts change the order, hold findings back, and tell what is left."""

from __future__ import annotations

from collections import Counter

import pytest
from fakes.pictures import CAT, ELSEWHERE, TRUTH
from flow_kit import Desk, Killed

from bridge.core.findings import ErrorType, State
from bridge.core.worth import Worth
from bridge.errors import UsageError
from bridge.flows.outlook import Outlook, outlook
from bridge.flows.push import PushResult
from bridge.flows.ranking import Ranking, rank
from bridge.flows.sample import SampleSize, standing

EACH = 12


@pytest.fixture
def many(desk: Desk) -> Desk:
    """On twelve pictures the dog is missing, on twelve others there is a cat too many; all of a kind score alike."""
    for _ in range(EACH):
        desk.picture((("cat", CAT),))
        desk.picture((*TRUTH, ("cat", ELSEWHERE)))
    desk.score()
    return desk


def ranking(desk: Desk) -> Ranking:
    run = desk.store.latest_run(desk.tool.target)
    assert run
    return rank(desk.store, run, Worth())


def ahead(desk: Desk) -> Outlook:
    run = desk.store.latest_run(desk.tool.target)
    assert run
    return outlook(desk.store, run, ranking(desk), 0.5)


def answer(desk: Desk, **words: str) -> None:
    """Reviewers answer all that is up for review, by its error type."""
    for place, case in enumerate(desk.tool.cases.values()):
        if desk.store.finding(case.finding.id).state is State.PUSHED:
            desk.tool.answer(case.finding.id, words[case.finding.error], place)
    desk.sync()


def probabilities(desk: Desk, error: ErrorType) -> set[float]:
    return {round(r.probability, 6) for r in ranking(desk).rows if r.head.error is error and not r.is_decided}


def test_without_verdicts_probability_is_score(many: Desk) -> None:
    assert all(row.probability == row.head.score for row in ranking(many).rows)
    errors = [row.head.error for row in ranking(many).rows]
    assert errors == ["extra"] * EACH + ["missing"] * EACH
    assert ahead(many).lines[0].endswith("in the next 24 findings (by the scores alone, no verdicts yet).")


def test_verdicts_change_the_order_and_hold_back(many: Desk) -> None:
    (extra,), (missing,) = (probabilities(many, e) for e in (ErrorType.EXTRA, ErrorType.MISSING))
    many.push(limit=7, errors=(ErrorType.EXTRA,))
    many.push(limit=4, errors=(ErrorType.MISSING,))
    answer(many, extra="reject", missing="accept")
    (extra_now,), (missing_now,) = (probabilities(many, e) for e in (ErrorType.EXTRA, ErrorType.MISSING))
    assert extra_now < 0.5 < extra
    assert missing <= missing_now
    undecided = [row.head.error for row in ranking(many).rows if not row.is_decided]
    assert undecided == ["missing"] * 8 + ["extra"] * 5
    told = ahead(many)
    assert (told.ahead, told.verdicts) == (8, 11)
    assert told.expected.low > 4

    result = many.push()
    assert (result.pushed, result.held_back) == (8, 5)
    assert many.push() == PushResult(0, None, held_back=5)
    # What is up for review is what comes next.
    assert ahead(many).ahead == 8
    assert many.push(by_score=True).pushed == 5
    assert ahead(many).ahead == 13


def test_what_scored_low_is_pushed_where_verdicts_speak_for_it(many: Desk) -> None:
    (score,) = probabilities(many, ErrorType.EXTRA)
    many.push(limit=6, errors=(ErrorType.EXTRA,))
    answer(many, extra="accept")
    above = (score + next(iter(probabilities(many, ErrorType.EXTRA)))) / 2
    assert score < above
    assert many.push(min_score=above, errors=(ErrorType.EXTRA,)).pushed == 6


def test_an_edit_is_a_real_error(many: Desk) -> None:
    many.push(limit=6, errors=(ErrorType.MISSING,))
    before = probabilities(many, ErrorType.MISSING)
    for place, case in enumerate(many.tool.cases.values()):
        many.tool.answer(case.finding.id, "edit", place, fix=case.finding.fix)
    many.sync()
    assert min(probabilities(many, ErrorType.MISSING)) > max(before)


def test_a_later_run_keeps_what_was_learned(many: Desk) -> None:
    """Accepted ones are repaired and not found again; their verdicts still count."""
    many.push(limit=8, errors=(ErrorType.MISSING,))
    answer(many, missing="accept")
    learned = probabilities(many, ErrorType.MISSING)
    many.score()
    assert len([r for r in ranking(many).rows if r.head.error == "missing"]) == 4
    assert probabilities(many, ErrorType.MISSING) == learned


class TestSample:
    def drawn(self, desk: Desk, size: str) -> PushResult:
        return desk.push(sample=SampleSize.parse(size))

    def test_is_of_all_kinds_and_one_for_a_run(self, many: Desk) -> None:
        assert self.drawn(many, "42%").pushed == 10
        assert Counter(case.finding.error for case in many.tool.cases.values()) == {"extra": 5, "missing": 5}
        assert [c.finding.error for c in many.tool.cases.values()] != ["extra"] * 5 + ["missing"] * 5
        assert self.drawn(many, "10") == PushResult(0, None)
        with pytest.raises(UsageError, match=r"has a sample of 10 findings already, not of 12.*--sample 10"):
            self.drawn(many, "12")
        assert len(many.tool.cases) == 10
        told = ahead(many).lines[-1]
        assert told == "0 of 10 sampled findings have a verdict: no estimate of the rate of errors yet."

    def test_holds_what_is_up_for_review_already(self, many: Desk) -> None:
        many.push(by_score=True, min_score=0)
        assert self.drawn(many, "100%") == PushResult(0, None)
        assert len(many.store.sample("run1")) == 24

    def test_its_verdicts_alone_tell_the_rate(self, many: Desk) -> None:
        self.drawn(many, "12")
        answer(many, extra="reject", missing="accept")
        known = standing(many.store, many.tool.target)
        assert known
        assert (known.drawn, known.judged, known.total) == (12, 12, 24)
        assert known.rate.value == pytest.approx(0.5)
        assert known.rate.low < 0.5 < known.rate.high
        # Twelve are missing, and six of those were accepted.
        assert known.left.value == pytest.approx(6)
        assert "By the sample of run run1, 50% of its 24 undecided findings were real errors" in ahead(many).lines[-1]
        # Verdicts on others change what is left, not the rate.
        many.push()
        answer(many, extra="reject", missing="accept")
        later = standing(many.store, many.tool.target)
        assert later
        assert later.rate == known.rate
        assert later.left.value == 0

    def test_a_part_of_the_verdicts_is_told_as_such(self, many: Desk) -> None:
        self.drawn(many, "12")
        first = next(iter(many.tool.cases.values())).finding
        many.tool.answer(first.id, "accept", 0)
        many.sync()
        assert ahead(many).lines[-1].endswith("So far: 1 of 12 sampled findings have a verdict.")

    def test_an_older_verdict_is_none_on_the_sample(self, many: Desk) -> None:
        """A finding whose fix was undone waits again, and its old verdict must not answer for it."""
        before = {item: list(work) for item, work in many.tool.people.items()}
        many.push(errors=(ErrorType.MISSING,))
        answer(many, missing="accept")
        many.tool.people.update(before)
        many.score()
        assert sorted(set(many.states())) == ["open", "reopened"]
        many.push(sample=SampleSize.parse("100%"))
        known = standing(many.store, many.tool.target)
        assert known
        assert (known.run_id, known.drawn, known.judged) == ("run2", 24, 0)

    @pytest.mark.parametrize("step", ["choose", "open review", "push 0", "push 4"])
    def test_killed_after_a_step(self, many: Desk, step: str) -> None:
        many.durable.kill_after = step
        with pytest.raises(Killed):
            self.drawn(many, "10")
        many.durable.left.clear()
        self.drawn(many, "10")
        assert {c.finding.id for c in many.tool.cases.values()} == {s.finding_id for s in many.store.sample("run1")}
        assert len(many.tool.cases) == 10

    def test_nothing_to_draw_from(self, desk: Desk) -> None:
        desk.picture(TRUTH)
        desk.score()
        assert self.drawn(desk, "10%") == PushResult(0, None)
        assert standing(desk.store, desk.tool.target) is None
        assert ahead(desk).lines == []

    @pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-5", "ten", "1.5", "5 percent", "%"])
    def test_a_size_that_is_none(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"Expected a number of findings such as 50, or a share such as 10%"):
            SampleSize.parse(text)

    def test_sizes(self) -> None:
        assert [SampleSize.parse(t).of(40) for t in ("3", "400", "10%", "0.1 %", "100%")] == [3, 40, 4, 1, 40]
