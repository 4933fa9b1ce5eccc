"""Annotation tools: where labels live, behind one protocol.

An AnnotationTool MUST convert to and from the geometry of :mod:`bridge.core.annotations` inside its own files and hand
out no type of its own. It MUST be safe to call again after a crash at any point: every writing method first finds out
what is already there. It MUST NOT overwrite, move or delete anything a person made, except through
:meth:`AnnotationTool.apply_fixes`, and there only where the object is unchanged since it was scored, and through
:meth:`AnnotationTool.undo_fixes`, where it is unchanged since the fix. It MUST report a broken item as a ``Problem`` in
its record and go on; it MUST raise a :class:`~bridge.errors.ToolError` (never a library's own exception) when the tool
itself fails. It MUST keep the memory it uses bounded by the page.

A read-only source (files) raises ``ToolError`` from the writing methods, and says so in ``TargetInfo.writable``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from bridge.core.annotations import Annotation, Item, LabelSet, Prediction, Record
from bridge.core.assignment import Seating, Who
from bridge.core.changes import Change
from bridge.core.findings import Finding, Fix, Verdict
from bridge.errors import DataError, LabelbridgeError


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """What a target is. ``url`` is for a person's browser; empty for files. ``items`` is the number of items.

    ``to_submit`` says what a person does to submit work: an item that is not submitted is not scored.
    """

    target: str
    title: str
    labels: LabelSet
    items: int
    url: str = ""
    writable: bool = True
    to_submit: str = "Label and submit some items in the tool first"


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, in the tool's own stable order. ``next`` is the cursor for the page after; None at the end."""

    records: tuple[Record, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Prelabel:
    """The predictions for one item; an empty tuple means that the model found nothing."""

    item: Item
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True)
class ReviewCase:
    """One finding to be reviewed, with the other objects near it, so that the reviewer sees what is labelled.

    ``reviewer`` is who is to judge it, of those that :meth:`AnnotationTool.seats` names; empty: anybody.
    """

    finding: Finding
    item: Item
    context: tuple[Annotation, ...] = ()
    reviewer: str = ""


@dataclass(frozen=True, slots=True)
class PushedCase:
    """Where a finding went: ``ref`` is the tool's id of the review object, ``url`` opens it in a browser."""

    finding_id: str
    ref: str
    url: str


@dataclass(frozen=True, slots=True)
class Review:
    """A place in the tool where findings are reviewed. ``ref`` finds it again (Label Studio: the project id).

    ``mode`` is the tool's name for this way of reviewing, where it has several: a target has one place for each.
    """

    ref: str
    url: str
    created: bool
    mode: str = ""


class UnshownCases(DataError):
    """Some of the cases cannot be shown to a reviewer; nothing was pushed, and the others can be without them.

    Attributes:
        reasons: why, by finding id.
    """

    def __init__(self, reasons: Mapping[str, LabelbridgeError]) -> None:
        super().__init__(f"{len(reasons)} findings cannot be shown: {next(iter(reasons.values()))}")
        self.reasons = reasons


class Outcome(StrEnum):
    """What became of a fix."""

    APPLIED = "applied"
    ALREADY = "already"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class FixOrder:
    """A fix to write: ``finding`` names the object and the revision it must still have."""

    finding: Finding
    fix: Fix


@dataclass(frozen=True, slots=True)
class FixNote:
    """What a fix changes, which is all that is needed to undo it.

    ``before`` and ``after`` are the object in the tool's own words, JSON-able; None where it is not there.
    """

    finding_id: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class UndoOrder:
    """A fix to take back: the object must be as ``note`` says that the fix left it."""

    finding: Finding
    note: FixNote


@dataclass(frozen=True, slots=True)
class FixResult:
    """``message`` says in one sentence what was written, or what stood in the way.

    ``renewed`` is the id of an object that was put back, where the tool gave it another one than it had.
    """

    finding_id: str
    outcome: Outcome
    message: str
    renewed: str = ""


