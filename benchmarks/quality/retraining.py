"""What fixing labels does to the model: train, find errors out of fold, let a reviewer fix the top, train again.

``python benchmarks/quality/retraining.py FOLDER --images DIR --work DIR [--rate .1] [--seeds 2]
[--parts 3] [--train 1] [--folds 3] [--effort 1] [--device auto]``

FOLDER holds ``corrupted.json`` and ``truth.json`` as for ``detection.py``; of its images those are used whose file is
below ``--images``. Without ``--rate`` the labels keep the errors that they came with; with it these are undone, and so
many errors of each of four kinds per box are planted instead.

For each seed the images are divided into ``--parts`` parts, alike images together; one part is trained on, or as many
as ``--train`` says, and the last one is held out with clean labels. `labelbridge train`'s own trainer starts from
``--detector``, with ``--effort`` times the passes that it recommends. Each of ``--folds`` folds of the training images
is predicted by a model of the others; from these predictions each method makes a list of suspected errors, and a
simulated reviewer who is right about ``--right`` of them (see ``retraining_reviewer.py``) works through as many as
there are errors. The fixes are written as Label Studio's adapter writes them, and the model is trained again, in the
same way. Beside the methods of ``detection.py`` stands a reviewer without a list, who checks whole images in random
order, each object in them counting like a finding.

Printed for each seed and in the mean: COCO AP and AP50 on the held-out images, the share of the way from the labels
as they were to clean ones, and what the reviewer did. Everything is decided by the seed. A stopped run goes on where it
was: trainings leave their checkpoints in ``--work``. cleanlab must be installed (group ``bench``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from detection_peers import Suspicion, cleanlab_objectlab, fiftyone_mistakenness, unmatched_by_confidence
from PIL import Image
from retraining_data import TYPES, LabelledSet, divide, example, read_folder
from retraining_reviewer import GOOD, Reviewed, Reviewer, review

from bridge.core.annotations import Annotation, Box, LabelSet, Prediction, Record
from bridge.core.detection_ap import DetectionAP, Truth, detection_ap
from bridge.core.findings import REVIEWED_TYPES, ErrorType, Finding, Fix
from bridge.core.objects import Unit, Workload, build_workload
from bridge.core.predictor import Detections, Predictor
from bridge.core.training import Fit, Trainer
from bridge.scorers import ERROR_CODES, Suspects
from bridge.scorers.explain import findings, one_finding
from bridge.scorers.planted_review import PlantedReview
from bridge.wiring import FAINTEST
from ml_backend.training.finetune import trainer

_BATCH = 8

Method = Callable[[Workload, np.random.Generator], list[Finding]]


@dataclass(frozen=True)
class Workshop:
    """What every training shares. ``folder`` keeps the checkpoints, one folder for each training."""

    labels: LabelSet
    paths: dict[str, Path]
    trainer: Trainer
    effort: float
    seed: int
    folder: Path

    def train(self, name: str, records: Sequence[Record]) -> Predictor:
        """A model of these labels; at once where it was trained before."""
        examples = [example(record, self.labels, self.paths[record.item.id]) for record in records]
        epochs = max(1, round(self.effort * self.trainer.epochs(len(examples))))
        started = time.monotonic()
        fitted = self.trainer.fit(Fit(examples, (), self.folder / name, self.seed, epochs, epochs), lambda _: None)
        print(f"    {name}: {len(examples)} images, {epochs} passes, {time.monotonic() - started:.0f} s", flush=True)
        return fitted.predictor

    def predict(self, predictor: Predictor, records: Sequence[Record]) -> list[Detections]:
        found: list[Detections] = []
        for start in range(0, len(records), _BATCH):
            images = []
            for record in records[start : start + _BATCH]:
                with Image.open(self.paths[record.item.id]) as file:
                    images.append(np.array(file.convert("RGB")))
            found += predictor.predict(images)
        return found

    def judged(self, name: str, records: Sequence[Record], held_out: LabelledSet) -> DetectionAP:
        """Train on ``records``; the AP on the clean labels of the held-out images."""
        found = self.predict(self.train(name, records), held_out.clean)
        examples = (example(record, self.labels, self.paths[record.item.id]) for record in held_out.clean)
        return detection_ap([Truth(e.xyxy, e.label) for e in examples], found)

    def cross_fitted(self, data: LabelledSet, folds: int) -> list[Record]:
        """The given labels with predictions by models that have not seen the image."""
        fold = divide(data, folds, self.seed)
        records = list(data.given)
        for k in range(folds):
            inside = np.flatnonzero(fold == k).tolist()
            predictor = self.train(f"fold-{k + 1}", [data.given[row] for row in np.flatnonzero(fold != k)])
            for row, found in zip(inside, self.predict(predictor, [data.given[row] for row in inside]), strict=True):
                records[row] = replace(data.given[row], predictions=self._predictions(found))
        return records

    def _predictions(self, found: Detections) -> tuple[Prediction, ...]:
        rows = zip(found.xyxy.tolist(), found.label.tolist(), found.confidence.tolist(), strict=True)
        return tuple(
            Prediction(self.labels.names[label], Box(*xyxy), confidence, "cross-fit")
            for xyxy, label, confidence in rows
            if confidence >= FAINTEST
        )


def by_planted_review(workload: Workload, _: np.random.Generator) -> list[Finding]:
    """The product's own list."""
    scorer = PlantedReview()
    return _ranked(findings(workload, scorer.score(workload), scorer.name))


