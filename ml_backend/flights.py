"""Work that several ask for at the same time is done once, and given up when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Shared work by key. For one event loop."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}
        self._waiting: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def join(self, key: K, begin: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The result of the work ``key``, begun with ``begin`` unless it is under way. All get its exception, too."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.ensure_future(begin())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            left = self._waiting[key] - 1
            self._waiting[key] = left
            if not left:
                del self._waiting[key]
                if not task.done():
                    # Whoever asks from now on begins anew.
                    self._forget(key, task)
                    task.cancel()

    def _forget(self, key: K, task: asyncio.Task[V]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if task.done() and not task.cancelled():
            task.exception()  # told to those who wait; nobody else has to hear of it
