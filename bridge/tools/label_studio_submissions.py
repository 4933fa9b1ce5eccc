"""Fixes into what people submitted to Label Studio, and out of it again.

Label Studio has no locks and no versions. So an annotation is read a second time just before it is written: whatever a
person saved up to then is seen, and only a change that arrives within this one round trip would be overwritten. An
unsubmitted draft that is newer than the annotation is a conflict: whoever has it would not see the fix, and submit
without it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from bridge.core.findings import Finding
from bridge.dialects.label_studio import LabelConfig, Size
from bridge.errors import NotFound, ToolError
from bridge.tools import FixNote, FixOrder, FixResult, Outcome, UndoOrder, forget
from bridge.tools.fix_rules import conflicts
from bridge.tools.label_studio_client import LabelStudioClient, Row
from bridge.tools.label_studio_fixes import Sheet

Order = TypeVar("Order", FixOrder, UndoOrder)
Note = Callable[[FixNote], None]


class Submissions:
    """The submissions of one project.

    Args:
        size: gives the size of a task's image, where no region of a submission says it.
        text: gives the text of a task; empty where images are labelled.
    """

    def __init__(
        self, client: LabelStudioClient, config: LabelConfig, size: Callable[[str], Size], text: Callable[[str], str]
    ) -> None:
        self._client = client
        self._config = config
        self._size = size
        self._text = text

    def apply(self, orders: Sequence[FixOrder], note: Note) -> list[FixResult]:
        def work(sheet: Sheet, group: Sequence[FixOrder]) -> list[FixResult]:
            return [sheet.apply(order) for order in group]

        return self._change(orders, work, note)

    def undo(self, orders: Sequence[UndoOrder]) -> list[FixResult]:
        return self._change(orders, lambda sheet, group: sheet.undo_all(group), forget)

    def _change(
        self, orders: Sequence[Order], work: Callable[[Sheet, Sequence[Order]], list[FixResult]], note: Note
    ) -> list[FixResult]:
        groups: dict[str, list[int]] = {}
        for index, order in enumerate(orders):
            groups.setdefault(order.finding.submission_id, []).append(index)
        results: dict[int, FixResult] = {}
        for submission_id, indices in groups.items():
            group = [orders[i] for i in indices]
            try:
                done = self._change_one(submission_id, group, work, note)
            except NotFound:
                done = conflicts(group, f"task {group[0].finding.item_id} or its annotation was deleted meanwhile")
            results.update(zip(indices, done, strict=True))
        return [results[i] for i in range(len(orders))]

    def _change_one(
        self,
        submission_id: str,
        orders: Sequence[Order],
        work: Callable[[Sheet, Sequence[Order]], list[FixResult]],
        note: Note,
    ) -> list[FixResult]:
        """Do ``work`` on the regions of one submission, and write what it made of them."""
        if not submission_id.isdigit():
            return conflicts(orders, "the finding is about the item, not about somebody's submission")
        try:
            annotation = self._client.annotation(int(submission_id))
        except NotFound:
            return conflicts(orders, f"annotation {submission_id} no longer exists")
        reason = _unfit(annotation, orders[0].finding)
        if reason:
            return conflicts(orders, reason)
        item_id = orders[0].finding.item_id
        size = functools.cache(lambda: self._size(item_id))
        sheet = Sheet(annotation["result"], self._config, submission_id, size, self._text(item_id))
        results = work(sheet, orders)
        if any(r.outcome is Outcome.APPLIED for r in results):
            editor = self._somebody_editing(annotation)
            if editor:
                return [
                    replace(r, outcome=Outcome.CONFLICT, message=editor) if r.outcome is Outcome.APPLIED else r
                    for r in results
                ]
            for one in sheet.notes:
                note(one)
            if self._client.annotation(int(submission_id)).get("updated_at") != annotation.get("updated_at"):
                return self._change_one(submission_id, orders, work, note)  # somebody has just saved it
            self._write(int(submission_id), sheet.result)
        return results

    def _write(self, annotation_id: int, result: list[Row]) -> None:
        stored = self._client.patch_annotation(annotation_id, {"result": result}).get("result")
        if stored != result:
            raise ToolError(
                f"Label Studio stored other regions in annotation {annotation_id} than were written",
                expected="the same regions",
                todo="Open the task and compare; run the same command again",
            )

    def _somebody_editing(self, annotation: Row) -> str | None:
        """Whose unsubmitted draft of this annotation is newer than it; None when there is none."""
        for draft in self._client.drafts(int(annotation["task"])):
            newer = str(draft.get("updated_at") or "") > str(annotation.get("updated_at") or "")
            if draft.get("annotation") == annotation.get("id") and newer:
                return f"{draft.get('user') or 'somebody'} has changed it and not yet submitted"
        return None


def _unfit(annotation: Row, finding: Finding) -> str:
    """Why nothing can be written into an annotation; empty where it can."""
    result = annotation.get("result")
    if str(annotation.get("task")) != finding.item_id:
        return f"annotation {finding.submission_id} now belongs to another task"
    if annotation.get("was_cancelled"):
        return "the task was skipped since it was scored"
    if not isinstance(result, list) or not all(isinstance(region, dict) for region in result):
        return f"annotation {finding.submission_id} holds no list of regions"
    return ""