def by_peer(peer: Callable[[Workload], list[Suspicion]]) -> Method:
    """A peer's order, equals by chance; its findings suggest what ours would with the same prediction."""

    def method(workload: Workload, rng: np.random.Generator) -> list[Finding]:
        suspicions = peer(workload)
        order = np.lexsort((rng.random(len(suspicions)), [-score for *_, score in suspicions]))
        kinds, given, predicted, _ = zip(*(suspicions[k] for k in order.tolist()), strict=True)
        suspects = Suspects(
            error=np.array([ERROR_CODES[TYPES[kind]] for kind in kinds]),
            given=np.array(given),
            predicted=np.array(predicted),
            score=np.linspace(1.0, 0.0, len(order)),
            iou=np.zeros(len(order)),
        )
        return _ranked(findings(workload, suspects, peer.__name__))

    return method


def by_whole_images(data: LabelledSet) -> Method:
    """No list: all objects of images in random order, those that are missing too; nothing is suggested."""

    def method(workload: Workload, rng: np.random.Generator) -> list[Finding]:
        shown = []
        for k in rng.permutation(len(data.given)).tolist():
            record = data.given[k]
            unit = Unit(record.item, record.submissions[0])
            asked: list[tuple[ErrorType, Annotation | None, str, Fix]] = [
                (ErrorType.IMPRECISE, a, a.label, Fix("none")) for a in unit.submission.annotations
            ]
            for e in data.errors:
                if e.error is ErrorType.MISSING and e.item_id == record.item.id:
                    asked.append((e.error, None, e.label, Fix("add", e.label, e.box)))
            for error, annotation, label, fix in asked:
                shown.append(one_finding(workload.target, unit, error, annotation, label, 1.0, "", fix, "person", {}))
        return shown

    return method


def _ranked(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: (-finding.score, finding.id))


METHODS: dict[str, Callable[[LabelledSet], Method]] = {
    "planted review": lambda _: by_planted_review,
    "FiftyOne's formula": lambda _: by_peer(fiftyone_mistakenness),
    "cleanlab ObjectLab": lambda _: by_peer(cleanlab_objectlab),
    "unmatched by confidence": lambda _: by_peer(unmatched_by_confidence),
    "whole images": by_whole_images,
}


