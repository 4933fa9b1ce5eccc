"""Polygons and masks held against predicted ones: missing, extra, of the wrong class, badly outlined, split, merged.

Judged are submissions with a polygon or a mask, or with nothing at all, on items that were looked at by a model which
predicts such shapes, save those that :mod:`bridge.scorers.map_review` judges. The formulas are those of
:mod:`bridge.scorers.object_review` with the IoU of pixels in place of that of boxes, so that the two lists can be one,
and with more ways in which a shape may be wrong. ``p`` is the prediction of the same class that backs ``g`` best,
*usual* the median over the labels of a class, drawn in by ten more labels::

    extra(g)     = max(0, usual backing of the class - best backing of g) ** 2 * (1 - cover of g)
    missing(p)   = confidence(p) * max(0, 1 - best IoU of p with any label / 0.5) * (1 - cover of p)
    outline(g)   = backing(g, p) * min(1, 2 * max(0, 1 - fit(g, p) / usual fit of the class)),
                   fit being the lower of IoU and boundary IoU, the border being 2 % of the image's diagonal wide
    holes(g)     = backing(g, p) * min(1, pixels of p in holes of g / (DEFECT * pixels of p))
    fragments(g) = backing(g, p) * min(1, pixels of g outside of p and of g's largest part / (DEFECT * pixels of g))
    merged(g)    = second highest confidence of the predictions of which g holds at least INSIDE, no two of which are
                   the same object, * share of g that they cover
    split(g)     = confidence(q) * share of q that is covered by the labels of which q holds at least INSIDE, g being
                   one of two or more, for the q for which it is highest

*Cover* is the share of a label's pixels that any prediction holds, each weighed by the highest confidence there, or the
share of a prediction's that any label does: where objects touch, a model cuts and joins them differently, and what it
joins is neither missing nor extra. For the same reason *fit* leaves out the pixels of ``p`` that other labels hold, and
those of ``g`` that other predictions hold that are at least half as sure: cuts are what ``merged`` and ``split`` judge.

The last five are the error ``imprecise``, and the highest counts; the reason names the likeliest of the last four if it
is at least half of that, for it says more than that outlines differ. But of the labels of a split object all save the
largest are ``extra``, and of the objects in a merged label all save the best are ``missing``. ``merged`` and ``split``
tell the less the more labels of the class look like that, for some models cut or join whatever they see
(:func:`bridge.scorers.usual.telling`). The weaker suspicions about a label are multiplied by ``1 - strongest``.

*Usual* is learned from the whole set, so score a target as one. Neither the order of rows nor that of images matters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Box, LabelSet, Mask, Polygon, Prediction, Record, Shape, Submission
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.masks import MaskCrop
from bridge.core.objects import Unit
from bridge.core.pixels import boundary_iou, fill_polygon, holes, parts
from bridge.core.rle import decode_coco
from bridge.errors import DataError
from bridge.outlines import as_drawn
from bridge.scorers.explain import one_finding
from bridge.scorers.usual import telling, usual

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: From this IoU on, two shapes show the same object.
SAME_OBJECT = 0.5
#: A hole or a stray part of this share of the object is a defect for certain.
DEFECT = 0.05
#: A shape of which another holds this share lies inside of it.
INSIDE = 0.75
#: Width of the border that is compared, as a share of the image's diagonal.
BORDER = 0.02


@dataclass(frozen=True, slots=True)
class InstanceReview:
    """The review of polygons and masks; a :class:`bridge.scorers.RecordReview`."""

    @property
    def name(self) -> str:
        return "instance-review-1"

    def find(self, target: str, labels: LabelSet, records: Sequence[Record]) -> list[Finding]:
        """Every suspicion above 0, in the order of the records."""
        index = labels.index()
        records = [record for record in records if not record.notes]
        outlines = [_pixels(record, record.predictions, index) for record in records]
        if not any(outlines):
            return []  # a model of boxes or tags says nothing about outlines, by its silence neither
        sheets = [
            sheet
            for record, seen in zip(records, outlines, strict=True)
            if seen or record.predicted_by
            for submission in record.submissions
            if (sheet := _compare(record, submission, seen, index)) is not None
        ]
        backing = np.concatenate([s.backing.max(axis=1, initial=0.0) for s in sheets]) if sheets else np.zeros(0)
        kind = np.concatenate([s.label for s in sheets]) if sheets else np.zeros(0, np.int64)
        fit = np.concatenate([s.fit for s in sheets]) if sheets else np.zeros(0)
        usual_backing = usual(backing, kind, len(labels.names))
        usual_fit = usual(fit[fit >= 0], kind[fit >= 0], len(labels.names))
        cuts = _weighed([_cuts(s) for s in sheets], [len(s.given) for s in sheets], kind)
        return [
            finding
            for sheet, own in zip(sheets, cuts, strict=True)
            for finding in _judge(target, sheet, own, usual_backing, usual_fit, self.name)
        ]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A shape of a known class, as pixels."""

    of: Annotation | Prediction
    label: int
    crop: MaskCrop


