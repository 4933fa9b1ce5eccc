"""A set of ids that mostly follow one another, as databases give them out: kept as ranges, it stays small."""

from __future__ import annotations

from bisect import bisect_right


class IdRanges:
    """Positive ids as ranges, in order. Written as a text such as ``1-5,9``."""

    def __init__(self, text: str = "") -> None:
        pairs = [part.partition("-") for part in text.split(",") if part]
        self._firsts = [int(first) for first, _, _ in pairs]
        self._lasts = [int(last or first) for first, _, last in pairs]

    def __str__(self) -> str:
        pairs = zip(self._firsts, self._lasts, strict=True)
        return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in pairs)

    def __len__(self) -> int:
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def add(self, number: int) -> None:
        if number in self:
            return
        at = bisect_right(self._firsts, number)
        joins_left = at > 0 and self._lasts[at - 1] == number - 1
        joins_right = at < len(self._firsts) and self._firsts[at] == number + 1
        if joins_left and joins_right:
            self._lasts[at - 1] = self._lasts.pop(at)
            del self._firsts[at]
        elif joins_left:
            self._lasts[at - 1] = number
        elif joins_right:
            self._firsts[at] = number
        else:
            self._firsts.insert(at, number)
            self._lasts.insert(at, number)

    def discard(self, number: int) -> None:
        if number not in self:
            return
        at = bisect_right(self._firsts, number) - 1
        first, last = self._firsts[at], self._lasts[at]
        halves = [(a, b) for a, b in ((first, number - 1), (number + 1, last)) if a <= b]
        self._firsts[at : at + 1] = [a for a, _ in halves]
        self._lasts[at : at + 1] = [b for _, b in halves]

    def between(self, first: int, last: int, limit: int | None = None) -> list[int]:
        """The ids from ``first`` to ``last``, both included; the lowest ``limit`` of them."""
        found: list[int] = []
        for a, b in self._within(first, last):
            stop = b if limit is None else min(b, a + limit - len(found) - 1)
            found.extend(range(a, stop + 1))
            if limit is not None and len(found) >= limit:
                break
        return found

    def count(self, first: int, last: int) -> int:
        """How many ids there are from ``first`` to ``last``, both included."""
        return sum(b - a + 1 for a, b in self._within(first, last))

    def middle(self, first: int, last: int) -> int:
        """The id in the middle of those from ``first`` to ``last``, of which there is at least one."""
        behind = (self.count(first, last) - 1) // 2
        for a, b in self._within(first, last):
            if behind <= b - a:
                return a + behind
            behind -= b - a + 1
        raise ValueError(f"no id from {first} to {last}")

    def _within(self, first: int, last: int) -> list[tuple[int, int]]:
        start = max(bisect_right(self._firsts, first) - 1, 0)
        stop = bisect_right(self._firsts, last)
        pairs = zip(self._firsts[start:stop], self._lasts[start:stop], strict=True)
        return [(max(a, first), min(b, last)) for a, b in pairs if b >= first]
