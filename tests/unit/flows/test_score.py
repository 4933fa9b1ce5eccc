"""bridge.flows.score: what becomes a finding, and what becomes of it in later runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.pictures import CAT, DOG, ELSEWHERE, LOOSE_CAT, TRUTH
from flow_kit import Desk, Killed

from bridge.core.annotations import Prediction
from bridge.core.findings import Event, State, Verdict
from bridge.core.team import Team
from bridge.errors import DataError, ToolUnreachable
from bridge.flows.score import Counts
from bridge.flows.sources import FilePredictions, StoredPredictions

CAT_ONLY = (("cat", CAT),)
WRONG = (("dog", CAT), ("dog", DOG))
EXTRA = (*TRUTH, ("cat", ELSEWHERE))
LOOSE = (("cat", LOOSE_CAT), ("dog", DOG))


@pytest.fixture
def six(desk: Desk) -> Desk:
    """One item for each kind of error, one without, and one that nobody has submitted."""
    for submitted in (CAT_ONLY, WRONG, EXTRA, LOOSE, TRUTH):
        desk.picture(submitted)
    desk.picture()
    return desk


def test_finds_each_kind_of_error(six: Desk) -> None:
    result = six.score()
    assert result.counts == Counts(items=6, submissions=5, annotations=10, predictions=10, unpredicted=0)
    assert (result.new, result.withdrawn, result.failures) == (4, 0, ())
    found = {f.finding.item_id: f for f in six.findings()}
    assert {item: str(f.finding.error) for item, f in found.items()} == {
        "1": "missing",
        "2": "wrong_class",
        "3": "extra",
        "4": "imprecise",
    }
    assert {f.state for f in found.values()} == {State.OPEN}
    assert result.findings == {"extra": 1, "imprecise": 1, "missing": 1, "wrong_class": 1}
    run = six.store.run(result.run_id)
    assert (run.counts["items"], run.counts["findings"], run.model) == (6, 4, "colour-1")
    assert run.finished_at
    assert run.snapshot == result.snapshot


def test_an_extra_label_that_is_a_double_too_is_one_finding(desk: Desk) -> None:
    desk.picture((*TRUTH, ("cat", ELSEWHERE), ("cat", ELSEWHERE)))
    result = desk.score()
    assert result.findings == {"extra": 2}
    assert sorted(f.finding.scorer for f in desk.findings()) == ["data-checks-1", "object-review-1"]
    assert max(f.finding.score for f in desk.findings()) == 1.0


def test_again_finds_the_same_and_nothing_new(six: Desk) -> None:
    first, ids = six.score(), {f.finding.id for f in six.findings()}
    again = six.score()
    assert (again.new, again.withdrawn, again.snapshot) == (0, 0, first.snapshot)
    assert {f.finding.id for f in six.findings(run_id=again.run_id)} == ids


@pytest.mark.parametrize("page_size", [1, 3, 5, 6, 100])
def test_pages_make_no_difference(six: Desk, page_size: int) -> None:
    first = six.score(page_size=2)
    other = six.score(page_size=page_size)
    assert (other.new, other.counts, other.snapshot) == (0, first.counts, first.snapshot)


def test_two_submissions_of_one_item_are_judged_apart(desk: Desk) -> None:
    item = desk.picture(TRUTH, CAT_ONLY)
    result = desk.score()
    assert (result.counts.items, result.counts.submissions) == (1, 2)
    finding = desk.finding(item, "missing").finding
    assert finding.submission_id == desk.tool.people[item][1].id
    assert len(desk.findings()) == 1


def test_who_labelled_how_is_in_the_result_and_in_the_run(desk: Desk) -> None:
    desk.picture(TRUTH, CAT_ONLY)
    desk.picture(TRUTH, TRUTH)
    result = desk.score()
    assert (result.team.items, [(c.label, c.kappa) for c in result.team.classes]) == (
        2,
        [("cat", 1.0), ("dog", pytest.approx(2 / 3))],
    )
    careless, careful = result.team.people
    assert (careless.name, careless.errors["missing"]) == ("person 1", pytest.approx(100 / 3))
    assert (careful.name, careful.kappa, set(careful.errors.values())) == ("person 0", 1.0, {0.0})
    assert Team.from_dict(desk.store.run(result.run_id).counts["team"]) == result.team


def test_the_same_error_in_two_submissions_is_two_findings(desk: Desk) -> None:
    desk.picture(CAT_ONLY, CAT_ONLY)
    assert desk.score().new == 2


def test_what_nobody_predicted_is_not_scored(desk: Desk) -> None:
    seen, unseen = desk.picture(CAT_ONLY), desk.picture(EXTRA)
    empty = desk.picture(CAT_ONLY)
    desk.tool.models["m", seen] = ()
    desk.tool.models["m", empty] = ()
    result = desk.score_stored()
    assert result.counts.unpredicted == 1
    assert {f.finding.item_id for f in desk.findings()} == {seen, empty}
    assert unseen not in {f.finding.item_id for f in desk.findings()}


def test_a_model_that_saw_nothing_contradicts(desk: Desk) -> None:
    """Looking and finding nothing is an opinion; never having looked is none."""
    for _ in range(20):
        desk.picture(TRUTH)
    item = desk.picture(CAT_ONLY, shows=())
    desk.score()
    assert desk.finding(item, "extra").finding.score > 0.8


def test_only_one_models_predictions_count(desk: Desk) -> None:
    item = desk.picture(TRUTH)
    desk.tool.models["m", item] = ()
    with pytest.raises(DataError, match="no predictions for any of the 1 submissions"):
        desk.score(StoredPredictions("other"))


def test_images_that_cannot_be_looked_at_are_named_where_none_can(desk: Desk) -> None:
    item = desk.picture(TRUTH)
    desk.tool.images[item] = None
    with pytest.raises(DataError, match="1 images could not be looked at") as caught:
        desk.score()
    assert f"the image of item {item} cannot be had" in str(caught.value)
    assert "Repair or replace these images" in str(caught.value)


def test_nothing_submitted(desk: Desk) -> None:
    desk.picture()
    with pytest.raises(DataError, match="nothing is submitted in memory:1: 1 items"):
        desk.score()
    (run,) = desk.store.runs("memory:1")
    assert run.finished_at is None


def test_faint_suspicions_are_left_out(six: Desk) -> None:
    assert six.score(keep=0.99).findings == {}
    assert six.score(keep=0.9).new < 4


class TestLaterRuns:
    def test_what_was_repaired_by_hand_is_withdrawn(self, six: Desk) -> None:
        six.score()
        finding = six.finding("2", "wrong_class").finding
        before = six.tool.people["2"][0].annotations
        six.tool.submit("2", [replace(before[0], label="cat"), before[1]])
        result = six.score()
        assert (result.new, result.withdrawn) == (0, 1)
        assert six.store.finding(finding.id).state is State.WITHDRAWN

        six.tool.submit("2", before)
        assert six.score().new == 0
        assert six.store.finding(finding.id).state is State.REOPENED

    def test_what_could_not_be_looked_at_is_not_withdrawn(self, six: Desk) -> None:
        six.score()
        six.tool.images["2"] = None
        result = six.score()
        assert ([f.item for f in result.failures], result.withdrawn) == (["2.png (item 2)"], 0)
        assert six.states() == ["open"] * 4

    def test_what_was_not_looked_for_is_not_withdrawn(self, six: Desk) -> None:
        """Only a look at the files can clear duplicates."""
        six.make_all_the_same_file()
        assert six.score(check_images=True).findings["duplicate_image"] == 5
        assert six.score().withdrawn == 0
        original = six.tool.images["6"]
        assert original is not None
        six.tool.images["6"] = original + b"a comment behind the picture"
        assert six.score().withdrawn == 0
        # With it go the four that their pictures alone show to be alike: the files tell that they are the same.
        assert six.score(check_images=True).withdrawn == 5

    def fixed(self, six: Desk) -> str:
        """The wrong class of item 2, accepted, fixed and verified."""
        six.score()
        six.push()
        finding = six.finding("2", "wrong_class").finding
        six.tool.answer(finding.id, "accept", 0)
        six.sync()
        assert six.store.finding(finding.id).state is State.VERIFIED
        return finding.id

    def test_a_fix_that_stays_stays_verified(self, six: Desk) -> None:
        finding = self.fixed(six)
        six.score()
        assert six.store.finding(finding).state is State.VERIFIED

    def test_a_fix_that_somebody_undid_is_reopened_with_the_object_as_it_is_now(self, six: Desk) -> None:
        finding = self.fixed(six)
        (first, second) = sorted(six.tool.people["2"][0].annotations, key=lambda a: a.id)
        moved = replace(first, label="dog", shape=replace(CAT, x1=11.0))
        six.tool.submit("2", [moved, second])
        six.score()
        # The fix of a moved object is another one, so this is another finding; moved back it is the same.
        assert six.store.finding(finding).state is State.VERIFIED
        six.tool.submit("2", [replace(first, label="dog"), second])
        six.score()
        assert six.store.finding(finding).state is State.REOPENED
        assert six.score().new == 0
        assert six.store.finding(finding).state is State.REOPENED

    def test_what_a_reviewer_shaped_otherwise_stays_verified(self, six: Desk) -> None:
        """The model still disagrees with the reviewer's box; the reviewer has decided."""
        six.score()
        six.push()
        finding = six.finding("4", "imprecise").finding
        mine = replace(LOOSE_CAT, x2=80.0)
        six.tool.answer(finding.id, "edit", 0, replace(finding.fix, shape=mine))
        six.sync()
        assert ("cat", mine) in six.tool.objects("4")
        again = six.score()
        assert six.store.finding(finding.id).last_run == again.run_id
        assert six.store.finding(finding.id).state is State.VERIFIED

    def test_a_rejected_finding_stays_rejected(self, six: Desk) -> None:
        six.score()
        finding = six.finding("2", "wrong_class").finding.id
        verdict = Verdict(finding, "reject", "ann", "2026-11-20T12:00:00+00:00", "memory:1")
        six.store.record_verdict(verdict, "2026-11-20T12:00:00+00:00")
        six.store.transition(finding, Event.REJECT, "2026-11-20T12:00:00+00:00", "ann", {})
        six.score()
        assert six.store.finding(finding).state is State.REJECTED