def one_seed(data: LabelledSet, options: argparse.Namespace, seed: int) -> dict[str, DetectionAP]:
    """All trainings of a seed, printed as they are done: AP by what was trained on."""
    part = divide(data, options.parts, seed)
    held_out = data.rows(np.flatnonzero(part == options.parts - 1))
    learned = data.rows(np.flatnonzero(part < options.train))
    if options.rate is not None:
        learned = learned.planted(options.rate, np.random.default_rng(seed))
    shop = Workshop(
        labels=data.labels,
        paths=data.paths,
        trainer=trainer(options.detector, labels=data.labels.names, device=options.device),
        effort=options.effort,
        seed=seed,
        folder=options.work / f"{'as given' if options.rate is None else options.rate}-{seed}",
    )
    boxes = sum(len(record.submissions[0].annotations) for record in learned.given)
    kinds = ", ".join(f"{sum(e.error is kind for e in learned.errors)} {kind}" for kind in REVIEWED_TYPES)
    print(
        f"seed {seed}: {len(learned.given)} images with {boxes} boxes, {len(learned.errors)} errors ({kinds})",
        flush=True,
    )
    figures = {
        "before": shop.judged("before", learned.given, held_out),
        "clean labels": shop.judged("clean labels", learned.clean, held_out),
    }
    _print(figures, "before")
    _print(figures, "clean labels")
    workload = build_workload("retraining", data.labels, shop.cross_fitted(learned, options.folds))
    for name in options.methods:
        # Everybody meets the same reviewer.
        rng = np.random.default_rng((seed, 1))
        ranked = METHODS[name](learned)(workload, np.random.default_rng((seed, 2)))
        reviewer = Reviewer(learned.errors, options.right, rng, options.good)
        reviewed = review(learned.given, data.labels, ranked, len(learned.errors), reviewer)
        figures[name] = shop.judged(name, reviewed.records, held_out)
        _print(figures, name, reviewed)
    return figures


def _print(figures: dict[str, DetectionAP], name: str, reviewed: Reviewed | None = None) -> None:
    line = f"  {name:24s} AP {figures[name].ap:.3f}  AP50 {figures[name].ap50:.3f}"
    if reviewed is not None:
        line += (
            f"  {reviewed.found} errors in {reviewed.shown} findings: {reviewed.accepted} fixed as suggested, "
            f"{reviewed.edited} edited, {reviewed.missed} missed; {reviewed.spoilt} spoilt, "
            f"{reviewed.conflicts} conflicts"
        )
    print(line, flush=True)


def summary(seeds: Sequence[dict[str, DetectionAP]]) -> list[str]:
    """A line for each thing trained on: mean and standard deviation over the seeds, and the gap that was closed."""
    lines = []
    table = {name: np.array([[f[name].ap, f[name].ap50] for f in seeds], np.float64) for name in seeds[0]}
    gap = table["clean labels"] - table["before"]
    for name, values in table.items():
        spread = values.std(axis=0, ddof=1) if len(seeds) > 1 else np.full(2, np.nan)
        gain = values - table["before"]
        closed = gain.mean(axis=0) / gap.mean(axis=0)
        each = " ".join(f"{g:+.3f}" for g in gain[:, 0])
        lines.append(
            f"{name:24s} AP {values[:, 0].mean():.3f} +- {spread[0]:.3f}  AP50 {values[:, 1].mean():.3f} +- "
            f"{spread[1]:.3f}  gap closed {closed[0]:4.0%} {closed[1]:4.0%}  AP gained {each}"
        )
    return lines


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="folder with the image files")
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoints")
    parser.add_argument("--rate", type=float, help="plant so many errors of each kind per box")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="one whole run for each")
    parser.add_argument("--parts", type=int, default=3, help="the last of so many parts of the images is held out")
    parser.add_argument("--train", type=int, default=1, help="so many of the other parts are trained on")
    parser.add_argument("--folds", type=int, default=3, help="for the predictions that findings are made from")
    parser.add_argument("--effort", type=float, default=1.0, help="passes, as a share of what the trainer recommends")
    parser.add_argument("--right", type=float, default=0.95, help="share of findings the reviewer is right about")
    parser.add_argument("--good", type=float, default=GOOD, help="IoU from which suggested boxes are left as they are")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--detector", default="embedded", help="network to start from")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    return parser.parse_args()


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    data = read_folder(options.folder, options.images)
    figures = [one_seed(data, options, seed) for seed in options.seeds]
    print(f"mean of {len(figures)} seeds")
    for line in summary(figures):
        print(f"  {line}")


if __name__ == "__main__":
    main()
