"""How well label errors in detection data are found, beside cleanlab, FiftyOne's formula and the plain recipe.

``python benchmarks/quality/detection.py FOLDER [--predictions FILE] [--regions FILE] [--cut .3] [--share .1]
[--out findings.json] [--chart chart.svg] [--no-peer]``

FOLDER holds ``corrupted.json`` (COCO labels to check) and ``predictions_frcnn.json`` (COCO results); ``--regions``
names the model's answers about the labels' own boxes: ``{"rois": [{"ann_id", "probs", "refined_bbox"}]}``, ``probs``
with the background first.

With ``--out`` the findings are written in the format that ``evaluate.py`` reads, and nothing else happens. Without it,
``truth.json`` in FOLDER and ``evaluate.py`` in the folder above give the figures: average precision (AP), precision
among the first 100 and among as many findings as there are errors (P@N), and the share of errors found in twice as many
(R@2N), for each type, for any error, for any with its type right, and for images. A reliability table follows: of the
findings with a probability in a range, how many are real. cleanlab must be installed (group ``bench``), or
``--no-peer`` given.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from detection_chart import Curve, chart
from detection_input import Selection, read_workload, select_labels
from detection_peers import (
    Finding,
    Suspicion,
    cleanlab_objectlab,
    fiftyone_mistakenness,
    finding,
    unmatched_by_confidence,
)

from bridge.core.findings import REVIEWED_TYPES, ErrorType
from bridge.core.objects import Workload
from bridge.scorers import Scorer, Suspects
from bridge.scorers.object_review import ObjectReview
from bridge.scorers.planted_review import PlantedReview

#: Our error types in the words of evaluate.py.
WORDS = {
    ErrorType.MISSING: "missing",
    ErrorType.EXTRA: "spurious",
    ErrorType.IMPRECISE: "badloc",
    ErrorType.WRONG_CLASS: "swap",
}
LISTS = (*WORDS.values(), "any", "any_typed", "image")
#: Findings below this are not shown to anyone by default, and take no part in the reliability of what is shown.
SHOWN = 0.1


def scored(scorer: Scorer, workload: Workload) -> list[Finding]:
    """All suspects with a score, in the format of evaluate.py."""
    return as_findings(workload, scorer.score(workload))


def as_findings(workload: Workload, suspects: Suspects) -> list[Finding]:
    columns = (suspects.error, suspects.given, suspects.predicted, suspects.score)
    return [
        finding(workload, WORDS[REVIEWED_TYPES[error]], given, predicted, score)
        for error, given, predicted, score in zip(*(c.tolist() for c in columns), strict=True)
    ]


def listed(workload: Workload, suspicions: list[Suspicion]) -> list[Finding]:
    """What a peer suspects, in the format of evaluate.py."""
    return [finding(workload, *suspicion) for suspicion in suspicions]


def reliability(findings: list[Finding], hits: np.ndarray, least: float, bins: int = 10) -> tuple[list[str], float]:
    """A line for each range of scores (how many, mean score, share of hits), and the expected calibration error."""
    score = np.array([f["score"] for f in findings])
    kept = score >= least
    score, real = score[kept], hits[kept]
    which = np.minimum((score * bins).astype(int), bins - 1)
    lines, error = [], 0.0
    for b in range(bins):
        here = which == b
        if here.any():
            mean, share = score[here].mean(), real[here].mean()
            error += abs(mean - share) * here.sum() / len(score)
            lines.append(f"{b / bins:.1f}-{(b + 1) / bins:.1f}  {here.sum():7d}  {mean:.3f}  {share:.3f}")
    return lines, error


def typed_hits(evaluation: Any, truth: list[dict[str, Any]], findings: list[Finding]) -> np.ndarray:
    """(N,) bool: which findings are right, type included. A missing object is hit once, by the best of its findings."""
    about = {(e["type"], e["ann_id"]) for e in truth if e["type"] != "missing"}
    open_: dict[int, list[Any]] = {}
    for e in truth:
        if e["type"] == "missing":
            open_.setdefault(e["image_id"], []).append(e["bbox"])
    hits = np.zeros(len(findings), dtype=bool)
    for k in np.argsort([-f["score"] for f in findings], kind="stable").tolist():
        f = findings[k]
        if f["type"] != "missing":
            hits[k] = (f["type"], f["ann_id"]) in about
            continue
        boxes = open_.get(f["image_id"], [])
        overlap = [evaluation.iou(f["bbox"], box) for box in boxes]
        if overlap and max(overlap) >= 0.5:
            hits[k] = True
            boxes.pop(int(np.argmax(overlap)))
    return hits


def _evaluation(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("evaluate", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"no evaluation script at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare(
    evaluation: Any, coco: dict[str, Any], truth: list[dict[str, Any]], methods: dict[str, Callable[[], list[Finding]]]
) -> list[Curve]:
    """Run each method and print its figures; the curves of precision for the chart."""
    curves = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "corrupted.json").write_text(json.dumps(coco))
        (Path(folder) / "truth.json").write_text(json.dumps({"errors": truth}))
        for name, method in methods.items():
            before = _cpu()
            findings = method()
            print(f"\n{name}: {len(findings)} findings, {_cpu() - before:.1f} CPU s")
            figures = evaluation.evaluate(folder, findings)
            for kind in LISTS:
                row = figures[kind]
                more = f"  AUROC {row['AUROC']:.3f}" if "AUROC" in row else ""
                known = f"P@N {row.get('P@N', row['P@100']):.3f}  R@2N {row['R@2N']:.3f}"
                print(f"  {kind:9s}  AP {row['AP']:.3f}  P@100 {row['P@100']:.2f}  {known}{more}")
            hits = typed_hits(evaluation, truth, findings)
            order = np.argsort([-f["score"] for f in findings], kind="stable")
            curves.append(Curve(name, hits[order], len(truth)))
            if name.startswith("planted"):
                _print_reliability(findings, hits)
    return curves


def _print_reliability(findings: list[Finding], hits: np.ndarray) -> None:
    lines, shown = reliability(findings, hits, SHOWN)
    _, all_of_them = reliability(findings, hits, 0.0)
    print("  score    findings   mean   real")
    for line in lines:
        print(f"  {line}")
    print(f"  expected calibration error: {shown:.3f} from {SHOWN} on, {all_of_them:.3f} over all suspects")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--predictions", type=Path, help="COCO results; default FOLDER/predictions_frcnn.json")
    parser.add_argument("--regions", type=Path, help="the model's answers about the labels' own boxes")
    parser.add_argument("--cut", type=float, default=0.0, help="drop predictions below this confidence")
    parser.add_argument("--share", type=float, default=1.0, help="look at this share of the images")
    parser.add_argument("--out", type=Path, help="write the findings here instead of printing figures")
    parser.add_argument("--chart", type=Path, help="write an SVG of precision by findings reviewed")
    parser.add_argument("--no-peer", action="store_true", help="leave cleanlab out")
    return parser.parse_args()


def main() -> None:
    options = _options()
    folder = options.folder.resolve()
    selection = Selection(options.cut, options.share)
    coco = select_labels(json.loads((folder / "corrupted.json").read_text()), selection)
    predictions = options.predictions or folder / "predictions_frcnn.json"
    plain = read_workload(coco, predictions, None, selection)
    probed = read_workload(coco, predictions, options.regions, selection) if options.regions else None
    if options.out:
        findings = scored(PlantedReview(), probed or plain)
        options.out.write_text(json.dumps({"findings": findings}))
        print(f"{len(findings)} findings in {options.out}")
        return
    print(f"{len(coco['images'])} images, {len(plain.given)} labels, {len(plain.predicted)} predictions")
    methods: dict[str, Callable[[], list[Finding]]] = {"planted review": lambda: scored(PlantedReview(), plain)}
    if probed is not None:
        methods["planted review, probed"] = lambda: scored(PlantedReview(), probed)
    methods["object review"] = lambda: scored(ObjectReview(), plain)
    if not options.no_peer:
        methods["cleanlab ObjectLab"] = lambda: listed(plain, cleanlab_objectlab(plain))
    methods["FiftyOne's formula"] = lambda: listed(plain, fiftyone_mistakenness(plain))
    methods["unmatched by confidence"] = lambda: listed(plain, unmatched_by_confidence(plain))
    truth = json.loads((folder / "truth.json").read_text())["errors"]
    truth = [e for e in truth if selection.has(e["image_id"])]
    curves = compare(_evaluation(folder.parent / "evaluate.py"), coco, truth, methods)
    if options.chart:
        options.chart.write_text(chart(curves))


if __name__ == "__main__":
    main()
