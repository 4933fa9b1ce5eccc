"""How well the object scorer finds known label errors.

``python benchmarks/quality/object_review.py FOLDER [--predictions FILE] [--out findings.json]``

FOLDER holds ``corrupted.json`` (COCO labels to check), ``predictions_frcnn.json`` (COCO results) and, for the figures,
``truth.json``; ``evaluate.py`` lies in the folder above it. With ``--out`` the suspects are written in the format that
``evaluate.py`` reads; without it the average precision of each error type is printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
from collections import defaultdict
from pathlib import Path
from typing import Any

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.findings import REVIEWED_TYPES, ErrorType
from bridge.core.objects import build_workload
from bridge.scorers.object_review import ObjectReview

#: Our error types in the words of evaluate.py.
WORDS = {
    ErrorType.MISSING: "missing",
    ErrorType.EXTRA: "spurious",
    ErrorType.IMPRECISE: "badloc",
    ErrorType.WRONG_CLASS: "swap",
}


def read_records(labels: Path, predictions: Path) -> tuple[LabelSet, list[Record]]:
    """COCO labels and COCO results as records, one submission an image; annotation ids are COCO's."""
    coco = json.loads(labels.read_text())
    names = {c["id"]: c["name"] for c in coco["categories"]}
    annotations: dict[int, list[Annotation]] = defaultdict(list)
    for a in coco["annotations"]:
        annotations[a["image_id"]].append(Annotation(str(a["id"]), names[a["category_id"]], _box(a["bbox"])))
    found: dict[int, list[Prediction]] = defaultdict(list)
    for p in json.loads(predictions.read_text()):
        found[p["image_id"]].append(Prediction(names[p["category_id"]], _box(p["bbox"]), p["score"], predictions.stem))
    records = [
        Record(
            Item(str(i["id"]), i["file_name"], i["file_name"], i["width"], i["height"]),
            (Submission(str(i["id"]), "", tuple(annotations[i["id"]])),),
            tuple(found[i["id"]]),
        )
        for i in coco["images"]
    ]
    return LabelSet(tuple(names.values())), records


def suspects_as_findings(labels: LabelSet, records: list[Record]) -> list[dict[str, Any]]:
    """All suspects with a score, in the format of evaluate.py."""
    workload = build_workload("coco", labels, records)
    suspects = ObjectReview().score(workload)
    out = []
    for error, given, predicted, score in zip(
        suspects.error, suspects.given, suspects.predicted, suspects.score, strict=True
    ):
        unit = (workload.given.unit[given] if given >= 0 else workload.predicted.unit[predicted]).item()
        finding: dict[str, Any] = {
            "image_id": int(workload.units[unit].item.id),
            "type": WORDS[REVIEWED_TYPES[error]],
            "ann_id": int(workload.annotations[given].id) if given >= 0 else None,
            "score": float(score),
        }
        if given < 0:
            x1, y1, x2, y2 = workload.predicted.xyxy[predicted].tolist()
            finding["bbox"] = [x1, y1, x2 - x1, y2 - y1]
        out.append(finding)
    return out


def _box(xywh: list[float]) -> Box:
    x, y, w, h = map(float, xywh)
    return Box(x, y, x + w, y + h)


def _evaluation(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("evaluate", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"no evaluation script at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--predictions", type=Path, help="COCO results; default FOLDER/predictions_frcnn.json")
    parser.add_argument("--out", type=Path, help="write the findings here instead of printing figures")
    options = parser.parse_args()
    folder = options.folder.resolve()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    findings = suspects_as_findings(
        *read_records(folder / "corrupted.json", options.predictions or folder / "predictions_frcnn.json")
    )
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    print(f"{len(findings)} suspects in {spent:.1f} CPU seconds, reading included")
    if options.out:
        options.out.write_text(json.dumps({"findings": findings}))
        return
    figures = _evaluation(folder.parent / "evaluate.py").evaluate(str(folder), findings)
    for kind in (*WORDS.values(), "any", "any_typed", "image"):
        row = figures[kind]
        more = f"  AUROC {row['AUROC']:.3f}" if "AUROC" in row else ""
        print(f"{kind:10s} AP {row['AP']:.3f}  P@100 {row['P@100']:.2f}  recall {row['recall']:.3f}{more}")


if __name__ == "__main__":
    main()
