"""How well the errors of several annotators are found, by what they and a detector see together.

``python benchmarks/quality/consensus.py FOLDER [--images N] [--seed N]``

FOLDER holds ``corrupted.json`` (COCO labels), ``truth.json`` (the errors in them, so that clean labels can be had) and
``predictions_frcnn.json`` (COCO results of a real detector, out of fold). Each image is labelled by three of four
made-up annotators, who err independently and differently; see ``ANNOTATORS``. Printed: the average precision of the
ranked findings over all errors of all submissions (a missing object is found by a box at IoU .5, any other error by a
finding about that annotation), with and without the detector, beside plain majority voting over the same clusters and
beside judging each submission against the detector alone.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.consensus import cluster_objects
from bridge.core.findings import Finding
from bridge.core.geometry import iou_matrix
from bridge.core.metrics import average_precision
from bridge.core.objects import build_workload
from bridge.scorers import explain
from bridge.scorers.consensus_review import ConsensusReview, beside
from bridge.scorers.object_review import ObjectReview


@dataclass(frozen=True)
class Annotator:
    """Shares of objects: overlooked, of the wrong class, badly drawn, and invented ones as a share of the real ones."""

    name: str
    misses: float
    swaps: float
    shifts: float
    invents: float


ANNOTATORS = (
    Annotator("careful", 0.02, 0.01, 0.02, 0.01),
    Annotator("hasty", 0.15, 0.02, 0.10, 0.02),
    Annotator("confused", 0.03, 0.12, 0.03, 0.03),
    Annotator("eager", 0.03, 0.03, 0.05, 0.15),
)
PER_IMAGE = 3


@dataclass(frozen=True)
class Errors:
    """What is wrong: the ids of annotations, and the boxes that a submission lacks."""

    annotations: set[str]
    missing: dict[str, list[Box]]

    def __len__(self) -> int:
        return len(self.annotations) + sum(map(len, self.missing.values()))


def read(
    folder: Path, images: int
) -> tuple[LabelSet, list[tuple[Item, list[tuple[str, Box]], tuple[Prediction, ...]]]]:
    """Items with their clean labels and what the detector sees."""
    coco = json.loads((folder / "corrupted.json").read_text())
    names = {c["id"]: c["name"] for c in coco["categories"]}
    wrong = defaultdict(list)
    given = {}
    for e in json.loads((folder / "truth.json").read_text())["errors"]:
        given[e["ann_id"]] = e
        if e["type"] != "spurious":
            wrong[e["image_id"]].append((names[e["category_id"]], _box(e["bbox"])))
    for a in coco["annotations"]:
        if a["id"] not in given:
            wrong[a["image_id"]].append((names[a["category_id"]], _box(a["bbox"])))
    seen = defaultdict(list)
    for p in json.loads((folder / "predictions_frcnn.json").read_text()):
        seen[p["image_id"]].append(Prediction(names[p["category_id"]], _box(p["bbox"]), p["score"], "frcnn"))
    chosen = coco["images"][:: max(1, len(coco["images"]) // images)][:images]
    items = [Item(str(i["id"]), i["file_name"], "", i["width"], i["height"]) for i in chosen]
    return LabelSet(tuple(names.values())), [(i, wrong[int(i.id)], tuple(seen[int(i.id)])) for i in items]


def _box(xywh: list[float]) -> Box:
    x, y, w, h = map(float, xywh)
    return Box(x, y, x + max(w, 1.0), y + max(h, 1.0))


def label(
    who: Annotator,
    item: Item,
    clean: list[tuple[str, Box]],
    names: tuple[str, ...],
    rng: np.random.Generator,
    errors: Errors,
) -> Submission:
    """One person's work on one image; every error is entered in ``errors``."""
    sid, objects = f"{item.id}-{who.name}", []

    def put(kind: str, box: Box, *, is_wrong: bool) -> None:
        objects.append(Annotation(f"{sid}-{len(objects)}", kind, box))
        if is_wrong:
            errors.annotations.add(objects[-1].id)

    for kind, box in clean:
        chance = rng.random()
        if chance < who.misses:
            errors.missing.setdefault(sid, []).append(box)
        elif chance < who.misses + who.swaps:
            put(str(rng.choice([n for n in names if n != kind])), _moved(box, 0.03, rng), is_wrong=True)
        else:
            is_off = chance < who.misses + who.swaps + who.shifts
            put(kind, _moved(box, 0.2, rng) if is_off else _moved(box, 0.03, rng), is_wrong=is_off)
    for _ in range(rng.binomial(len(clean), who.invents)):
        _, like = clean[rng.integers(len(clean))]
        w, h = like.x2 - like.x1, like.y2 - like.y1
        x, y = rng.uniform(0, max(1.0, item.width - w)), rng.uniform(0, max(1.0, item.height - h))
        box = Box(x, y, x + w, y + h)
        taken = np.array([b.xyxy for _, b in clean])
        if iou_matrix(np.array([box.xyxy]), taken).max() < 0.15:
            put(str(rng.choice(names)), box, is_wrong=True)
    return Submission(sid, who.name, tuple(objects))


