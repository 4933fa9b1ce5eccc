"""Findings: one suspected error each, the fix they suggest, and the states they pass through."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from bridge.core.annotations import Shape, digest, shape_from_list, shape_to_list
from bridge.errors import DataError


class ErrorType(StrEnum):
    """What may be wrong. The first four are judged by a scorer; the last three compare images, and the others are facts
    about the raw data."""

    MISSING = "missing"
    EXTRA = "extra"
    WRONG_CLASS = "wrong_class"
    IMPRECISE = "imprecise"

    UNREADABLE_IMAGE = "unreadable_image"
    NO_IMAGE = "no_image"
    NO_TEXT = "no_text"
    SMALL_IMAGE = "small_image"
    DUPLICATE_IMAGE = "duplicate_image"
    SIZE_MISMATCH = "size_mismatch"
    UNKNOWN_LABEL = "unknown_label"
    DEGENERATE_SHAPE = "degenerate_shape"
    OUT_OF_IMAGE = "out_of_image"

    INCONSISTENT_LABELS = "inconsistent_labels"
    LEAKAGE = "leakage"
    NEAR_DUPLICATE = "near_duplicate"

    @property
    def is_data_check(self) -> bool:
        return self not in REVIEWED_TYPES


REVIEWED_TYPES = (ErrorType.MISSING, ErrorType.EXTRA, ErrorType.WRONG_CLASS, ErrorType.IMPRECISE)

Action = Literal["add", "delete", "relabel", "reshape", "none"]


@dataclass(frozen=True, slots=True)
class Fix:
    """What would repair the error: ``add`` an object, ``delete``, ``relabel`` or ``reshape`` the one named.

    ``label`` and ``shape`` are those the object has *after* the fix; ``none`` means only a person can tell.
    """

    action: Action
    label: str | None = None
    shape: Shape | None = None

    def to_dict(self) -> dict[str, Any]:
        shape = None if self.shape is None else shape_to_list(self.shape)
        return {"action": self.action, "label": self.label, "shape": shape}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fix:
        shape = data.get("shape")
        return cls(data["action"], data.get("label"), None if shape is None else shape_from_list(shape))


class State(StrEnum):
    OPEN = "open"
    PUSHED = "pushed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    APPLIED = "applied"
    CONFLICT = "conflict"
    VERIFIED = "verified"
    REOPENED = "reopened"
    WITHDRAWN = "withdrawn"
    UNDONE = "undone"


class Event(StrEnum):
    PUSH = "push"
    ACCEPT = "accept"
    REJECT = "reject"
    APPLY = "apply"
    CONFLICT = "conflict"
    VERIFY = "verify"
    REOPEN = "reopen"
    WITHDRAW = "withdraw"
    UNDO = "undo"


#: The states in which a reviewer's answer is awaited.
UNDECIDED = (State.OPEN, State.PUSHED, State.REOPENED)

#: The states in which a finding is not up for review and may go there.
TO_PUSH = (State.OPEN, State.REOPENED)

#: What a reviewer says counts here whatever it is: an answer to what was withdrawn or undone meanwhile is one too.
_ANSWERABLE = (*UNDECIDED, State.CONFLICT, State.WITHDRAWN, State.UNDONE)

#: (state, event) -> state. A pair that is not here changes nothing and is refused by :func:`transition`.
TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.OPEN, Event.PUSH): State.PUSHED,
    (State.REOPENED, Event.PUSH): State.PUSHED,
    **{(s, Event.ACCEPT): State.ACCEPTED for s in (*_ANSWERABLE, State.REJECTED)},
    **{(s, Event.REJECT): State.REJECTED for s in (*_ANSWERABLE, State.ACCEPTED)},
    (State.ACCEPTED, Event.APPLY): State.APPLIED,
    (State.ACCEPTED, Event.CONFLICT): State.CONFLICT,
    (State.APPLIED, Event.VERIFY): State.VERIFIED,
    (State.APPLIED, Event.REOPEN): State.REOPENED,
    (State.VERIFIED, Event.REOPEN): State.REOPENED,
    **{(s, Event.WITHDRAW): State.WITHDRAWN for s in UNDECIDED},
    (State.WITHDRAWN, Event.REOPEN): State.REOPENED,
    **{(s, Event.UNDO): State.UNDONE for s in (State.ACCEPTED, State.APPLIED, State.VERIFIED, State.CONFLICT)},
}


def transition(state: State, event: Event) -> State:
    """The state that follows.

    Raises:
        DataError: the event makes no sense in this state; the finding stays as it is.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        allowed = ", ".join(e for s, e in TRANSITIONS if s is state) or "nothing more"
        raise DataError(
            f"a finding that is {state} cannot take the event {event!s}", expected=f"one of: {allowed}"
        ) from None


