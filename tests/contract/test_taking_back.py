"""What was done can be taken back: fixes undone, findings withdrawn from review; in every tool that writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import CAT, Harness
from label_studio_harness import LabelStudioHarness
from test_annotation_tool import all_records, cases_of, findings_of

from bridge.core.annotations import Box
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.errors import ToolUnreachable
from bridge.tools import FixNote, FixOrder, Outcome, Review, UndoOrder

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("label-studio")]


def apply(harness: Harness, findings: list[Finding]) -> list[UndoOrder]:
    """Write the fixes; what undoes them, the last one first."""
    notes: list[FixNote] = []
    results = harness.tool.apply_fixes([FixOrder(f, f.fix) for f in findings], notes.append)
    assert [r.outcome for r in results] == [Outcome.APPLIED] * len(findings)
    by_id = {f.id: f for f in findings}
    as_stored: list[dict[str, Any]] = json.loads(json.dumps([[n.finding_id, n.before, n.after] for n in notes]))
    return [UndoOrder(by_id[i], FixNote(i, before, after)) for i, before, after in reversed(as_stored)]


def content(harness: Harness, submission_id: str) -> list[dict[str, Any]]:
    """A submission's objects as the tool stores them, without the ids that a tool may give anew."""
    objects = [json.loads(text) for text in harness.raw(submission_id).values()]
    kept = {"id"} if isinstance(harness, LabelStudioHarness) else set()
    return sorted(({k: v for k, v in o.items() if k in kept or k != "id"} for o in objects), key=repr)


class TestUndo:
    def test_every_kind_comes_back_as_it_was(self, cats: Harness) -> None:
        records, findings = findings_of(cats)
        submissions = [r.submissions[0].id for r in records]
        before = [content(cats, s) for s in submissions]
        orders = apply(cats, findings)
        fixed = [content(cats, s) for s in submissions]
        assert all(a != b for a, b in zip(before, fixed, strict=True))
        results = cats.again().undo_fixes(orders)
        assert [(r.finding_id, r.outcome) for r in results] == [(o.finding.id, Outcome.APPLIED) for o in orders]
        assert [content(cats, s) for s in submissions] == before
        assert [r.outcome for r in cats.tool.undo_fixes(orders)] == [Outcome.ALREADY] * 4
        assert [content(cats, s) for s in submissions] == before

    def test_an_object_that_got_another_id_is_named(self, cats: Harness) -> None:
        records, findings = findings_of(cats)
        (order,) = apply(cats, findings[1:2])
        (result,) = cats.tool.undo_fixes([order])
        (again,) = cats.tool.undo_fixes([order])
        now = [a.id for a in all_records(cats.tool)[1].submissions[0].annotations]
        old = findings[1].annotation_ids[0]
        assert result.renewed == again.renewed
        assert (result.renewed or old) in now
        assert {a.id for a in records[1].submissions[0].annotations} - set(now) == ({old} if result.renewed else set())

    def test_newer_work_of_people_stays(self, cats: Harness) -> None:
        records, findings = findings_of(cats)
        submissions = [r.submissions[0].id for r in records]
        orders = apply(cats, findings)
        for submission in (submissions[0], *submissions[2:]):
            other = "cat" if submission != submissions[2] else "dog"
            cats.edit(submission, relabel=other)
        cats.edit(submissions[1], add=[("cat", Box(17, 17, 81, 65))])
        before = [cats.raw(s) for s in submissions]
        outcomes = {r.finding_id: r.outcome for r in cats.tool.undo_fixes(orders)}
        # Somebody has made a dog of item 2's cat again, which is what undoing would do.
        expected = [Outcome.CONFLICT, Outcome.CONFLICT, Outcome.ALREADY, Outcome.CONFLICT]
        assert [outcomes[f.id] for f in findings] == expected
        assert [cats.raw(s) for s in submissions] == before

    def test_what_people_do_beside_it_is_no_matter(self, cats: Harness) -> None:
        _, findings = findings_of(cats)
        orders = apply(cats, findings[2:3])
        submission = findings[2].submission_id
        cats.edit(submission, add=[("cat", Box(400, 180, 500, 225))])
        assert [r.outcome for r in cats.tool.undo_fixes(orders)] == [Outcome.APPLIED]
        labels = sorted(a.label for a in all_records(cats.tool)[2].submissions[0].annotations)
        assert labels == ["cat", "cat", "dog", "dog"]

    def test_what_is_gone_is_gone(self, cats: Harness) -> None:
        """A person has deleted what the fix had added or changed."""
        records, findings = findings_of(cats)
        orders = apply(cats, findings)
        for record in records[2:]:
            drawn = [a.id for a in record.submissions[0].annotations]
            cats.edit(record.submissions[0].id, drop=drawn)
        first = records[0].submissions[0]
        now = cats.raw(first.id).keys() - {a.id for a in first.annotations}
        cats.edit(first.id, drop=list(now))
        outcomes = {r.finding_id: r.outcome for r in cats.tool.undo_fixes([orders[0], orders[1], orders[3]])}
        assert outcomes == {
            findings[0].id: Outcome.ALREADY,
            findings[2].id: Outcome.CONFLICT,
            findings[3].id: Outcome.CONFLICT,
        }

    def test_two_fixes_of_one_object_are_undone_in_turn(self, cats: Harness) -> None:
        from harness import finding

        record = all_records(cats.tool)[0]
        cat = record.submissions[0].annotations[0]
        both = [
            finding(cats.tool, record, ErrorType.WRONG_CLASS, Fix("relabel", "dog", CAT), cat),
            finding(cats.tool, record, ErrorType.IMPRECISE, Fix("reshape", "cat", Box(20, 20, 90, 70)), cat),
        ]
        before = content(cats, record.submissions[0].id)
        latest, first = apply(cats, both)
        assert [r.outcome for r in cats.tool.undo_fixes([first])] == [Outcome.CONFLICT]
        assert [r.outcome for r in cats.tool.undo_fixes([latest, first])] == [Outcome.APPLIED] * 2
        assert [r.outcome for r in cats.tool.undo_fixes([latest, first])] == [Outcome.ALREADY] * 2
        assert content(cats, record.submissions[0].id) == before

    def test_survives_lost_answers(self, cats: Harness) -> None:
        records, findings = findings_of(cats)
        before = content(cats, records[1].submissions[0].id)
        notes: list[FixNote] = []
        orders = [FixOrder(findings[1], findings[1].fix)]
        cats.lose_the_next_answer()
        with pytest.raises(ToolUnreachable):
            cats.tool.apply_fixes(orders, notes.append)
        assert [r.outcome for r in cats.tool.apply_fixes(orders, notes.append)] == [Outcome.ALREADY]
        (note,) = notes
        back = [UndoOrder(findings[1], note)]
        cats.lose_the_next_answer()
        with pytest.raises(ToolUnreachable):
            cats.tool.undo_fixes(back)
        assert [r.outcome for r in cats.tool.undo_fixes(back)] == [Outcome.ALREADY]
        assert content(cats, records[1].submissions[0].id) == before


