"""A prediction as JSON, ready but for the ids of its regions.

The same image is asked about again and again (each time somebody opens its task), and every answer needs fresh ids.
Writing the rest once makes a page of fifty remembered answers cost a third.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import orjson

NewId = Callable[[], str]

#: No label can hold it: it is another one in each process.
_MARK = uuid.uuid4().hex
_MARKED = re.compile(f"{_MARK}([0-9a-f]{{8}})".encode())


class Template:
    """Made once from what an answer is like, and filled in for each answer.

    Args:
        make: gives the answer, with ids from the function it is handed.
    """

    def __init__(self, make: Callable[[NewId], Any]) -> None:
        self._ids = 0
        pieces = _MARKED.split(orjson.dumps(make(self._mark)))
        self._pieces = pieces
        self._places = [(2 * k + 1, int(number, 16)) for k, number in enumerate(pieces[1::2])]

    def filled(self, new_id: NewId) -> orjson.Fragment:
        """The answer with fresh ids, for :func:`orjson.dumps`."""
        if not self._places:
            return orjson.Fragment(self._pieces[0])
        ids = [new_id().encode() for _ in range(self._ids)]
        pieces = self._pieces.copy()
        for place, number in self._places:
            pieces[place] = ids[number]
        return orjson.Fragment(b"".join(pieces))

    def _mark(self) -> str:
        self._ids += 1
        return f"{_MARK}{self._ids - 1:08x}"
