"""What an annotation tool itself forgets, and labelbridge remembers for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.core.annotations import Shape, revision_of


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One object that a model suggested on a frame, as it was written; ``confidence`` is in [0, 1]."""

    frame: int
    model: str
    label: str
    shape: Shape
    confidence: float

    @property
    def revision(self) -> str:
        """Equal to an annotation's exactly when nobody changed the object."""
        return revision_of(self.label, self.shape)


class ToolMemory(Protocol):
    """Kept outside of the tool. A ``place`` is the address of a job, which no two servers share."""

    def annotators(self) -> Mapping[str, str]:
        """Who annotated a job before it went to a reviewer, by place."""

    def remember_annotator(self, place: str, name: str) -> None:
        """Note it before the job changes hands; a later note replaces it."""

    def suggestions(self, place: str) -> Sequence[Suggestion]:
        """What was suggested in a job."""

    def remember_suggestions(self, place: str, frames: Collection[int], suggested: Sequence[Suggestion]) -> None:
        """Note all that is suggested on some frames, before it is written, in place of what was noted for them."""
