"""How well wrong instance masks are found, beside FiftyOne's formula on masks and plain 1 - IoU; and by class maps.

``python benchmarks/quality/instances.py FOLDER [--seeds N] [--images N] [--shrink N]``

FOLDER holds ``instances.json`` (COCO, run-length masks) and ``images/``. Errors of ten kinds are planted
(``instance_errors.py``); a nucleus is of the class "grey" or "coloured", as its image is. The model
(``instance_model.py``) is fitted on the corrupted labels of one half of the images to predict the other. It is asked
for objects, which the instance review holds against the labels, and for class maps, which the map review does.

Printed are, for each seed and then as means, average precisions: of each kind (among the findings whose type is right
for it, those about errors of other kinds passed over), of all errors by any finding (``any``) and by the right one
(``typed``), and of the images by their worst finding. A further finding about what is found already is passed over.
A label is found by its id, a missing object by a mask at IoU .5. Of the map review also the expected calibration error
of its findings from .1 on, and the CPU time of the notes.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from instance_errors import DIRTY, KINDS, RATE, Error, plant
from instance_model import class_maps, objects, pixel_targets, predicted
from segmentation import Image, read

from bridge.core.annotations import Annotation, Item, LabelSet, Mask, Record, Submission
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.masks import MaskCrop
from bridge.core.metrics import average_precision
from bridge.core.objects import Unit
from bridge.core.rle import decode_coco, encode_coco
from bridge.flows.score import ScoreOptions
from bridge.scorers.explain import one_finding
from bridge.scorers.instance_review import InstanceReview
from bridge.scorers.map_notes import take_notes
from bridge.scorers.map_review import MapReview

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

CLASSES = ("grey", "coloured")
LABELS = LabelSet(CLASSES)


def bench(pictures: Sequence[tuple[Image, list[Bools], int]], seed: int) -> tuple[list[Record], list[Error], float]:
    """Labels with errors, what a model sees (objects, and notes of its class maps), what is wrong, and the CPU seconds
    that the notes took."""
    rng, sheets = np.random.default_rng(seed), []
    for k, (_, masks, kind) in enumerate(pictures):
        rate = RATE if rng.random() < DIRTY else 0.0
        sheets.append(plant(str(k), masks, CLASSES[kind - 1], CLASSES, rate=rate, rng=rng))
    targets = [
        pixel_targets([(CLASSES.index(kind), mask) for kind, mask in s.label.values()], p.shape[:2])
        for s, (p, _, _) in zip(sheets, pictures, strict=True)
    ]
    records, spent = [], 0.0
    for sheet, seen in zip(sheets, predicted([p for p, _, _ in pictures], targets, len(CLASSES), seed), strict=True):
        given = tuple(Annotation(name, kind, encode_coco(mask)) for name, (kind, mask) in sheet.label.items())
        item = Item(sheet.image, sheet.image, "", seen.shape[2], seen.shape[1])
        work = (Submission(sheet.image, "", given),)
        record = Record(item, work, tuple(objects(seen, CLASSES)), predicted_by=("pixels",))
        began = time.process_time()
        records.append(replace(record, notes=take_notes(record, class_maps(seen), CLASSES)))
        spent += time.process_time() - began
    return records, [error for sheet in sheets for error in sheet.errors], spent


def fiftyone_and_plain(records: Sequence[Record]) -> dict[str, list[Finding]]:
    """FiftyOne's formulas as in ``detection_peers.py``, with the IoU of masks, and 1 - IoU with the nearest."""
    found: dict[str, list[Finding]] = {"FiftyOne": [], "1 - IoU": []}
    for record in records:
        (submission,) = record.submissions
        given, seen = submission.annotations, record.predictions
        crops = [
            [MaskCrop.of(decode_coco(o.shape)) for o in side if isinstance(o.shape, Mask)] for side in (given, seen)
        ]
        iou = np.array([[g.iou(p) if g and p else 0.0 for p in crops[1]] for g in crops[0]])
        iou = iou.reshape(len(given), len(seen))
        unit = Unit(record.item, submission)

        def put(name: str, error: ErrorType, score: float, g: int, p: int, unit: Unit = unit) -> None:
            mine = unit.submission.annotations[g] if g >= 0 else None
            fix = Fix("add", "", seen[p].shape) if g < 0 else Fix("none")  # noqa: B023
            found[name].append(one_finding("t", unit, error, mine, "", score, "", fix, name, {}))

        free = np.ones(len(given), dtype=bool)
        for p in sorted(range(len(seen)), key=lambda p: -seen[p].confidence):
            sure = seen[p].confidence
            overlap = np.where(free, iou[:, p], 0.0)
            if overlap.max(initial=0.0) < 0.5:
                if sure > 0.95:
                    put("FiftyOne", ErrorType.MISSING, 1.0, -1, p)
                continue
            g = int(overlap.argmax())
            free[g] = False
            swapped = given[g].label != seen[p].label
            put("FiftyOne", ErrorType.WRONG_CLASS, (1 + sure) / 2 if swapped else (1 - sure) / 2, g, p)
            put("FiftyOne", ErrorType.IMPRECISE, (sure * (4 * (1 - overlap[g]) - 1) + 1) / 2, g, p)
        for g in np.flatnonzero(free).tolist():
            put("FiftyOne", ErrorType.EXTRA, 1.0, g, -1)
        for g in range(len(given)):
            p = int(iou[g].argmax()) if len(seen) else -1
            best = float(iou[g, p]) if p >= 0 else 0.0
            error = ErrorType.EXTRA if best < 0.1 else ErrorType.IMPRECISE
            if best >= 0.5 and seen[p].label != given[g].label:
                put("1 - IoU", ErrorType.WRONG_CLASS, 1.0, g, p)
            put("1 - IoU", error, 1 - best, g, p)
        for p in np.flatnonzero(iou.max(axis=0, initial=0.0) < 0.5).tolist():
            put("1 - IoU", ErrorType.MISSING, float(1 - iou[:, p].max(initial=0.0)), -1, p)
    return found