@dataclass(frozen=True, slots=True)
class _Sheet:
    """One submission and what the model sees; G labels, P predictions, most confident first.

    Attributes:
        label: (G,) int64.
        iou, backing: (G, P) float64.
        own: (G,) int64, the prediction of the same class that backs each label best; -1 for none.
        fit: (G,) float64, the lower of IoU and boundary IoU with that one; -1 for none.
        inside: (G, P) float64, the share of each prediction that each label holds.
        within: (G, P) float64, the share of each label that each prediction holds.
        cover: (G,) float64 in [0, 1], how far each label is covered by predictions, their confidence counting.
        told: (P,) float64 in [0, 1], how far each prediction is covered by labels.
    """

    unit: Unit
    given: tuple[_Seen, ...]
    predicted: tuple[_Seen, ...]
    label: Ints
    iou: Floats
    backing: Floats
    own: Ints
    fit: Floats
    inside: Floats
    within: Floats
    cover: Floats
    told: Floats


@dataclass(frozen=True, slots=True)
class _Cuts:
    """Where labels and predictions of one sheet cut objects differently.

    Attributes:
        survivors: predictions that remain after suppression.
        merged: for each label over several objects these, most confident first, and the score.
        split: for each label that is one of several on one object the object, the score, whether it is the largest.
    """

    survivors: list[int]
    merged: dict[int, tuple[list[int], float]]
    split: dict[int, tuple[int, float, bool]]


def _pixels(record: Record, objects: Sequence[Annotation | Prediction], index: Mapping[str, int]) -> list[_Seen]:
    found = []
    for thing in objects:
        crop = _crop(thing.shape, record) if thing.label in index else None
        if crop is not None and not (isinstance(thing, Prediction) and not 0.0 < thing.confidence <= 1.0):
            found.append(_Seen(thing, index[thing.label], crop))
    return found


def _crop(shape: Shape, record: Record) -> MaskCrop | None:
    """None for what is no polygon or mask, holds no pixel, or is damaged."""
    if isinstance(shape, Mask):
        try:
            return MaskCrop.of(decode_coco(shape))
        except DataError:
            return None
    if not isinstance(shape, Polygon):
        return None
    flat = [v for point in shape.points for v in point]
    if not all(math.isfinite(v) and abs(v) < 1e6 for v in flat):
        return None
    ys, xs = [y for _, y in shape.points], [x for x, _ in shape.points]
    height = record.item.height or math.ceil(max([*ys, 1.0]))
    return fill_polygon(shape.points, height, record.item.width or math.ceil(max([*xs, 1.0])))


