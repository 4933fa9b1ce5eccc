"""The demo's data: drawn scenes, the annotations of careful people, and known errors planted in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Record, Submission
from bridge.core.planting import PlantedError, plant
from bridge.scenes import CLASSES, draw_scene

#: Seeds that training never saw: it draws from the ranges named in the weights' manifest.
FIRST_SEED = 9_000_000
ERROR_RATE = 0.06
LABELS = LabelSet(CLASSES)


@dataclass(frozen=True, slots=True)
class Dataset:
    """``records`` hold the annotations with errors in them; ``unlabelled`` items nobody has touched."""

    folder: Path
    records: tuple[Record, ...]
    planted: tuple[PlantedError, ...]
    unlabelled: tuple[Item, ...]


def make(folder: Path, items: int, unlabelled: int) -> Dataset:
    """Draw the scenes as JPEG files into ``folder`` and plant errors, about 6 % of the objects for each type."""
    folder.mkdir(parents=True, exist_ok=True)
    clean = [_record(folder, number) for number in range(1, items + unlabelled + 1)]
    records, planted = plant(clean[:items], LABELS, np.random.default_rng(FIRST_SEED), ERROR_RATE)
    return Dataset(folder, tuple(records), tuple(planted), tuple(record.item for record in clean[items:]))


def _record(folder: Path, number: int) -> Record:
    scene = draw_scene(FIRST_SEED + number)
    name = f"scene-{number:04d}.jpg"
    Image.fromarray(scene.image).save(folder / name, quality=92)
    height, width = scene.image.shape[:2]
    annotations = tuple(
        Annotation(f"{number}-{k}", label, Box(*map(float, box)))
        for k, (label, box) in enumerate(zip(scene.labels, scene.xyxy.tolist(), strict=True))
    )
    item = Item(str(number), name, name, width, height)
    return Record(item, (Submission(str(number), "demo", annotations),))


def write_coco(records: Sequence[Record], path: Path) -> None:
    """The records as one COCO file, for the demo without a server."""
    ids = {name: k for k, name in enumerate(LABELS.names, start=1)}
    images, annotations = [], []
    for record in records:
        item = record.item
        images.append({"id": int(item.id), "file_name": item.name, "width": item.width, "height": item.height})
        for annotation in record.submissions[0].annotations:
            assert isinstance(annotation.shape, Box)
            x1, y1, x2, y2 = annotation.shape.xyxy
            annotations.append(
                {
                    "id": annotation.id,
                    "image_id": int(item.id),
                    "category_id": ids[annotation.label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": k, "name": name} for name, k in ids.items()]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
