"""What the contract suite needs to know of a tool beyond its protocol: how to be the people who work in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.core.annotations import Annotation, Box, Item, Record
from bridge.core.findings import ErrorType, Finding, Fix, finding_id
from bridge.errors import ToolUnreachable
from bridge.net import Reply
from bridge.tools import AnnotationTool, Review

Objects = Sequence[tuple[str, Box]]


@dataclass(frozen=True, slots=True)
class Photo:
    """An image and what each annotator submitted for it."""

    submissions: tuple[Objects, ...] = ()
    width: int = 512
    height: int = 256


class Near:
    """Equal to every shape that lies within a hundredth of a pixel of this one."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape: Box) -> None:
        self.shape = shape

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Box):
            return NotImplemented
        pairs = zip((*self.shape.xyxy, self.shape.rotation), (*other.xyxy, other.rotation), strict=True)
        return all(abs(a - b) <= 0.01 for a, b in pairs)

    def __repr__(self) -> str:
        return f"Near({self.shape})"


class Harness(Protocol):
    """One target with the labels ``cat`` and ``dog``, and its people."""

    tool: AnnotationTool
    keeps_predictions: bool
    makes_reviews: bool

    def lost_image(self, item: Item) -> str:
        """The reference of an item, so changed that nothing is there."""

    def again(self) -> AnnotationTool:
        """The same target as a new process would open it."""

    def requests_made(self) -> int:
        """Requests so far; 0 for a tool without a server."""

    def edit(self, submission_id: str, add: Objects = (), drop: Sequence[str] = (), relabel: str = "") -> None:
        """A person changes a submission: draws, deletes the annotations named, gives all that stay another label."""

    def withdraw(self, submission_id: str) -> None:
        """A submission is one no longer: it was deleted, or its job taken up again."""

    def raw(self, submission_id: str) -> dict[str, str]:
        """Every object of a submission as the tool stores it, by annotation id."""

    def answer(self, review: Review, ref: str, verdict: str | None, label: str = "", box: Box | None = None) -> None:
        """A reviewer answers, after changing the suggestion's label or box where given; None: without a verdict."""

    def lose_the_next_answer(self) -> None:
        """The next writing request arrives, but its answer gets lost on the way."""

    def outage(self) -> AbstractContextManager[None]:
        """The tool's server is down."""


#: The objects of the suite's items.
CAT, DOG, TURNED = Box(16, 16, 80, 64), Box(200, 100, 300, 180), Box(350, 60, 420, 120, 30)

Open = Callable[[Sequence[Photo]], Harness]


class Wire:
    """The line between a tool and its server, for harnesses to break."""

    client: Any

    def lose_the_next_answer(self) -> None:
        call = self.client.call

        def losing(method: str, path: str, **options: Any) -> Reply:
            reply = call(method, path, **options)
            if method != "GET":
                self.client.call = call
                raise ToolUnreachable("the answer got lost")
            return reply

        self.client.call = losing

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Nobody listens at port 9 of this machine; the client keeps everything else it knows."""
        http = self.client.http
        base = http.base
        http.base = "http://127.0.0.1:9"
        http._allowed.add("http://127.0.0.1:9")
        try:
            yield
        finally:
            http.base = base


def finding(
    tool: AnnotationTool, record: Record, error: ErrorType, fix: Fix, *annotations: Annotation, score: float = 0.9
) -> Finding:
    """A finding about a record's first submission, as a scorer makes it."""
    submission = record.submissions[0]
    ids = tuple(a.id for a in annotations)
    return Finding(
        id=finding_id(tool.target, record.item.id, submission.id, ids, error, fix),
        target=tool.target,
        item_id=record.item.id,
        item_name=record.item.name,
        submission_id=submission.id,
        annotation_ids=ids,
        error=error,
        label=annotations[0].label if annotations else str(fix.label),
        score=score,
        reason="The model sees it so.",
        fix=fix,
        scorer="contract",
        current_shape=annotations[0].shape if annotations else None,
        revisions=tuple(a.revision for a in annotations),
    )
