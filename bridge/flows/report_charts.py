"""The numbers behind a report's charts: pure, from findings and counts to rows that a template can draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.class_balance import ClassBalance, ClassFacts
from bridge.core.findings import REVIEWED_TYPES, ErrorType, Finding
from bridge.store.rows import PrecisionRow

#: Most classes that a chart shows one by one; more could not be read.
MOST_CLASSES = 14


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a stacked bar. ``css`` names its colour; ``start`` and ``width`` are percent of the whole chart."""

    name: str
    css: str
    count: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart; ``likely`` of the ``total`` have a score high enough for review."""

    name: str
    likely: int
    total: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class ClassBars:
    """Bars of the classes with most findings, and what the others have together."""

    bars: tuple[Bar, ...]
    other_classes: int
    other_findings: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the confusion matrix; ``share`` is of its row, in percent; ``kind`` chooses the colour."""

    count: int
    share: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Heatmap:
    """The confusion matrix as drawn: ``names`` head the columns and the rows; ``left_out`` classes are summed."""

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Column:
    """One bin of the confidence histogram; heights are percent of the chart."""

    low: float
    high: float
    matched: int
    unmatched: int
    matched_height: float
    unmatched_height: float


@dataclass(frozen=True, slots=True)
class PrecisionLine:
    """Reviewers' agreement with one scorer on one class, and its 95 % interval, all in percent."""

    row: PrecisionRow
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """One class in the table of classes; ``width`` is percent of the longest bar.

    ``size`` is as in ``4 - 31 %``, the side of a square of the object's area, of that of its image. ``shares`` are what
    the class has of each split's objects, in percent; None in a split without objects.
    """

    facts: ClassFacts
    width: float
    size: str
    shares: tuple[float | None, ...]


def title_of(error: ErrorType) -> str:
    """How a report calls an error type: ``wrong class``."""
    return str(error).replace("_", " ")


def bars_by_type(findings: Sequence[Finding], min_score: float) -> tuple[Bar, ...]:
    """One bar per reviewed error type: likely findings first, then those below ``min_score``."""
    likely = Counter(f.error for f in findings if f.score >= min_score)
    weaker = Counter(f.error for f in findings if f.score < min_score)
    parts = [
        (title_of(e), ((f"score {min_score:.2f} or more", str(e), likely[e]), ("lower score", f"{e} weak", weaker[e])))
        for e in REVIEWED_TYPES
    ]
    return _bars(parts, [likely[e] for e in REVIEWED_TYPES])


def bars_by_class(likely: Iterable[Finding]) -> ClassBars:
    """One bar per class, stacked by error type, longest first; at most :data:`MOST_CLASSES`."""
    counts: dict[str, Counter[ErrorType]] = {}
    for finding in likely:
        counts.setdefault(finding.label, Counter())[finding.error] += 1
    ranked = sorted(counts, key=lambda label: (-counts[label].total(), label))
    shown, rest = ranked[:MOST_CLASSES], ranked[MOST_CLASSES:]
    parts = [(label, tuple((title_of(e), str(e), counts[label][e]) for e in REVIEWED_TYPES)) for label in shown]
    bars = _bars(parts, [counts[label].total() for label in shown])
    return ClassBars(bars, len(rest), sum(counts[label].total() for label in rest))


def heatmap(classes: Sequence[str], confusion: npt.NDArray[np.int64]) -> Heatmap:
    """The confusion matrix, cut to the classes with the most confusions where there are too many.

    Args:
        confusion: (C + 1, C + 1) int64, rows as labelled, columns as predicted; the last of each is "none".
    """
    count = len(classes)
    keep = list(range(count))
    if count > MOST_CLASSES:
        wrong = confusion.sum(axis=1) + confusion.sum(axis=0) - 2 * np.diag(confusion)
        keep = sorted(np.argsort(-wrong[:count], kind="stable")[: MOST_CLASSES - 1].tolist())
    rest = sorted(set(range(count)) - set(keep))
    groups = [[k] for k in keep] + ([rest] if rest else []) + [[count]]
    names = [classes[k] for k in keep] + ([f"{len(rest)} others"] if rest else [])
    small = np.array([[int(confusion[np.ix_(a, b)].sum()) for b in groups] for a in groups])
    totals = np.maximum(small.sum(axis=1), 1)
    rows = tuple(
        tuple(
            Cell(
                count=int(small[i, j]),
                share=100.0 * float(small[i, j] / totals[i]),
                kind=_kind(i, j, len(names)),
                title=_cell_title([*names, ""], i, j, int(small[i, j])),
            )
            for j in range(len(groups))
        )
        for i in range(len(groups))
    )
    return Heatmap(tuple(names), rows, len(rest))


