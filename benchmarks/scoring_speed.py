"""How fast labels are scored, beside cleanlab on the same input in the same run.

``python benchmarks/scoring_speed.py [--images N] [--seed N] [--write DIR] [--flat] [--table] [--long] [--no-peer]``

The input is made up from a seed, in the proportions of COCO: images of 640 x 480 px with 7 objects and 20 predictions
on average, 80 classes. Objects have random places and log-normal sizes. Nine in ten objects are predicted with a
jittered box and a confidence between .3 and 1, one in twenty of those with another class; the other predictions are
random boxes with low confidences. One in twenty labels is dropped, and one in twenty has another class. With
``--write`` the input is written as COCO files, ``instances.json`` and ``predictions.json``, and nothing is timed. With
``--flat`` the scorers are handed columns, without an object in Python for each box: scoring alone, and its memory.
``--table`` does so for 5,000, 20,000 and 118,000 images (COCO's training set), each figure in a process of its own;
cleanlab, which takes five minutes for the last, is left out there but with ``--long``.

CPU seconds are the figure to trust on a shared machine. Peak memory is that of the process so far, input included, so
ours is measured before the peer runs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.objects import ObjectTable, Unit, Workload, build_workload
from bridge.scorers import explain
from bridge.scorers.object_review import ObjectReview
from bridge.scorers.planted_review import PlantedReview

WIDTH, HEIGHT, CLASSES = 640, 480, 80
OBJECTS, PREDICTIONS = 7, 20
#: The sizes of the table; the peer takes minutes from the last on.
SIZES = (5_000, 20_000, 118_000)

T = TypeVar("T")
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MadeUp:
    """Labels and predictions as flat columns, sorted by image; boxes are (N, 4) float64 half-open xyxy pixels."""

    images: int
    label_image: Ints
    label_class: Ints
    label_box: Floats
    predicted_image: Ints
    predicted_class: Ints
    predicted_box: Floats
    confidence: Floats


def make_up(images: int, seed: int) -> MadeUp:
    """The input described above; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    image = np.sort(rng.integers(0, images, images * OBJECTS))
    kind, box = rng.integers(0, CLASSES, len(image)), _random_boxes(rng, len(image))
    seen = rng.random(len(image)) < 0.9
    side = np.tile(box[seen, 2:] - box[seen, :2], 2)
    found = _inside(box[seen] + rng.normal(0, 0.05, (seen.sum(), 4)) * side)
    confused = rng.random(len(found)) < 0.05
    found_class = np.where(confused, rng.integers(0, CLASSES, len(found)), kind[seen])
    noise = images * PREDICTIONS - len(found)
    predicted_image = np.concatenate([image[seen], rng.integers(0, images, noise)])
    confidence = np.concatenate([rng.uniform(0.3, 1.0, len(found)), rng.beta(1, 8, noise)])
    order = np.lexsort((-confidence, predicted_image))
    labelled = rng.random(len(image)) >= 0.05
    mistaken = rng.random(len(image)) < 0.05
    given_class = np.where(mistaken, rng.integers(0, CLASSES, len(image)), kind)
    return MadeUp(
        images,
        image[labelled],
        given_class[labelled],
        box[labelled],
        predicted_image[order],
        np.concatenate([found_class, rng.integers(0, CLASSES, noise)])[order],
        np.concatenate([found, _random_boxes(rng, noise)])[order],
        confidence[order].round(5),
    )


def as_records(data: MadeUp) -> tuple[LabelSet, list[Record]]:
    """The input as the house reads it from any tool."""
    labels = LabelSet(tuple(f"class {k}" for k in range(CLASSES)))
    given: list[list[Annotation]] = [[] for _ in range(data.images)]
    predicted: list[list[Prediction]] = [[] for _ in range(data.images)]
    columns = (data.label_image, data.label_class, data.label_box)
    for k, (i, c, box) in enumerate(zip(*(x.tolist() for x in columns), strict=True)):
        given[i].append(Annotation(str(k), labels.names[c], Box(*box)))
    found = (data.predicted_image, data.predicted_class, data.predicted_box, data.confidence)
    for i, c, box, s in zip(*(x.tolist() for x in found), strict=True):
        predicted[i].append(Prediction(labels.names[c], Box(*box), s, "made-up"))
    return labels, [
        Record(
            Item(str(i), f"{i:06d}.jpg", f"{i:06d}.jpg", WIDTH, HEIGHT),
            (Submission(str(i), "", tuple(given[i])),),
            tuple(predicted[i]),
        )
        for i in range(data.images)
    ]