class TestWithdrawal:
    @pytest.fixture
    def review(self, cats: Harness) -> Review:
        return cats.tool.open_review(cats.tool.describe().labels, "Review: cats")

    def test_what_nobody_has_touched_leaves_the_review(self, cats: Harness, review: Review) -> None:
        cases = cases_of(cats)
        refs = [p.ref for p in cats.tool.push_cases(review, cases)]
        cats.answer(review, refs[0], "accept")
        ids = [c.finding.id for c in cases]
        assert cats.tool.withdraw_cases(review, ids[:3]) == set(ids[1:3])
        assert cats.again().withdraw_cases(review, ids[:3]) == set(ids[1:3])
        assert [v.finding_id for v in cats.tool.read_verdicts(review, None)] == ids[:1]
        cats.answer(review, refs[3], "reject")
        assert {v.finding_id for v in cats.tool.read_verdicts(review, None)} == {ids[0], ids[3]}

    def test_pushed_again_it_is_up_again(self, cats: Harness, review: Review) -> None:
        cases = cases_of(cats)[:2]
        cats.tool.push_cases(review, cases)
        first = cases[0].finding.id
        assert cats.tool.withdraw_cases(review, [first]) == {first}
        again = cats.tool.push_cases(review, cases)
        assert cats.again().push_cases(review, cases) == again
        assert list(cats.tool.read_verdicts(review, None)) == []
        cats.answer(review, again[0].ref, "accept")
        assert [(v.finding_id, v.decision) for v in cats.tool.read_verdicts(review, None)] == [(first, "accept")]
        assert cats.tool.withdraw_cases(review, [first]) == set()

    def test_what_is_to_be_kept_stays(self, cats: Harness, review: Review) -> None:
        cases = cases_of(cats)
        refs = [p.ref for p in cats.tool.push_cases(review, cases)]
        ids = [c.finding.id for c in cases]
        assert cats.tool.withdraw_cases(review, ids, keep=refs[:1]) == set(ids[1:])
        assert [p.ref for p in cats.again().push_cases(review, cases[:1])] == refs[:1]

    def test_survives_a_lost_answer(self, cats: Harness, review: Review) -> None:
        cases = cases_of(cats)
        cats.tool.push_cases(review, cases)
        ids = {c.finding.id for c in cases}
        cats.lose_the_next_answer()
        with pytest.raises(ToolUnreachable):
            cats.tool.withdraw_cases(review, ids)
        assert cats.tool.withdraw_cases(review, ids) == ids
        assert list(cats.tool.read_verdicts(review, None)) == []

    def test_what_was_never_there_is_not_there(self, cats: Harness, review: Review) -> None:
        assert cats.tool.withdraw_cases(review, ["0" * 16]) == {"0" * 16}
        assert cats.tool.withdraw_cases(review, []) == set()