class TestInterrupted:
    @pytest.mark.parametrize("step", ["page 0", "page 2", "score"])
    def test_killed_and_run_again_is_one_run(self, six: Desk, step: str) -> None:
        six.durable.kill_after = step
        with pytest.raises(Killed):
            six.score()
        result = six.score()
        assert result.counts == Counts(items=6, submissions=5, annotations=10, predictions=10, unpredicted=0)
        assert [run.id for run in six.store.runs()] == [result.run_id]
        assert six.states() == ["open"] * 4
        assert result.findings == {"extra": 1, "imprecise": 1, "missing": 1, "wrong_class": 1}

    def test_other_predictions_are_another_run(self, six: Desk) -> None:
        """What a killed run had read of one file is not held against another file of the same name."""
        found = Prediction("cat", ELSEWHERE, 0.9, "m")
        names = [record.item.name for record in six.tool.read_page(None, 100).records]
        six.durable.kill_after = "page 2"
        with pytest.raises(Killed):
            six.score(FilePredictions("m", dict.fromkeys(names, ()), "old content"))
        result = six.score(FilePredictions("m", dict.fromkeys(names, (found,)), "new content"))
        assert result.counts.predictions == len(names) - 1  # nobody has submitted one of them

    def test_a_lost_answer(self, six: Desk) -> None:
        six.tool.lose = {"read_page"}
        with pytest.raises(ToolUnreachable):
            six.score()
        assert six.score().new == 4


