"""What a training learns from: the submitted boxes of a target, and its images made small and kept on disk."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bridge.core.annotations import Box as BoxShape
from bridge.core.annotations import (
    Item,
    LabelSet,
    Polygon,
    Record,
    Shape,
    Xyxy,
    digest,
    record_to_dict,
    snapshot_hash,
)
from bridge.core.fingerprints import CELLS, thumbnail
from bridge.core.geometry import box_envelope, clip_to_image, envelope, iou_matrix
from bridge.core.provenance import pixel_mark
from bridge.core.training import Example
from bridge.errors import ImageError, StoreError
from bridge.flows.probing import boxes_to_ask
from bridge.flows.progress import Progress
from bridge.flows.sources import ImageReader
from bridge.tools import AnnotationTool

#: Two people's boxes of one class that overlap so much outline one object.
_SAME_OBJECT = 0.5
_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Sample:
    """One submitted item.

    Attributes:
        item: as the tool told it.
        xyxy: (N, 4) float64, pixels of the upright original, each with area; may reach beyond the image.
        label: (N,) int64, indices into the target's labels.
        drawn: the boxes that people drew, whoever did, as a model can be asked about them.
        revision: digest of the item's submissions: equal exactly when nobody has changed them.
    """

    item: Item
    xyxy: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]
    drawn: tuple[Xyxy, ...]
    revision: str


@dataclass(frozen=True, slots=True)
class Samples:
    """All submitted items. ``snapshot`` is the hash of their annotations.

    ``left_out`` counts objects that are no boxes (masks, tags), have no area or a label that the target does not have.
    """

    samples: tuple[Sample, ...]
    snapshot: str
    left_out: int


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it is kept: the small file, the size in pixels of that file and of the original, a thumbnail, and the
    mark of the original's pixels."""

    path: Path
    size: tuple[int, int]
    original: tuple[int, int]
    thumbnail: npt.NDArray[np.uint8]
    mark: str

    @property
    def scale(self) -> npt.NDArray[np.float64]:
        """(4,) what boxes of the original are multiplied by to lie on the small file."""
        return np.tile(np.array(self.size, np.float64) / np.array(self.original, np.float64), 2)


def revision_of_record(record: Record) -> str:
    return digest(record_to_dict(record)["submissions"])


def read_samples(tool: AnnotationTool, labels: LabelSet, page_size: int, progress: Progress, total: int) -> Samples:
    """Read every page and keep the boxes of what is submitted.

    Where several people labelled one item, all their boxes count, one for each object.
    """
    samples: list[Sample] = []
    left_out = 0
    index = labels.index()

    def submitted() -> Iterator[Record]:
        nonlocal left_out
        cursor: str | None = None
        seen = 0
        while True:
            page = tool.read_page(cursor, page_size)
            for record in page.records:
                if record.submissions:
                    sample, skipped = _sample(record, index)
                    samples.append(sample)
                    left_out += skipped
                    yield record
            seen += len(page.records)
            progress("reading annotations", seen, total)
            cursor = page.next
            if cursor is None:
                return

    snapshot = snapshot_hash(submitted())
    return Samples(tuple(samples), snapshot, left_out)


def example(sample: Sample, picture: Picture, number: dict[int, int]) -> Example:
    """A sample on its small image. ``number`` maps the target's labels to those that are trained.

    Boxes are cut at the image's edges; what is then narrower than a pixel of the small file is left out.
    """
    xyxy = clip_to_image(sample.xyxy, *picture.original) * picture.scale
    kept = np.minimum(xyxy[:, 2] - xyxy[:, 0], xyxy[:, 3] - xyxy[:, 1]) >= 1.0
    label = np.array([number[k] for k in sample.label[kept].tolist()], np.int64)
    return Example(picture.path, xyxy[kept], label)