def _compare(record: Record, submission: Submission, seen: Sequence[_Seen], index: Mapping[str, int]) -> _Sheet | None:
    """None for a submission that is not about outlines, or where there is nothing to compare."""
    given = _pixels(record, submission.annotations, index)
    if not given and (not seen or any(isinstance(a.shape, Box) for a in submission.annotations)):
        return None
    predicted = sorted(seen, key=_by_content)
    shared = np.array([[g.crop.shared(p.crop) for p in predicted] for g in given], dtype=np.float64)
    shared = shared.reshape(len(given), len(predicted))
    area_g = np.array([g.crop.area for g in given], dtype=np.float64)[:, None]
    area_p = np.array([p.crop.area for p in predicted], dtype=np.float64)[None, :]
    iou = shared / (area_g + area_p - shared)
    confidence = np.array([_confidence(p) for p in predicted])
    nearest = iou.max(axis=0, initial=0.0)
    sharing = iou / np.where(nearest > 0, nearest, 1.0)
    backing = confidence * np.minimum(1.0, iou / SAME_OBJECT) * sharing
    label = np.array([g.label for g in given], dtype=np.int64)
    same = backing * (label[:, None] == np.array([p.label for p in predicted], dtype=np.int64)[None, :])
    own = np.full(len(given), -1, dtype=np.int64)
    if predicted:
        own = np.where(same.max(axis=1) > 0, same.argmax(axis=1), -1)
    border = max(1, round(BORDER * math.hypot(*_size(record, [*given, *predicted]))))
    fit = np.full(len(given), -1.0)
    for g in np.flatnonzero(own >= 0).tolist():
        p = int(own[g])
        near = shared[g] * (confidence >= confidence[p] / 2)
        near[p] = 0
        mine = given[g].crop.without([predicted[q].crop for q in np.flatnonzero(near)], keep=predicted[p].crop)
        near = shared[:, p].copy()
        near[g] = 0
        model = predicted[p].crop.without([given[h].crop for h in np.flatnonzero(near)], keep=given[g].crop)
        fit[g] = min(mine.iou(model), boundary_iou(mine, model, border))
    unit = Unit(record.item, submission)
    covers = [
        np.array([one.crop.cover([(o.crop, w) for o, w in zip(others, weight, strict=True)]) for one in ones])
        for ones, others, weight in ((given, predicted, confidence.tolist()), (predicted, given, [1.0] * len(given)))
    ]
    shares = (shared / area_p, shared / area_g)
    return _Sheet(unit, tuple(given), tuple(predicted), label, iou, backing, own, fit, *shares, *covers)


def _by_content(seen: _Seen) -> tuple[object, ...]:
    crop = seen.crop
    return (-_confidence(seen), seen.label, crop.top, crop.left, crop.bits.shape, crop.bits.tobytes())


def _confidence(seen: _Seen) -> float:
    return seen.of.confidence if isinstance(seen.of, Prediction) else 1.0


def _size(record: Record, shapes: Sequence[_Seen]) -> tuple[float, float]:
    width = record.item.width or max((s.crop.xyxy[2] for s in shapes), default=0.0)
    return width, record.item.height or max((s.crop.xyxy[3] for s in shapes), default=0.0)


def _judge(
    target: str, sheet: _Sheet, cuts: _Cuts, usual_backing: Floats, usual_fit: Floats, scorer: str
) -> list[Finding]:
    """The findings of one submission."""
    findings = []
    for g, given in enumerate(sheet.given):
        annotation = given.of
        assert isinstance(annotation, Annotation)
        suspicions = _suspicions(sheet, g, usual_backing, usual_fit, cuts)
        strongest = max((score for _, score, _, _, _ in suspicions), default=0.0)
        for error, chance, fix, p, claim in suspicions:
            score = min(1.0, chance if chance == strongest else chance * (1 - strongest))
            if score > 0:
                reason = f"Labelled {annotation.label}; {claim}."
                about = (target, sheet.unit, error, annotation, annotation.label, score, reason, fix, scorer)
                findings.append(one_finding(*about, _evidence(sheet, g, p)))
    inside_merged = {p: score for whole, score in cuts.merged.values() for p in whole[1:]}
    nearest = sheet.iou.max(axis=0, initial=0.0)
    for p in cuts.survivors:
        seen = sheet.predicted[p]
        alone = max(0.0, 1 - float(nearest[p]) / SAME_OBJECT) * (1 - float(sheet.told[p]))
        chance = max(_confidence(seen) * alone, inside_merged.get(p, 0.0))
        if chance > 0:
            sees = f"The model sees {seen.of.label} here ({_confidence(seen):.2f}), but "
            reason = sees + ("one label covers it and another." if p in inside_merged else "nothing is labelled.")
            fix = Fix("add", seen.of.label, _suggested(sheet, p, -1))
            place = (target, sheet.unit, ErrorType.MISSING, None, seen.of.label, chance)
            findings.append(one_finding(*place, reason, fix, scorer, _evidence(sheet, -1, p)))
    # Predictions that are equal to the pixel are one finding.
    return list({f.id: f for f in sorted(findings, key=lambda f: f.score)}.values())