def as_columns(data: MadeUp) -> Workload:
    """The input as the scorers see it; there are no objects to explain a suspect with."""
    labels = LabelSet(tuple(f"class {k}" for k in range(CLASSES)))
    names = (str(i) for i in range(data.images))
    units = tuple(Unit(Item(name, name, "", WIDTH, HEIGHT), Submission(name, "", ())) for name in names)
    given = (data.label_image, data.label_class, data.label_box, np.zeros(len(data.label_box)))
    found = (data.predicted_image, data.predicted_class, data.predicted_box, np.zeros(len(data.predicted_box)))
    tables = ObjectTable(*given, np.ones(len(data.label_box))), ObjectTable(*found, data.confidence)
    return Workload("made-up", labels, units, (), (), *tables)


def write_coco(data: MadeUp, folder: Path) -> None:
    """``instances.json`` and ``predictions.json`` in COCO's forms; image and category ids count from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = zip(data.label_image.tolist(), data.label_class.tolist(), _xywh(data.label_box), strict=True)
    instances = {
        "images": [
            {"id": i + 1, "file_name": f"{i:06d}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(data.images)
        ],
        "categories": [{"id": c + 1, "name": f"class {c}"} for c in range(CLASSES)],
        "annotations": [
            {"id": k + 1, "image_id": i + 1, "category_id": c + 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for k, (i, c, b) in enumerate(rows)
        ],
    }
    found = zip(
        data.predicted_image.tolist(),
        data.predicted_class.tolist(),
        _xywh(data.predicted_box),
        data.confidence.tolist(),
        strict=True,
    )
    predictions = [{"image_id": i + 1, "category_id": c + 1, "bbox": b, "score": s} for i, c, b, s in found]
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "predictions.json").write_text(json.dumps(predictions))


def run_cleanlab(data: MadeUp) -> Callable[[], Any]:
    """cleanlab's own call, its input made ready beforehand: that part is not timed."""
    from cleanlab.object_detection.rank import get_label_quality_scores  # type: ignore[import-untyped]

    cuts = np.searchsorted(data.label_image, np.arange(1, data.images))
    labels = [
        {"bboxes": boxes, "labels": kinds}
        for boxes, kinds in zip(np.split(data.label_box, cuts), np.split(data.label_class, cuts), strict=True)
    ]
    rows = np.hstack([data.predicted_box, data.confidence[:, None]])
    cuts = np.searchsorted(data.predicted_image, np.arange(1, data.images))
    predictions = []
    for boxes, kinds in zip(np.split(rows, cuts), np.split(data.predicted_class, cuts), strict=True):
        by_class = np.empty(CLASSES, dtype=object)
        for c in range(CLASSES):
            by_class[c] = boxes[kinds == c]
        predictions.append(by_class)
    return lambda: get_label_quality_scores(labels, predictions, verbose=False)


def timed(job: Callable[[], T]) -> tuple[T, float]:
    """The job's answer and its CPU seconds."""
    start = time.process_time()
    return job(), time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="write the input as COCO files into this folder, and stop")
    parser.add_argument("--flat", action="store_true", help="hand the scorers columns only")
    parser.add_argument("--table", action="store_true", help="a table over three sizes, columns only")
    parser.add_argument("--long", action="store_true", help="in the table, let cleanlab judge the largest size too")
    parser.add_argument("--no-peer", action="store_true", help="leave cleanlab out")
    options = parser.parse_args()
    if options.table:
        _print_table(options.seed, () if options.no_peer else SIZES if options.long else SIZES[:-1])
        return
    data = make_up(options.images, options.seed)
    print(f"{data.images} images, {len(data.label_box)} labels, {len(data.predicted_box)} predictions")
    if options.write:
        write_coco(data, options.write)
        return
    ours = _time_flat(data) if options.flat else _time_records(data)
    if not options.no_peer:
        _, theirs = timed(run_cleanlab(data))
        print(f"cleanlab rank  {theirs:7.3f} s  CPU -> {data.images / theirs:10.0f} images/s")
        print(f"peak memory with cleanlab {_peak_mib():.0f} MiB")
        print(f"ratio {theirs / ours:.0f}")


