"""Folders of labels with known errors, as they came and as they should be, for the retraining benchmark."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from detection import WORDS
from PIL import Image

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Record, Submission
from bridge.core.findings import ErrorType
from bridge.core.fingerprints import group_alike, thumbnail
from bridge.core.folds import assign_folds
from bridge.core.geometry import clip_to_image
from bridge.core.planting import PlantedError, plant
from bridge.core.training import Example

#: What the words of truth.json mean.
TYPES = {word: error for error, word in WORDS.items()}


@dataclass(frozen=True)
class LabelledSet:
    """Images with their labels twice.

    Attributes:
        given: the labels with errors in them; one submission a record.
        clean: the same records with the errors undone, in the same order.
        errors: what is wrong in ``given``.
        paths: the image file of each item, by its id.
    """

    labels: LabelSet
    given: tuple[Record, ...]
    clean: tuple[Record, ...]
    errors: tuple[PlantedError, ...]
    paths: dict[str, Path]

    def rows(self, keep: Iterable[int]) -> LabelledSet:
        rows = list(keep)
        given = tuple(self.given[k] for k in rows)
        ids = {record.item.id for record in given}
        errors = tuple(e for e in self.errors if e.item_id in ids)
        return replace(self, given=given, clean=tuple(self.clean[k] for k in rows), errors=errors)

    def planted(self, rate: float, rng: np.random.Generator) -> LabelledSet:
        """The clean labels with ``rate`` errors of each kind per box instead of the errors that they came with."""
        given, errors = plant(self.clean, self.labels, rng, rate)
        return replace(self, given=tuple(given), errors=tuple(errors))


def read_folder(folder: Path, images: Path) -> LabelledSet:
    """``corrupted.json`` and ``truth.json`` in the form that :mod:`detection` reads.

    Images are looked for below ``images`` by their file name; entries without one are left out.
    """
    coco = json.loads((folder / "corrupted.json").read_text())
    truth = json.loads((folder / "truth.json").read_text())["errors"]
    names = {c["id"]: c["name"] for c in sorted(coco["categories"], key=lambda c: c["id"])}
    files = {path.name: path for path in sorted(images.rglob("*")) if path.is_file()}
    objects: dict[int, list[Annotation]] = defaultdict(list)
    for a in coco["annotations"]:
        objects[a["image_id"]].append(Annotation(str(a["id"]), names[a["category_id"]], _box(a["bbox"])))
    known: dict[int, list[PlantedError]] = defaultdict(list)
    for entry in truth:
        known[entry["image_id"]].append(_error(entry, names, objects[entry["image_id"]]))
    given, clean, errors, paths = [], [], [], {}
    for entry in sorted(coco["images"], key=lambda i: i["file_name"]):
        name = Path(entry["file_name"]).name
        if name not in files:
            continue
        item = Item(str(entry["id"]), name, name, entry["width"], entry["height"])
        paths[item.id] = files[name]
        record = Record(item, (Submission(item.id, "", tuple(objects[entry["id"]])),))
        given.append(record)
        clean.append(undone(record, known[entry["id"]]))
        errors += known[entry["id"]]
    if not given:
        raise SystemExit(f"none of the {len(coco['images'])} images of {folder} is below {images}")
    return LabelledSet(LabelSet(tuple(names.values())), tuple(given), tuple(clean), tuple(errors), paths)


def undone(record: Record, errors: Sequence[PlantedError]) -> Record:
    """The record without its errors."""
    wrong = {e.annotation_id: e for e in errors if e.annotation_id is not None}
    submission = record.submissions[0]
    objects = []
    for annotation in submission.annotations:
        error = wrong.get(annotation.id)
        if error is None:
            objects.append(annotation)
        elif error.error is not ErrorType.EXTRA:
            objects.append(Annotation(annotation.id, error.label, error.box))
    missing = [e for e in errors if e.error is ErrorType.MISSING]
    objects += [Annotation(f"missing-{k}", e.label, e.box) for k, e in enumerate(missing, 1)]
    return replace(record, submissions=(replace(submission, annotations=tuple(objects)),))


def divide(data: LabelledSet, parts: int, seed: int) -> np.ndarray:
    """(N,) int64, the part of each image, from 0; as in ``labelbridge train``, images that are alike share one."""
    thumbnails = []
    for record in data.clean:
        with Image.open(data.paths[record.item.id]) as file:
            thumbnails.append(thumbnail(np.array(file.convert("RGB"))))
    items = [record.item for record in data.clean]
    groups, _ = group_alike(
        np.stack(thumbnails),
        [item.name for item in items],
        [(item.width or 0, item.height or 0) for item in items],
        largest=len(items) // parts,
    )
    index = data.labels.index()
    counts = np.zeros((len(items), len(index)), np.int64)
    for k, record in enumerate(data.given):
        for annotation in record.submissions[0].annotations:
            counts[k, index[annotation.label]] += 1
    return assign_folds([item.id for item in items], groups, counts, parts, seed)


def example(record: Record, labels: LabelSet, path: Path) -> Example:
    """The record's boxes, cut at the image's edges, for a trainer; what is then below a pixel is left out."""
    index = labels.index()
    boxes = [(*a.shape.xyxy, index[a.label]) for a in record.submissions[0].annotations if isinstance(a.shape, Box)]
    rows = np.array(boxes, np.float64).reshape(-1, 5)
    assert record.item.width
    assert record.item.height
    xyxy = clip_to_image(rows[:, :4], record.item.width, record.item.height)
    kept = (xyxy[:, 2:] - xyxy[:, :2]).min(axis=1) >= 1.0
    return Example(path, xyxy[kept], rows[kept, 4].astype(np.int64))


def _error(entry: dict[str, Any], names: dict[int, str], objects: Sequence[Annotation]) -> PlantedError:
    error, annotation_id = TYPES[entry["type"]], None if entry["ann_id"] is None else str(entry["ann_id"])
    if error is ErrorType.EXTRA:
        given = next(a for a in objects if a.id == annotation_id)
        assert isinstance(given.shape, Box)
        return PlantedError(error, str(entry["image_id"]), annotation_id, given.shape, given.label)
    box = _box(entry["bbox"])
    return PlantedError(error, str(entry["image_id"]), annotation_id, box, names[entry["category_id"]])


def _box(xywh: Sequence[float]) -> Box:
    x, y, w, h = map(float, xywh)
    return Box(x, y, x + w, y + h)