def _suggested(sheet: _Sheet, p: int, g: int) -> Shape:
    """What is seen, in the form in which the label (-1: the submission) was drawn."""
    shape = sheet.predicted[p].of.shape
    drawn = sheet.unit.submission.annotations
    if g >= 0:
        drawn = tuple(a for a in drawn if a is sheet.given[g].of)
    return as_drawn(shape, drawn) if isinstance(shape, Mask) else shape


_Suspicion = tuple[ErrorType, float, Fix, int, str]


def _suspicions(
    sheet: _Sheet,
    g: int,
    usual_backing: Floats,
    usual_fit: Floats,
    cuts: _Cuts,
) -> list[_Suspicion]:
    """(error, score, fix, prediction that speaks for it, claim) for one label; the highest of each error."""
    given, kind = sheet.given[g], sheet.given[g].of.label
    backing, own = sheet.backing[g], int(sheet.own[g])
    best = float(backing.max(initial=0.0))
    out: list[_Suspicion] = []
    absent = max(0.0, float(usual_backing[given.label]) - best) ** 2 * (1 - float(sheet.cover[g]))
    out.append((ErrorType.EXTRA, absent, Fix("delete"), -1, "no prediction supports it as much as is usual"))
    others = np.array([b if p.label != given.label else 0.0 for b, p in zip(backing, sheet.predicted, strict=True)])
    if others.size and others.max() > 0:
        p = int(others.argmax())
        seen, lead = sheet.predicted[p], float(others[p] - (backing[own] if own >= 0 else 0.0))
        claim = f"the model says {seen.of.label} ({_confidence(seen):.2f}) at IoU {sheet.iou[g, p]:.2f}"
        out.append((ErrorType.WRONG_CLASS, max(0.0, lead), Fix("relabel", seen.of.label, given.of.shape), p, claim))
    if own >= 0:
        fix = Fix("reshape", kind, _suggested(sheet, own, g))
        loose = min(1.0, 2 * max(0.0, 1 - float(sheet.fit[g]) / float(usual_fit[given.label])))
        hollow, stray = _defects(given.crop, sheet.predicted[own].crop)
        for share, claim in (
            (
                loose,
                f"the outline and the model's differ: IoU {sheet.iou[g, own]:.2f}, at the border {sheet.fit[g]:.2f}",
            ),
            (hollow, "it has a hole where the model sees the object"),
            (stray, "a part of it lies apart, where the model sees nothing"),
        ):
            out.append((ErrorType.IMPRECISE, float(backing[own]) * share, fix, own, claim))
    if g in cuts.merged:
        whole, chance = cuts.merged[g]
        fix = Fix("reshape", kind, _suggested(sheet, whole[0], g))
        out.append((ErrorType.IMPRECISE, chance, fix, whole[0], f"the model sees {len(whole)} objects in it"))
    if g in cuts.split:
        p, chance, is_largest = cuts.split[g]
        error = ErrorType.IMPRECISE if is_largest else ErrorType.EXTRA
        fix = Fix("reshape", kind, _suggested(sheet, p, g)) if is_largest else Fix("delete")
        out.append((error, chance, fix, p, "it is one of several labels on what the model sees as one object"))
    highest: list[_Suspicion] = []
    for error in (ErrorType.EXTRA, ErrorType.WRONG_CLASS, ErrorType.IMPRECISE):
        same = [one for one in out if one[0] is error]
        top = max((score for _, score, *_ in same), default=0.0)
        if error is ErrorType.IMPRECISE and own >= 0:
            same = [one for one in same[1:] if one[1] >= top / 2] or same[:1]
        if same:
            _, _, fix, p, claim = max(same, key=lambda one: one[1])
            highest.append((error, top, fix, p, claim))
    return highest