class Pictures:
    """The small images of a training, in a folder: each is read from the tool once, however often the training starts.

    Args:
        folder: where they are kept.
        side: their longest side in pixels; smaller images are kept as they are.

    Raises:
        StoreError: the folder cannot be used.
    """

    def __init__(self, folder: Path, side: int) -> None:
        self._folder = folder
        self._side = side
        self._index = folder / "index.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._known = dict(_entries(self._index))
        except OSError as error:
            raise unwritable(folder, error) from error

    def get(self, reader: ImageReader, item: Item) -> Picture:
        """The item's small image, from the folder or made now.

        Raises:
            ImageError: it cannot be read or decoded.
        """
        name = f"{digest([item.id, item.image], 24)}.jpg"
        if name not in self._known:
            self._known[name] = self._make(reader, item, name)
        entry = self._known[name]
        cells = np.frombuffer(base64.b64decode(entry["thumbnail"]), np.uint8).reshape(CELLS, CELLS)
        return Picture(self._folder / name, tuple(entry["size"]), tuple(entry["original"]), cells, entry["mark"])

    def _make(self, reader: ImageReader, item: Item, name: str) -> dict[str, Any]:
        pixels = reader.read(item)
        height, width = pixels.shape[:2]
        if not width or not height:
            raise ImageError(f"{item.name} (item {item.id}) has no pixels")
        factor = min(1.0, self._side / max(width, height))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = Image.fromarray(pixels)
        if size != (width, height):
            small = small.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=_QUALITY, subsampling=0)
        cells = base64.b64encode(thumbnail(np.asarray(small)).tobytes()).decode()
        entry = {
            "name": name,
            "size": size,
            "original": (width, height),
            "thumbnail": cells,
            "mark": pixel_mark(pixels),
        }
        try:
            (self._folder / name).write_bytes(out.getvalue())
            # The image is whole before the index knows of it.
            with self._index.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise unwritable(self._folder, error) from error
        return entry


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is there whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise unwritable(path.parent, error) from error


def _entries(index: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    if not index.exists():
        return
    data = index.read_text(encoding="utf-8")
    # A line that a kill cut off is closed, so that the next one stands alone.
    if data and not data.endswith("\n"):
        with index.open("a", encoding="utf-8") as file:
            file.write("\n")
    for line in data.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        yield entry["name"], entry


def _sample(record: Record, index: dict[str, int]) -> tuple[Sample, int]:
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    skipped = 0
    for submission in record.submissions:
        before = np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64)
        for annotation in submission.annotations:
            box = _box(annotation.shape)
            if box is None or annotation.label not in index:
                skipped += 1
            elif not _is_known(box, index[annotation.label], *before):
                boxes.append(box)
                labels.append(index[annotation.label])
    xyxy = np.array(boxes, np.float64).reshape(-1, 4)
    drawn = tuple(boxes_to_ask(record, index))
    return Sample(record.item, xyxy, np.array(labels, np.int64), drawn, revision_of_record(record)), skipped


def _is_known(
    box: tuple[float, float, float, float], label: int, xyxy: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> bool:
    """Whether an earlier submission outlines the same object."""
    same = xyxy[labels == label]
    return bool(len(same)) and float(iou_matrix(np.array([box]), same).max()) >= _SAME_OBJECT


def _box(shape: Shape) -> tuple[float, float, float, float] | None:
    """The upright box around a shape; None where it has none with area."""
    if isinstance(shape, BoxShape):
        return box_envelope(shape) if shape.problem() is None else None
    if isinstance(shape, Polygon) and shape.points:
        around = envelope(shape.points)
        return around if BoxShape(*around).problem() is None else None
    return None


def unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write to {folder}: {error.strerror or error}",
        todo="Check the folder's owner and the free disk space, or set LABELBRIDGE_HOME to another folder",
    )


def box_counts(samples: Sequence[Sample], classes: int) -> npt.NDArray[np.int64]:
    """(N, classes) int64: how many objects of each class a sample has."""
    return np.array([np.bincount(s.label, minlength=classes) for s in samples], np.int64).reshape(-1, classes)
