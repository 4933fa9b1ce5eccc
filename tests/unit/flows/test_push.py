"""bridge.flows.push: what is worth most goes first, each once, and one that cannot be shown holds nobody up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from fakes.pictures import CAT, DOG, ELSEWHERE, TRUTH
from flow_kit import Desk, Killed

from bridge.core.annotations import Box
from bridge.core.findings import ErrorType, Event, State
from bridge.core.worth import Worth
from bridge.errors import DataError, ToolUnreachable
from bridge.flows.push import PushResult
from bridge.flows.sample import SampleSize

CAT_ONLY = (("cat", CAT),)
EXTRA = (*TRUTH, ("cat", ELSEWHERE))


@pytest.fixture
def five(desk: Desk) -> Desk:
    """Five scored items: three objects are missing, two too many."""
    for submitted in (CAT_ONLY, EXTRA, CAT_ONLY, EXTRA, CAT_ONLY):
        desk.picture(submitted)
    desk.score()
    return desk


def sent(desk: Desk) -> list[str]:
    """The findings in the review, in the order they came."""
    return [case.finding.id for case in desk.tool.cases.values()]


def test_what_is_worth_most_goes_first_and_each_once(five: Desk) -> None:
    # All score alike, and to judge an extra object takes less time.
    ranked = sorted(five.findings(), key=lambda f: (f.finding.error != "extra", f.finding.id))
    result = five.push()
    assert (result.pushed, len(result.urls), result.failures) == (5, 5, ())
    assert result.review
    assert result.review.created
    assert sent(five) == [f.finding.id for f in ranked]
    assert five.states() == ["pushed"] * 5
    (place,) = five.store.reviews_of("memory:1")
    assert place.ref == result.review.ref
    for ref, case in five.tool.cases.items():
        (push,) = five.store.finding(case.finding.id).pushed
        assert (push.ref, push.review_ref, push.url) == (ref, "review", f"memory://review/{ref}")


def test_again_sends_only_what_is_new(five: Desk) -> None:
    assert five.push(limit=2).pushed == 2
    assert five.push(limit=2).pushed == 2
    assert five.push(limit=2).pushed == 1
    five.tool.calls.clear()
    assert five.push(limit=2) == PushResult(0, None)
    assert not five.tool.calls
    assert max(Counter(sent(five)).values()) == 1


@pytest.mark.parametrize("chunk", [1, 2, 4, 5, 100])
def test_chunks_make_no_difference(five: Desk, chunk: int) -> None:
    assert five.push(chunk=chunk).pushed == 5
    assert five.tool.calls["push_cases"] == -(-5 // chunk)
    assert five.states() == ["pushed"] * 5


def test_only_likely_enough_ones_of_the_wanted_kinds(five: Desk) -> None:
    assert five.push(errors=(ErrorType.EXTRA,)).pushed == 2
    assert {case.finding.error for case in five.tool.cases.values()} == {ErrorType.EXTRA}
    assert five.push(min_score=0.99) == PushResult(0, None)
    assert not five.push(min_score=0.5, errors=(ErrorType.IMPRECISE,)).pushed


def test_settings_change_what_goes_first(five: Desk) -> None:
    five.push(worth=Worth(seconds={ErrorType.EXTRA: 60.0}))
    assert [case.finding.error for case in five.tool.cases.values()] == ["missing"] * 3 + ["extra"] * 2


def test_decided_and_withdrawn_ones_stay(five: Desk) -> None:
    five.push(limit=1)
    (finding,) = sent(five)
    five.tool.answer(finding, "reject", 0)
    five.sync()
    gone = next(f.finding for f in five.findings(states=[State.OPEN]))
    five.tool.people[gone.item_id] = []
    five.score()
    assert five.states() == [*["open"] * 3, "rejected", "withdrawn"]
    assert five.push().pushed == 3
    assert gone.id not in sent(five)
    assert five.store.finding(finding).state is State.REJECTED
    assert Counter(sent(five))[finding] == 1


def test_what_came_back_goes_again(five: Desk) -> None:
    before = five.tool.people["1"]
    five.tool.people["1"] = []
    five.score()
    five.tool.people["1"] = before
    five.score()
    assert five.finding("1", "missing").state is State.REOPENED
    five.push()
    assert five.states() == ["pushed"] * 5


def test_a_run_that_did_not_end_cannot_be_pushed(desk: Desk) -> None:
    desk.picture(CAT_ONLY)
    desk.durable.kill_after = "page 0"
    with pytest.raises(Killed):
        desk.score()
    with pytest.raises(DataError, match=r"has not finished.*score` again"):
        desk.push()


class TestInterrupted:
    @pytest.mark.parametrize("step", ["choose", "open review", "push 0", "push 2", "push 4"])
    def test_killed_after_a_step(self, five: Desk, step: str) -> None:
        five.durable.kill_after = step
        with pytest.raises(Killed):
            five.push()
        result = five.push()
        assert result.pushed == 5
        assert sorted(sent(five)) == sorted({f.finding.id for f in five.findings()})
        assert five.states() == ["pushed"] * 5
        assert all(len(f.pushed) == 1 for f in five.findings())

    @pytest.mark.parametrize("method", ["record_push", "transition"])
    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_killed_between_the_tool_and_the_store(
        self, five: Desk, killed_in: Callable[..., None], method: str, n: int
    ) -> None:
        killed_in(method, n)
        with pytest.raises(Killed):
            five.push()
        five.push()
        assert max(Counter(sent(five)).values()) == 1
        assert five.states() == ["pushed"] * 5

    def test_without_its_data_folder(self, five: Desk) -> None:
        """The checkpoints are gone too: what stands in the tool is found there."""
        five.durable.kill_after = "push 2"
        with pytest.raises(Killed):
            five.push()
        five.durable.left.clear()
        five.push()
        assert max(Counter(sent(five)).values()) == 1
        assert five.states() == ["pushed"] * 5

    def test_a_lost_answer(self, five: Desk) -> None:
        five.tool.lose = {"push_cases"}
        with pytest.raises(ToolUnreachable):
            five.push()
        assert five.push().pushed == 5
        assert max(Counter(sent(five)).values()) == 1


class TestWhatACutOffPushLeaves:
    """A tool that was slow may do it all the same, after the next attempt has looked what is there."""

    def test_twice_it_leaves_the_review_once(self, five: Desk) -> None:
        five.tool.lose = {"push_cases"}
        with pytest.raises(ToolUnreachable):
            five.push(chunk=5)
        five.push(chunk=5)
        late = {str(100 + int(ref)): case for ref, case in five.tool.cases.items()}
        five.tool.cases |= late
        (begun, *others) = late
        five.tool.touched = {f"memory:{begun}"}
        before = {f.finding.id: f.pushed for f in five.findings()}
        five.sync()
        assert len(five.tool.cases) == 6
        assert not set(others) & five.tool.cases.keys()
        assert {f.finding.id: f.pushed for f in five.findings()} == before
        calls = five.tool.calls["withdraw_cases"]
        five.sync()
        assert five.tool.calls["withdraw_cases"] == calls

    def test_what_is_no_longer_suspected_leaves_the_review(self, five: Desk) -> None:
        five.tool.lose = {"push_cases"}
        with pytest.raises(ToolUnreachable):
            five.push(chunk=5)
        found = five.finding("3", "missing").finding
        five.store.transition(found.id, Event.WITHDRAW, five.journal.now(), "labelbridge")
        five.sync()
        assert found.id not in sent(five)
        assert len(sent(five)) == 4  # which the next push finds there
        five.push()
        assert max(Counter(sent(five)).values()) == 1

    def test_the_answer_that_came_late_is_no_loss(self, five: Desk) -> None:
        five.push(chunk=5)
        calls = five.tool.calls["withdraw_cases"]
        five.sync()
        assert five.tool.calls["withdraw_cases"] == calls


class TestWhatCannotBeShown:
    def test_fails_alone(self, five: Desk) -> None:
        five.tool.images["3"] = None
        result = five.push(chunk=5)
        assert result.pushed == 4
        (failure,) = result.failures
        assert failure.item == f"finding {five.finding('3', 'missing').finding.id} (3.png)"
        assert five.states() == ["open", *["pushed"] * 4]
        five.tool.images["3"] = five.tool.images["1"]
        assert five.push().pushed == 1
        assert max(Counter(sent(five)).values()) == 1

    def test_an_item_that_no_snapshot_holds(self, five: Desk) -> None:
        """Image checks find items that nobody has submitted."""
        item = five.picture()
        five.make_all_the_same_file()
        five.score(check_images=True)
        assert five.push(errors=(ErrorType.DUPLICATE_IMAGE,)).pushed == 5
        assert item in {case.item.id for case in five.tool.cases.values()}


class TestContext:
    """The neighbours that a reviewer sees."""

    def of(self, desk: Desk, error: ErrorType) -> list[tuple[str, object]]:
        desk.score()
        desk.push()
        (case,) = (c for c in desk.tool.cases.values() if c.finding.error is error)
        return [(a.label, a.shape) for a in case.context]

    def test_holds_what_touches_the_suggestion(self, desk: Desk) -> None:
        touching = Box(140, 100, 158, 118)
        desk.picture((("cat", CAT), ("dog", touching)))
        assert self.of(desk, ErrorType.MISSING) == [("dog", touching)]

    def test_is_of_the_same_submission(self, desk: Desk) -> None:
        desk.picture((("cat", CAT),), (("cat", CAT), ("dog", DOG), ("cat", Box(95, 65, 120, 90))))
        assert self.of(desk, ErrorType.MISSING) == []

    def test_leaves_out_the_object_itself(self, desk: Desk) -> None:
        desk.picture((("dog", CAT), ("dog", DOG)))
        assert self.of(desk, ErrorType.WRONG_CLASS) == []


class TestReviewers:
    def test_no_more_than_a_number_await_an_answer(self, five: Desk) -> None:
        first = five.push(open_per_reviewer=2)
        assert (first.pushed, first.no_room) == (2, 3)
        again = five.push(open_per_reviewer=2)
        assert (again.pushed, again.no_room, again.review) == (0, 3, None)
        five.tool.answer(sent(five)[0], "reject", 0)
        five.sync()
        assert five.push(open_per_reviewer=2).pushed == 1
        assert five.push(open_per_reviewer=2, limit=1).pushed == 0

    def test_work_is_shared_and_remembered(self, five: Desk) -> None:
        five.tool.reviewers = ("mia", "zoe")
        assert five.push(open_per_reviewer=2, chunk=5).no_room == 1
        assert Counter(case.reviewer for case in five.tool.cases.values()) == {"mia": 2, "zoe": 2}
        assert five.store.awaited("memory:1") == {"mia": 2, "zoe": 2}
        five.tool.reviewers = ("mia", "rob")
        assert five.push(open_per_reviewer=2).pushed == 1
        assert five.store.awaited("memory:1") == {"mia": 2, "zoe": 2, "rob": 1}

    def test_the_limit_counts_what_goes(self, five: Desk) -> None:
        """Work of those who have no room does not stand before that of others."""
        five.tool.reviewers = ("person 0", "zoe")
        result = five.push(reviewer="others", open_per_reviewer=3, limit=2)
        assert (result.pushed, result.no_room) == (2, 2)
        assert {case.reviewer for case in five.tool.cases.values()} == {"zoe"}

    def test_back_to_the_annotator(self, five: Desk) -> None:
        assert five.push(reviewer="annotator").pushed == 5
        assert five.store.awaited("memory:1") == {"person 0": 5}

    def test_a_sample_goes_whole(self, five: Desk) -> None:
        assert five.push(sample=SampleSize.parse("4"), open_per_reviewer=1).pushed == 4