def _defects(given: MaskCrop, seen: MaskCrop) -> tuple[float, float]:
    """How much of a defect the holes and the stray parts of a label are, in [0, 1] each."""
    hollow = MaskCrop(given.left, given.top, holes(given.bits)).shared(seen) / (DEFECT * seen.area)
    number = parts(given.bits)
    area = np.bincount(number.ravel())[1:]
    stray = MaskCrop(given.left, given.top, (number > 0) & (number != 1 + int(area.argmax())))
    return min(1.0, hollow), min(1.0, (stray.area - stray.shared(seen)) / (DEFECT * given.area))


def _survivors(predicted: Sequence[_Seen]) -> list[int]:
    """Greedy suppression over all classes, most confident first."""
    kept: list[int] = []
    for k, seen in enumerate(predicted):
        if all(seen.crop.iou(predicted[j].crop) < SAME_OBJECT for j in kept):
            kept.append(k)
    return kept


def _cuts(sheet: _Sheet) -> _Cuts:
    survivors = _survivors(sheet.predicted)
    return _Cuts(survivors, _merged(sheet, survivors), _split(sheet))


def _weighed(cuts: Sequence[_Cuts], sizes: Sequence[int], kind: Ints) -> list[_Cuts]:
    """The scores by what they tell.

    Args:
        sizes: how many labels each sheet has.
        kind: (N,) int64, the classes of all labels.
    """
    start = np.cumsum([0, *sizes])
    merged, split = np.zeros(len(kind)), np.zeros(len(kind))
    for first, one in zip(start.tolist(), cuts, strict=False):
        for g, (_, score) in one.merged.items():
            merged[first + g] = score
        for g, (_, score, _) in one.split.items():
            split[first + g] = score
    merged, split = merged * telling(merged, kind), split * telling(split, kind)
    return [
        _Cuts(
            one.survivors,
            {g: (whole, float(merged[first + g])) for g, (whole, _) in one.merged.items()},
            {g: (p, float(split[first + g]), largest) for g, (p, _, largest) in one.split.items()},
        )
        for first, one in zip(start.tolist(), cuts, strict=False)
    ]


def _merged(sheet: _Sheet, survivors: Sequence[int]) -> dict[int, tuple[list[int], float]]:
    """For each label over several objects: these, most confident first, and the score."""
    found = {}
    for g in range(len(sheet.given)):
        whole = [p for p in survivors if sheet.inside[g, p] >= INSIDE]
        if len(whole) > 1:
            covered = min(1.0, float(sheet.within[g, whole].sum()))
            found[g] = (whole, _confidence(sheet.predicted[whole[1]]) * covered)
    return found


def _split(sheet: _Sheet) -> dict[int, tuple[int, float, bool]]:
    """For each label that is one of several on one object: the object, the score, whether it is the largest of them."""
    found: dict[int, tuple[int, float, bool]] = {}
    for p, seen in enumerate(sheet.predicted):
        pieces = np.flatnonzero(sheet.within[:, p] >= INSIDE).tolist()
        if len(pieces) > 1:
            score = _confidence(seen) * min(1.0, float(sheet.inside[pieces, p].sum()))
            largest = min(pieces, key=lambda g: (-sheet.given[g].crop.area, _by_content(sheet.given[g])))
            for g in pieces:
                if g not in found or score > found[g][1]:
                    found[g] = (p, score, g == largest)
    return found


def _evidence(sheet: _Sheet, g: int, p: int) -> dict[str, object]:
    seen = sheet.predicted[p].of if p >= 0 else None
    return {
        "confidence": seen.confidence if isinstance(seen, Prediction) else 0.0,
        "iou": float(sheet.iou[g, p]) if g >= 0 and p >= 0 else 0.0,
        "model": seen.model if isinstance(seen, Prediction) else None,
        "predicted_label": None if seen is None else seen.label,
    }
