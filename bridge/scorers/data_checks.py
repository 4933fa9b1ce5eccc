"""Facts that need no model: objects and images that cannot be right as they stand.

Their findings have the score 1: nothing is suspected, it is so. Where only a person can tell what should be there, the
fix is ``none``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Mask, Polygon, Problem, Record, Shape, Xyxy
from bridge.core.findings import ErrorType, Finding, Fix, finding_id
from bridge.core.geometry import box_envelope, clip_to_image, envelope, polygon_area
from bridge.errors import PluginError

SCORER = "data-checks-1"
#: An object may reach this far beyond the edge, in pixels: tools that store percentages round.
EDGE_TOLERANCE = 1.0
#: An image with a shorter side than this, in pixels, shows nothing that can be labelled.
MIN_SIDE = 16
_NOTHING_TO_DO = Fix("none")


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What opening an item's image file showed.

    Attributes:
        sha256: of the file's bytes, hex; None when they could not be had.
        width, height: pixels of the EXIF-oriented image; None when it cannot be decoded.
        error: why it could not be read, one sentence; None when it could.
    """

    item: Item
    sha256: str | None
    width: int | None
    height: int | None
    error: str | None


def check_records(target: str, labels: LabelSet, records: Iterable[Record]) -> list[Finding]:
    """What is wrong with records as such: their problems, unknown labels, objects drawn twice in the same place, shapes
    without area or out of the image.

    Of several equal objects of a submission, the first is not flagged.

    Raises:
        PluginError: a problem is of a kind that is no data check.
    """
    names = frozenset(labels.names)
    found: dict[str, Finding] = {}
    for record in records:
        for finding in _check_record(target, names, record):
            known = found.setdefault(finding.id, finding)
            # Two facts of one kind about one object are one finding; the reader gets both sentences.
            if finding.reason not in known.reason:
                found[finding.id] = replace(known, reason=f"{known.reason.rstrip('.')}. {finding.reason}")
    return list(found.values())


def check_images(target: str, facts: Sequence[ImageFacts], min_side: int = MIN_SIDE) -> list[Finding]:
    """What is wrong with image files: unreadable, tiny, another size than declared, or the same file twice.

    Of several items with the same file, the first in the given order is not flagged.
    """
    same_file: dict[str, list[Item]] = defaultdict(list)
    for fact in facts:
        if fact.sha256 is not None:
            same_file[fact.sha256].append(fact.item)
    return [finding for fact in facts for finding in _check_image(target, fact, same_file, min_side)]


def _check_record(target: str, names: frozenset[str], record: Record) -> Iterator[Finding]:
    item = record.item
    objects = {(s.id, a.id): a for s in record.submissions for a in s.annotations}
    for problem in record.problems:
        about = objects.get((problem.submission_id, problem.annotation_id or ""))
        yield _finding(
            target, item, _kind(problem, item), problem.message, problem.submission_id, about, problem.annotation_id
        )
    for submission in record.submissions:
        first: dict[str, str] = {}
        for annotation in submission.annotations:
            original = first.setdefault(annotation.revision, annotation.id)
            if original != annotation.id:
                reason = f"The same {annotation.label} is labelled twice in the same place."
                yield _finding(
                    target, item, ErrorType.EXTRA, reason, submission.id, annotation, annotation.id, Fix("delete"),
                    {"double_of": original},
                )  # fmt: skip
            for error, reason, fix in _check_object(names, item, annotation):
                yield _finding(target, item, error, reason, submission.id, annotation, annotation.id, fix)


def _kind(problem: Problem, item: Item) -> ErrorType:
    kinds = {str(error): error for error in ErrorType if error.is_data_check}
    if problem.kind not in kinds:
        raise PluginError(
            f"item {item.id} has a problem of the kind {problem.kind!r}",
            expected="one of " + ", ".join(kinds),
            todo="Report this as a bug of the adapter that read the item",
        )
    return kinds[problem.kind]


