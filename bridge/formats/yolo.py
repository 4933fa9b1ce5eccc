"""YOLO: one text file per image, ``class x y width height`` per line, as parts of the image's width and height.

A line with a class and three or more ``x y`` pairs is a polygon (a segmentation, or a turned box by its corners); its
envelope counts. An image with an empty text file was looked at and has nothing on it; an image without a text file has
not been labelled by anybody.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Problem, Record, Submission
from bridge.core.findings import ErrorType
from bridge.core.geometry import envelope
from bridge.core.splits import split_of_path
from bridge.errors import DataError, ImageError, UsageError
from bridge.formats.paths import find_inside, image_files, image_roots, need_exists, refuse_outside, unique_names
from bridge.images import size_of_file
from bridge.yaml_text import load_yaml

_NAME_FILES = ("classes.txt", "obj.names", "*.names", "names.txt", "labels/classes.txt")
_LABEL_FOLDERS = ("labels", "obj_train_data", "")
_NOT_LABELS = frozenset({"classes.txt", "names.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt"})
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class _Pair:
    """An image below the root of images, and the text file about it; either may be absent. ``split`` is the one that
    the configuration lists it in; empty where it lists none."""

    id: str
    image: str
    labels: Path | None
    split: str = ""


@dataclass(frozen=True, slots=True)
class YoloDataset:
    """One dataset in YOLO's layout. Sizes of images are read from their headers, a page at a time.

    The id of an item is the path of its image; that of an annotation is the item's, ``#``, and the number of its
    line in the text file, from 0.
    """

    labels: LabelSet
    _classes: tuple[str, ...]
    _pairs: tuple[_Pair, ...]
    _names: tuple[str, ...]
    _folder: Path
    _root: Path
    _by_id: dict[str, int]

    @classmethod
    def open(cls, path: Path, images: Path | None = None) -> YoloDataset:
        """Open a dataset.

        Args:
            path: ``data.yaml``, or a folder with one; or a folder with ``images/``, ``labels/`` and ``classes.txt``.
            images: the folder with the image files, when it is none of these.

        Raises:
            UsageError: the layout is none that is known, or there is neither an image nor a text file.
            DataError: the file with the class names cannot be read.
        """
        config_file = _find_config(need_exists(path))
        folder = config_file.parent if config_file else path
        config = _read_config(config_file) if config_file else {}
        classes = _config_names(config_file, config) if config_file else _file_names(folder)
        root = image_roots(images, ())[0] if images else folder
        pairs = tuple(_pairs(folder, config, images))
        if not pairs:
            raise UsageError(f"there are no images and no label files in {path}", expected="images/ and labels/")
        return cls(
            labels=LabelSet(tuple(dict.fromkeys(classes))),
            _classes=classes,
            _pairs=pairs,
            _names=tuple(unique_names([pair.image or pair.id for pair in pairs])),
            _folder=folder,
            _root=root,
            _by_id={pair.id: position for position, pair in enumerate(pairs)},
        )

    def __len__(self) -> int:
        return len(self._pairs)

    def records(self, start: int, stop: int) -> list[Record]:
        return [self._record(position) for position in range(len(self))[start:stop]]

    def position(self, item_id: str) -> int | None:
        return self._by_id.get(item_id)

    def image_path(self, item: Item) -> Path:
        return find_inside((self._root,), item.image, item.name)

    def _record(self, position: int) -> Record:
        pair = self._pairs[position]
        item = Item(pair.id, self._names[position], pair.image, split=pair.split or split_of_path(pair.id))
        if not pair.image:
            message = f"there is no image for {pair.labels.name if pair.labels else pair.id}"
            return Record(item, problems=(Problem(ErrorType.NO_IMAGE, message),))
        try:
            path = self.image_path(item)
        except ImageError as error:
            return Record(item, problems=(Problem(ErrorType.NO_IMAGE, str(error)),))
        try:
            width, height = size_of_file(path, item.name)
        except ImageError as error:
            return Record(item, problems=(Problem(ErrorType.UNREADABLE_IMAGE, str(error)),))
        item = replace(item, width=width, height=height)
        if pair.labels is None:
            return Record(item)
        try:
            text = _read_text(pair.labels, self._folder)
        except DataError as error:
            return Record(item, problems=(Problem(ErrorType.DEGENERATE_SHAPE, str(error)),))
        annotations: list[Annotation] = []
        problems: list[Problem] = []
        for k, line in enumerate(text.splitlines()):
            if not line.strip():
                continue
            read = _object(f"{pair.id}#{k}", line, item, self._classes)
            if isinstance(read, Problem):
                problems.append(read)
            else:
                annotations.append(read)
        return Record(item, (Submission(pair.id, "", tuple(annotations)),), problems=tuple(problems))


def _object(annotation_id: str, line: str, item: Item, classes: tuple[str, ...]) -> Annotation | Problem:
    def problem(kind: ErrorType, found: str) -> Problem:
        return Problem(kind, f"line {annotation_id}: {found}", annotation_id, item.id)

    assert item.width is not None
    assert item.height is not None
    parts = line.split()
    try:
        number, *values = (float(part) for part in parts)
    except ValueError:
        return problem(ErrorType.DEGENERATE_SHAPE, f"not all of {line.strip()[:80]!r} are numbers")
    if not number.is_integer() or not 0 <= number < len(classes):
        return problem(ErrorType.UNKNOWN_LABEL, f"class {parts[0]} is not among the {len(classes)} names")
    label = classes[int(number)]
    if len(values) == 4:
        x, y, w, h = values
        box = Box(
            (x - w / 2) * item.width, (y - h / 2) * item.height, (x + w / 2) * item.width, (y + h / 2) * item.height
        )
        return Annotation(annotation_id, label, box)
    if len(values) >= 6 and len(values) % 2 == 0 and all(map(math.isfinite, values)):
        x1, y1, x2, y2 = envelope(list(zip(values[::2], values[1::2], strict=True)))
        return Annotation(
            annotation_id, label, Box(x1 * item.width, y1 * item.height, x2 * item.width, y2 * item.height)
        )
    return problem(
        ErrorType.DEGENERATE_SHAPE, f"{len(values)} numbers behind the class are neither a box nor a polygon"
    )


def _pairs(folder: Path, config: Mapping[str, Any], images: Path | None) -> Iterator[_Pair]:
    """Every image and every text file of the dataset, each once."""
    if images is None and any(config.get(split) for split in _SPLITS):
        seen: set[str] = set()
        for split in _SPLITS:
            for written in _as_list(config.get(split)):
                place = _split_place(folder, config, written)
                found = _from_list(folder, place) if place.is_file() else _from_folders(folder, place, _twin(place))
                for pair in found:
                    if pair.id not in seen:
                        seen.add(pair.id)
                        yield replace(pair, split=split)
        return
    labels = next(folder / name for name in _LABEL_FOLDERS if (folder / name).is_dir())
    place = images or (folder / "images" if (folder / "images").is_dir() else folder)
    yield from _from_folders(images or folder, place, labels)


def _from_folders(root: Path, place: Path, labels: Path) -> Iterator[_Pair]:
    """Images in ``place`` and text files in ``labels``, paired by their path without the ending."""
    images = image_files(place)
    stems = {_stem(image, place) for image in images}
    files = [file for file in sorted(labels.rglob("*.txt")) if file.name.lower() not in _NOT_LABELS]
    texts = {_stem(file, labels): file for file in files}
    # Folders may differ (labels/train/1.txt, images/1.jpg): then the file name decides, where it is the only one.
    names = Counter(image.stem for image in images) + Counter(file.stem for file in files)
    apart = {file.stem: stem for stem, file in texts.items() if stem not in stems and names[file.stem] == 2}
    for image in images:
        text = texts.pop(_stem(image, place), None) or texts.pop(apart.get(image.stem, ""), None)
        path = image.relative_to(root).as_posix()
        yield _Pair(path, path, text)
    for stem, text in texts.items():
        yield _Pair(f"{stem}.txt", "", text)


def _from_list(root: Path, listing: Path) -> Iterator[_Pair]:
    """The images that a text file lists, one path per line."""
    for line in _read_text(listing, root).splitlines():
        path = _without_dots(line.strip())
        if path.parts:
            text = (_twin(root / path.parent) / path.name).with_suffix(".txt")
            yield _Pair(path.as_posix(), path.as_posix(), text if text.is_file() else None)


def _split_place(folder: Path, config: Mapping[str, Any], written: str) -> Path:
    """Where a split is. Configurations often name folders of the machine they were made on: those are looked for below
    the configuration's own folder, and nothing outside it is read."""
    inner = _without_dots(str(config.get("path") or "."))
    for candidate in (folder / inner / _without_dots(written), folder / _without_dots(written)):
        if candidate.exists() and candidate.resolve().is_relative_to(folder.resolve()):
            return candidate
    raise UsageError(
        f"the configuration names the images {written!r}, which are not below {folder}",
        expected="a folder or a list of images inside the dataset",
        todo="Correct the configuration, or name the folder that holds the images with --images",
    )


