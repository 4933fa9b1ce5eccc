"""REPORT: one run as a single HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bridge.core.annotations import Box, Polygon, Shape
from bridge.core.class_balance import ClassBalance, warnings_of
from bridge.core.findings import REVIEWED_TYPES, Finding, State
from bridge.core.geometry import Point, box_corners, envelope
from bridge.core.team import LOW_KAPPA, Team
from bridge.flows import report_charts
from bridge.images import crop_jpeg, crop_window, to_data_uri
from bridge.store.rows import PrecisionRow

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

#: Most rows of a table; a browser, and a reader, stop coping far beyond.
MOST_ROWS = 1000
_CROP_SIDE = 420
_CROP_MARGIN = 0.6
_CROP_ASPECT = 4 / 3


@dataclass(frozen=True, slots=True)
class Histogram:
    """Predictions by confidence.

    Attributes:
        edges: (B + 1,) float64, rising, in [0, 1].
        matched, unmatched: (B,) int64, predictions that do and do not have an annotation under them.
    """

    edges: Floats
    matched: Ints
    unmatched: Ints


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report says, without the images.

    Attributes:
        created_at: ISO 8601, shown as given.
        items, submissions, annotations, predictions: how many the run saw.
        classes: (C) class names, in the order of ``confusion``.
        findings: what the scorer suspects, worst first, each with its state.
        checks: findings that are facts about the raw data.
        confusion: (C + 1, C + 1) int64, rows the class as labelled, columns the class as predicted; the last row counts
            predictions without an annotation, the last column annotations without a prediction.
        balance: how the labels are spread over classes and splits.
        precision: how often reviewers agreed so far.
        team: how far those who labelled agree, and which errors each makes.
        min_score: findings below it are not pushed for review.
        gallery: how many of the worst findings are shown with their image.
        warnings: what a reader must know before they trust the findings.
    """

    target: str
    title: str
    run_id: str
    created_at: str
    scorer: str
    model: str
    items: int
    submissions: int
    annotations: int
    predictions: int
    classes: tuple[str, ...]
    findings: Sequence[tuple[Finding, State]]
    checks: Sequence[tuple[Finding, State]]
    confusion: Ints
    confidence: Histogram
    balance: ClassBalance
    min_score: float
    precision: Sequence[PrecisionRow] = ()
    team: Team = field(default_factory=Team)
    gallery: int = 60
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Shot:
    """A crop with what is to be drawn over it, in pixels of the whole image."""

    uri: str
    window: tuple[int, int, int, int]
    labelled: str
    suggested: str

    @property
    def fills(self) -> bool:
        """Whether the crop has the shape of its frame, but for the rounding to whole pixels."""
        x1, y1, x2, y2 = self.window
        return abs((x2 - x1) / (y2 - y1) / _CROP_ASPECT - 1) < 0.05


@dataclass(frozen=True, slots=True)
class _Card:
    """One finding in the gallery."""

    rank: int
    finding: Finding
    state: State
    shot: _Shot | None

    @property
    def kind(self) -> str:
        return report_charts.title_of(self.finding.error)

    @property
    def change(self) -> str:
        """The label the object would get; empty when it keeps the one it has."""
        new = self.finding.fix.label
        return new if self.finding.fix.action == "relabel" and new and new != self.finding.label else ""


def build_report(data: ReportData, image_of: Callable[[Finding], Image | None]) -> str:
    """The report as one HTML page: styles, script, charts and crops are inside, nothing is loaded.

    Args:
        image_of: the (H, W, 3) uint8 RGB image that a finding is about, None when it cannot be had. It is asked once
            for each image of the gallery, and no image is kept beyond its crops.
    """
    environment = Environment(
        loader=PackageLoader("bridge.flows", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}"
    # Markup: these two files are part of the product, and hold nothing that comes from data.
    script, style = (Markup(_source(environment, name)) for name in ("report.js", "report.css"))  # noqa: S704
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        data=data,
        style=style,
        script=script,
        script_hash=digest,
        cards=_cards(data, image_of),
        most_rows=MOST_ROWS,
        low_kappa=LOW_KAPPA,
        error_types=REVIEWED_TYPES,
        title_of=report_charts.title_of,
        **_summary(data),
        **_charts(data),
    )


def _summary(data: ReportData) -> dict[str, Any]:
    likely = [finding for finding, _ in data.findings if finding.score >= data.min_score]
    in_question = {annotation for finding in likely for annotation in finding.annotation_ids}
    return {
        "likely": likely,
        "in_question": len(in_question),
        "share": _percent(len(in_question), data.annotations),
        "states": [(s, n) for s, n in Counter(state for _, state in data.findings).most_common()],
        "check_kinds": Counter(report_charts.title_of(f.error) for f, _ in data.checks).most_common(),
    }


def _percent(part: int, whole: int) -> str:
    share = 100.0 * part / whole if whole else 0.0
    return "<0.1" if 0 < share < 0.1 else f"{share:.1f}"


def _charts(data: ReportData) -> dict[str, Any]:
    findings = [finding for finding, _ in data.findings]
    likely = [finding for finding in findings if finding.score >= data.min_score]
    bins = data.confidence
    return {
        "by_type": report_charts.bars_by_type(findings, data.min_score),
        "by_class": report_charts.bars_by_class(likely),
        "heatmap": report_charts.heatmap(data.classes, data.confusion),
        "columns": report_charts.histogram(bins.edges, bins.matched, bins.unmatched),
        "precision": report_charts.precision_lines(data.precision),
        "balance_rows": report_charts.balance_rows(data.balance),
        "balance_warnings": warnings_of(data.balance),
    }


def _cards(data: ReportData, image_of: Callable[[Finding], Image | None]) -> list[_Card]:
    chosen = list(data.findings[: max(data.gallery, 0)])
    by_item: dict[str, list[Finding]] = {}
    for finding, _ in chosen:
        by_item.setdefault(finding.item_id, []).append(finding)
    shots: dict[str, _Shot] = {}
    for findings in by_item.values():
        image = image_of(findings[0])
        if image is not None:
            shots.update((finding.id, _shot(finding, image)) for finding in findings)
    return [_Card(k, finding, state, shots.get(finding.id)) for k, (finding, state) in enumerate(chosen, 1)]


def _shot(finding: Finding, image: Image) -> _Shot:
    size = (image.shape[1], image.shape[0])
    labelled, suggested = _outline(finding.current_shape), _outline(finding.fix.shape)
    if suggested == labelled:  # only the class would change
        suggested = ()
    around = envelope([*labelled, *suggested]) if labelled or suggested else (0.0, 0.0, float(size[0]), float(size[1]))
    window = crop_window(size, around, _CROP_MARGIN, _CROP_ASPECT)
    uri = to_data_uri(crop_jpeg(image, window, _CROP_SIDE))
    return _Shot(uri, window, _svg_points(labelled), _svg_points(suggested))


def _outline(shape: Shape | None) -> Sequence[Point]:
    """The corners of a shape; none where it has none, or where one is not finite."""
    points: Sequence[Point] = ()
    if isinstance(shape, Box):
        points = box_corners(shape)
    elif isinstance(shape, Polygon):
        points = shape.points
    return points if all(math.isfinite(v) for point in points for v in point) else ()


def _svg_points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
