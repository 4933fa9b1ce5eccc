"""What people did, written down as they did it, and what the product wrote into their work.

A *submission* is here what the tool keeps as one: an annotation of Label Studio, the shapes of a CVAT job. Its
*objects* are the tool's own rows by the tool's own ids, so that no conversion of the product's is needed to compare
them.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Objects = dict[str, Row]


@dataclass(frozen=True, slots=True)
class Change:
    """One object of a submission before and after a write; None where there is none."""

    at: float
    by_product: bool
    submission: str
    object_id: str
    before: Row | None
    after: Row | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reviewer said about a finding.

    Attributes:
        source: the tool's object that holds the answer; one that is changed keeps its source.
        shown: the object as the review showed it (Label Studio: label and box; CVAT: its id and revision); None where
            something is missing.
        place: the item that the answer goes with when it is deleted; empty where it stays.
        wanted: label and box after the fix as the reviewer left the suggestion; None where nothing is to be there.
    """

    at: float
    finding: str
    source: str
    decision: str
    shown: tuple[str, Any] | None = None
    wanted: tuple[str, list[float]] | None = None
    place: str = ""


@dataclass
class Ledger:
    """``lock`` is held around each write of anybody to a submission, so that the order here is the tool's."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    now: dict[str, Objects] = field(default_factory=dict)
    item_of: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    gone_submissions: set[str] = field(default_factory=set)
    gone_items: set[str] = field(default_factory=set)
    read_at: dict[str, float] = field(default_factory=dict)
    held_back: int = 0

    def put(self, submission: str, item: str, objects: Mapping[str, Row], *, by_product: bool = False) -> None:
        """A submission is now like this."""
        before, at = self.now.get(submission, {}), time.time()
        for object_id in sorted(before.keys() | objects.keys()):
            old, new = before.get(object_id), objects.get(object_id)
            if old != new:
                self.changes.append(Change(at, by_product, submission, object_id, old, copy.deepcopy(new)))
        self.now[submission], self.item_of[submission] = copy.deepcopy(dict(objects)), item

    def drop(self, submission: str) -> None:
        """Somebody deleted a submission."""
        self.put(submission, self.item_of[submission], {})
        del self.now[submission]
        self.gone_submissions.add(submission)

    def drop_item(self, item: str) -> None:
        """Somebody deleted an item with all that was submitted for it."""
        for submission in [s for s in self.now if self.item_of[s] == item]:
            self.drop(submission)
        self.gone_items.add(item)

    def keep_out(self, submission: str, seconds: float = 3.0) -> bool:
        """Whether the product has just read a submission that it may be about to write.

        No tool takes a write on condition, so whatever a person saves in that one round trip is lost. It is documented;
        people are kept out of it here, for no longer than the product allows for such a round trip.
        """
        begun = self.read_at.get(submission)
        if begun is None or time.monotonic() - begun > seconds:
            return False
        self.held_back += 1
        return True
