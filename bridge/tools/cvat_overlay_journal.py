"""What an overlay shows, written down in CVAT itself.

A task's first job has one issue for it, resolved, so that it is nobody's work. Its first comment and the later ones are
chapters, one for each push that brought anything: every suggestion with its fix. That is the mark of our ground truth
job: it has just the frames of all chapters, or, where a push was cut off, of all but the last ones. And it is what the
job is made from, so that it can be deleted and made again at any time, from any data folder.

A comment may also say which suggestions are no longer drawn. Their frames stay in the job, as they are labelled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from bridge.core.findings import ErrorType, Finding, Fix
from bridge.errors import DataError, ToolError
from bridge.tools import FixOrder
from bridge.tools.cvat_client import Row
from bridge.tools.cvat_layout import item_id, parse_item_id
from bridge.tools.fix_rules import same_shape

_CHAPTER = re.compile(r"\[labelbridge draws (\[.*\])\]\s*\Z", re.DOTALL)
_ERASURE = re.compile(r"\[labelbridge erases (\[.*\])\]\s*\Z", re.DOTALL)
_PREFACE = (
    "labelbridge draws its suggestions over this task, with a ground truth job: open a job in the workspace Review, "
    "and press the pin. This issue says which, for labelbridge itself. Nobody has to do anything here, but do not "
    "delete it."
)
_ERRORS = {
    "add": ErrorType.MISSING,
    "delete": ErrorType.EXTRA,
    "relabel": ErrorType.WRONG_CLASS,
    "reshape": ErrorType.IMPRECISE,
}


@dataclass(frozen=True, slots=True)
class DrawnFix:
    """One fix to draw.

    Attributes:
        job, frame: whose work it is about, and where.
        annotation_id, revision: the object and how it was when it was scored; both empty where one is missing.
        fix: label and shape only where the fix changes them.
    """

    finding_id: str
    job: int
    frame: int
    annotation_id: str
    revision: str
    fix: Fix

    def order(self, task: int) -> FixOrder:
        """The fix as if it had been accepted."""
        finding = Finding(
            id=self.finding_id,
            target="",
            item_id=item_id(task, self.frame),
            item_name="",
            submission_id=f"{self.job}/{self.frame}",
            annotation_ids=(self.annotation_id,) if self.annotation_id else (),
            error=_ERRORS[self.fix.action],
            label="",
            score=1.0,
            reason="",
            fix=self.fix,
            scorer="",
            revisions=(self.revision,) if self.annotation_id else (),
        )
        return FixOrder(finding, self.fix)


def drawn_fix(finding: Finding) -> DrawnFix | None:
    """A finding as something to draw; None where nothing says what would be right, or it is about a tag."""
    fix, place = finding.fix, parse_item_id(finding.submission_id)
    if place is None or fix.action not in _ERRORS:
        return None
    if fix.action == "add":
        return DrawnFix(finding.id, *place, "", "", fix)
    if len(finding.annotation_ids) != 1 or len(finding.revisions) != 1:
        return None
    if not finding.annotation_ids[0].startswith(("shape:", "track:")):
        return None
    label = None if fix.label == finding.label else fix.label
    shape = None if same_shape(fix.shape, finding.current_shape) else fix.shape
    return DrawnFix(finding.id, *place, finding.annotation_ids[0], finding.revisions[0], Fix(fix.action, label, shape))


@dataclass(frozen=True, slots=True)
class Journal:
    """What was written down for a task so far.

    Attributes:
        issue: where further chapters go; None where there is no journal yet.
        erased: ids of the findings that are no longer drawn.
    """

    issue: int | None = None
    chapters: tuple[tuple[DrawnFix, ...], ...] = ()
    erased: frozenset[str] = frozenset()

    @property
    def everything(self) -> tuple[DrawnFix, ...]:
        """All suggestions, each once and as it was written last, in the order in which they were written first."""
        return tuple({s.finding_id: s for chapter in self.chapters for s in chapter}.values())

    @property
    def suggestions(self) -> tuple[DrawnFix, ...]:
        """Those that are drawn."""
        return tuple(s for s in self.everything if s.finding_id not in self.erased)

    @property
    def frames(self) -> frozenset[int]:
        return frozenset(s.frame for chapter in self.chapters for s in chapter)

    @property
    def frame_sets(self) -> tuple[frozenset[int], ...]:
        """The frames of all chapters up to each of them."""
        sets = [frozenset(s.frame for s in chapter) for chapter in self.chapters]
        return tuple(accumulate(sets, frozenset.union))

    def with_chapter(self, issue: int, chapter: Sequence[DrawnFix]) -> Journal:
        drawn = {s.finding_id for s in chapter}
        return Journal(issue, (*self.chapters, tuple(chapter)), self.erased - drawn)

    def without(self, finding_ids: Collection[str]) -> Journal:
        return replace(self, erased=self.erased | frozenset(finding_ids))


def read_journal(comments: Iterable[Row]) -> Journal:
    """The journal among the comments of a task's first job.

    Raises:
        ToolError: a chapter of it cannot be read.
    """
    said: dict[int, list[Row]] = {}
    for comment in sorted(comments, key=lambda c: int(c["id"])):
        said.setdefault(int(comment["issue"]), []).append(comment)
    ours = [issue for issue, rows in said.items() if _CHAPTER.search(str(rows[0].get("message")))]
    rows = sorted((c for issue in ours for c in said[issue]), key=lambda c: int(c["id"]))
    first = min(ours, default=None)
    journal = Journal(first)
    for row in rows:
        issue, text = int(row["issue"]), str(row.get("message"))
        if found := _CHAPTER.search(text):
            journal = journal.with_chapter(first or issue, _read(issue, found[1]))
        elif found := _ERASURE.search(text):
            journal = journal.without(_ids(issue, found[1]))
    return journal


def is_journal(first_comment: str) -> bool:
    """Whether an issue that begins so is one of ours, and no person's."""
    return _CHAPTER.search(first_comment) is not None