def _without_dots(written: str) -> PurePosixPath:
    """A path of a configuration as one below its folder: no leading slash, no ``..``."""
    parts = PurePosixPath(written.replace("\\", "/")).parts
    return PurePosixPath(*(part for part in parts if part not in ("..", "/", ".")))


def _twin(images: Path) -> Path:
    """The folder of text files beside a folder of images: the last ``images`` in its path is ``labels``."""
    parts = list(images.parts)
    for k in range(len(parts) - 1, -1, -1):
        if parts[k] == "images":
            twin = Path(*parts[:k], "labels", *parts[k + 1 :])
            return twin if twin.is_dir() else images
    return images


def _stem(file: Path, root: Path) -> str:
    return file.relative_to(root).with_suffix("").as_posix()


def _as_list(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(v) for v in values if v]


def _read_text(file: Path, folder: Path) -> str:
    refuse_outside(file, folder)
    try:
        return file.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _find_config(path: Path) -> Path | None:
    if path.is_file():
        if path.suffix.lower() not in (".yaml", ".yml"):
            raise UsageError(f"{path} is no YOLO configuration", expected="data.yaml, or the folder of the dataset")
        return path
    found = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    usual = [file for file in found if file.stem in ("data", "dataset")]
    if len(usual or found) > 1:
        names = ", ".join(file.name for file in usual or found)
        raise UsageError(f"{path} holds several configurations: {names}", todo="Name the one you mean")
    return next(iter(usual or found), None)


def _read_config(file: Path) -> Mapping[str, Any]:
    try:
        config = load_yaml(file.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not YAML: {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    return config if isinstance(config, dict) else {}


def _config_names(file: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    names = config.get("names")
    if isinstance(names, dict):
        try:
            indexed = {int(k): str(name) for k, name in names.items()}
        except (TypeError, ValueError):
            indexed = {}
        if indexed and min(indexed) >= 0 and max(indexed) < 100_000:
            return tuple(indexed.get(k, f"class {k}") for k in range(max(indexed) + 1))
    elif isinstance(names, list) and names:
        return tuple(map(str, names))
    raise DataError(f"{file} gives no class names", expected="names: [cat, dog], or names: {0: cat, 1: dog}")


def _file_names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", expected="data.yaml, or the folder of the dataset")
    file = next((file for pattern in _NAME_FILES for file in sorted(folder.glob(pattern))), None)
    if file is None:
        raise UsageError(
            f"{folder} has no file with the class names", expected="data.yaml, classes.txt or obj.names in it"
        )
    lines = _read_text(file, folder).rstrip().splitlines()
    if not lines:
        raise DataError(f"{file} is empty", expected="one class name per line")
    return tuple(line.strip() or f"class {k}" for k, line in enumerate(lines))
