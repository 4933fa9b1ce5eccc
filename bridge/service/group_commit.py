"""Hints written in groups: all that wait are one transaction, in a thread of its own, and each caller awaits its own.

A commit waits for the disk, so that one for each webhook would make them queue. Here the queue is what shortens it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Protocol

from bridge.store import Hint

_GATHER_S = 0.005
"""In a burst many more come within this time, and a commit costs nearly the same for one as for all."""

_TIDY_EVERY = timedelta(hours=1)


class HintStore(Protocol):
    """What is needed of :class:`bridge.store.Store`."""

    def put_hints(self, given: Sequence[Hint]) -> list[bool]: ...

    def forget_hints(self, before: str) -> int: ...


class QueueFull(Exception):
    """As many hints wait as may."""


class GroupCommit:
    """Used from one event loop.

    Args:
        wake: called after each commit that brought something new; it must return at once.
        now: our clock.
        keep: how long hints are kept.
        capacity: so many hints wait at most; each is some hundred bytes.
    """

    def __init__(
        self,
        store: HintStore,
        wake: Callable[[], None],
        now: Callable[[], datetime],
        *,
        keep: timedelta,
        capacity: int = 20_000,
    ) -> None:
        self._store = store
        self._wake = wake
        self._now = now
        self._keep = keep
        self._capacity = capacity
        self._waiting: list[tuple[Hint, asyncio.Future[bool]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "hints")
        self._tidied: datetime | None = None

    @property
    def waiting(self) -> int:
        """How many hints wait for the next commit."""
        return len(self._waiting)

    async def put(self, hint: Hint) -> bool:
        """Store a hint; returns once it is on the disk. Whoever gives up waiting does not take it back.

        Returns:
            False when its digest was known.

        Raises:
            QueueFull: too many wait already; it is not stored.
            LabelbridgeError: the store failed; it is not stored.
        """
        if len(self._waiting) >= self._capacity:
            raise QueueFull
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((hint, stored))
        if self._committing is None:
            self._committing = loop.create_task(self._commit())
        return await stored

    async def close(self) -> None:
        """Write what waits, and end."""
        if self._committing is not None:
            await self._committing
        self._thread.shutdown()

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                await asyncio.sleep(_GATHER_S)
                group, self._waiting = self._waiting, []
                await self._write(loop, group)
        finally:
            self._committing = None

    async def _write(self, loop: asyncio.AbstractEventLoop, group: list[tuple[Hint, asyncio.Future[bool]]]) -> None:
        try:
            new = await loop.run_in_executor(self._thread, self._put, [hint for hint, _ in group])
        except Exception as error:
            for _, stored in group:
                if not stored.done():
                    stored.set_exception(error)
            return
        for (_, stored), is_new in zip(group, new, strict=True):
            if not stored.done():
                stored.set_result(is_new)
        if any(new):
            self._wake()

    def _put(self, given: list[Hint]) -> list[bool]:
        new = self._store.put_hints(given)
        self._tidy()
        return new

    def _tidy(self) -> None:
        now = self._now()
        if self._tidied is None or now - self._tidied > _TIDY_EVERY:
            self._tidied = now
            self._store.forget_hints((now - self._keep).isoformat())
