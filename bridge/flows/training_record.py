"""What a finished training leaves in its folder, and how it is found again.

``training.json`` says how it was made and how good it is; ``manifest.json`` and ``model.safetensors`` are the model;
``predictions.json`` are the out-of-sample predictions as COCO results, ``images.json`` the COCO file whose image ids
they use, ``probes.json`` what the same models said about the submitted boxes. An image's id is the tool's own item id.
``predictions.provenance.json`` tells others that they are out of sample.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge.core.annotations import Box, Item, Prediction, Probe, Record, Xyxy, probe_from_list, probe_to_list
from bridge.core.predictor import Detections
from bridge.core.provenance import Provenance
from bridge.errors import Busy, NotFound, StoreError
from bridge.flows.training_data import Picture, Sample, revision_of_record, unwritable, write_json
from bridge.formats.prediction_notes import notes_of, notes_path

RECORD, MANIFEST, WEIGHTS = "training.json", "manifest.json", "model.safetensors"
PREDICTIONS, IMAGES, PROBES = "predictions.json", "images.json", "probes.json"
NOTES = notes_path(Path(PREDICTIONS)).name
#: Raised whenever an older program could not read what this one writes.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """One image of a training: its ``item`` with the original's size, what was submitted for it then, what a model that
    never saw it found, its thumbnail (empty where an older training kept none), and what that model said about the
    submitted boxes (by :func:`rounded` box)."""

    item: Item
    revision: str
    predictions: tuple[Prediction, ...]
    thumbnail: bytes
    probes: Mapping[Xyxy, Probe]


@dataclass(frozen=True, slots=True)
class Changes:
    """How a target differs from what was trained: items ``new`` since then, and ``changed`` ones."""

    new: int
    changed: int


@dataclass(frozen=True, slots=True)
class CrossFit:
    """The out-of-sample predictions of a finished training.

    Attributes:
        folder: where it is recorded.
        record: what its ``training.json`` holds.
        name: names exactly these predictions.
        labels: what was trained.
        seen: by item id.
    """

    folder: Path
    record: Mapping[str, Any]
    name: str
    labels: frozenset[str]
    seen: Mapping[str, Seen]

    def of(self, item: Item) -> Seen | None:
        """What is known of an item; None where no model predicted this image out of sample."""
        found = self.seen.get(item.id)
        return found if found is not None and found.item.image == item.image else None

    @property
    def provenance(self) -> Provenance:
        record = self.record
        return Provenance(self.name, (record["target"],), record["snapshot"], record["options"]["folds"])

    def changes(self, records: Iterable[Record]) -> Changes:
        """What was submitted since the training, among ``records``."""
        new = changed = 0
        for record in records:
            if record.submissions:
                known = self.of(record.item)
                new += known is None
                changed += known is not None and known.revision != revision_of_record(record)
        return Changes(new, changed)


@contextmanager
def locked(folder: Path, target: str) -> Iterator[None]:
    """Keep other processes out of a training.

    Raises:
        Busy: one is in it.
        StoreError: the folder cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise unwritable(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"another process is training on {target} with the same options",
                todo="Wait until it ends, or stop it and run this command again",
            ) from None
        yield


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished training; None where the folder has none.

    Raises:
        StoreError: it is damaged, or a newer program wrote it.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    record = _read(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise StoreError(
            f"{path} is in another format", expected=f"format {FORMAT}", todo="Delete the folder and train again"
        )
    return record


def latest(folder: Path, target: str) -> CrossFit:
    """The out-of-sample predictions of the target's latest finished cross-fit training under ``folder``.

    Raises:
        NotFound: there is none.
        StoreError: it is damaged.
    """
    finished = [
        (record["finished_at"], path.parent)
        for path in folder.glob(f"*/{RECORD}")
        if (record := read_record(path.parent)) and record["target"] == target and record["options"]["folds"]
    ]
    if not finished:
        raise NotFound(
            f"there are no out-of-sample predictions for {target}: it was not trained on from this data folder",
            expected="a finished training with two folds or more",
            todo=f"Run `labelbridge train {target}` first",
        )
    return open_cross_fit(max(finished)[1])


def open_cross_fit(folder: Path) -> CrossFit:
    """The predictions in a finished training's folder.

    Raises:
        StoreError: the folder is damaged.
    """
    record = read_record(folder)
    images, rows = _read(folder / IMAGES), _read(folder / PREDICTIONS)
    # Trainings of older versions asked nothing.
    asked = _read(folder / PROBES) if (folder / PROBES).exists() else {}
    try:
        if record is None:
            raise KeyError(RECORD)
        content = hashlib.sha256((folder / PREDICTIONS).read_bytes()).hexdigest()
        name = f"cross-fit-{content[:8]}"
        labels = {c["id"]: c["name"] for c in images["categories"]}
        found: dict[str, list[Prediction]] = {image["id"]: [] for image in images["images"]}
        for row in rows:
            x, y, w, h = row["bbox"]
            prediction = Prediction(labels[row["category_id"]], Box(x, y, x + w, y + h), row["score"], name)
            found[row["image_id"]].append(prediction)
        seen = {
            i["id"]: Seen(
                Item(i["id"], i["file_name"], i["image"], i["width"], i["height"]),
                i["revision"],
                tuple(found[i["id"]]),
                bytes.fromhex(i.get("thumbnail", "")),
                {rounded(probe.box): probe for probe in map(probe_from_list, asked.get(i["id"], ()))},
            )
            for i in images["images"]
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the training in {folder} is damaged: {error!r}", todo="Delete it and train again") from error
    return CrossFit(folder, record, name, frozenset(labels.values()), seen)


def rounded(box: Xyxy) -> Xyxy:
    """A box to 1/100 pixel, by which it is known again: see :func:`bridge.core.annotations.revision_of`."""
    x1, y1, x2, y2 = (round(value, 2) for value in box)
    return (x1, y1, x2, y2)


def write_predictions(
    folder: Path,
    labels: Sequence[str],
    rows: Sequence[tuple[Sample, Picture, int, Detections, Sequence[Probe]]],
    provenance: Provenance,
) -> None:
    """Write ``images.json``, ``predictions.json``, what tells where these come from, and ``probes.json``.

    Args:
        labels: the class names that ``Detections.label`` indexes.
        rows: for each image its sample, picture, fold (from 1) and what was found and said about the boxes, in pixels
            of the original.
    """
    images = [
        {
            "id": sample.item.id,
            "file_name": sample.item.name,
            "width": picture.original[0],
            "height": picture.original[1],
            "image": sample.item.image,
            "fold": fold,
            "revision": sample.revision,
            "thumbnail": picture.thumbnail.tobytes().hex(),
        }
        for sample, picture, fold, *_ in rows
    ]
    categories = [{"id": k + 1, "name": label} for k, label in enumerate(labels)]
    results = [
        {
            "image_id": sample.item.id,
            "category_id": int(label) + 1,
            "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
            "score": confidence,
        }
        for sample, _, _, found, _ in rows
        for (x1, y1, x2, y2), label, confidence in zip(
            np.round(found.xyxy, 2).tolist(), found.label.tolist(), np.round(found.confidence, 4).tolist(), strict=True
        )
    ]
    write_json(folder / IMAGES, {"images": images, "categories": categories, "annotations": []})
    write_json(folder / NOTES, notes_of(provenance, ()))
    write_json(folder / PREDICTIONS, results)
    write_json(folder / PROBES, {sample.item.id: [probe_to_list(p) for p in asked] for sample, *_, asked in rows})


def copy_out(folder: Path, out: Path) -> Path:
    """Copy what a training made to where somebody wants it; answers with the manifest's path.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The manifest last: who reads it finds the weights there.
        for name in (WEIGHTS, PREDICTIONS, NOTES, PROBES, IMAGES, RECORD, MANIFEST):
            if (folder / name).exists():
                shutil.copyfile(folder / name, out / name)
    except OSError as error:
        raise unwritable(out, error) from error
    return out / MANIFEST


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}", todo="Delete its folder and train again") from error