def _moved(box: Box, share: float, rng: np.random.Generator) -> Box:
    """Every side moved by about this share of the box's own size; a bad one by at least half of that."""
    w, h = box.x2 - box.x1, box.y2 - box.y1
    size = np.abs(rng.normal(0, share, 4)).clip(share / 2 if share > 0.1 else 0, 0.35) * rng.choice([-1, 1], 4)
    dx1, dy1, dx2, dy2 = (size * [w, h, w, h]).tolist()
    return Box(box.x1 + dx1, box.y1 + dy1, box.x2 + dx2, box.y2 + dy2)


def quality(findings: Iterable[Finding], errors: Errors) -> float:
    """Average precision; each error is found once, further findings about it are passed over."""
    wanted = {sid: list(boxes) for sid, boxes in errors.missing.items()}
    done: set[str] = set()
    hits = []
    for finding in sorted(findings, key=lambda f: (-f.score, f.id)):
        key = finding.annotation_ids[0] if finding.annotation_ids else ""
        if key:
            if key in done:
                continue
            done.add(key)
            hits.append(key in errors.annotations)
            continue
        boxes, shape = wanted.get(finding.submission_id, []), finding.fix.shape
        hit = False
        if boxes and isinstance(shape, Box):
            iou = iou_matrix(np.array([shape.xyxy]), np.array([b.xyxy for b in boxes]))[0]
            if hit := bool(iou.max() >= 0.5):
                del boxes[int(iou.argmax())]
        hits.append(hit)
    return average_precision(np.array(hits, dtype=np.bool_), len(errors))


def majority(target: str, labels: LabelSet, records: list[Record]) -> list[Finding]:
    """The consensus review's own findings, scored by the share of people who see it otherwise."""
    shares: dict[str, float] = {}
    for record in records:
        rows = [(k, a) for k, s in enumerate(record.submissions) for a in s.annotations]
        xyxy = np.array([a.shape.xyxy for _, a in rows if isinstance(a.shape, Box)]).reshape(-1, 4)
        cluster = cluster_objects(np.array([k for k, _ in rows], dtype=np.int64), xyxy, np.zeros(len(rows)))
        for (_, a), c in zip(rows, cluster, strict=True):
            agree = sum(b.label == a.label for (_, b), d in zip(rows, cluster, strict=True) if d == c)
            shares[a.id] = 1 - agree / len(record.submissions)
    return [
        replace(f, score=shares[f.annotation_ids[0]] if f.annotation_ids else f.evidence["people"] / f.evidence["of"])
        for f in ConsensusReview().find(target, labels, records)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    labels, pictures = read(options.folder, options.images)
    rng, errors = np.random.default_rng(options.seed), Errors(set(), {})
    records = []
    for item, clean, seen in pictures:
        team = rng.permutation(len(ANNOTATORS))[:PER_IMAGE]
        work = tuple(label(ANNOTATORS[k], item, clean, labels.names, rng, errors) for k in team) if clean else ()
        records.append(Record(item, work, seen, predicted_by=("frcnn",)))
    people_only = [replace(r, predictions=(), predicted_by=()) for r in records]
    objects = sum(len(s.annotations) for r in records for s in r.submissions)
    print(
        f"{len(records)} images, {objects} labels of {PER_IMAGE} of {len(ANNOTATORS)} people each, {len(errors)} errors"
    )
    workload = build_workload("t", labels, records)
    alone = explain.findings(workload, ObjectReview().score(workload), "alone")
    review = ConsensusReview()
    for what, findings in (
        ("each submission against the detector", alone),
        ("majority of the people", majority("t", labels, people_only)),
        ("consensus of the people", review.find("t", labels, people_only)),
        ("consensus of people and detector", beside(review.find("t", labels, records), alone, records)),
    ):
        print(f"{what:38s} AP {quality(findings, errors):.3f}")


if __name__ == "__main__":
    main()
