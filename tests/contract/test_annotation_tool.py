"""The AnnotationTool protocol, checked against every tool that writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness import CAT, DOG, TURNED, Harness, Near, Open, Photo, finding
from label_studio_harness import LabelStudioHarness

from bridge.core.annotations import Box, Item, Prediction, Record
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.errors import DataError, ImageError, ToolUnreachable
from bridge.images import size_of
from bridge.tools import AnnotationTool, FixOrder, Outcome, Prelabel, ReviewCase

FREE = Box(400, 180, 500, 250)

# Parametrised fixtures are asked for by name, so the marks of the live server are set by hand.
pytestmark = [pytest.mark.live, pytest.mark.xdist_group("label-studio")]


def all_records(tool: AnnotationTool, limit: int = 100, model: str | None = None) -> list[Record]:
    records: list[Record] = []
    cursor: str | None = None
    while True:
        page = tool.read_page(cursor, limit, model)
        records.extend(page.records)
        if page.next is None:
            return records
        cursor = page.next


def only_label_studio(harness: Harness) -> None:
    """Bounds on requests that its bulk calls make possible."""
    if not isinstance(harness, LabelStudioHarness):
        pytest.skip("this tool takes a request for each finding")


class TestReading:
    def test_describes_itself(self, cats: Harness) -> None:
        info = cats.tool.describe()
        assert info.target == cats.tool.target
        assert info.labels.names == ("cat", "dog")
        assert info.items == 4
        assert info.writable
        assert info.title
        assert info.url.startswith("http")

    def test_pages_are_whole_disjoint_and_stable(self, open_target: Open) -> None:
        tool = open_target([Photo()] * 7).tool
        whole = [r.item.id for r in all_records(tool)]
        assert len(set(whole)) == 7
        sizes: list[int] = []
        cursor: str | None = None
        ids: list[str] = []
        while True:
            page = tool.read_page(cursor, 3)
            sizes.append(len(page.records))
            ids += [r.item.id for r in page.records]
            if page.next is None:
                break
            cursor = page.next
        assert (sizes, ids) == ([3, 3, 1], whole)
        assert tool.read_page(whole[-1], 3).records == ()

    def test_a_page_that_ends_with_the_target_says_so(self, open_target: Open) -> None:
        tool = open_target([Photo()] * 4).tool
        assert tool.read_page(None, 4).next is None

    def test_one_request_reads_one_page(self, cats: Harness) -> None:
        only_label_studio(cats)
        cats.tool.describe()
        before = cats.requests_made()
        cats.tool.read_page(None, 100)
        assert cats.requests_made() - before == 1

    def test_submissions_hold_what_people_drew_in_pixels(self, open_target: Open) -> None:
        photos = [Photo(((("cat", CAT), ("dog", TURNED)), ())), Photo()]
        first, second = all_records(open_target(photos).tool)
        assert [len(s.annotations) for s in first.submissions] == [2, 0]
        assert [(a.label, a.shape, a.origin) for a in first.submissions[0].annotations] == [
            ("cat", CAT, "manual"),
            ("dog", Near(TURNED), "manual"),
        ]
        assert (first.item.width, first.item.height) == (512, 256)
        assert first.item.name == "photo 0.png"
        assert first.submissions[0].annotator
        assert second.submissions == ()
        assert first.problems == second.problems == ()

    def test_reading_again_gives_the_same_ids_and_revisions(self, cats: Harness) -> None:
        assert all_records(cats.tool) == all_records(cats.again(), limit=2)

    def test_some_records_without_those_that_are_gone(self, cats: Harness) -> None:
        _, first, second, _ = all_records(cats.tool)
        ids = [second.item.id, "999999", first.item.id, "no id"]
        assert cats.tool.read_records(ids) == {first.item.id: first, second.item.id: second}
        assert cats.tool.read_records([]) == {}

    def test_images(self, cats: Harness) -> None:
        item = all_records(cats.tool)[0].item
        assert size_of(cats.tool.read_image(item)) == (512, 256)
        with pytest.raises(ImageError, match=r"item 1 \(gone\.png\)"):
            cats.tool.read_image(Item("1", "gone.png", cats.lost_image(item)))


class TestChanges:
    """``read_changes``: what is told, what is not told again, and at which price."""

    def test_at_first_all_items_and_all_submitted_work_then_nothing(self, open_target: Open) -> None:
        harness = open_target([Photo(((("cat", CAT),),)), Photo(), Photo(((),))])
        ids = [r.item.id for r in all_records(harness.tool)]
        changes = harness.tool.read_changes(None)
        assert sorted((c.kind, c.item_id) for c in changes.items) == sorted(
            [("new", i) for i in ids] + [("work", ids[0]), ("work", ids[2])]
        )
        assert not changes.more
        for _ in range(2):
            tool = harness.again()
            tool.describe()
            before = harness.requests_made()
            changes = tool.read_changes(changes.cursor)
            assert changes.items == ()
            assert harness.requests_made() - before <= 2

    def test_changed_and_withdrawn_work_is_told_once_by_the_tools_own_clock(self, cats: Harness) -> None:
        first, second = all_records(cats.tool)[:2]
        cursor = cats.tool.read_changes(None).cursor
        cats.edit(first.submissions[0].id, relabel="dog")
        changes = cats.tool.read_changes(cursor)
        assert [(c.kind, c.item_id) for c in changes.items] == [("work", first.item.id)]
        assert abs(datetime.fromisoformat(changes.items[0].moment) - datetime.now(UTC)) < timedelta(minutes=1)
        cats.withdraw(second.submissions[0].id)
        again = cats.again()
        later = again.read_changes(changes.cursor)
        assert [(c.kind, c.item_id) for c in later.items] == [("work", second.item.id)]
        both = again.read_changes(cursor).items
        assert {c.item_id for c in both} == {first.item.id, second.item.id}, "an old cursor tells everything since"
        assert again.read_changes(later.cursor).items == ()

    def test_reading_and_asking_for_review_changes_nothing(self, cats: Harness) -> None:
        records, findings = findings_of(cats)
        cursor = cats.tool.read_changes(None).cursor
        review = cats.tool.open_review(cats.tool.describe().labels, "Review: cats")
        if isinstance(cats, LabelStudioHarness):  # of CVAT, a job that goes to its reviewer has changed
            cats.tool.push_cases(review, [ReviewCase(findings[0], records[0].item)])
        all_records(cats.again())
        assert cats.tool.read_changes(cursor).items == ()

    def test_a_cursor_that_cannot_be_read_tells_everything(self, cats: Harness) -> None:
        assert len(cats.tool.read_changes("{}").items) == len(cats.tool.read_changes(None).items) == 8


class TestPredictions:
    @pytest.fixture
    def open_target(self, open_target: Open) -> Open:
        if not open_target([Photo()]).keeps_predictions:
            pytest.skip("this tool asks models for suggestions by itself")
        return open_target

    def prelabels(self, tool: AnnotationTool, count: int, model: str = "m-1") -> list[Prelabel]:
        found = (Prediction("cat", CAT, 0.75, model), Prediction("dog", TURNED, 0.25, model))
        items = [replace(r.item, width=512, height=256) for r in all_records(tool)]
        return [Prelabel(item, found if n % 2 == 0 else ()) for n, item in enumerate(items[:count])]

    def test_are_read_back(self, open_target: Open) -> None:
        tool = open_target([Photo()] * 3).tool
        assert tool.write_predictions("m-1", self.prelabels(tool, 3)) == 3
        records = all_records(tool)
        assert [len(r.predictions) for r in records] == [2, 0, 2]
        assert [(p.label, p.confidence, p.model) for p in records[0].predictions] == [
            ("cat", 0.75, "m-1"),
            ("dog", 0.25, "m-1"),
        ]
        assert records[0].predictions[0].shape == CAT
        assert all(r.predicted_by == ("m-1",) for r in records), "finding nothing is not the same as not looking"

    def test_are_written_once_for_each_model(self, open_target: Open) -> None:
        harness = open_target([Photo()] * 4)
        assert harness.tool.write_predictions("m-1", self.prelabels(harness.tool, 2)) == 2
        assert harness.again().write_predictions("m-1", self.prelabels(harness.tool, 4)) == 2
        assert harness.tool.write_predictions("m-10", self.prelabels(harness.tool, 1, "m-10")) == 1
        assert harness.tool.write_predictions("m-", self.prelabels(harness.tool, 1, "m-")) == 1
        records = all_records(harness.tool, model="m-1")
        assert [len(r.predictions) for r in records] == [2, 0, 2, 0]
        assert records[0].predicted_by == ("m-1",)
        assert set(all_records(harness.tool)[0].predicted_by) == {"m-1", "m-10", "m-"}

    def test_survive_a_lost_answer(self, open_target: Open) -> None:
        harness = open_target([Photo()] * 2)
        prelabels = self.prelabels(harness.tool, 2)
        harness.lose_the_next_answer()
        with pytest.raises(ToolUnreachable):
            harness.tool.write_predictions("m-1", prelabels)
        assert harness.tool.write_predictions("m-1", prelabels) == 0
        assert [len(r.predictions) for r in all_records(harness.tool)] == [2, 0]

    def test_leave_peoples_work_alone(self, cats: Harness) -> None:
        before = [r.submissions for r in all_records(cats.tool)]
        cats.tool.write_predictions("m-1", self.prelabels(cats.tool, 4))
        assert [r.submissions for r in all_records(cats.tool)] == before

    def test_need_a_size_and_a_known_label(self, open_target: Open) -> None:
        tool = open_target([Photo()]).tool
        item = all_records(tool)[0].item
        with pytest.raises(DataError, match=f"item {item.id}"):
            tool.write_predictions("m-1", [Prelabel(item, ())])
        cow = (Prediction("cow", CAT, 0.5, "m-1"),)
        with pytest.raises(DataError, match="'cow'"):
            tool.write_predictions("m-1", [Prelabel(replace(item, width=512, height=256), cow)])


def findings_of(harness: Harness) -> tuple[list[Record], list[Finding]]:
    """One finding of each kind, each about another item."""
    records, tool = all_records(harness.tool), harness.tool
    drawn = [r.submissions[0].annotations for r in records]
    return records, [
        finding(tool, records[0], ErrorType.MISSING, Fix("add", "dog", FREE)),
        finding(tool, records[1], ErrorType.EXTRA, Fix("delete"), drawn[1][0]),
        finding(tool, records[2], ErrorType.WRONG_CLASS, Fix("relabel", "cat"), drawn[2][1]),
        finding(tool, records[3], ErrorType.IMPRECISE, Fix("reshape", "dog", Box(360, 64, 410, 116, 30)), drawn[3][2]),
    ]


def cases_of(harness: Harness) -> list[ReviewCase]:
    records, findings = findings_of(harness)
    return [ReviewCase(f, r.item, r.submissions[0].annotations[1:2]) for f, r in zip(findings, records, strict=True)]


class TestReview:
    def test_is_made_once_and_found_again(self, cats: Harness) -> None:
        labels = cats.tool.describe().labels
        first = cats.tool.open_review(labels, "Review: cats with a title that is far too long for any tool to keep")
        again = cats.again().open_review(labels, "Another title")
        assert (first.created, again.created) == (cats.makes_reviews, False)
        assert (first.ref, first.url) == (again.ref, again.url)

    def test_pushing_again_makes_nothing_new(self, cats: Harness) -> None:
        review = cats.tool.open_review(cats.tool.describe().labels, "Review: cats")
        cases = cases_of(cats)
        pushed = cats.tool.push_cases(review, cases[:3])
        assert [p.finding_id for p in pushed] == [c.finding.id for c in cases[:3]]
        assert len({p.ref for p in pushed}) == 3
        before = cats.requests_made()
        everything = cats.tool.push_cases(review, cases)
        assert everything[:3] == pushed
        assert cats.again().push_cases(review, cases[::-1]) == everything[::-1]
        assert cats.requests_made() - before <= 3

    def test_survives_a_lost_answer(self, cats: Harness) -> None:
        review = cats.tool.open_review(cats.tool.describe().labels, "Review: cats")
        cases = cases_of(cats)
        cats.lose_the_next_answer()
        with pytest.raises(ToolUnreachable):
            cats.tool.push_cases(review, cases)
        refs = {p.ref for p in cats.tool.push_cases(review, cases)}
        assert len(refs) == 4
        for ref in refs:
            cats.answer(review, ref, "accept")
        assert len(list(cats.tool.read_verdicts(review, None))) == 4

    def test_two_requests_push_a_hundred(self, open_target: Open) -> None:
        harness = open_target([Photo(((("cat", CAT),),))])
        only_label_studio(harness)
        review = harness.tool.open_review(harness.tool.describe().labels, "Review: many")
        record = all_records(harness.tool)[0]
        cases = [
            ReviewCase(
                finding(harness.tool, record, ErrorType.MISSING, Fix("add", "dog", Box(n, 100, n + 50, 150))),
                record.item,
            )
            for n in range(100)
        ]
        before = harness.requests_made()
        pushed = harness.tool.push_cases(review, cases)
        assert harness.requests_made() - before == 2
        assert [int(p.ref) for p in pushed] == sorted(int(p.ref) for p in pushed), "likeliest first, also for reviewers"

    def test_verdicts(self, cats: Harness) -> None:
        review = cats.tool.open_review(cats.tool.describe().labels, "Review: cats")
        cases = cases_of(cats)
        refs = [p.ref for p in cats.tool.push_cases(review, cases)]
        assert list(cats.tool.read_verdicts(review, None)) == []
        cats.answer(review, refs[0], "accept", label="cat", box=Box(390, 170, 490, 240))
        cats.answer(review, refs[1], "accept")
        cats.answer(review, refs[2], "reject")
        cats.answer(review, refs[3], None)
        verdicts = {v.finding_id: v for v in cats.tool.read_verdicts(review, None)}
        edit, accept, reject = (verdicts[c.finding.id] for c in cases[:3])
        assert len(verdicts) == 3
        assert (edit.decision, accept.decision, reject.decision) == ("edit", "accept", "reject")
        assert edit.fix is not None
        assert (edit.fix.action, edit.fix.label) == ("add", "cat")
        assert edit.fix.shape == Near(Box(390, 170, 490, 240))
        assert accept.fix in (Fix("delete"), None)
        assert reject.fix is None
        assert accept.reviewer
        assert len({v.source for v in verdicts.values()}) == 3

    def test_only_what_changed_since_is_read_again(self, cats: Harness) -> None:
        review = cats.tool.open_review(cats.tool.describe().labels, "Review: cats")
        cases = cases_of(cats)
        refs = [p.ref for p in cats.tool.push_cases(review, cases)]
        cats.answer(review, refs[0], "accept")
        cats.answer(review, refs[1], "accept")
        last = max(v.decided_at for v in cats.tool.read_verdicts(review, None))
        assert [v.finding_id for v in cats.tool.read_verdicts(review, last)] == [cases[1].finding.id]
        cats.answer(review, refs[0], "reject")
        changed = {v.finding_id: v.decision for v in cats.tool.read_verdicts(review, last)}
        assert changed == {cases[0].finding.id: "reject", cases[1].finding.id: "accept"}


class TestFixes:
    def test_all_four_kinds_and_nothing_else_changes(self, cats: Harness) -> None:
        records, findings = findings_of(cats)
        submissions = [r.submissions[0] for r in records]
        before = [cats.raw(s.id) for s in submissions]
        results = cats.tool.apply_fixes([FixOrder(f, f.fix) for f in findings])
        assert [(r.finding_id, r.outcome) for r in results] == [(f.id, Outcome.APPLIED) for f in findings]
        now = [r.submissions[0] for r in all_records(cats.tool)]
        assert now[0].annotations[:3] == submissions[0].annotations
        added = now[0].annotations[3]
        assert (added.label, added.shape) == ("dog", Near(FREE))
        assert now[1].annotations == submissions[1].annotations[1:]
        assert [a.label for a in now[2].annotations] == ["cat", "cat", "dog"]
        assert now[2].annotations[1].shape == DOG
        assert now[3].annotations[2].shape == Near(Box(360, 64, 410, 116, 30))
        for submission, found, stored in zip(submissions, findings, before, strict=True):
            after = cats.raw(submission.id)
            neighbours = stored.keys() - set(found.annotation_ids)
            assert {k: after[k] for k in neighbours} == {k: stored[k] for k in neighbours}

    def test_writing_again_changes_nothing(self, cats: Harness) -> None:
        records, findings = findings_of(cats)
        orders = [FixOrder(f, f.fix) for f in findings]
        cats.tool.apply_fixes(orders)
        once = [cats.raw(r.submissions[0].id) for r in records]
        assert [r.outcome for r in cats.again().apply_fixes(orders)] == [Outcome.ALREADY] * 4
        assert [cats.raw(r.submissions[0].id) for r in records] == once

    def test_survives_a_lost_answer(self, cats: Harness) -> None:
        records, findings = findings_of(cats)
        orders = [FixOrder(findings[0], findings[0].fix)]
        cats.lose_the_next_answer()
        with pytest.raises(ToolUnreachable):
            cats.tool.apply_fixes(orders)
        assert [r.outcome for r in cats.tool.apply_fixes(orders)] == [Outcome.ALREADY]
        assert len(cats.raw(records[0].submissions[0].id)) == 4

    def test_newer_work_of_people_is_never_overwritten(self, cats: Harness) -> None:
        records, findings = findings_of(cats)
        submissions = [r.submissions[0].id for r in records]
        cats.edit(submissions[0], add=[("dog", Box(400, 180, 500, 225))])
        for submission in submissions[1:]:
            cats.edit(submission, relabel="dog")
        cats.edit(submissions[3], drop=[findings[3].annotation_ids[0]])
        before = [cats.raw(s) for s in submissions]
        orders = [FixOrder(f, f.fix) for f in findings]
        # The relabelled dog of item 2 was a dog already, so nothing of it changed: cats may still be made of it.
        outcomes = [r.outcome for r in cats.tool.apply_fixes(orders)]
        assert outcomes == [Outcome.CONFLICT, Outcome.CONFLICT, Outcome.APPLIED, Outcome.CONFLICT]
        after = [cats.raw(s) for s in submissions]
        assert [after[i] == before[i] for i in range(4)] == [True, True, False, True]

    def test_several_fixes_of_one_submission_are_written_together(self, cats: Harness) -> None:
        record = all_records(cats.tool)[0]
        cat, dog, _ = record.submissions[0].annotations
        findings = [
            finding(cats.tool, record, ErrorType.MISSING, Fix("add", "dog", FREE)),
            finding(cats.tool, record, ErrorType.EXTRA, Fix("delete"), cat),
            finding(cats.tool, record, ErrorType.WRONG_CLASS, Fix("relabel", "cat"), dog),
        ]
        before = cats.requests_made()
        results = cats.tool.apply_fixes([FixOrder(f, f.fix) for f in findings])
        assert [r.outcome for r in results] == [Outcome.APPLIED] * 3
        assert cats.requests_made() - before <= 8
        labels = [a.label for a in cats.tool.read_records([record.item.id])[record.item.id].submissions[0].annotations]
        assert labels == ["cat", "dog", "dog"]

    def test_an_object_is_added_where_nothing_was_drawn(self, open_target: Open) -> None:
        tool = open_target([Photo(((),))]).tool
        record = all_records(tool)[0]
        missing = finding(tool, record, ErrorType.MISSING, Fix("add", "dog", FREE))
        assert [r.outcome for r in tool.apply_fixes([FixOrder(missing, missing.fix)])] == [Outcome.APPLIED]
        now = tool.read_records([record.item.id])[record.item.id]
        assert now.submissions[0].annotations[0].shape == Near(FREE)
        assert (now.item.width, now.item.height) == (512, 256)

    def test_a_submission_that_is_gone_is_a_conflict(self, cats: Harness) -> None:
        _, findings = findings_of(cats)
        gone = replace(findings[0], submission_id="987654")
        assert [r.outcome for r in cats.tool.apply_fixes([FixOrder(gone, gone.fix)])] == [Outcome.CONFLICT]


class TestOutage:
    def test_a_server_that_stops_midway_is_unreachable_and_then_goes_on(self, cats: Harness) -> None:
        page = cats.tool.read_page(None, 2)
        review = cats.tool.open_review(cats.tool.describe().labels, "Review: cats")
        cases = cases_of(cats)
        attempts: list[Callable[[], Any]] = [
            lambda: cats.tool.read_page(page.next, 2),
            lambda: cats.tool.read_image(page.records[0].item),
            lambda: cats.tool.push_cases(review, cases),
            lambda: cats.tool.apply_fixes([FixOrder(cases[0].finding, cases[0].finding.fix)]),
            lambda: list(cats.tool.read_verdicts(review, None)),
        ]
        with cats.outage():
            for attempt in attempts:
                with pytest.raises(ToolUnreachable, match=r"[Nn]othing answers"):
                    attempt()
        assert [len(p.records) for p in [cats.tool.read_page(page.next, 2)]] == [2]
        assert len(cats.tool.push_cases(review, cases)) == 4
