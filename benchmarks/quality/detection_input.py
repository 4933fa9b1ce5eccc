"""Folders of COCO labels and detector outputs, as the scorers read them; and what of a folder a test looks at."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.objects import Workload, build_workload
from bridge.core.probes import Probes


@dataclass(frozen=True)
class Selection:
    """``cut`` drops predictions below that confidence; ``share`` keeps that share of the images."""

    cut: float = 0.0
    share: float = 1.0

    def has(self, image_id: int) -> bool:
        """The same images for the same share, whatever their order, and each share within the larger ones."""
        digest = hashlib.blake2b(str(image_id).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.share * 2**64


def select_labels(coco: dict[str, Any], selection: Selection) -> dict[str, Any]:
    return {
        **coco,
        "images": [i for i in coco["images"] if selection.has(i["id"])],
        "annotations": [a for a in coco["annotations"] if selection.has(a["image_id"])],
    }


def read_workload(
    coco: dict[str, Any], predictions: Path, regions: Path | None = None, selection: Selection | None = None
) -> Workload:
    """COCO labels, COCO results and, where given, the answers of a model about the labels' boxes.

    One submission an image; annotation ids are COCO's.
    """
    selection = selection or Selection()
    names = {c["id"]: c["name"] for c in sorted(coco["categories"], key=lambda c: c["id"])}
    annotations: dict[int, list[Annotation]] = defaultdict(list)
    for a in coco["annotations"]:
        annotations[a["image_id"]].append(Annotation(str(a["id"]), names[a["category_id"]], _box(a["bbox"])))
    found: dict[int, list[Prediction]] = defaultdict(list)
    for p in json.loads(predictions.read_text()):
        if p["score"] >= selection.cut:
            label = names[p["category_id"]]
            found[p["image_id"]].append(Prediction(label, _box(p["bbox"]), p["score"], predictions.stem))
    records = [
        Record(
            Item(str(i["id"]), i["file_name"], i["file_name"], i["width"], i["height"]),
            (Submission(str(i["id"]), str(i.get("annotator", "")), tuple(annotations[i["id"]])),),
            tuple(found[i["id"]]),
        )
        for i in coco["images"]
    ]
    workload = build_workload("coco", LabelSet(tuple(names.values())), records)
    return workload if regions is None else _with_probes(workload, regions)


def _with_probes(workload: Workload, regions: Path) -> Workload:
    data = json.loads(regions.read_text())
    known = {r["ann_id"]: r for r in (data["rois"] if isinstance(data, dict) else data)}
    probabilities = np.full((len(workload.annotations), len(workload.labels.names) + 1), np.nan)
    xyxy = np.full((len(workload.annotations), 4), np.nan)
    for k, annotation in enumerate(workload.annotations):
        region = known.get(int(annotation.id))
        if region is not None and len(region["probs"]) == probabilities.shape[1]:
            probabilities[k] = region["probs"]
            xyxy[k] = _box(region["refined_bbox"]).xyxy
    return Workload(
        workload.target,
        workload.labels,
        workload.units,
        workload.annotations,
        workload.predictions,
        workload.given,
        workload.predicted,
        Probes(probabilities, xyxy),
    )


def _box(xywh: list[float]) -> Box:
    x, y, w, h = map(float, xywh)
    return Box(x, y, x + w, y + h)