def _print_table(seed: int, with_peer: tuple[int, ...]) -> None:
    print("| images | scorer | CPU s | images/s | peak MiB | CPU s to ours |")
    print("|---|---|---|---|---|---|")
    for images in SIZES:
        ours = 0.0
        peers = (("cleanlab rank", run_cleanlab),) if images in with_peer else ()
        for name, job in (("planted review", _planted_review), *peers):
            spent, peak = _measured_alone(job, images, seed)
            ours = ours or spent
            cells = f"{images:,}", name, f"{spent:.2f}", f"{images / spent:,.0f}", f"{peak:.0f}", f"{spent / ours:.0f}"
            print(f"| {' | '.join(cells)} |", flush=True)


def _measured_alone(prepare: Callable[[MadeUp], Callable[[], Any]], images: int, seed: int) -> tuple[float, float]:
    """CPU seconds and peak memory in MiB of a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, prepare, images, seed).result()


def _measured(prepare: Callable[[MadeUp], Callable[[], Any]], images: int, seed: int) -> tuple[float, float]:
    _, spent = timed(prepare(make_up(images, seed)))
    return spent, _peak_mib()


def _planted_review(data: MadeUp) -> Callable[[], Any]:
    """What the library takes to load is not timed, as with the peer."""
    import sklearn.ensemble  # noqa: F401

    workload = as_columns(data)
    return lambda: PlantedReview().score(workload)


def _time_flat(data: MadeUp) -> float:
    workload = as_columns(data)
    print(f"memory of the input {_peak_mib():.0f} MiB")
    return _time_scorers(data, workload)


def _time_records(data: MadeUp) -> float:
    labels, records = as_records(data)
    workload, building = timed(lambda: build_workload("made-up", labels, records))
    print(f"build {building:7.3f} s CPU")
    scoring = _time_scorers(data, workload)
    suspects = PlantedReview().score(workload)
    shown = suspects.rows(np.argsort(-suspects.score)[:100_000])
    findings, explaining = timed(lambda: explain.findings(workload, shown, "planted-review"))
    print(f"explain {explaining:5.3f} s CPU for {len(findings)} of {len(suspects)} suspects")
    return building + scoring


def _time_scorers(data: MadeUp, workload: Workload) -> float:
    """CPU seconds of the default scorer, which comes last; what its library takes to load is not counted."""
    import sklearn.ensemble  # noqa: F401

    spent = 0.0
    for scorer in (ObjectReview(), PlantedReview()):
        suspects, spent = timed(lambda scorer=scorer: scorer.score(workload))
        rate = data.images / spent
        print(f"{scorer.name:16s} {spent:7.3f} s CPU -> {rate:8.0f} images/s, {len(suspects)} suspects")
        print(f"peak memory so far {_peak_mib():.0f} MiB")
    return spent


def _random_boxes(rng: np.random.Generator, rows: int) -> Floats:
    size = np.exp(rng.normal(4.0, 0.7, (rows, 2)))
    centre = rng.random((rows, 2)) * (WIDTH, HEIGHT)
    return _inside(np.hstack([centre - size / 2, centre + size / 2]))


def _inside(box: Floats) -> Floats:
    """Cut to the image, at least one pixel each way."""
    low = np.clip(box[:, :2], 0, (WIDTH - 1, HEIGHT - 1))
    high = np.clip(box[:, 2:], low + 1, (WIDTH, HEIGHT))
    return np.hstack([low, high]).round(2)


def _xywh(box: Floats) -> list[list[float]]:
    rows: list[list[float]] = np.hstack([box[:, :2], box[:, 2:] - box[:, :2]]).round(2).tolist()
    return rows


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
