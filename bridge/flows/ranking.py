"""In what order to review: the findings of a run by what a second of review gains, given the verdicts so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bridge.core.findings import REVIEWED_TYPES, UNDECIDED, State
from bridge.core.sampling import Estimate
from bridge.core.track_record import Judged, TrackRecord
from bridge.core.worth import Worth
from bridge.store import FindingHead, JudgedFinding, Run, Store


@dataclass(frozen=True, slots=True)
class Ranked:
    """A finding in its place.

    Attributes:
        probability: in [0, 1], of being a real error: the scorer's score as verdicts on its like have corrected it.
        value: expected gain of a second of review (:mod:`bridge.core.worth`).
    """

    head: FindingHead
    probability: float
    value: float

    @property
    def is_decided(self) -> bool:
        return self.head.state not in UNDECIDED


@dataclass(frozen=True, slots=True)
class Ranking:
    """All findings of a run, the most valuable first.

    Attributes:
        verdicts: how many findings of the target have one; all of them count, whichever run found them.
    """

    rows: tuple[Ranked, ...]
    verdicts: int
    _record: TrackRecord
    _place: dict[str, int]

    def ahead(self, count: int, min_probability: float) -> list[Ranked]:
        """The next ``count`` to be reviewed: first what is up for review, then what a push would add to it."""
        waiting = [row for row in self.rows if row.head.state is State.PUSHED]
        coming = [
            row
            for row in self.rows
            if row.head.state in (State.OPEN, State.REOPENED)
            and row.head.error in REVIEWED_TYPES
            and row.probability >= min_probability
        ]
        return [*waiting, *coming][:count]

    def expect(self, rows: Sequence[Ranked]) -> Estimate:
        """How many of these are real errors, with the 95 % interval."""
        return self._record.expect(np.array([self._place[row.head.id] for row in rows], dtype=np.int64))


def rank(store: Store, run: Run, worth: Worth) -> Ranking:
    """Rank a run's findings by all verdicts on its target. Equal values go by score, then by id."""
    judged, heads = store.judged(run.target), store.heads(run.id)
    kinds: dict[tuple[str, str], int] = {}
    labels: dict[str, int] = {}
    every: list[JudgedFinding | FindingHead] = [*judged, *heads]
    record = TrackRecord(
        Judged(
            kind=np.array([kinds.setdefault((f.scorer, f.error), len(kinds)) for f in every], dtype=np.int64),
            label=np.array([labels.setdefault(f.label, len(labels)) for f in every], dtype=np.int64),
            score=np.array([f.score for f in every], dtype=np.float64),
            verdict=np.array([*(int(j.real) for j in judged), *(-1 for _ in heads)], dtype=np.int64),
        )
    )
    probability = record.probability[len(judged) :].tolist()
    rows = [Ranked(head, p, worth.per_second(head.error, p)) for head, p in zip(heads, probability, strict=True)]
    rows.sort(key=lambda row: (-row.value, -row.head.score, row.head.id))
    place = {head.id: len(judged) + k for k, head in enumerate(heads)}
    return Ranking(tuple(rows), len(judged), record, place)
