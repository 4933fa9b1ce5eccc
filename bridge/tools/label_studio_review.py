"""Findings as review work in Label Studio: a project of its own beside the one that is reviewed.

Every finding is one task of the review project. It shows the same image or text, the object as it is labelled
(magenta) and its neighbours (grey), which cannot be moved, and the suggestion (in the label's colour), which can be
moved, relabelled and replaced; and it asks for a verdict. The
originals stay untouched until a verdict is synced. What a task holds, and how answers are read, says
:mod:`bridge.tools.label_studio_review_task`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from bridge.core.annotations import Item, LabelSet
from bridge.core.findings import Verdict
from bridge.core.moments import stamp
from bridge.dialects.label_studio import Media, Size, label_colours, parse_label_config
from bridge.tools import PushedCase, Review, ReviewCase
from bridge.tools.label_studio_client import LabelStudioClient, Row, task_filter
from bridge.tools.label_studio_review_task import (
    THING,
    read_verdict,
    review_config,
    review_meta,
    review_task,
    shows_boxes,
)

REVIEW_MARK = "labelbridge-review-of:"
"""What the description of every review project holds."""

_BATCH = 100
_TITLE_LENGTH = 50

_HIDDEN = [
    f"tasks:{column}"
    for column in (
        *("inner_id", "annotations_results", "annotations_ids", "predictions_score", "predictions_model_versions"),
        *("predictions_results", "file_upload", "storage_filename", "created_at", "updated_at", "updated_by"),
        *("avg_lead_time", "draft_exists"),
    )
]
"""The columns that Label Studio itself hides in a new tab."""

_INSTRUCTION = (
    "<p>Each task shows one suspected labelling error. The magenta {thing} is the object as it is labelled now; the "
    "coloured {thing} is the suggestion, which you may move, relabel or replace. Choose <b>accept</b> (key A) if the "
    "suggestion is right, as it is or as you changed it, or <b>reject</b> (key R) if the present labels are right, "
    "then submit.</p>"
)


class ReviewDesk:
    """Reviews of one source project.

    Args:
        source, project: the source project's id and its fields.
        media: what is labelled there.
        size: tells the size of an item's image, from the item or its file.
    """

    def __init__(
        self, client: LabelStudioClient, source: int, project: Row, media: Media, size: Callable[[Item], Size]
    ) -> None:
        self._client = client
        self._source = source
        self._project = project
        self._media = media
        self._size = size

    @property
    def _marker(self) -> str:
        # Label Studio on SQLite gives a deleted project's number to the next one, so its birth is part of the mark.
        born = str(self._project.get("created_at") or "")
        return f"{REVIEW_MARK} ls:project/{self._source} of {born}"

    def open(self, labels: LabelSet, title: str) -> Review:
        """The review project: found by the mark in its description, else made."""
        for project in self._client.projects():
            if self._marker in str(project.get("description") or ""):
                self._extend(int(project["id"]), labels)
                return self._review(int(project["id"]), created=False)
        suffix = f" (project {self._source})"
        made = self._client.create_project(
            {
                "title": title[: _TITLE_LENGTH - len(suffix)].rstrip() + suffix,
                "description": f"Suspected label errors. {self._marker}",
                "label_config": self._label_config(labels),
                "expert_instruction": _INSTRUCTION.format(thing=THING[self._media]),
                "show_collab_predictions": True,
                "sampling": "Sequential sampling",
                "maximum_annotations": 1,
            }
        )
        return self._review(int(made["id"]), created=True)

    def push(self, review: Review, cases: Sequence[ReviewCase]) -> list[PushedCase]:
        """One task for each finding, in the order given; two requests for 100. What is there is not made again, but
        where an earlier push was cut off: it may have left one without its suggestion, two, or one that asks for what
        the finding no longer says."""
        project, places = int(review.ref), dict[str, int]()
        for start in range(0, len(cases), _BATCH):
            chunk = {case.finding.id: case for case in cases[start : start + _BATCH]}
            for finding_id, tasks in self._held(project, sorted(chunk)).items():
                standing = self._standing(project, tasks, chunk[finding_id])
                if standing is not None:
                    places[finding_id] = standing
            new = [case for finding_id, case in chunk.items() if finding_id not in places]
            if new:
                made = self._client.import_tasks(project, [self._task(case) for case in new])
                places.update((case.finding.id, task) for case, task in zip(new, made, strict=True))
        return [
            PushedCase(f, str(places[f]), f"{self._url(project)}?task={places[f]}")
            for f in (case.finding.id for case in cases)
        ]

    def withdraw(self, review: Review, finding_ids: Collection[str], keep: Collection[str] = ()) -> set[str]:
        """Delete the tasks of findings that hold no answer and no draft: three requests for each, one more for 100.

        A reviewer who has such a task open and has drawn nothing yet is told that it is gone when they submit.
        """
        project, ids, kept = int(review.ref), sorted(finding_ids), set[str]()
        for start in range(0, len(ids), _BATCH):
            these = task_filter("data.lb_finding", "in_list", "List", ids[start : start + _BATCH])
            for task in self._client.tasks(project, these, limit=2 * _BATCH).tasks:
                if str(task["id"]) in keep or self._is_begun(project, int(task["id"])):
                    kept.add(str(task["data"]["lb_finding"]))
                else:
                    self._client.delete_task(int(task["id"]))
        return set(ids) - kept

    def _is_begun(self, project: int, task: int) -> bool:
        """Whether anybody has answered a task or begun to, read anew: deleting those before it took its time."""
        drafts = self._client.drafts(task)
        now = self._client.tasks(project, task_filter("id", "equal", "Number", task), limit=1).tasks
        return bool(drafts) or any(row.get("total_annotations") or row.get("cancelled_annotations") for row in now)

    def verdicts(self, review: Review, since: str | None) -> Iterator[Verdict]:
        """Answers changed at or after ``since``, page by page, in the order of the tasks."""
        first = stamp(since) if since else ""
        changed = [task_filter("updated_at", "greater_or_equal", "Datetime", first)] if since else []
        last = 0
        while True:
            behind = task_filter("id", "greater", "Number", last)
            page = self._client.tasks(int(review.ref), behind, *changed, limit=_BATCH, everything=True)
            for task in page.tasks:
                verdict = read_verdict(task)
                if verdict and stamp(verdict.decided_at) >= first:
                    yield verdict
            if not page.tasks or page.total <= len(page.tasks):
                return
            last = int(page.tasks[-1]["id"])

    def flag_tab(self, item_ids: Sequence[str], title: str) -> str:
        """See :meth:`bridge.tools.label_studio.LabelStudio.flag_tab`."""
        # Task ids would be the plain way, but the browser's Data Manager has no filter for a list of them, and a tab
        # with a filter it does not know breaks every tab of the project. Annotation ids it takes as a list.
        # An empty list would show everything, and no annotation has the id 0.
        ids = self._an_annotation_of_each(sorted({int(i) for i in item_ids})) or ["0"]
        only = task_filter("annotations_ids", "contains", "String", ",".join(ids))
        filters: Row = {"filters": {"conjunction": "and", "items": [only]}}
        views = self._client.views(self._source)
        if not views:
            self._client.create_view(self._source, _tab("Default"))
        here = next((v for v in views if isinstance(v.get("data"), dict) and v["data"].get("title") == title), None)
        if here:
            view = self._client.patch_view(int(here["id"]), self._source, {**here["data"], **filters})
        else:
            view = self._client.create_view(self._source, _tab(title) | filters)
        return f"{self._url(self._source)}?tab={view['id']}"

    def _an_annotation_of_each(self, tasks: Sequence[int]) -> list[str]:
        """One annotation id for each annotated task: with two, the task would be listed twice."""
        found: list[str] = []
        for start in range(0, len(tasks), _BATCH):
            chunk = tasks[start : start + _BATCH]
            these = task_filter("id", "in_list", "List", chunk)
            # Ordering by the column is what makes Label Studio fill it without sending whole annotations.
            page = self._client.tasks(self._source, these, limit=len(chunk), ordering="tasks:annotations_ids")
            ids = (str(task.get("annotations_ids") or "").split(",")[0] for task in page.tasks)
            found.extend(i for i in ids if i)
        return found

    def _url(self, project: int) -> str:
        return f"{self._client.url}/projects/{project}/data"

    def _review(self, project: int, *, created: bool) -> Review:
        return Review(str(project), self._url(project), created)

    def _label_config(self, labels: LabelSet) -> str:
        return review_config(labels, label_colours(str(self._project.get("label_config") or "<View/>")), self._media)

    def _extend(self, project: int, labels: LabelSet) -> None:
        """Add labels that the source got since the review project was made; none is ever taken away."""
        config = str(self._client.project(project).get("label_config") or "")
        have = parse_label_config(config, texts=True).labels.names
        both = tuple(dict.fromkeys((*have, *labels.names)))
        if both != have:
            self._client.patch_project(project, {"label_config": self._label_config(LabelSet(both))})

    def _held(self, project: int, finding_ids: Sequence[str]) -> dict[str, list[Row]]:
        """The tasks of those of these findings that have one already, oldest first."""
        condition = task_filter("data.lb_finding", "in_list", "List", list(finding_ids))
        held: dict[str, list[Row]] = {}
        for task in self._client.tasks(project, condition, limit=2 * len(finding_ids)).tasks:
            held.setdefault(str(task["data"].get("lb_finding")), []).append(task)
        return held

    def _standing(self, project: int, tasks: Sequence[Row], case: ReviewCase) -> int | None:
        """The one of a finding's tasks that stays: it asks what it should, or somebody has begun it. Others go."""
        meta = {"labelbridge": review_meta(case.finding)}
        stays = next((t for t in tasks if t.get("total_predictions") and t.get("meta") == meta), None)
        for task in tasks:
            if task is not stays:
                if self._is_begun(project, int(task["id"])):
                    stays = stays or task
                else:
                    self._client.delete_task(int(task["id"]))
        return None if stays is None else int(stays["id"])

    def _task(self, case: ReviewCase) -> Row:
        size = self._size(case.item) if shows_boxes(case) else (1, 1)
        return review_task(case, size, f"{self._url(self._source)}?task={case.item.id}")


def _tab(title: str) -> Row:
    return {"title": title, "type": "list", "target": "tasks", "hiddenColumns": {"explore": _HIDDEN, "labeling": []}}
