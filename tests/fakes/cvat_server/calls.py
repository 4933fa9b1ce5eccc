"""The log of HTTP calls, and the plan of which of them go wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

HOWS = frozenset(
    [
        *("500", "502", "503", "504", "429", "500-after", "504-after"),
        *("timeout-before", "timeout-after", "reset-before", "reset-after"),
    ]
)


@dataclass
class Call:
    """One HTTP call; status 0 for one that got no answer.

    Attributes:
        number: from 1, in order of arrival.
        applied: whether the request was handled, which a planned failure may prevent.
    """

    number: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    status: int = 0
    user: str | None = None
    applied: bool = False


@dataclass
class Failures:
    """Planned failures by the number of the call."""

    planned: dict[int, str] = field(default_factory=dict)

    def plan(self, number: int, how: str) -> None:
        if how not in HOWS:
            raise ValueError(f"expected one of {sorted(HOWS)}, found {how!r}")
        self.planned[number] = how

    def take(self, number: int) -> tuple[str, bool]:
        """How the call goes wrong ("" for not at all), and whether it is applied before."""
        kind, _, when = self.planned.pop(number, "").partition("-")
        return kind, when == "after" or not kind
