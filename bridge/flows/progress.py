"""How journeys tell what they are doing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from the journey's own thread, never from inside a checkpointed step."""

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` (None: not known yet) of this phase; a new phase ends the one before."""


def silent(phase: str, done: int, total: int | None) -> None:
    """A Progress that says nothing."""
