"""Pascal VOC: a folder with one XML file per image.

Corners are one-based and inclusive: ``xmin = 1`` is the first column, and a box from 1 to 10 is ten pixels wide. Boxes
marked ``difficult`` or ``truncated`` are objects like any other. A box whose ``xmax`` is not beyond ``xmin`` (or whose
``ymax`` is not beyond ``ymin``) is a slip of the hand, not a box of one pixel: it comes out without area, for the data
checks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Problem, Record, Submission
from bridge.core.findings import ErrorType
from bridge.core.splits import TEST, TRAIN, VAL, split_of_path
from bridge.errors import DataError, UsageError
from bridge.formats.paths import find_inside, image_roots, need_exists, refuse_outside, unique_names
from bridge.images import SUFFIXES

_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", "")


@dataclass(frozen=True, slots=True)
class VocDataset:
    """One dataset in VOC's layout. Opening it reads every file once, for the class names; none is kept.

    The id of an item is the path of its XML file without the ending, below the folder of annotations; that of an
    annotation is the item's, ``#``, and the place of the object in the file, from 0. A file that is no XML gives an
    item with a problem and no submission. Its split is the list in ``ImageSets/Main`` that names it, or else a folder
    of its id. An image is looked for under the ``filename`` that the XML gives, then under the XML file's own name.
    """

    labels: LabelSet
    _folder: Path
    _ids: tuple[str, ...]
    _images: tuple[str, ...]
    _names: tuple[str, ...]
    _roots: tuple[Path, ...]
    _by_id: dict[str, int]
    _splits: dict[str, str]

    @classmethod
    def open(cls, path: Path, images: Path | None = None) -> VocDataset:
        """Open a folder.

        Args:
            path: the folder of XML files, or one with such a folder in it (``Annotations``).
            images: the folder with the image files; when None they are looked for beside the annotations.

        Raises:
            UsageError: no XML file is there, or several folders have some.
        """
        folder = _find_annotations(need_exists(path))
        files = sorted(folder.rglob("*.xml"))
        ids = tuple(file.relative_to(folder).with_suffix("").as_posix() for file in files)
        labels: set[str] = set()
        written: list[str] = []
        for file, item_id in zip(files, ids, strict=True):
            root = _parse(file, folder)
            own = "" if isinstance(root, str) else _text(root, "filename")
            written.append(_with_folder(item_id, own or f"{file.stem}.jpg"))
            if not isinstance(root, str):
                labels.update(filter(None, (_text(entry, "name") for entry in root.iter("object"))))
        beside = [base / name for base in dict.fromkeys((path, folder.parent, folder)) for name in _IMAGE_FOLDERS]
        return cls(
            labels=LabelSet(tuple(sorted(labels))),
            _folder=folder,
            _ids=ids,
            _images=tuple(written),
            _names=tuple(unique_names(written)),
            _roots=image_roots(images, beside),
            _by_id={item_id: position for position, item_id in enumerate(ids)},
            _splits=_listed_splits(folder.parent / "ImageSets" / "Main"),
        )

    def __len__(self) -> int:
        return len(self._ids)

    def records(self, start: int, stop: int) -> list[Record]:
        return [self._record(position) for position in range(len(self))[start:stop]]

    def position(self, item_id: str) -> int | None:
        return self._by_id.get(item_id)

    def image_path(self, item: Item) -> Path:
        by_xml_name = (f"{item.id}{suffix}" for suffix in sorted(SUFFIXES))
        return find_inside(self._roots, item.image, item.name, *by_xml_name)

    def _record(self, position: int) -> Record:
        item_id, name, image = self._ids[position], self._names[position], self._images[position]
        split = self._splits.get(item_id) or split_of_path(item_id)
        root = _parse(self._folder / f"{item_id}.xml", self._folder)
        if isinstance(root, str):
            return Record(
                Item(item_id, name, image, split=split), problems=(Problem(ErrorType.DEGENERATE_SHAPE, root),)
            )
        item = Item(item_id, name, image, _pixels(root, "size/width"), _pixels(root, "size/height"), split)
        annotations: list[Annotation] = []
        problems: list[Problem] = []
        for k, entry in enumerate(root.iter("object")):
            read = _object(f"{item_id}#{k}", entry, item_id)
            if isinstance(read, Problem):
                problems.append(read)
            else:
                annotations.append(read)
        return Record(item, (Submission(item_id, "", tuple(annotations)),), problems=tuple(problems))


def _object(annotation_id: str, entry: Element, submission: str) -> Annotation | Problem:
    name = _text(entry, "name")
    if not name:
        message = f"object {annotation_id} has no name"
        return Problem(ErrorType.UNKNOWN_LABEL, message, annotation_id, submission)
    try:
        x1, y1, x2, y2 = (float(_text(entry, f"bndbox/{tag}")) for tag in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        message = f"object {annotation_id} ({name}) has no bndbox of four numbers"
        return Problem(ErrorType.DEGENERATE_SHAPE, message, annotation_id, submission)
    right, bottom = (x2 if x2 > x1 else x2 - 1), (y2 if y2 > y1 else y2 - 1)
    return Annotation(annotation_id, name, Box(x1 - 1, y1 - 1, right, bottom))


def _parse(file: Path, folder: Path) -> Element | str:
    """The root of an XML file, or a sentence about why there is none."""
    try:
        refuse_outside(file, folder)
        root: Element | None = ElementTree.parse(file).getroot()
    except DataError as error:
        return str(error)
    except DefusedXmlException:
        return f"{file.name} defines XML entities, which are not followed"
    except (ParseError, ValueError, LookupError) as error:
        return f"{file.name} is not well-formed XML: {error}"
    except OSError as error:
        return f"{file.name} cannot be read: {error.strerror or error}"
    return f"{file.name} holds no XML element" if root is None else root


def _listed_splits(folder: Path) -> dict[str, str]:
    """The split of each item, from VOC's own lists ``train.txt``, ``val.txt`` and ``test.txt``; empty without them."""
    splits: dict[str, str] = {}
    for split in (TRAIN, VAL, TEST):
        file = folder / f"{split}.txt"
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            splits |= {line.split()[0]: split for line in lines if line.strip()}
    return splits


def _find_annotations(path: Path) -> Path:
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder", expected="a folder with one XML file per image")
    inside = sorted(child for child in path.iterdir() if child.is_dir())
    if any(path.glob("*.xml")):
        return path
    found = [child for child in inside if next(child.rglob("*.xml"), None)]
    named = [child for child in found if child.name.lower() == "annotations"]
    if len(named or found) == 1:
        return (named or found)[0]
    if found:
        names = ", ".join(child.name for child in found[:10])
        raise UsageError(f"several folders in {path} hold XML files: {names}", todo="Name the one you mean")
    raise UsageError(f"there are no XML files in {path}", expected="a folder Annotations with one XML file per image")


def _with_folder(item_id: str, filename: str) -> str:
    """The image of ``train/7`` is ``train/`` and its file name: VOC's own ``filename`` has no folders."""
    parent, slash, _ = item_id.rpartition("/")
    return filename if "/" in filename or "\\" in filename else f"{parent}{slash}{filename}"


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _pixels(root: Element, path: str) -> int | None:
    try:
        number = float(_text(root, path))
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number >= 1 else None
