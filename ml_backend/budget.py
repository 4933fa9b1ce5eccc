"""A budget of pixels: how much may be decoded and waiting at a time, whatever the sizes of the images."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Hands out shares of ``total`` first come, first served. For one event loop.

    A share larger than the total counts as the total: one giant image still gets its turn, alone.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def share(self, amount: int) -> AsyncIterator[None]:
        """Wait for ``amount``, and give it back at the end of the block."""
        amount = min(amount, self._total)
        if self._waiting or amount > self._free:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((amount, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back(amount)
                else:
                    self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
                    self._wake()
                raise
        else:
            self._free -= amount
        try:
            yield
        finally:
            self._give_back(amount)

    def _give_back(self, amount: int) -> None:
        self._free += amount
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            amount, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= amount
                turn.set_result(None)