def chapter_text(chapter: Sequence[DrawnFix], *, is_first: bool) -> str:
    frames = len({s.frame for s in chapter})
    rows = [
        {
            "finding": s.finding_id,
            "job": s.job,
            "frame": s.frame,
            "object": s.annotation_id,
            "revision": s.revision,
            **s.fix.to_dict(),
        }
        for s in chapter
    ]
    number = f"{len(chapter)} suggestion{'s'[: len(chapter) != 1]} on {frames} frame{'s'[: frames != 1]}."
    data = json.dumps(rows, separators=(",", ":"), ensure_ascii=False)
    return "\n".join([*([_PREFACE] if is_first else []), number, f"[labelbridge draws {data}]"])


def erasure_text(finding_ids: Sequence[str]) -> str:
    number = f"{len(finding_ids)} suggestion{'s'[: len(finding_ids) != 1]} no longer drawn."
    return f"{number}\n[labelbridge erases {json.dumps(list(finding_ids), separators=(',', ':'))}]"


def _read(issue: int, text: str) -> tuple[DrawnFix, ...]:
    try:
        return tuple(_suggestion(row) for row in json.loads(text))
    except (LookupError, TypeError, ValueError, DataError) as error:
        raise _unreadable(issue, error) from None


def _ids(issue: int, text: str) -> list[str]:
    try:
        return [str(name) for name in json.loads(text)]
    except ValueError as error:
        raise _unreadable(issue, error) from None


def _unreadable(issue: int, error: Exception) -> ToolError:
    return ToolError(
        f"what labelbridge wrote into issue {issue}, to know its overlay again, cannot be read any more: {error}",
        expected="the comments as they were written",
        todo="Delete that issue and the ground truth job, if it is labelbridge's, and push again",
    )


def _suggestion(row: Any) -> DrawnFix:
    fix = Fix.from_dict(row)
    if fix.action not in _ERRORS:
        raise ValueError(f"the action {fix.action!r}")
    texts = (str(row["object"]), str(row["revision"]))
    return DrawnFix(str(row["finding"]), int(row["job"]), int(row["frame"]), *texts, fix)