class TestImages:
    def test_are_checked_also_where_nobody_has_submitted(self, six: Desk) -> None:
        six.tool.images["6"] = None
        result = six.score(check_images=True)
        assert result.findings["unreadable_image"] == 1
        assert six.finding("6", "unreadable_image").finding.submission_id == ""
        assert result.failures == ()

    def test_that_a_model_sees_are_compared(self, desk: Desk) -> None:
        """Copies are found without any more reading, and what is repaired is withdrawn."""
        desk.picture(TRUTH)
        desk.picture(TRUTH)
        copy = desk.picture(TRUTH[:1])
        desk.tool.images[copy] = desk.tool.images["1"]
        assert desk.score().findings == {"inconsistent_labels": 1, "missing": 1, "near_duplicate": 1}
        desk.tool.submit(copy, desk.tool.people["1"][0].annotations)
        assert desk.score().withdrawn == 2
        assert [str(f.finding.error) for f in desk.findings(states=[State.OPEN])] == ["near_duplicate"]

    def test_that_nobody_opened_are_not_cleared(self, desk: Desk) -> None:
        desk.picture(TRUTH)
        copy = desk.picture(TRUTH)
        desk.tool.images[copy] = desk.tool.images["1"]
        desk.score()
        seen = {record.item.name: () for record in desk.tool.read_page(None, 9).records}
        assert desk.score(FilePredictions("m", seen)).withdrawn == 0
        assert desk.finding(copy, "near_duplicate").state is State.OPEN

    def test_that_were_only_opened_are_compared_too(self, desk: Desk) -> None:
        desk.picture(TRUTH)
        copy = desk.picture(TRUTH)
        desk.tool.images[copy] = desk.tool.images["1"]
        for item in desk.tool.images:
            desk.tool.models["m", item] = ()
        found = desk.score(StoredPredictions(), check_images=True).findings
        assert (found["duplicate_image"], "near_duplicate" in found) == (1, False)

    def test_the_same_file_twice(self, six: Desk) -> None:
        # The first of them counts as the original.
        six.make_all_the_same_file()
        assert six.score(check_images=True).findings["duplicate_image"] == 5


