"""What it adds to ask the model about the labelled boxes: the demo's planted errors, found with and without.

``python benchmarks/quality/probing.py [--images 300] [--detector embedded] [--weights FILE]`` draws scenes, plants
errors into their labels as the demo does, runs the detector and asks it about each box, as ``labelbridge score`` does,
and prints the average precision of the ranked findings: an error is found by the first finding of its kind on it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bridge import wiring
from bridge.core.annotations import Box
from bridge.core.findings import REVIEWED_TYPES, ErrorType, Finding
from bridge.core.geometry import iou_matrix
from bridge.core.objects import Workload, build_workload
from bridge.core.planting import HIT_IOU, PlantedError
from bridge.demo import dataset
from bridge.scorers import explain
from bridge.scorers.planted_review import PlantedReview
from bridge.settings import Settings
from bridge.tools.files import open_files


def average_precision(findings: Sequence[Finding], planted: Sequence[PlantedError]) -> float:
    """Mean over the planted errors of the precision at the rank where each is found, 0 where it never is."""
    waiting = list(planted)
    hits = 0
    total = 0.0
    for rank, finding in enumerate(sorted(findings, key=lambda f: (-f.score, f.id)), start=1):
        found = next((error for error in waiting if _hits(finding, error)), None)
        if found is not None:
            waiting.remove(found)
            hits += 1
            total += hits / rank
    return total / len(planted)


def _hits(finding: Finding, error: PlantedError) -> bool:
    if finding.error is not error.error or finding.item_id != error.item_id:
        return False
    if error.annotation_id is not None:
        return error.annotation_id in finding.annotation_ids
    shape = finding.fix.shape
    return isinstance(shape, Box) and iou_matrix(np.array([shape.xyxy]), np.array([error.box.xyxy]))[0, 0] >= HIT_IOU


def figures(workload: Workload, planted: Sequence[PlantedError]) -> list[float]:
    """The average precision of each kind of error, and of all in one list."""
    review = PlantedReview()
    findings = explain.findings(workload, review.score(workload), review.name)
    kinds = [(error,) for error in REVIEWED_TYPES] + [REVIEWED_TYPES]
    return [_of(kind, findings, planted) for kind in kinds]


def _of(kinds: Sequence[ErrorType], findings: Sequence[Finding], planted: Sequence[PlantedError]) -> float:
    return average_precision([f for f in findings if f.error in kinds], [e for e in planted if e.error in kinds])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--detector", default="embedded")
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = dataset.make(folder / "images", options.images, 0)
        dataset.write_coco(data.records, folder / "annotations.json")
        tool = open_files(f"coco:{folder / 'annotations.json'}", folder / "images")
        chosen = wiring.SourceOptions(detector=options.detector, weights=options.weights)
        source = wiring.prediction_source(tool, chosen, Settings.load())
        page = tool.read_page(None, options.images)
        seconds = {}
        for probes in (False, True):
            before = time.process_time()
            records, _ = replace(source, probes=probes).attach(page.records)  # type: ignore[type-var]
            seconds[probes] = (time.process_time() - before) / options.images
        names = {record.item.name: record.item.id for record in records}
        planted = [replace(e, item_id=names[f"scene-{int(e.item_id):04d}.jpg"]) for e in data.planted]
        probed = build_workload(tool.target, dataset.LABELS, records)
    asked = 0 if probed.probes is None else int(np.isfinite(probed.probes.xyxy).all(axis=1).sum())
    print(f"{len(probed.given)} labels, {asked} asked about, {len(planted)} errors, {source.model}")
    print(f"CPU s an image: {seconds[False]:.3f} to predict, {seconds[True]:.3f} to ask as well")
    print(f"{'':24}" + "".join(f"{name:>13}" for name in (*REVIEWED_TYPES, "all")))
    for words, workload in (("predictions", replace(probed, probes=None)), ("predictions and answers", probed)):
        print(f"{words:24}" + "".join(f"{value:13.3f}" for value in figures(workload, planted)))


if __name__ == "__main__":
    main()
