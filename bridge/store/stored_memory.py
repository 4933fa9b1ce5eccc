"""A tool's memory that lies in the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from bridge.core.tool_memory import Suggestion
from bridge.store.store import Store


class StoredMemory:
    """A :class:`bridge.core.tool_memory.ToolMemory`. Opens the store for each call, as a tool asks seldom.

    Args:
        url: of the store.
        server: address of the tool, with which every place begins.
        now: the time as an ISO 8601 text.
    """

    def __init__(self, url: str, server: str, now: Callable[[], str]) -> None:
        self._url = url
        self._server = server
        self._now = now

    def annotators(self) -> Mapping[str, str]:
        with Store.open(self._url) as store:
            return store.handovers(f"{self._server}/")

    def remember_annotator(self, place: str, name: str) -> None:
        with Store.open(self._url) as store:
            store.put_handover(place, name, self._now())

    def suggestions(self, place: str) -> Sequence[Suggestion]:
        with Store.open(self._url) as store:
            return store.suggestions(place)

    def remember_suggestions(self, place: str, frames: Collection[int], suggested: Sequence[Suggestion]) -> None:
        with Store.open(self._url) as store:
            store.put_suggestions(place, frames, suggested, self._now())