class TestRecall:
    """With ``recall``, unchanged items are not looked at again, and nothing else is different."""

    def test_only_what_changed_is_looked_at(self, six: Desk) -> None:
        first = six.score(recall=True)
        six.tool.calls.clear()
        again = six.score(recall=True, page_size=2)
        assert six.tool.calls["read_image"] == 0
        assert (again.new, again.withdrawn, again.findings) == (0, 0, first.findings)

        boxes = six.tool.people["5"][0].annotations
        six.tool.submit("5", boxes[:1])
        changed = six.score(recall=True)
        assert six.tool.calls["read_image"] == 1
        assert (changed.new, changed.counts.predictions) == (1, first.counts.predictions)

    @pytest.mark.parametrize("removed", ["1", "3"])
    def test_items_that_moved_to_the_next_page_are_known(self, six: Desk, removed: str) -> None:
        six.score(recall=True)
        del six.tool.people[removed], six.tool.images[removed]
        six.tool.calls.clear()
        six.score(recall=True)
        assert six.tool.calls["read_image"] == 0

    def test_other_predictions_are_not_taken(self, six: Desk) -> None:
        six.score(recall=True)
        six.tool.calls.clear()
        assert six.score(six.model(label_of={"cat": "cat"}), recall=True).counts.predictions == 5
        assert six.tool.calls["read_image"] == 5

    def test_without_it_everything_is_looked_at(self, six: Desk) -> None:
        six.score()
        six.tool.calls.clear()
        six.score()
        assert six.tool.calls["read_image"] == 5
