"""Who judges which finding: review work shared among people, with no more than a number of open findings for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Who = Literal["others", "annotator", "anyone"]
"""Who is to judge somebody's work: anybody but them, they themselves, or whoever comes first."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a finding will be judged.

    Attributes:
        place: what only one person reviews at a time; "" where a tool has no such thing.
        annotator: whose work it is about; "" where nobody knows.
        reviewer: who reviews that place already; "" for nobody.
    """

    place: str = ""
    annotator: str = ""
    reviewer: str = ""


@dataclass(frozen=True, slots=True)
class Seating:
    """A seat for each finding, and the people who may be asked to judge; nobody in particular where there are none."""

    seats: tuple[Seat, ...]
    reviewers: tuple[str, ...] = ()


def share(seating: Seating, who: Who, awaited: Mapping[str, int], at_most: int | None) -> list[str | None]:
    """The reviewer of each finding, in the order of the seats: of those who may, the one with the fewest to judge.

    "" is nobody in particular, None that nobody has room or may judge it. A place keeps the reviewer that it has.

    Args:
        awaited: how many findings each reviewer has to judge already; under "" those of nobody in particular.
        at_most: so many each at most; None: any number.
    """
    load = dict(awaited)
    taken = {seat.place: seat.reviewer for seat in seating.seats if seat.place and seat.reviewer}
    shared: list[str | None] = []
    for seat in seating.seats:
        able = [name for name in _able(seat, who, seating.reviewers) if taken.get(seat.place, name) == name]
        present = taken.get(seat.place)
        if not able and present and (who == "anyone" or (who == "others" and present != seat.annotator)):
            able = [present]  # somebody who was not named reviews the place already
        free = [name for name in able if at_most is None or load.get(name, 0) < at_most]
        chosen = min(free, key=lambda name: load.get(name, 0), default=None)
        if chosen is not None:
            load[chosen] = load.get(chosen, 0) + 1
            if chosen and seat.place:
                taken.setdefault(seat.place, chosen)
        shared.append(chosen)
    return shared


def _able(seat: Seat, who: Who, reviewers: Sequence[str]) -> list[str]:
    if who == "annotator":
        return [seat.annotator] if seat.annotator else []
    if who == "others":
        return [name for name in reviewers if name != seat.annotator]
    return list(reviewers) or [""]
