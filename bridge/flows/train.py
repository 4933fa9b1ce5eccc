"""TRAIN: fine-tune a detector on what people submitted, fold by fold, so that each image is judged by a model that has
not seen it.

A training lives in ``<home>/training/<key>``, where the key is a digest of the target, its annotations and everything
that shapes the result. The same command finds what an earlier one left there: small images, finished folds, and the
checkpoint of the fold under way. It needs no workflow engine: each of these is a file that is there whole or not at
all. ``training.json`` is written last; a folder that has it is finished.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bridge.core.annotations import Probe, digest, probe_from_list, probe_to_list
from bridge.core.detection_ap import DetectionAP, Truth, best_threshold, detection_ap
from bridge.core.fingerprints import group_alike
from bridge.core.folds import assign_folds
from bridge.core.geometry import clip_to_image
from bridge.core.predictor import Detections, Predictor, region_scorer
from bridge.core.provenance import Provenance, place_mark
from bridge.core.training import Epoch, Example, Fit, Fitted, Trainer
from bridge.errors import DataError, ImageError
from bridge.flows.failures import Failure
from bridge.flows.probing import ask
from bridge.flows.progress import Progress
from bridge.flows.sources import ImageReader
from bridge.flows.training_data import Picture, Pictures, Sample, Samples, box_counts, example, read_samples, write_json
from bridge.flows.training_record import FORMAT, MANIFEST, RECORD, locked, read_record, write_predictions
from bridge.tools import AnnotationTool, TargetInfo

#: A training without cross-fitting holds out one part in so many.
_PARTS = 5
#: Small images have this many times the network's side, so that crops of them are still sharp.
_SPARE = 1.5
_BATCH = 8


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Attributes:
    folds: 2 or more; 0 trains one model only, with a fifth of the images held out.
    epochs: at most; None takes what the trainer recommends for so many images.
    patience: a fold stops after so many epochs without a better AP.
    """

    folds: int = 5
    epochs: int | None = None
    seed: int = 0
    patience: int = 8


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished training.

    Attributes:
        folder: where it is recorded.
        record: what its ``training.json`` holds.
        fresh: whether anything was trained now.
        failures: items whose image could not be used.
    """

    folder: Path
    record: Mapping[str, Any]
    fresh: bool
    failures: tuple[Failure, ...] = ()

    @property
    def manifest(self) -> Path:
        """The model, as ``--detector`` takes it."""
        return self.folder / MANIFEST


@dataclass(frozen=True, slots=True)
class Bench:
    """What a training takes from outside.

    Attributes:
        trainer: makes the trainer for class names.
        folder: where trainings are kept.
        tell: a line for people, after each epoch.
    """

    tool: AnnotationTool
    reader: ImageReader
    trainer: Callable[[Sequence[str]], Trainer]
    folder: Path
    now: Callable[[], str]
    progress: Progress
    tell: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Data:
    """The images that can be used, row by row. ``fold`` is (N,) int64 from 0; ``alike`` is how alike images had to be
    to be kept together."""

    samples: tuple[Sample, ...]
    pictures: tuple[Picture, ...]
    examples: tuple[Example, ...]
    fold: npt.NDArray[np.int64]
    groups: int
    alike: float

    def inside(self, fold: int) -> list[int]:
        """The rows of a fold."""
        return [k for k, own in enumerate(self.fold.tolist()) if own == fold]

    def outside(self, fold: int) -> list[int]:
        """All other rows."""
        return [k for k, own in enumerate(self.fold.tolist()) if own != fold]


@dataclass(frozen=True, slots=True)
class _Fold:
    """A finished fold: its rows, its epochs, the best of them, and what its model found on its rows and said about the
    boxes there, in pixels of the originals."""

    rows: tuple[int, ...]
    epochs: tuple[Epoch, ...]
    best: int
    found: tuple[Detections, ...]
    asked: tuple[tuple[Probe, ...], ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is trained, with what, and where."""

    bench: Bench
    info: TargetInfo
    options: TrainOptions
    trainer: Trainer
    labels: tuple[str, ...]
    data: _Data
    folder: Path

    @property
    def epochs(self) -> int:
        parts = self.options.folds or _PARTS
        return self.options.epochs or self.trainer.epochs(max(1, len(self.data.samples) * (parts - 1) // parts))

    def fit(self, part: str, train: Sequence[int], held_out: Sequence[int], epochs: int) -> Fitted:
        """Train on some rows; tells about each epoch."""
        examples = self.data.examples

        def tell(epoch: Epoch) -> None:
            ap = "" if epoch.ap is None else f"  AP {epoch.ap:.3f}  AP50 {epoch.ap50:.3f}"
            self.bench.tell(f"{part}  epoch {epoch.number}/{epochs}  loss {epoch.loss:.3f}{ap}  {epoch.seconds:.0f} s")
            self.bench.progress(part, epoch.number, epochs)

        self.bench.progress(part, 0, epochs)
        fit = Fit(
            train=[examples[k] for k in train],
            held_out=[examples[k] for k in held_out],
            folder=self.folder / part.replace(" ", "-"),
            seed=self.options.seed,
            epochs=epochs,
            patience=self.options.patience,
        )
        return self.trainer.fit(fit, tell)


def train(bench: Bench, options: TrainOptions, page_size: int) -> TrainResult:
    """Train, or go on with the same training, or find that it is done.

    Raises:
        DataError: nothing is labelled, too few images for so many folds, or the network knows the images already.
        ModelError: the network cannot be had or trained.
        ToolError: the tool failed; running again goes on.
        Busy: another process is at the same training.
    """
    info = bench.tool.describe()
    submitted = read_samples(bench.tool, info.labels, page_size, bench.progress, info.items)
    trained, labels = _labels(info, submitted)
    trainer = bench.trainer(labels)
    if options.folds and trainer.start is not None and info.target in trainer.start.targets:
        raise _knows(f"{info.target}: no image would be out of sample")
    key = digest([info.target, submitted.snapshot, dict(trainer.recipe), asdict(options)])
    folder = bench.folder / key
    with locked(folder, info.target):
        done = read_record(folder)
        if done is not None:
            _tidy(folder)
            return TrainResult(folder, done, fresh=False)
        started = _started(folder, bench)
        pictures, failures = _pictures(bench, trainer, submitted, folder)
        data = _divide(submitted, pictures, trained, options)
        if options.folds and trainer.start is not None:
            known = sum(picture.mark in trainer.start.seen for picture in data.pictures)
            if known:
                _tidy(folder)
                raise _knows(f"{known} of these {len(data.pictures)} images, which no fold would have out of sample")
        plan = _Plan(bench, info, options, trainer, labels, data, folder)
        if options.folds:
            folds = [_cross_fit(plan, k) for k in range(options.folds)]
            epochs = max(1, round(statistics.median(fold.best for fold in folds)))
            learnt = list(range(len(data.samples)))
            final = plan.fit("final model", learnt, (), epochs)
        else:
            learnt = data.outside(0)
            final = plan.fit("model", learnt, data.inside(0), plan.epochs)
            folds = [_finished(plan, 0, final)]
        more = {"started_at": started, "failures": len(failures)}
        record = _conclude(plan, folds, final, learnt, submitted, more)
        _tidy(folder)
    return TrainResult(folder, record, fresh=True, failures=failures)


def _knows(what: str) -> DataError:
    """The error for weights to start from that were trained on what is to be judged out of sample."""
    return DataError(
        f"the weights to start from were trained on {what}",
        expected="weights that have not seen these images",
        todo="Start from the network that those weights were trained from, or ask for one model: --folds 0",
    )


def _labels(info: TargetInfo, submitted: Samples) -> tuple[dict[int, int], tuple[str, ...]]:
    """The labels of which there is an object: the target's numbers to the trainer's, and the names."""
    used = sorted({int(k) for sample in submitted.samples for k in sample.label})
    if not used:
        raise DataError(
            f"no box is submitted in {info.target}: {len(submitted.samples)} submitted items",
            expected="labelled boxes or polygons to learn from",
            todo="Label and submit some items in the tool first",
        )
    return {k: n for n, k in enumerate(used)}, tuple(info.labels.names[k] for k in used)


def _started(folder: Path, bench: Bench) -> str:
    """When the training was started first, however often it was resumed."""
    path = folder / "started.json"
    if not path.exists():
        write_json(path, bench.now())
    return str(json.loads(path.read_text(encoding="utf-8")))


def _pictures(
    bench: Bench, trainer: Trainer, submitted: Samples, folder: Path
) -> tuple[dict[str, Picture], tuple[Failure, ...]]:
    """The small images of the samples, by item id."""
    kept = Pictures(folder / "images", round(trainer.side * _SPARE))
    pictures: dict[str, Picture] = {}
    failures: list[Failure] = []
    for sample in submitted.samples:
        try:
            pictures[sample.item.id] = kept.get(bench.reader, sample.item)
        except ImageError as error:
            failures.append(Failure(f"{sample.item.name} (item {sample.item.id})", str(error)))
        bench.progress("reading images", len(pictures) + len(failures), len(submitted.samples))
    return pictures, tuple(failures)


def _divide(
    submitted: Samples, pictures: Mapping[str, Picture], trained: dict[int, int], options: TrainOptions
) -> _Data:
    samples = tuple(s for s in submitted.samples if s.item.id in pictures)
    if not samples:
        raise DataError("none of the submitted images can be read", todo="See `labelbridge score --check-images`")
    chosen = tuple(pictures[s.item.id] for s in samples)
    parts = options.folds or _PARTS
    groups, alike = group_alike(
        np.stack([p.thumbnail for p in chosen]),
        [s.item.name for s in samples],
        [p.original for p in chosen],
        largest=len(samples) // parts,
    )
    counts = box_counts(samples, max(trained) + 1)
    fold = assign_folds([s.item.id for s in samples], groups, counts, parts, options.seed)
    examples = tuple(example(s, p, trained) for s, p in zip(samples, chosen, strict=True))
    return _Data(samples, chosen, examples, fold, len(np.unique(groups)), alike)


def _cross_fit(plan: _Plan, k: int) -> _Fold:
    """Fold ``k``: train on all others, predict this one. A fold that is done is read from its file."""
    rows = plan.data.inside(k)
    part = f"fold {k + 1} of {plan.options.folds}"
    path = plan.folder / f"fold-{k + 1}.json"
    if path.exists():
        data = json.loads(path.read_text(encoding="utf-8"))
        epochs = tuple(Epoch(**epoch) for epoch in data["epochs"])
        plan.bench.progress(part, len(epochs), len(epochs))
        found = tuple(map(_detections, data["found"]))
        # A fold that an older version finished was asked nothing.
        asked = tuple(tuple(map(probe_from_list, probes)) for probes in data.get("asked", [()] * len(rows)))
        return _Fold(tuple(rows), epochs, data["best"], found, asked)
    fold = _finished(plan, k, plan.fit(part, plan.data.outside(k), rows, plan.epochs))
    value = {
        "epochs": [asdict(epoch) for epoch in fold.epochs],
        "best": fold.best,
        "found": [[found.xyxy.tolist(), found.label.tolist(), found.confidence.tolist()] for found in fold.found],
        "asked": [[probe_to_list(probe) for probe in probes] for probes in fold.asked],
    }
    write_json(path, value)
    shutil.rmtree(plan.folder / part.replace(" ", "-"), ignore_errors=True)
    return fold


def _finished(plan: _Plan, k: int, fitted: Fitted) -> _Fold:
    rows = plan.data.inside(k)
    found, asked = _predict(fitted.predictor, plan.data, rows)
    return _Fold(tuple(rows), fitted.epochs, fitted.best, tuple(found), tuple(asked))


def _predict(
    predictor: Predictor, data: _Data, rows: Sequence[int]
) -> tuple[list[Detections], list[tuple[Probe, ...]]]:
    """What the model finds on the small images of some rows, and says about the boxes there, in pixels of the
    originals."""
    found: list[Detections] = []
    asked: list[tuple[Probe, ...]] = []
    scorer, labels = region_scorer(predictor), {name: name for name in predictor.classes}
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        pictures = [data.pictures[k] for k in part]
        images = []
        for picture in pictures:
            with Image.open(picture.path) as file:
                images.append(np.array(file.convert("RGB")))
        answers = predictor.predict(images)
        for k, picture, image, answer in zip(part, pictures, images, answers, strict=True):
            xyxy = clip_to_image(answer.xyxy / picture.scale, *picture.original)
            found.append(Detections(xyxy, answer.label, answer.confidence))
            drawn = data.samples[k].drawn if scorer else ()
            asked.append(ask(scorer, image, drawn, labels, predictor.classes, picture.original) if scorer else ())
    return found, asked


def _detections(data: Any) -> Detections:
    xyxy, label, confidence = data
    return Detections(
        np.array(xyxy, np.float64).reshape(-1, 4), np.array(label, np.int64), np.array(confidence, np.float64)
    )


def _conclude(
    plan: _Plan,
    folds: Sequence[_Fold],
    final: Fitted,
    learnt: Sequence[int],
    submitted: Samples,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the model, the predictions and, last of all, the record. ``learnt`` are the rows the model has seen."""
    data, folder, options = plan.data, plan.folder, plan.options
    found = {row: answer for fold in folds for row, answer in zip(fold.rows, fold.found, strict=True)}
    asked = {row: probes for fold in folds for row, probes in zip(fold.rows, fold.asked, strict=True)}
    rows = sorted(found)
    truth = {k: Truth(data.examples[k].xyxy / data.pictures[k].scale, data.examples[k].label) for k in rows}
    judged = detection_ap([truth[k] for k in rows], [found[k] for k in rows])
    threshold = best_threshold([truth[k] for k in rows], [found[k] for k in rows])
    figures = {
        **_figures(judged, plan.labels),
        "folds": [
            {
                "images": len(fold.rows),
                "epochs": [asdict(epoch) for epoch in fold.epochs],
                "best": fold.best,
                **_figures(detection_ap([truth[k] for k in fold.rows], list(fold.found)), plan.labels),
            }
            for fold in folds
        ],
    }
    about = {
        "target": plan.info.target,
        "title": plan.info.title,
        "snapshot": submitted.snapshot,
        "options": asdict(options),
        "recipe": dict(plan.trainer.recipe),
        "images": len(data.samples),
        "objects": int(sum(len(e.label) for e in data.examples)),
        "left_out": submitted.left_out,
        "groups": data.groups,
        "alike": data.alike,
    }
    notes = {**about, **figures, "seen": _seen(plan, learnt).to_notes()}
    manifest = final.save(folder, _stem(plan.info.title), threshold, notes)
    told = [(data.samples[k], data.pictures[k], int(data.fold[k]) + 1, found[k], asked[k]) for k in rows]
    model = json.loads(manifest.read_text(encoding="utf-8"))["name"]
    out_of_sample = Provenance(f"{model}-out-of-sample", (plan.info.target,), submitted.snapshot, options.folds)
    write_predictions(folder, plan.labels, told, out_of_sample)
    record = {
        "format": FORMAT,
        **about,
        **figures,
        **more,
        "finished_at": plan.bench.now(),
        "model": model,
        "threshold": threshold,
        "final_epochs": len(final.epochs),
    }
    write_json(folder / RECORD, record)
    return record


def _seen(plan: _Plan, rows: Sequence[int]) -> Provenance:
    """What the final model has seen: the rows that it was trained on, and what its first weights had seen before."""
    before, target = plan.trainer.start or Provenance(""), plan.info.target
    marks = {place_mark(target, plan.data.samples[k].item) for k in rows} | {plan.data.pictures[k].mark for k in rows}
    return Provenance("", tuple(dict.fromkeys((target, *before.targets))), seen=before.seen | marks)


def _stem(title: str) -> str:
    """What the model is called, before the digest that tells it from others."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40] or "model"


def _figures(judged: DetectionAP, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "ap": judged.ap,
        "ap50": judged.ap50,
        "by_label": {labels[k]: asdict(figures) for k, figures in judged.by_class.items()},
    }


def _tidy(folder: Path) -> None:
    """Remove what only a resumed training needs: copies of the images above all."""
    for path in (folder / "images", folder / "final-model", folder / "model"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (*folder.glob("fold-*.json"), folder / "started.json"):
        path.unlink(missing_ok=True)