class Judge:
    """Which finding is about which error."""

    def __init__(self, errors: Sequence[Error]) -> None:
        self.by_id = {name: e for e in errors for name in e.ids}
        self.gone: dict[str, list[tuple[MaskCrop, Error]]] = defaultdict(list)
        for error in errors:
            for mask in error.truth:
                crop = MaskCrop.of(mask)
                assert crop is not None
                self.gone[error.image].append((crop, error))
        self.errors = errors

    def about(self, finding: Finding) -> Error | None:
        if finding.annotation_ids:
            return self.by_id.get(finding.annotation_ids[0])
        crop = MaskCrop.of(decode_coco(finding.fix.shape)) if isinstance(finding.fix.shape, Mask) else None
        near = [(crop.iou(mask), k) for k, (mask, _) in enumerate(self.gone[finding.item_id])] if crop else []
        iou, k = max(near, default=(0.0, -1))
        return self.gone[finding.item_id][k][1] if iou >= 0.5 else None

    def figures(self, findings: Sequence[Finding]) -> dict[str, float]:
        """Average precision of each list that the module's text names."""
        ranked = [(f, self.about(f)) for f in sorted(findings, key=lambda f: (-f.score, f.id))]
        out = {}
        for kind, right in KINDS.items():
            mine = [(f, e) for f, e in ranked if f.error in right]
            kept = [(f, e) for f, e in mine if e is None or e.kind == kind or f.error not in KINDS[e.kind]]
            out[kind] = self._precision(
                [(f, e if e is not None and e.kind == kind else None) for f, e in kept],
                sum(e.kind == kind for e in self.errors),
            )
        out["any"] = self._precision(ranked, len(self.errors))
        right_only = [(f, e if e is not None and f.error in KINDS[e.kind] else None) for f, e in ranked]
        out["typed"] = self._precision(right_only, len(self.errors), by_type=True)
        worst: dict[str, float] = {}
        for f, _ in ranked:
            worst.setdefault(f.item_id, f.score)
        dirty = {e.image for e in self.errors}
        order = sorted(worst, key=lambda image: (-worst[image], image))
        out["image"] = average_precision(np.array([image in dirty for image in order]), len(dirty))
        return out

    def calibration_error(self, findings: Sequence[Finding]) -> float:
        """Of the findings that a run keeps: the mean difference of score and share of real errors, in ten bands."""
        kept = [f for f in findings if f.score >= ScoreOptions().keep]
        score = np.array([f.score for f in kept])
        real = np.array([(e := self.about(f)) is not None and f.error in KINDS[e.kind] for f in kept])
        band = np.minimum((score * 10).astype(int), 9)
        count, promised, true = (np.bincount(band, w, 10) for w in (None, score, real))
        return float(np.abs(promised - true).sum() / count.sum())

    @staticmethod
    def _precision(ranked: Sequence[tuple[Finding, Error | None]], total: int, *, by_type: bool = False) -> float:
        hits, done, seen = [], set(), set()
        for finding, error in ranked:
            if error is not None:
                if id(error) not in done:
                    done.add(id(error))
                    hits.append(True)
                continue
            key = (finding.annotation_ids or (finding.id,), finding.error if by_type else None)
            if key not in seen:
                seen.add(key)
                hits.append(False)
        return average_precision(np.array(hits, dtype=np.bool_), total)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=224)
    parser.add_argument("--shrink", type=int, default=2, help="how many times smaller the images are made")
    options = parser.parse_args()
    pictures = [p for p in read(options.folder, options.images, options.shrink) if p[1]]
    lists = (*KINDS, "any", "typed", "image")
    sums: dict[str, list[list[float]]] = defaultdict(list)
    print(f"{'':24s}" + "".join(f"{name:>9s}" for name in lists))
    for seed in range(options.seeds):
        records, errors, spent = bench(pictures, seed)
        judge = Judge(errors)
        plain = [replace(record, notes=()) for record in records]
        ours = {
            "map review": MapReview().find("t", LABELS, records),
            "instance review": InstanceReview().find("t", LABELS, plain),
        }
        off = judge.calibration_error(ours["map review"])
        print(
            f"seed {seed} map review: off by {off:.3f}, {spent / len(records):.2f} s of CPU time for an image's notes"
        )
        for name, findings in {**ours, **fiftyone_and_plain(records)}.items():
            row = judge.figures(findings)
            sums[name].append([row[k] for k in lists])
            print(f"seed {seed} {name:17s}" + "".join(f"{row[k]:9.3f}" for k in lists), flush=True)
        counts = [sum(e.kind == k for e in errors) for k in KINDS]
        print(f"seed {seed} {'planted':17s}" + "".join(f"{n:9d}" for n in [*counts, len(errors)]), flush=True)
    for name, rows in sums.items():
        print(f"mean   {name:17s}" + "".join(f"{v:9.3f}" for v in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
