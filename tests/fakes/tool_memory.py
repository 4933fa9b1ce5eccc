"""A tool's memory in a dict: as the store's, for one process."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bridge.core.tool_memory import Suggestion


class Remembered:
    """A :class:`bridge.core.tool_memory.ToolMemory`."""

    def __init__(self) -> None:
        self.people: dict[str, str] = {}
        self.suggested: dict[str, list[Suggestion]] = {}

    def annotators(self) -> dict[str, str]:
        return dict(self.people)

    def remember_annotator(self, place: str, name: str) -> None:
        self.people[place] = name

    def suggestions(self, place: str) -> list[Suggestion]:
        return list(self.suggested.get(place, ()))

    def remember_suggestions(self, place: str, frames: Collection[int], suggested: Sequence[Suggestion]) -> None:
        kept = [s for s in self.suggestions(place) if s.frame not in frames]
        self.suggested[place] = [*kept, *suggested]
