"""Annotations as COCO JSON, each with where it comes from; :mod:`bridge.formats.coco` and pycocotools read it.

An extra key ``provenance`` of each annotation has the tool's id of the object, whose submission it is in, its origin,
and the accepted fixes that it shows. Only submitted items are written: one without annotations says that nothing is
there.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

import numpy as np

from bridge.core.annotations import Annotation, Box, LabelSet, Mask, Polygon, Record, Shape, Submission
from bridge.core.geometry import box_corners, box_envelope, envelope, polygon_area
from bridge.core.rle import decode_coco

Json = dict[str, Any]


@dataclass(slots=True)
class CocoWriter:
    """Writes one file, an item at a time; the images, which are few bytes each, come last.

    Attributes:
        info: goes into the file as it is.
        images, objects, relabeled: what was written so far.
        several: items that several people submitted; the objects of all are there.
        left_out: objects that COCO has no form for, by kind of shape.
    """

    file: BinaryIO
    labels: LabelSet
    info: Mapping[str, Any]
    images: list[Json] = field(default_factory=list)
    objects: int = 0
    relabeled: int = 0
    several: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    _categories: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        self._categories = {name: number for number, name in enumerate(self.labels.names, 1)}
        self.file.write(b'{"info": ' + _dump(dict(self.info)) + b', "annotations": [')

    def add(self, record: Record) -> None:
        """Write the annotations of an item, where somebody has submitted it."""
        if not record.submissions:
            return
        item = record.item
        image: Json = {"id": len(self.images) + 1, "file_name": item.name, "item": item.id}
        known = {"width": item.width, "height": item.height, "split": item.split, "annotator": _annotators(record)}
        self.images.append(image | {name: value for name, value in known.items() if value})
        self.several += len(record.submissions) > 1
        for submission in record.submissions:
            for annotation in submission.annotations:
                self._add(submission, annotation)

    def finish(self) -> None:
        categories = [{"id": number, "name": name} for name, number in self._categories.items()]
        self.file.write(b'\n], "categories": ' + _dump(categories) + b', "images": ' + _dump(self.images) + b"}\n")

    def _add(self, submission: Submission, annotation: Annotation) -> None:
        form = _form(annotation.shape)
        if form is None:
            self.left_out[type(annotation.shape).__name__.lower()] += 1
            return
        entry = {
            "id": self.objects + 1,
            "image_id": len(self.images),
            "category_id": self._categories.setdefault(annotation.label, len(self._categories) + 1),
            **form,
            "iscrowd": 0,
            "provenance": _provenance(submission, annotation),
        }
        self.file.write((b",\n" if self.objects else b"\n") + _dump(entry))
        self.objects += 1
        self.relabeled += bool(annotation.relabeled)


def _provenance(submission: Submission, annotation: Annotation) -> Json:
    return {
        "object": annotation.id,
        "submission": submission.id,
        "annotator": submission.annotator,
        "origin": annotation.origin,
        "relabeled": [asdict(fix) for fix in annotation.relabeled],
    }


def _annotators(record: Record) -> str:
    return ", ".join(dict.fromkeys(s.annotator for s in record.submissions if s.annotator))


def _form(shape: Shape) -> Json | None:
    """``bbox``, ``segmentation`` and ``area``; None for what has no area in an image."""
    match shape:
        case Box():
            if shape.problem() is not None:
                return None
            ring = [float(n) for point in box_corners(shape) for n in point] if shape.rotation else []
            area = (shape.x2 - shape.x1) * (shape.y2 - shape.y1)
            return {"bbox": _xywh(box_envelope(shape)), "segmentation": [ring] if ring else [], "area": area}
        case Polygon():
            ring = [n for point in shape.points for n in point]
            if len(ring) < 6 or not all(map(math.isfinite, ring)):
                return None
            return {"bbox": _xywh(envelope(shape.points)), "segmentation": [ring], "area": polygon_area(shape.points)}
        case Mask():
            return _mask_form(shape)
    return None


def _mask_form(mask: Mask) -> Json | None:
    pixels = decode_coco(mask)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return None
    edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return {
        "bbox": _xywh(tuple(map(float, edges))),
        "segmentation": {"size": [mask.height, mask.width], "counts": list(mask.counts)},
        "area": float(pixels.sum()),
    }


def _xywh(xyxy: tuple[float, ...]) -> list[float]:
    x1, y1, x2, y2 = map(float, xyxy)
    return [x1, y1, x2 - x1, y2 - y1]


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="replace")
