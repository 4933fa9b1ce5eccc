"""A dictionary that forgets what was used longest ago. Not for several threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """Entries whose sizes sum to at most ``capacity``.

    Args:
        capacity: in the unit of ``size_of``; by default each entry counts 1. A value larger than all of it is not kept.
        size_of: how much of the capacity a value takes, 0 or more; the same at each call.
    """

    def __init__(self, capacity: int, size_of: Callable[[V], int] = lambda _: 1) -> None:
        self._capacity = capacity
        self._size_of = size_of
        self._entries: OrderedDict[K, V] = OrderedDict()
        self.used = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            self.used -= self._size_of(old)
        self._entries[key] = value
        self.used += self._size_of(value)
        while self.used > self._capacity:
            _, gone = self._entries.popitem(last=False)
            self.used -= self._size_of(gone)
