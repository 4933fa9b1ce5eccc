"""bridge.flows.report_charts: the arithmetic behind the drawings."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.core.findings import ErrorType, Finding, Fix
from bridge.flows.report_charts import (
    MOST_CLASSES,
    bars_by_class,
    bars_by_type,
    heatmap,
    histogram,
    precision_lines,
)
from bridge.store import PrecisionRow


def found(error: ErrorType, label: str = "cat", score: float = 0.9) -> Finding:
    return Finding("0", "t", "1", "1.jpg", "1", (), error, label, score, "", Fix("none"), "s")


def test_types_are_stacked_by_strength() -> None:
    findings = [found(ErrorType.EXTRA)] * 3 + [found(ErrorType.MISSING)] * 6
    bars = bars_by_type(findings[:2], findings[2:])
    assert [(b.name, b.likely, b.total) for b in bars] == [
        ("missing", 0, 6), ("extra", 2, 3), ("wrong class", 0, 0), ("imprecise", 0, 0)
    ]  # fmt: skip
    strong, weak = bars[1].segments
    assert (strong.count, strong.start, strong.css) == (2, 0, "extra")
    assert (weak.count, weak.css) == (1, "extra weak")
    assert (strong.width, weak.start, weak.width) == pytest.approx((100 / 3, 100 / 3, 100 / 6))
    assert bars[2].segments == ()


def test_classes_are_ranked_and_the_tail_is_counted() -> None:
    findings = [found(ErrorType.EXTRA, f"c{k:02}") for k in range(MOST_CLASSES + 3) for _ in range(k + 1)]
    chart = bars_by_class(findings)
    assert len(chart.bars) == MOST_CLASSES
    assert chart.bars[0].name == f"c{MOST_CLASSES + 2:02}"
    assert chart.bars[0].segments[0].width == 100
    assert (chart.other_classes, chart.other_findings) == (3, 6)
    assert sum(b.total for b in chart.bars) + 6 == len(findings)
    assert bars_by_class([]).bars == ()


def test_a_small_matrix_is_shown_as_it_is() -> None:
    confusion = np.array([[8, 1, 1], [0, 0, 0], [2, 6, 0]])
    chart = heatmap(("cat", "dog"), confusion)
    assert chart.names == ("cat", "dog")
    assert [[c.count for c in row] for row in chart.rows] == confusion.tolist()
    assert [c.share for c in chart.rows[0]] == [80, 10, 10]
    assert [c.share for c in chart.rows[1]] == [0, 0, 0]
    assert [[c.kind for c in row] for row in chart.rows] == [
        ["same", "other", "none"],
        ["other", "same", "none"],
        ["none", "none", "blank"],
    ]
    assert chart.rows[0][2].title == "labelled cat, not predicted: 1"
    assert chart.rows[2][1].title == "not labelled, predicted dog: 6"


def test_eighty_classes_are_cut_to_those_with_confusions_and_nothing_is_lost() -> None:
    classes = tuple(f"c{k}" for k in range(80))
    confusion = np.diag(np.arange(81)) * 100
    confusion[80, 80] = 0
    confusion[7, 9] = 50
    confusion[60, 80] = 3
    chart = heatmap(classes, confusion)
    assert len(chart.rows) == MOST_CLASSES + 1
    assert {"c7", "c9", "c60"} <= set(chart.names)
    assert chart.left_out == 80 - (MOST_CLASSES - 1)
    assert sum(c.count for row in chart.rows for c in row) == confusion.sum()
    assert list(chart.names[:-1]) == sorted(chart.names[:-1], key=lambda name: int(name[1:]))


def test_no_class_gives_a_matrix_of_nothing() -> None:
    assert heatmap((), np.zeros((1, 1), np.int64)).rows[0][0].kind == "blank"


def test_heights_follow_the_square_root_and_keep_proportions() -> None:
    columns = histogram(np.array([0, 0.5, 1]), np.array([0, 3]), np.array([100, 1]))
    assert (columns[0].matched_height, columns[0].unmatched_height) == (0, 100)
    assert columns[1].matched_height + columns[1].unmatched_height == pytest.approx(20)
    assert columns[1].matched_height == pytest.approx(3 * columns[1].unmatched_height)
    (empty,) = histogram(np.array([0.0, 1.0]), np.array([0]), np.array([0]))
    assert (empty.matched_height, empty.unmatched_height) == (0, 0)


def test_the_interval_of_a_rate() -> None:
    """Wilson's interval of 8 in 10 is 49.02 % to 94.33 %, of 0 in 10 up to 27.75 % (published tables)."""
    rows = [PrecisionRow("s", "missing", "a", 0, 10), PrecisionRow("s", "missing", "b", 8, 2)]
    none, eight = precision_lines([*rows, PrecisionRow("s", "extra", "c", 0, 0)])
    assert (eight.share, eight.low, eight.high) == pytest.approx((80, 49.02, 94.33), abs=0.01)
    assert (none.share, none.low, none.high) == pytest.approx((0, 0, 27.75), abs=0.01)


def test_most_reviewed_comes_first() -> None:
    rows = [PrecisionRow("s", "missing", "a", 1, 0), PrecisionRow("s", "missing", "b", 2, 2)]
    assert [line.row.label for line in precision_lines(rows)] == ["b", "a"]