def _check_object(names: frozenset[str], item: Item, annotation: Annotation) -> Iterator[tuple[ErrorType, str, Fix]]:
    if annotation.label not in names:
        reason = f"The label {annotation.label!r} is not in the label set."
        yield ErrorType.UNKNOWN_LABEL, reason, _NOTHING_TO_DO
    problem = _shape_problem(annotation.shape)
    if problem:
        yield ErrorType.DEGENERATE_SHAPE, f"This object has no usable shape: {problem}.", _NOTHING_TO_DO
        return
    outer = _outer_box(annotation.shape)
    if outer and item.width and item.height:
        beyond = max(-outer[0], -outer[1], outer[2] - item.width, outer[3] - item.height)
        if beyond > EDGE_TOLERANCE:
            reason = f"The object reaches {beyond:.0f} px out of the image of {item.width} x {item.height} px."
            yield ErrorType.OUT_OF_IMAGE, reason, _fix_outside(annotation, outer, item.width, item.height)


def _fix_outside(annotation: Annotation, outer: Xyxy, width: int, height: int) -> Fix:
    if outer[2] <= 0 or outer[3] <= 0 or outer[0] >= width or outer[1] >= height:
        return Fix("delete")
    if isinstance(annotation.shape, Box) and annotation.shape.rotation == 0:
        clipped = clip_to_image(np.array([annotation.shape.xyxy]), width, height)[0].tolist()
        return Fix("reshape", annotation.label, Box(*clipped))
    return _NOTHING_TO_DO


def _shape_problem(shape: Shape) -> str | None:
    match shape:
        case Box():
            return shape.problem()
        case Polygon(points):
            if not _is_finite(shape):
                return "a coordinate is not a finite number"
            return None if polygon_area(points) > 0 else f"the polygon of {len(points)} points has no area"
        case Mask(counts=counts):
            return None if sum(counts[1::2]) > 0 else "the mask is empty"
        case _:
            return None


def _is_finite(shape: Shape) -> bool:
    match shape:
        case Box():
            return all(map(math.isfinite, (*shape.xyxy, shape.rotation)))
        case Polygon(points):
            return all(math.isfinite(v) for point in points for v in point)
        case _:
            return True


def _outer_box(shape: Shape) -> Xyxy | None:
    """The upright box around a shape that can leave the image."""
    match shape:
        case Box():
            return box_envelope(shape)
        case Polygon(points):
            return envelope(points)
        case _:
            return None


def _check_image(
    target: str, fact: ImageFacts, same_file: Mapping[str, list[Item]], min_side: int
) -> Iterator[Finding]:
    item, width, height = fact.item, fact.width, fact.height
    if fact.error is not None:
        yield _finding(target, item, ErrorType.UNREADABLE_IMAGE, f"The image cannot be read: {fact.error}")
    if width is not None and height is not None:
        size = {"width": width, "height": height}
        if min(width, height) < min_side:
            reason = f"The image is only {width} x {height} px."
            yield _finding(target, item, ErrorType.SMALL_IMAGE, reason, evidence=size)
        if (item.width or width, item.height or height) != (width, height):
            reason = f"The image is {width} x {height} px, but {item.width} x {item.height} px are declared."
            yield _finding(target, item, ErrorType.SIZE_MISMATCH, reason, evidence=size)
    twins = same_file[fact.sha256] if fact.sha256 is not None else [item]
    if twins[0] is not item:
        others = [twin for twin in twins if twin is not item]
        named = ", ".join(f"{twin.name} ({twin.id})" for twin in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        evidence = {"sha256": fact.sha256, "items": [twin.id for twin in others]}
        reason = f"This is the same file as {named}{more}."
        yield _finding(target, item, ErrorType.DUPLICATE_IMAGE, reason, evidence=evidence)


def _finding(
    target: str,
    item: Item,
    error: ErrorType,
    reason: str,
    submission_id: str = "",
    annotation: Annotation | None = None,
    annotation_id: str | None = None,
    fix: Fix = _NOTHING_TO_DO,
    evidence: Mapping[str, Any] | None = None,
) -> Finding:
    ids = () if annotation_id is None else (annotation_id,)
    # A coordinate that is no number cannot be shown, and has no place in JSON.
    shape = annotation.shape if annotation is not None and _is_finite(annotation.shape) else None
    return Finding(
        id=finding_id(target, item.id, submission_id, ids, error, fix),
        target=target,
        item_id=item.id,
        item_name=item.name,
        submission_id=submission_id,
        annotation_ids=ids,
        error=error,
        label="" if annotation is None else annotation.label,
        score=1.0,
        reason=reason,
        fix=fix,
        scorer=SCORER,
        current_shape=shape,
        revisions=() if annotation is None else (annotation.revision,),
        evidence=evidence or {},
    )