def forget(note: FixNote) -> None:
    """For fixes that nobody will undo."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed in a target behind a cursor.

    ``cursor`` is for the next call, in the tool's own terms; ``more`` says that there is more to read at once.
    """

    items: tuple[Change, ...]
    cursor: str
    more: bool = False


class AnnotationTool(Protocol):
    """One target of one tool; see the module's text for what it MUST and MUST NOT do."""

    @property
    def target(self) -> str:
        """The full target, as in ``ls:project/7``."""

    def describe(self) -> TargetInfo:
        """Title, labels and size; the cheapest call that proves that the target can be read."""

    def read_page(self, after: str | None, limit: int, model: str | None = None) -> Page:
        """At most ``limit`` records behind the cursor ``after`` (None: from the start).

        ``model`` limits the predictions to that model's; None reads those of every model. ``Record.predicted_by``
        names those of them that hold a prediction for the item, an empty one included.
        """

    def read_records(self, item_ids: Collection[str]) -> dict[str, Record]:
        """Items as they are now, without predictions, by id; those that are gone are left out.

        Work that was submitted once and taken up again since is among it.
        """

    def read_image(self, item: Item) -> bytes:
        """The image file as stored. Raises ``ImageError`` (naming the item) when it cannot be had."""

    def write_predictions(self, model: str, batch: Sequence[Prelabel]) -> int:
        """Store predictions beside people's work; items that hold some of ``model`` already are left alone.

        A journey ends with an empty ``batch``: then the tool makes sure that annotators are shown ``model``'s.

        Returns the number of items written.
        """

    def open_review(self, labels: LabelSet, title: str) -> Review:
        """The place for this target's findings: found again when it exists, else made."""

    def seats(self, findings: Sequence[Finding], who: Who) -> Seating:
        """Where findings would be judged, in order, and by whom.

        Raises ``UsageError`` where the tool cannot see to it that ``who`` judges them.
        """

    def push_cases(self, review: Review, cases: Sequence[ReviewCase]) -> list[PushedCase]:
        """Put findings up for review; those that are there already are answered with where they are.

        Raises ``DataError`` where one of several cannot be shown; ``UnshownCases`` where the tool knows which.
        """

    def read_verdicts(self, review: Review, since: str | None) -> Iterator[Verdict]:
        """Reviewers' answers changed at or after ``since`` (ISO 8601, the tool's clock); None reads all."""

    def withdraw_cases(self, review: Review, finding_ids: Collection[str], keep: Collection[str] = ()) -> set[str]:
        """Take findings out of review that nobody has begun to judge; what somebody has touched stays.

        ``keep`` are objects of the tool, as :class:`PushedCase` names them, that stay: where a push was cut off and
        made again, a finding may stand there twice.

        Returns the ids of those that are not up for review in ``review`` now, those that never were among them.
        Pushed again, they MUST be up for review again.
        """

    def apply_fixes(self, orders: Sequence[FixOrder], note: Callable[[FixNote], None] = forget) -> list[FixResult]:
        """Write fixes where the object is unchanged since it was scored; one result per order, in order.

        What lies in one place MUST be written together. A place that is gone is a conflict of the fixes concerned.
        ``note`` MUST be told of each change before it is written, so that one whose answer got lost can be undone too.
        """

    def undo_fixes(self, orders: Sequence[UndoOrder]) -> list[FixResult]:
        """Take fixes back, in this order, where the object is as the fix left it; one result per order, in order.

        An object that was deleted comes back with all that the tool knew of it. What was undone before, by whomever,
        is ``ALREADY`` so; anything else is a conflict, and nothing is written.
        """

    def read_changes(self, cursor: str | None) -> Changes:
        """What changed behind the cursor of an earlier call; None reports every item, and all work that there is.

        MUST rest on the tool's own clock, never on ours, and read an overlap again: the clocks of several servers
        differ, and a change may become visible later than the moment it bears. What was reported once MUST NOT be
        reported again unless it changed. One or two requests where nothing changed, whatever the target's size; where
        much did, a bounded number, and ``more``. A cursor that cannot be read counts as None: nothing is lost.
        """
