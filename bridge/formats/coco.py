"""COCO JSON: one file with images, categories and annotations; and COCO's lists of results.

Both customary forms are read: as annotation tools export it, and as pycocotools writes it. ``iscrowd`` annotations are
left out: they mark regions, not objects. Where ``bbox`` is there, ``segmentation`` does not count; where it is not, the
envelope of the polygons does. Categories that share a name are one class. An extra key ``annotator`` of an image says
who labelled it, ``split`` or ``subset`` which part of the dataset it is in; without, a folder such as ``train`` does.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Problem, Record, Submission, Xyxy
from bridge.core.findings import ErrorType
from bridge.core.geometry import envelope
from bridge.core.splits import split_name, split_of_path
from bridge.errors import DataError, UsageError
from bridge.formats.paths import find_inside, image_roots, need_exists, unique_names

Json = dict[str, Any]

_NOWHERE = (math.nan,) * 4


@dataclass(frozen=True, slots=True)
class _Images:
    """The items of a file.

    ``position`` finds an item by the image id as the file has it (number or text). ``submitted`` is (I,) bool: False
    where nobody can say what is on the item. ``problems`` is keyed by position.
    """

    items: list[Item]
    annotators: list[str]
    position: dict[Any, int]
    submitted: list[bool]
    problems: defaultdict[int, list[Problem]]

    def add(self, item: Item, annotator: str = "", problem: str = "", kind: str = ErrorType.NO_IMAGE) -> int:
        """Append an item; one with a problem counts as not submitted."""
        self.items.append(item)
        self.annotators.append(annotator)
        self.submitted.append(not problem)
        if problem:
            self.problems[len(self.items) - 1].append(Problem(kind, problem))
        return len(self.items) - 1


@dataclass(frozen=True, slots=True)
class _Categories:
    """Class names without repeats, and the index of the name behind each category id."""

    names: tuple[str, ...]
    index: dict[Any, int]


@dataclass(frozen=True, slots=True)
class _Objects:
    """Boxes as columns, grouped by image, in file order within one.

    Attributes:
        start: (I + 1,) int64: rows ``start[i]`` to ``start[i + 1]`` belong to image ``i``.
        row: (N,) int64, where the object stood in the file's list.
        label: (N,) int64, index into the class names.
        xyxy: (N, 4) float64, pixels, half-open; may hold NaN.
    """

    start: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    xyxy: npt.NDArray[np.float64]

    @classmethod
    def group(cls, images: int, image: Sequence[int], label: Sequence[int], xywh: Any) -> _Objects:
        """Sort objects by image and turn ``x, y, width, height`` into corners."""
        of_image = np.asarray(image, dtype=np.int64)
        order = np.argsort(of_image, kind="stable")
        xyxy = np.asarray(xywh, dtype=np.float64).reshape(-1, 4)[order]
        with np.errstate(over="ignore", invalid="ignore"):
            xyxy[:, 2:] += xyxy[:, :2]
        start = np.searchsorted(of_image[order], np.arange(images + 1))
        return cls(start.astype(np.int64), order, np.asarray(label, dtype=np.int64)[order], xyxy)

    def of(self, image: int) -> Iterator[tuple[int, int, list[float]]]:
        """``(row in the file, label, xyxy)`` of one image's objects."""
        here = slice(int(self.start[image]), int(self.start[image + 1]))
        return zip(self.row[here].tolist(), self.label[here].tolist(), self.xyxy[here].tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class CocoDataset:
    """A COCO file, parsed as a whole and kept as columns.

    The id of an item is its image id as text, that of an annotation its own id as text. An image without annotations
    counts as submitted with nothing on it, unless the file has no ``annotations`` at all. Annotations of an image that
    the file does not list come as a problem of an item of their own, at the end.
    """

    labels: LabelSet
    _images: _Images
    _categories: _Categories
    _objects: _Objects
    _ids: Sequence[str]
    _roots: tuple[Path, ...]
    _by_id: Mapping[str, int]

    @classmethod
    def open(cls, path: Path, images: Path | None = None) -> CocoDataset:
        """Read a COCO file, or the only one in a folder.

        Args:
            path: a JSON file, or a folder that holds one (``annotations/instances*.json``, ``*.json``).
            images: the folder with the image files; when None they are looked for beside the JSON file.

        Raises:
            UsageError: there is no such file, or there are several to choose from.
            DataError: the file is not COCO JSON.
        """
        file = _find_file(need_exists(path))
        data = _read_json(file)
        if not isinstance(data, dict):
            raise _not_coco(file, f"a {type(data).__name__}")
        found, categories = _read_images(file, data), _read_categories(file, data)
        given = data.get("annotations")
        objects, ids = _read_annotations(
            _list(file, data, "annotations") if given is not None else [], found, categories
        )
        if given is None:
            found.submitted[:] = [False] * len(found.items)
        return cls(
            labels=LabelSet(categories.names),
            _images=found,
            _categories=categories,
            _objects=objects,
            _ids=ids,
            _roots=image_roots(images, _beside(file)),
            _by_id={item.id: position for position, item in enumerate(found.items)},
        )

    def __len__(self) -> int:
        return len(self._images.items)

    def records(self, start: int, stop: int) -> list[Record]:
        return [self._record(position) for position in range(len(self))[start:stop]]

    def position(self, item_id: str) -> int | None:
        return self._by_id.get(item_id)

    def image_path(self, item: Item) -> Path:
        return find_inside(self._roots, item.image, item.name)

    def _record(self, position: int) -> Record:
        item = self._images.items[position]
        problems = tuple(self._images.problems.get(position, ()))
        if not self._images.submitted[position]:
            return Record(item, problems=problems)
        annotations = tuple(
            Annotation(self._ids[row], self._categories.names[label], Box(*xyxy))
            for row, label, xyxy in self._objects.of(position)
        )
        submission = Submission(item.id, self._images.annotators[position], annotations)
        return Record(item, (submission,), problems=problems)


class Results(Mapping[str, tuple[Prediction, ...]]):
    """Predictions by item name, kept as columns; the objects are made when an item is asked for."""

    def __init__(
        self, names: Mapping[str, int], classes: Sequence[str], objects: _Objects, score: list[float], model: str
    ) -> None:
        self._names = names
        self._classes = classes
        self._objects = objects
        self._score = score
        self._model = model

    def __getitem__(self, name: str) -> tuple[Prediction, ...]:
        return tuple(
            Prediction(self._classes[label], Box(*xyxy), self._score[row], self._model)
            for row, label, xyxy in self._objects.of(self._names[name])
        )

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def load_results(path: Path, dataset_index: CocoDataset | None, model: str) -> Results:
    """Predictions from a COCO results file, by item name.

    Two forms are read. A list of ``{image_id, category_id, bbox, score}``: the ids are those of ``dataset_index``, and
    only images that occur count as looked at. A whole COCO file whose annotations have a ``score``: the ids are its own
    (labels are matched by name), and all of its images count as looked at.

    Args:
        dataset_index: the dataset that the ids of a list belong to; a whole file does not need it.
        model: the name that every prediction gets.

    Raises:
        UsageError: the file does not exist.
        DataError: it holds no such results, names an unknown image or category, or a score outside [0, 1].
    """
    data = _read_json(need_exists(path))
    if isinstance(data, dict):
        images, categories = _read_images(path, data), _read_categories(path, data)
        rows = _list(path, data, "annotations")
    elif dataset_index is not None:
        images, categories = dataset_index._images, dataset_index._categories
        rows = data
    else:
        raise DataError(
            f"{path.name} is a list of results: its ids say nothing without the dataset they belong to",
            todo="Name the COCO file that the predictions were made for: --predictions-index FILE",
        )
    objects, score = _read_results(path.name, rows, images, categories)
    looked_at = range(len(images.items)) if isinstance(data, dict) else np.flatnonzero(np.diff(objects.start)).tolist()
    names = {images.items[position].name: position for position in looked_at}
    return Results(names, categories.names, objects, score, model)


def _read_images(file: Path, data: Json) -> _Images:
    entries = _list(file, data, "images")
    written = [_file_name(entry) for entry in entries]
    names = unique_names(written)
    images = _Images([], [], {}, [], defaultdict(list))
    for k, (entry, image, name) in enumerate(zip(entries, written, names, strict=True)):
        key = entry.get("id") if isinstance(entry, dict) else None
        if not _is_id(key):
            images.add(Item(f"images[{k}]", name or f"images[{k}]", image), problem=f"images[{k}] has no id")
            continue
        split = split_name(entry.get("split") or entry.get("subset")) or split_of_path(image)
        size = _pixels(entry.get("width")), _pixels(entry.get("height"))
        item = Item(str(key), name or f"image {key}", image, *size, split)
        if key in images.position:
            twice = Item(f"{key}#{k}", item.name, image, *size, split)
            message = f"image id {key} is listed twice; its annotations are read as those of the first"
            images.add(twice, problem=message, kind=ErrorType.DUPLICATE_IMAGE)
            continue
        annotator = entry.get("annotator")
        images.position[key] = images.add(item, "" if annotator is None else str(annotator))
        if not image:
            images.problems[images.position[key]].append(Problem(ErrorType.NO_IMAGE, f"image {key} has no file_name"))
    return images


def _read_categories(file: Path, data: Json) -> _Categories:
    entries = _list(file, data, "categories")
    index: dict[Any, int] = {}
    position: dict[str, int] = {}
    for k, entry in enumerate(entries):
        key = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        if not _is_id(key) or not isinstance(name, str) or not name:
            raise DataError(f"categories[{k}] of {file.name} is {_short(entry)}", expected='{"id": 1, "name": "cat"}')
        index[key] = position.setdefault(name, len(position))
    return _Categories(tuple(position), index)


def _read_annotations(entries: list[Any], images: _Images, categories: _Categories) -> tuple[_Objects, list[str]]:
    """Objects in columns, and the id of each row; what cannot be read becomes a problem of its item."""
    image: list[int] = []
    label: list[int] = []
    xywh: list[Sequence[float]] = []
    ids = _annotation_ids(entries)
    kept: list[str] = []
    lost: Counter[str] = Counter()
    for entry, annotation_id in zip(entries, ids, strict=True):
        position = images.position.get(entry["image_id"]) if annotation_id else None
        if position is None:
            lost[f"image {_short(entry.get('image_id'))}" if isinstance(entry, dict) else "no image"] += 1
            continue
        if entry.get("iscrowd"):
            continue
        submission = images.items[position].id
        category = entry.get("category_id")
        at = categories.index.get(category) if _is_id(category) else None
        if at is None:
            message = f"annotation {annotation_id} has the category {_short(category)}, which the file does not list"
            images.problems[position].append(
                Problem(ErrorType.UNKNOWN_LABEL, message, annotation_id, submission_id=submission)
            )
            continue
        box = _box(entry)
        if box is None:
            message = f"annotation {annotation_id} has no usable bbox ({_short(entry.get('bbox'))}) and no polygon"
            images.problems[position].append(
                Problem(ErrorType.DEGENERATE_SHAPE, message, annotation_id, submission_id=submission)
            )
            continue
        image.append(position)
        label.append(at)
        xywh.append(box)
        kept.append(annotation_id)
    for what, count in lost.items():
        message = f"{count} annotations belong to {what}, which the file does not list"
        images.add(Item(f"unlisted {what}", f"unlisted {what}", ""), problem=message)
    return _Objects.group(len(images.items), image, label, xywh), kept


def _annotation_ids(entries: list[Any]) -> list[str]:
    """A unique id for each annotation, from its own; empty for one that names no image."""
    ids: list[str] = []
    seen: Counter[str] = Counter()
    for entry in entries:
        if not isinstance(entry, dict) or not _is_id(entry.get("image_id")):
            ids.append("")
            continue
        own = entry.get("id")
        plain = str(own) if _is_id(own) else f"{entry['image_id']}#"
        seen[plain] += 1
        if plain.endswith("#") or seen[plain] > 1:
            plain = f"{plain.rstrip('#')}#{seen[plain]}"
        ids.append(plain)
    return ids


def _read_results(file: str, rows: list[Any], images: _Images, categories: _Categories) -> tuple[_Objects, list[float]]:
    try:
        image = [images.position.get(row["image_id"], -1) for row in rows]
        label = [categories.index.get(row["category_id"], -1) for row in rows]
        xywh = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(len(rows), 4)
        score = np.array([row["score"] for row in rows], dtype=np.float64).reshape(len(rows))
    except (KeyError, TypeError, ValueError, OverflowError):
        k, row = next((k, row) for k, row in enumerate(rows) if not _is_result(row))
        raise DataError(
            f"entry {k} of {file} is no prediction: {_short(row)}",
            expected='{"image_id": 1, "category_id": 1, "bbox": [x, y, width, height], "score": 0.9}',
            todo="Give a file of predictions, not of labels",
        ) from None
    for name, found in (("image_id", image), ("category_id", label)):
        unknown = [k for k, at in enumerate(found) if at < 0]
        if unknown:
            raise DataError(
                f"{len(unknown)} of {len(rows)} predictions in {file} have an unknown {name}, "
                f"first {name} {_short(rows[unknown[0]][name])} in entry {unknown[0]}",
                expected=f"the ids of the dataset's {'images' if name == 'image_id' else 'categories'}",
                todo="Name the COCO file that the predictions were made for: --predictions-index FILE",
            )
    wrong = np.flatnonzero(~((score >= 0) & (score <= 1)))
    if len(wrong):
        k = int(wrong[0])
        raise DataError(f"entry {k} of {file} has the score {_short(rows[k]['score'])}", expected="a number in [0, 1]")
    return _Objects.group(len(images.items), image, label, xywh), score.tolist()


def _is_result(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and _is_id(row.get("image_id"))
        and _is_id(row.get("category_id"))
        and _four_numbers(row.get("bbox")) is not None
        and _number(row.get("score")) is not None
    )


def _box(entry: Json) -> Sequence[float] | None:
    """``x, y, width, height`` of an annotation, or None."""
    bbox = entry.get("bbox")
    if bbox:
        return _four_numbers(bbox)
    polygons = entry.get("segmentation")
    if not isinstance(polygons, list) or not polygons or not all(isinstance(p, list) for p in polygons):
        return None
    numbers = [_number(v) for polygon in polygons for v in polygon]
    if len(numbers) < 6 or any(len(p) % 2 for p in polygons) or any(v is None for v in numbers):
        return None
    flat = [v for v in numbers if v is not None]
    x1, y1, x2, y2 = envelope(list(zip(flat[::2], flat[1::2], strict=True)))
    return (x1, y1, x2 - x1, y2 - y1)


def _four_numbers(value: Any) -> Xyxy | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    a, b, c, d = map(_number, value)
    return None if a is None or b is None or c is None or d is None else (a, b, c, d)


def _number(value: Any) -> float | None:
    """The value as a float, NaN and infinity included; None for anything that is no number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _pixels(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and math.isfinite(number) and number >= 1 else None


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _file_name(entry: Any) -> str:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _list(file: Path, data: Json, key: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        raise _not_coco(file, f"no list {key!r}, only {', '.join(map(repr, list(data)[:10])) or 'nothing'}")
    return value


def _not_coco(file: Path, found: str) -> DataError:
    return DataError(
        f"{file} is not a COCO file: it holds {found}",
        expected="an object with the lists images, annotations and categories",
        todo="Export the dataset as COCO JSON",
    )


def _read_json(file: Path) -> Any:
    def slim(entry: Json) -> Json:
        # Polygons are most of a COCO file, and of no use beside a box: dropped while parsing, memory stays small.
        if entry.get("bbox"):
            entry.pop("segmentation", None)
        return entry

    try:
        return json.loads(file.read_bytes(), object_hook=slim)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {error}", todo="Export the file again") from error


def _find_file(path: Path) -> Path:
    if path.is_file():
        return path
    patterns = ("annotations/instances*.json", "annotations/*.json", "*.json")
    for found in (sorted(path.glob(pattern)) for pattern in patterns):
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(str(f.relative_to(path)) for f in found[:10])
            raise UsageError(f"{path} holds several JSON files: {names}", todo="Name the one you mean")
    raise UsageError(f"there is no JSON file in {path}", expected=" or ".join(patterns))


def _beside(file: Path) -> Iterable[Path]:
    """Where the images of a COCO file customarily are."""
    folder = file.parent
    yield folder
    yield folder / "images"
    if folder.name.lower() == "annotations":
        split = file.stem.removeprefix("instances_")
        yield from (folder.parent / split, folder.parent / "images" / split, folder.parent / "images", folder.parent)
