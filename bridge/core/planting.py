"""Known label errors, planted into clean annotations, and how many of them a list of findings hits.

The kinds and their ranges (shifts to an IoU of 0.4 to 0.7, extra boxes that overlap nothing) follow the usual protocol
for judging label-error detection on detection data, as in the ObjectLab and SafeDNN papers. Pure: all chance comes
from the generator that is passed in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Box, LabelSet, Record, Xyxy
from bridge.core.findings import REVIEWED_TYPES, ErrorType, Finding
from bridge.core.geometry import iou_matrix
from bridge.errors import DataError

Floats = npt.NDArray[np.float64]

#: IoU between a box that was made imprecise and the true one.
IMPRECISE_IOU = (0.4, 0.7)
#: Most IoU between an extra box and any object of the same submission.
EXTRA_IOU = 0.1
#: Least IoU between a finding's box and a missing object for a hit.
HIT_IOU = 0.5

_TRIES = 64
_HOSTS = 32


@dataclass(frozen=True, slots=True)
class PlantedError:
    """One error that was put in on purpose.

    Attributes:
        error: one of :data:`bridge.core.findings.REVIEWED_TYPES`.
        item_id: the image.
        annotation_id: the object that is wrong now; None for one that was taken away.
        box: where the object truly is; for an extra one, where it was put.
        label: what the object truly is; for an extra one, the label it was given.
    """

    error: ErrorType
    item_id: str
    annotation_id: str | None
    box: Box
    label: str


@dataclass(frozen=True, slots=True)
class PlantedRow:
    """How one kind of error was found.

    Attributes:
        planted: errors of this kind that were put in.
        found: those of them that a finding of this kind hit.
        findings: all findings of this kind, hits and false alarms.
        recall: ``found / planted``; None when nothing was planted.
        precision: ``found / findings``; None when there are no findings.
    """

    error: ErrorType
    planted: int
    found: int
    findings: int
    recall: float | None
    precision: float | None


@dataclass(slots=True)
class _Sheet:
    """One submission on the bench: ``true`` are the objects as they came, ``extra`` the boxes that were added."""

    record: int
    submission: int
    size: tuple[float, float]
    true: Floats
    rotation: Floats
    objects: list[Annotation | None]
    extra: list[Annotation]


def plant(
    records: Sequence[Record],
    labels: LabelSet,
    rng: np.random.Generator,
    rate: float | Mapping[ErrorType, float],
) -> tuple[list[Record], list[PlantedError]]:
    """Plant missing, extra, wrongly classed and imprecise boxes.

    Each object gets at most one error. ``round(rate * boxes)`` errors of each kind are planted, fewer only where they
    cannot be: without a second label no class is swapped, and an extra box is left out when it fits nowhere. Objects
    that are no sound boxes of a known label are left alone, and predictions and problems stay as they are. The same
    generator state gives the same errors.

    Args:
        records: clean submissions; every item needs its width and height.
        labels: the classes a wrong label is drawn from.
        rate: errors of each kind per box, in [0, 1]; a mapping names the kinds that are wanted.

    Returns:
        The records with errors in them, in the same order, and what was planted, in the order of the records.

    Raises:
        DataError: an item has no size, or the rates ask for more than one error per object.
    """
    rates = _rates(rate)
    sheets = _sheets(records)
    targets = [
        (s, k)
        for s, sheet in enumerate(sheets)
        for k, annotation in enumerate(sheet.objects)
        if annotation is not None and annotation.label in labels.names and _is_sound(annotation)
    ]
    order = [targets[i] for i in rng.permutation(len(targets))]
    planted: list[tuple[int, PlantedError]] = []
    for error in (ErrorType.MISSING, ErrorType.WRONG_CLASS, ErrorType.IMPRECISE):
        count = round(rates[error] * len(targets))
        if error is ErrorType.WRONG_CLASS and len(labels.names) < 2:
            continue
        chosen, order = order[:count], order[count:]
        for s, k in chosen:
            planted.append((s, _spoil(sheets[s], k, error, records[sheets[s].record].item.id, labels, rng)))
    for _ in range(round(rates[ErrorType.EXTRA] * len(targets))):
        added = _add_extra(records, sheets, targets, rng)
        if added is not None:
            planted.append(added)
    planted.sort(key=lambda one: one[0])
    return _rebuilt(records, sheets), [error for _, error in planted]


def match_planted(findings: Sequence[Finding], planted: Sequence[PlantedError]) -> list[PlantedRow]:
    """What the findings found of the planted errors, one row for each kind.

    The kind must be right for a hit. Errors of an object are hit through its id, a missing object by a box with an IoU
    of at least :data:`HIT_IOU`. Each planted error counts once, for the highest score; a second finding on it is a
    false alarm, because following both would do harm. Data checks are left out.
    """
    ranked = sorted(findings, key=lambda finding: (-finding.score, finding.id))
    rows = []
    for error in REVIEWED_TYPES:
        wanted = [one for one in planted if one.error is error]
        given = [finding for finding in ranked if finding.error is error]
        found = _hit_boxes(given, wanted) if error is ErrorType.MISSING else _hit_ids(given, wanted)
        recall = found / len(wanted) if wanted else None
        precision = found / len(given) if given else None
        rows.append(PlantedRow(error, len(wanted), found, len(given), recall, precision))
    return rows


def _rates(rate: float | Mapping[ErrorType, float]) -> dict[ErrorType, float]:
    given = rate if isinstance(rate, Mapping) else dict.fromkeys(REVIEWED_TYPES, rate)
    rates = {error: float(given.get(error, 0.0)) for error in REVIEWED_TYPES}
    unknown = [str(error) for error in given if error not in rates]
    if unknown:
        raise DataError(f"errors of kind {', '.join(unknown)} cannot be planted", expected=", ".join(REVIEWED_TYPES))
    if not all(0.0 <= value <= 1.0 for value in rates.values()):
        raise DataError(f"the error rates are {[float(v) for v in rates.values()]}", expected="numbers in [0, 1]")
    if sum(value for error, value in rates.items() if error is not ErrorType.EXTRA) > 1.0 + 1e-9:
        raise DataError("the error rates ask for more errors than there are objects", expected="a sum of at most 1")
    return rates


def _sheets(records: Sequence[Record]) -> list[_Sheet]:
    sheets = []
    for r, record in enumerate(records):
        item = record.item
        if not item.width or not item.height:
            raise DataError(
                f"item {item.id} ({item.name}) has no width and height", expected="the size of every image in pixels"
            )
        for s, submission in enumerate(record.submissions):
            boxes = [(*a.shape.xyxy, a.shape.rotation) for a in submission.annotations if isinstance(a.shape, Box)]
            columns = np.array(boxes, dtype=np.float64).reshape(-1, 5)
            size = (float(item.width), float(item.height))
            objects: list[Annotation | None] = list(submission.annotations)
            sheets.append(_Sheet(r, s, size, columns[:, :4], columns[:, 4], objects, []))
    return sheets


def _is_sound(annotation: Annotation) -> bool:
    return isinstance(annotation.shape, Box) and annotation.shape.problem() is None


def _box(annotation: Annotation | None) -> Box:
    if annotation is None or not isinstance(annotation.shape, Box):
        raise TypeError("only boxes are planted")
    return annotation.shape


def _spoil(
    sheet: _Sheet, k: int, error: ErrorType, item_id: str, labels: LabelSet, rng: np.random.Generator
) -> PlantedError:
    """Give object ``k`` of the sheet its error."""
    annotation = sheet.objects[k]
    box = _box(annotation)
    assert annotation is not None
    truth = PlantedError(error, item_id, annotation.id, box, annotation.label)
    if error is ErrorType.MISSING:
        sheet.objects[k] = None
        return replace(truth, annotation_id=None)
    if error is ErrorType.WRONG_CLASS:
        others = [name for name in labels.names if name != annotation.label]
        sheet.objects[k] = replace(annotation, label=others[int(rng.integers(len(others)))])
    else:
        sheet.objects[k] = replace(annotation, shape=_imprecise(sheet, box, rng))
    return truth


def _imprecise(sheet: _Sheet, box: Box, rng: np.random.Generator) -> Box:
    """The box moved and scaled to an IoU within :data:`IMPRECISE_IOU`, nearer to its own object than to any other."""
    true = np.array([box.xyxy])
    size = true[:, 2:] - true[:, :2]
    centre = (true[:, 2:] + true[:, :2]) / 2 + rng.uniform(-0.4, 0.4, (_TRIES, 2)) * size
    half = size * np.exp(rng.uniform(-0.4, 0.4, (_TRIES, 2))) / 2
    tries = np.concatenate([centre - half, centre + half], axis=1)
    if box.rotation == 0.0:
        width, height = sheet.size
        tries = np.clip(tries, 0.0, [width, height, width, height])
    rotation = np.full(len(tries), box.rotation)
    own = iou_matrix(tries, true, rotation, rotation[:1])[:, 0]
    near_others = iou_matrix(tries, sheet.true, rotation, sheet.rotation)
    # The object itself stands among `true`; whatever overlaps more than it does is another one.
    good = (own >= IMPRECISE_IOU[0]) & (own <= IMPRECISE_IOU[1]) & (near_others.max(axis=1) <= own)
    if not good.any():
        # Shrinking about the centre by a side ratio r gives an IoU of r * r, whatever is around.
        ratio = float(np.sqrt(rng.uniform(*IMPRECISE_IOU)))
        return _from_centre((true[0, :2] + true[0, 2:]) / 2, size[0] * ratio, box.rotation)
    x1, y1, x2, y2 = map(float, tries[int(np.argmax(good))])
    return Box(x1, y1, x2, y2, box.rotation)


def _from_centre(centre: Floats, size: Floats, rotation: float = 0.0) -> Box:
    (x1, y1), (x2, y2) = centre - size / 2, centre + size / 2
    return Box(float(x1), float(y1), float(x2), float(y2), rotation)


def _add_extra(
    records: Sequence[Record],
    sheets: Sequence[_Sheet],
    targets: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> tuple[int, PlantedError] | None:
    """Put one box, of the size and label of some true object, where nothing is; None when it fits nowhere tried."""
    s, k = targets[int(rng.integers(len(targets)))]
    submission = records[sheets[s].record].submissions[sheets[s].submission]
    model = submission.annotations[k]
    x1, y1, x2, y2 = _box(model).xyxy
    size = np.array([x2 - x1, y2 - y1]) * rng.uniform(0.8, 1.25, 2)
    for host in rng.integers(len(sheets), size=_HOSTS):
        sheet = sheets[int(host)]
        xyxy = _free_place(sheet, size, rng)
        if xyxy is None:
            continue
        item = records[sheet.record].item
        own = f"{sheet.submission}-" if len(records[sheet.record].submissions) > 1 else ""
        annotation = Annotation(f"{item.id}-extra-{own}{len(sheet.extra) + 1}", model.label, Box(*xyxy))
        sheet.extra.append(annotation)
        return int(host), PlantedError(ErrorType.EXTRA, item.id, annotation.id, Box(*xyxy), model.label)
    return None


def _free_place(sheet: _Sheet, size: Floats, rng: np.random.Generator) -> Xyxy | None:
    """A place in the image for a box of this size, clear of true objects (also those taken away) and extra ones."""
    room = np.array(sheet.size) - size
    if (room <= 0).any():
        return None
    corner = rng.uniform(0.0, 1.0, (_TRIES, 2)) * room
    tries = np.concatenate([corner, corner + size], axis=1)
    extra = np.array([_box(a).xyxy for a in sheet.extra]).reshape(-1, 4)
    moved = [(*a.shape.xyxy, a.shape.rotation) for a in sheet.objects if a is not None and isinstance(a.shape, Box)]
    now = np.array(moved).reshape(-1, 5)
    taken = np.concatenate([sheet.true, now[:, :4], extra])
    turned = np.concatenate([sheet.rotation, now[:, 4], np.zeros(len(extra))])
    worst = iou_matrix(tries, taken, None, turned).max(axis=1, initial=0.0)
    if worst.min() > EXTRA_IOU:
        return None
    x1, y1, x2, y2 = map(float, tries[int(np.argmax(worst <= EXTRA_IOU))])
    return (x1, y1, x2, y2)


def _rebuilt(records: Sequence[Record], sheets: Sequence[_Sheet]) -> list[Record]:
    submissions = [list(record.submissions) for record in records]
    for sheet in sheets:
        annotations = (*(a for a in sheet.objects if a is not None), *sheet.extra)
        before = submissions[sheet.record][sheet.submission]
        submissions[sheet.record][sheet.submission] = replace(before, annotations=annotations)
    return [replace(record, submissions=tuple(subs)) for record, subs in zip(records, submissions, strict=True)]


def _hit_ids(given: Sequence[Finding], wanted: Sequence[PlantedError]) -> int:
    waiting = {(one.item_id, one.annotation_id) for one in wanted}
    found = 0
    for finding in given:
        hit = next((key for a in finding.annotation_ids if (key := (finding.item_id, a)) in waiting), None)
        if hit is not None:
            waiting.remove(hit)
            found += 1
    return found


def _hit_boxes(given: Sequence[Finding], wanted: Sequence[PlantedError]) -> int:
    waiting: dict[str, list[Box]] = defaultdict(list)
    for one in wanted:
        waiting[one.item_id].append(one.box)
    found = 0
    for finding in given:
        boxes = waiting[finding.item_id]
        shape = finding.fix.shape
        if not boxes or not isinstance(shape, Box):
            continue
        there = np.array([box.xyxy for box in boxes])
        turned = np.array([box.rotation for box in boxes])
        iou = iou_matrix(np.array([shape.xyxy]), there, np.array([shape.rotation]), turned)[0]
        if iou.max() >= HIT_IOU:
            del boxes[int(iou.argmax())]
            found += 1
    return found