def histogram(
    edges: npt.NDArray[np.float64], matched: npt.NDArray[np.int64], unmatched: npt.NDArray[np.int64]
) -> tuple[Column, ...]:
    """Bins of the confidence histogram.

    Heights follow the square root of the counts, or the many predictions that a detector hardly believes in would
    flatten all others; within a column the two parts are in proportion.
    """
    tallest = math.sqrt(max(1, int((matched + unmatched).max(initial=0))))
    columns: list[Column] = []
    for low, high, m, u in zip(
        edges[:-1].tolist(), edges[1:].tolist(), matched.tolist(), unmatched.tolist(), strict=True
    ):
        scale = 100.0 / (tallest * math.sqrt(max(1, m + u)))
        columns.append(Column(low, high, m, u, m * scale, u * scale))
    return tuple(columns)


def precision_lines(rows: Iterable[PrecisionRow]) -> tuple[PrecisionLine, ...]:
    """Agreement per scorer and class, most reviewed first; rows that nobody reviewed are left out."""
    reviewed = sorted((r for r in rows if r.accepted + r.rejected), key=lambda r: -(r.accepted + r.rejected))
    return tuple(
        PrecisionLine(r, 100.0 * r.accepted / (r.accepted + r.rejected), *_wilson(r.accepted, r.accepted + r.rejected))
        for r in reviewed
    )


def balance_rows(balance: ClassBalance) -> tuple[BalanceRow, ...]:
    """The classes, commonest first, those that nobody used last and in the order of the label set."""
    most = max((c.objects for c in balance.classes), default=0) or 1
    return tuple(
        BalanceRow(
            facts=c,
            width=100.0 * c.objects / most,
            size=_size(c.smallest, c.largest),
            shares=tuple(
                100.0 * n / split.objects if split.objects else None
                for n, split in zip(c.by_split, balance.splits, strict=True)
            ),
        )
        for c in sorted(balance.classes, key=lambda c: -c.objects)
    )


def _size(smallest: float | None, largest: float | None) -> str:
    if smallest is None or largest is None:
        return ""
    low, high = f"{100 * smallest:.2g}", f"{100 * largest:.2g}" if largest < 0.995 else "100"
    return f"{low} %" if low == high else f"{low} – {high} %"


def _wilson(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a rate in percent (Wilson 1927)."""
    z = 1.959964
    rate = hits / trials
    middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return 100.0 * max(0.0, middle - half), 100.0 * min(1.0, middle + half)


def _bars(rows: Sequence[tuple[str, Sequence[tuple[str, str, int]]]], likely: Sequence[int]) -> tuple[Bar, ...]:
    longest = max((sum(count for _, _, count in parts) for _, parts in rows), default=0) or 1
    bars: list[Bar] = []
    for (name, parts), strong in zip(rows, likely, strict=True):
        segments: list[Segment] = []
        start = 0
        for part, css, count in parts:
            segments.append(Segment(part, css, count, 100.0 * start / longest, 100.0 * count / longest))
            start += count
        bars.append(Bar(name, strong, start, tuple(s for s in segments if s.count)))
    return tuple(bars)


def _kind(row: int, column: int, last: int) -> str:
    if row == column:
        return "blank" if row == last else "same"
    return "none" if last in (row, column) else "other"


def _cell_title(names: Sequence[str], row: int, column: int, count: int) -> str:
    labelled = f"labelled {names[row]}" if names[row] else "not labelled"
    predicted = f"predicted {names[column]}" if names[column] else "not predicted"
    return f"{labelled}, {predicted}: {count:,}"
