"""What a report says about a run, gathered from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Item, Record
from bridge.core.class_balance import BalanceCount
from bridge.core.findings import ErrorType, Finding
from bridge.core.matching import content_rank, match_pairs
from bridge.core.metrics import confusion_matrix, histogram
from bridge.core.objects import Workload, build_workload
from bridge.core.overlaps import overlapping
from bridge.core.team import Team
from bridge.errors import LabelbridgeError
from bridge.flows.independence import Independence
from bridge.flows.report import Histogram, ReportData
from bridge.flows.sources import ImageReader
from bridge.settings import Settings
from bridge.store import Run, Store
from bridge.tools import AnnotationTool

_MATCH_IOU = 0.5
_CONFIDENT = 0.5
"""Predictions below it would fill the matrix's "not labelled" row with noise."""
_BINS = 20

Ints = npt.NDArray[np.int64]


def collect(store: Store, run: Run, *, gallery: int, created_at: str, min_score: float) -> ReportData:
    """The data of a report. One chunk of the snapshot is in memory at a time.

    Args:
        gallery: how many of the worst findings are shown with their image.
        created_at: ISO 8601, shown as given.
        min_score: the score from which findings are pushed.
    """
    classes = len(run.labels.names)
    confusion = np.zeros((classes + 1, classes + 1), np.int64)
    matched, unmatched = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    balance = BalanceCount(run.labels)
    for records in store.chunks(run.id):
        balance.add(records)
        workload = build_workload(run.target, run.labels, [r for r in records if r.predicted_by])
        given, predicted = _matches(workload)
        confusion += _confusion(workload, given, predicted)
        hit = np.zeros(len(workload.predicted), bool)
        hit[predicted] = True
        matched += histogram(workload.predicted.confidence[hit], _BINS)
        unmatched += histogram(workload.predicted.confidence[~hit], _BINS)
    found = [(s.finding, s.state) for s in store.findings(run_id=run.id)]
    counts = run.counts
    return ReportData(
        target=run.target,
        title=run.title,
        run_id=run.id,
        created_at=created_at,
        scorer=run.scorer,
        model=run.model,
        items=int(counts.get("items", 0)),
        submissions=int(counts.get("submissions", 0)),
        annotations=int(counts.get("annotations", 0)),
        predictions=int(counts.get("predictions", 0)),
        classes=run.labels.names,
        findings=[(f, s) for f, s in found if not f.error.is_data_check],
        checks=sorted(((f, s) for f, s in found if f.error.is_data_check), key=lambda fs: _weight(fs[0])),
        confusion=confusion,
        confidence=Histogram(np.linspace(0, 1, _BINS + 1), matched, unmatched),
        balance=balance.balance(),
        min_score=min_score,
        precision=store.precision(run.target),
        team=Team.from_dict(counts["team"]) if "team" in counts else Team(),
        gallery=gallery,
        warnings=Independence.from_dict(counts.get("independence", {})).warnings(run.target),
    )


def _weight(finding: Finding) -> int:
    """Which checks a lead wants to see first: labels that cannot both be right, then pictures that are measured on."""
    first = (ErrorType.INCONSISTENT_LABELS, ErrorType.LEAKAGE)
    return first.index(finding.error) if finding.error in first else len(first)


def image_reader(
    tool: AnnotationTool, store: Store, run: Run, settings: Settings
) -> Callable[[Finding], npt.NDArray[np.uint8] | None]:
    """A function that reads the image of a finding, or None where it cannot be had. The last one is kept."""
    reader = ImageReader(tool, settings.max_image_pixels)
    items: dict[str, Item] = {r.item.id: r.item for r in _records(store, run)}
    last: dict[str, npt.NDArray[np.uint8] | None] = {}

    def read(finding: Finding) -> npt.NDArray[np.uint8] | None:
        if finding.item_id not in last:
            last.clear()
            try:
                last[finding.item_id] = reader.read(items[finding.item_id])
            except LabelbridgeError:
                last[finding.item_id] = None
        return last[finding.item_id]

    return read


def _records(store: Store, run: Run) -> Iterator[Record]:
    for chunk in store.chunks(run.id):
        yield from chunk


def _matches(workload: Workload) -> tuple[Ints, Ints]:
    """Rows of annotations and predictions that are one object: one to one, whatever their classes."""
    given, predicted = workload.given, workload.predicted
    kept: list[tuple[Ints, Ints, npt.NDArray[np.float64]]] = []
    for g, p, iou in overlapping(given, predicted):
        near = iou >= _MATCH_IOU
        kept.append((g[near], p[near], iou[near] * predicted.confidence[p[near]]))
    if not kept:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    g, p, value = (np.concatenate(column) for column in zip(*kept, strict=True))
    ranks = (content_rank(t.unit, t.label, t.xyxy, t.confidence) for t in (given, predicted))
    taken = match_pairs(g, p, value, *ranks)
    return g[taken], p[taken]


def _confusion(workload: Workload, given: Ints, predicted: Ints) -> Ints:
    """Labelled class by predicted class; predictions nobody labelled count from a confidence of one half."""
    table, other = workload.given, workload.predicted
    alone = np.setdiff1d(np.arange(len(table)), given)
    lonely = np.setdiff1d(np.flatnonzero(other.confidence >= _CONFIDENT), predicted)
    rows = np.concatenate([table.label[given], table.label[alone], np.full(len(lonely), -1)])
    columns = np.concatenate([other.label[predicted], np.full(len(alone), -1), other.label[lonely]])
    return confusion_matrix(rows, columns, len(workload.labels.names))
