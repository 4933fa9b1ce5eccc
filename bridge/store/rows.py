"""What the store hands out: frozen rows, free of any database type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.core.annotations import LabelSet
from bridge.core.changes import ChangeKind
from bridge.core.findings import ErrorType, Finding, State, Verdict
from bridge.core.metrics import wilson_interval


@dataclass(frozen=True, slots=True)
class Run:
    """One scoring sweep over one target.

    Attributes:
        id: the caller's id of the run.
        kind: which journey it was, as the caller names it (``review``, ``prelabel``).
        model, scorer: name and version of what judged; empty when there was none.
        started_at, finished_at: ISO 8601 as given by the caller; ``finished_at`` is None while it runs.
        snapshot: SHA-256 of the annotations that were scored; None until the snapshot is sealed.
        options: the settings of this run, as given to :meth:`bridge.store.Store.start_run`.
        counts: the totals given to :meth:`bridge.store.Store.finish_run`; empty while it runs.
    """

    id: str
    target: str
    title: str
    kind: str
    model: str
    scorer: str
    labels: LabelSet
    started_at: str
    finished_at: str | None
    snapshot: str | None
    options: Mapping[str, Any]
    counts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PutCounts:
    """What :meth:`bridge.store.Store.put_findings` met: never seen before, seen before, withdrawn and now back.

    ``reopened`` ones are among the ``known``.
    """

    new: int
    known: int
    reopened: int = 0


@dataclass(frozen=True, slots=True)
class Push:
    """Where a finding stands for review: the review's ``review_ref``, the object's ``ref`` in it, a browser ``url``.

    ``reviewer`` is who is to judge it; empty for nobody in particular.
    """

    review_ref: str
    ref: str
    url: str
    at: str
    reviewer: str = ""


@dataclass(frozen=True, slots=True)
class FindingHead:
    """What a finding is ranked by."""

    id: str
    error: ErrorType
    label: str
    scorer: str
    score: float
    state: State


@dataclass(frozen=True, slots=True)
class StoredFinding:
    """A finding with what became of it.

    Attributes:
        pushed: every place it was sent to, oldest first.
        verdict: the reviewers' latest, by the tool's own time; None when nobody has answered.
        first_run, last_run: ids of the runs that found it first and last.
    """

    finding: Finding
    state: State
    pushed: tuple[Push, ...]
    verdict: Verdict | None
    first_run: str
    last_run: str


@dataclass(frozen=True, slots=True)
class FixRecord:
    """One attempt to write a fix. ``before`` and ``after`` are the object as JSON-able data; None: it was not there."""

    outcome: str
    message: str
    before: Any
    after: Any
    at: str


@dataclass(frozen=True, slots=True)
class WrittenFix:
    """A fix that stands in the tool: the object as the tool keeps it, ``before`` and ``after``; None: not there."""

    finding_id: str
    before: Any
    after: Any
    at: str


@dataclass(frozen=True, slots=True)
class ReviewPlace:
    """A place in the tool where a target's findings are reviewed; ``mode`` names the way of reviewing."""

    target: str
    ref: str
    url: str
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of a watched target: see the table. Times are our own clock's, as ISO 8601."""

    target: str
    cursor: str | None
    polled_at: str | None
    next_poll_at: str | None
    failures: int
    error: str
    run_to_push: str | None
    answers_since: str | None
    synced_at: str | None


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A change that was not dealt with yet: first and last noted when, by our own clock, as ISO 8601."""

    item_id: str
    kind: ChangeKind
    moment: str
    first_at: str
    last_at: str


@dataclass(frozen=True, slots=True)
class PrecisionRow:
    """How often reviewers agreed with one scorer on one class; the latest verdict of each finding counts.

    ``label`` is the class as labelled. ``accepted`` counts ``accept`` and ``edit``: either way there was an error.
    """

    scorer: str
    error: str
    label: str
    accepted: int
    rejected: int

    @property
    def share(self) -> float:
        """Of the reviewed findings that were real errors, in [0, 1]; there must be one."""
        return self.accepted / (self.accepted + self.rejected)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share."""
        return wilson_interval(self.accepted, self.accepted + self.rejected)


@dataclass(frozen=True, slots=True)
class JudgedFinding:
    """A finding as it was judged last; ``real`` for ``accept`` and ``edit``. ``recorded_at`` is the store's time."""

    finding_id: str
    scorer: str
    error: str
    label: str
    score: float
    real: bool
    recorded_at: str


@dataclass(frozen=True, slots=True)
class SampledFinding:
    """A finding that was drawn by chance; ``size`` findings were in its stratum."""

    finding_id: str
    stratum: int
    size: int
    drawn_at: str


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One row of the audit log; ``hash`` covers every other field, ``prev_hash`` the row before."""

    seq: int
    at: str
    actor: str
    kind: str
    subject: str
    detail: Mapping[str, Any]
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Turn:
    """How a journey of the standing service through a target went last: ``outcome`` is a sentence.

    ``failures`` of them failed since one succeeded; then none is begun before ``retry_at``.
    """

    target: str
    journey: str
    ended_at: str
    outcome: str
    failures: int = 0
    retry_at: str | None = None


@dataclass(frozen=True, slots=True)
class Hint:
    """A webhook that came in: something happened, and where to look for it.

    Attributes:
        tool: ``label-studio`` or ``cvat``.
        places: where it happened, in the words of targets (``cvat:job/5``, ``cvat:task/12``), the narrowest first;
            none where the event does not tell, which may be anywhere in the tool.
        event: as the tool calls it.
        moment: the tool's own time of it, in ISO 8601; None where it tells none.
        digest: SHA-256 of the body, in hexadecimal digits.
        received_at: our time, in ISO 8601.
    """

    tool: str
    places: tuple[str, ...]
    event: str
    moment: str | None
    digest: str
    received_at: str


@dataclass(frozen=True, slots=True)
class WaitingHint:
    """A hint that nobody has looked at yet; ``seq`` counts them in the order in which they were stored."""

    seq: int
    hint: Hint