@dataclass(frozen=True, slots=True)
class Finding:
    """One suspected error.

    Attributes:
        id: 16 hex digits from :func:`finding_id`: the same suspicion always has the same id.
        target: the full target, as in ``ls:project/7``.
        item_id, item_name: the image.
        submission_id: whose work it is about; empty for data checks of the whole item.
        annotation_ids: the objects concerned; empty for a missing object.
        label: the class as labelled (for a missing object: the class that is missing).
        score: in [0, 1]; higher means more likely an error.
        reason: one sentence for the reviewer.
        revisions: the revision of each of ``annotation_ids`` when it was scored: what a fix must still find.
        evidence: numbers behind the reason (``confidence``, ``iou``, ``model``), for reports.
        scorer: the name of the scorer that found it.
    """

    id: str
    target: str
    item_id: str
    item_name: str
    submission_id: str
    annotation_ids: tuple[str, ...]
    error: ErrorType
    label: str
    score: float
    reason: str
    fix: Fix
    scorer: str
    current_shape: Shape | None = None
    revisions: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.score) and 0.0 <= self.score <= 1.0):
            raise DataError(f"the score of finding {self.id} is {self.score}", expected="a number in [0, 1]")

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "target": self.target,
            "item_id": self.item_id,
            "item_name": self.item_name,
            "submission_id": self.submission_id,
            "annotation_ids": list(self.annotation_ids),
            "error": str(self.error),
            "label": self.label,
            "score": self.score,
            "reason": self.reason,
            "fix": self.fix.to_dict(),
            "scorer": self.scorer,
            "current_shape": None if self.current_shape is None else shape_to_list(self.current_shape),
            "revisions": list(self.revisions),
            "evidence": dict(self.evidence),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        shape = data.get("current_shape")
        return cls(
            **{
                **data,
                "annotation_ids": tuple(data["annotation_ids"]),
                "error": ErrorType(data["error"]),
                "fix": Fix.from_dict(data["fix"]),
                "current_shape": None if shape is None else shape_from_list(shape),
                "revisions": tuple(data["revisions"]),
            }
        )


def finding_id(
    target: str, item_id: str, submission_id: str, annotation_ids: tuple[str, ...], error: ErrorType, fix: Fix
) -> str:
    """The id of a suspicion; coordinates of the fix count in whole pixels, so that noise does not renew it."""
    shape = [round(v) if isinstance(v, float) else v for v in shape_to_list(fix.shape)] if fix.shape else None
    return digest([target, item_id, submission_id, sorted(annotation_ids), str(error), fix.action, fix.label, shape])


def once_each(findings: Iterable[Finding]) -> list[Finding]:
    """Each id once, in the order in which the ids came: the higher score wins, of equal ones the first."""
    best: dict[str, Finding] = {}
    for finding in findings:
        if finding.id not in best or finding.score > best[finding.id].score:
            best[finding.id] = finding
    return list(best.values())


Decision = Literal["accept", "reject", "edit"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reviewer's answer to one finding.

    ``fix`` is what the reviewer wants done: for ``accept`` the suggestion, or None where the tool does not repeat it;
    their own version for ``edit``; None for ``reject``. ``source`` names the tool's object the verdict was read from
    and ``decided_at`` is the tool's own time stamp (ISO 8601): together they tell a verdict that was read before from
    a new one.
    """

    finding_id: str
    decision: Decision
    reviewer: str
    decided_at: str
    source: str
    fix: Fix | None = None


BULK = "bulk:"
"""Begins the source of a verdict that stands for many findings at once; the id of the batch follows."""
