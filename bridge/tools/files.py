"""Datasets on disk as a target that is read but never written: ``coco:PATH``, ``voc:DIR``, ``yolo:DIR``."""

# ruff: noqa: ARG002  (the protocol names arguments that a read-only source has no use for)

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bridge.core.annotations import Item, LabelSet, Prediction, Record
from bridge.core.assignment import Seating, Who
from bridge.core.findings import Finding, Verdict
from bridge.errors import ImageError, ToolError, UsageError
from bridge.formats import Format
from bridge.formats.coco import CocoDataset
from bridge.formats.voc import VocDataset
from bridge.formats.yolo import YoloDataset
from bridge.tools import (
    Changes,
    FixNote,
    FixOrder,
    FixResult,
    Page,
    Prelabel,
    PushedCase,
    Review,
    ReviewCase,
    TargetInfo,
    UndoOrder,
    forget,
)

_OPEN: Mapping[str, Callable[[Path, Path | None], Format]] = {
    "coco": CocoDataset.open,
    "voc": VocDataset.open,
    "yolo": YoloDataset.open,
}
_TARGETS = "coco:annotations.json, voc:FOLDER or yolo:FOLDER"

#: Larger files are not read into memory: no image of a size that is decoded takes as much.
MAX_IMAGE_BYTES = 1 << 30


def open_files(target: str, images: Path | None = None) -> FilesTool:
    """The dataset behind ``coco:PATH``, ``voc:DIR`` or ``yolo:DIR``.

    Args:
        images: the folder with the image files, where it is not beside the labels.

    Raises:
        UsageError: the words name no dataset: unknown kind, nothing there, a folder without labels.
        DataError: the dataset cannot be read at all.
    """
    kind, colon, path = target.partition(":")
    if kind not in _OPEN or not colon or not path:
        raise UsageError(f"{target!r} is no dataset on disk", expected=_TARGETS)
    return FilesTool(target, _OPEN[kind](Path(path).expanduser(), images))


@dataclass(frozen=True, slots=True)
class FilesTool:
    """A dataset on disk behind the :class:`~bridge.tools.AnnotationTool` protocol.

    Attributes:
        target: the full target, as in ``coco:annotations.json``.
        dataset: the opened dataset; the list of its items is read once.
        predictions: by item name, all of them by ``model``; an item that is not in it was not looked at.
    """

    target: str
    dataset: Format
    predictions: Mapping[str, tuple[Prediction, ...]] | None = None
    model: str = ""

    def describe(self) -> TargetInfo:
        path = Path(self.target.partition(":")[2])
        return TargetInfo(self.target, path.resolve().name, self.dataset.labels, len(self.dataset), writable=False)

    def read_page(self, after: str | None, limit: int, model: str | None = None) -> Page:
        if after is not None and not after.isdecimal():
            raise ToolError(f"{after!r} is no cursor of {self.target}", expected="one that an earlier page gave")
        start = int(after or 0)
        stop = min(start + max(limit, 1), len(self.dataset))
        records = self.dataset.records(start, stop)
        if self.predictions is not None and model in (None, self.model):
            records = [self._predicted(record, self.predictions) for record in records]
        return Page(tuple(records), str(stop) if stop < len(self.dataset) else None)

    def read_records(self, item_ids: Collection[str]) -> dict[str, Record]:
        places = {item_id: self.dataset.position(item_id) for item_id in item_ids}
        return {i: self.dataset.records(at, at + 1)[0] for i, at in places.items() if at is not None}

    def read_image(self, item: Item) -> bytes:
        path = self.dataset.image_path(item)
        try:
            if path.stat().st_size > MAX_IMAGE_BYTES:
                raise ImageError(
                    f"the image file of {item.name} has {path.stat().st_size / 2**20:.0f} MiB",
                    expected=f"at most {MAX_IMAGE_BYTES // 2**20} MiB",
                )
            return path.read_bytes()
        except OSError as error:
            raise ImageError(f"the image {item.name} cannot be read: {error.strerror or error}") from error

    def write_predictions(self, model: str, batch: Sequence[Prelabel]) -> int:
        raise self._read_only("predictions cannot be stored")

    def open_review(self, labels: LabelSet, title: str) -> Review:
        raise self._read_only("there is no place to review findings")

    def seats(self, findings: Sequence[Finding], who: Who) -> Seating:
        raise self._read_only("findings cannot be pushed")

    def push_cases(self, review: Review, cases: Sequence[ReviewCase]) -> list[PushedCase]:
        raise self._read_only("findings cannot be pushed")

    def read_verdicts(self, review: Review, since: str | None) -> Iterator[Verdict]:
        raise self._read_only("there are no verdicts to read")

    def withdraw_cases(self, review: Review, finding_ids: Collection[str], keep: Collection[str] = ()) -> set[str]:
        raise self._read_only("there is no place to review findings")

    def apply_fixes(self, orders: Sequence[FixOrder], note: Callable[[FixNote], None] = forget) -> list[FixResult]:
        raise self._read_only("fixes cannot be written")

    def undo_fixes(self, orders: Sequence[UndoOrder]) -> list[FixResult]:
        raise self._read_only("fixes cannot be undone")

    def read_changes(self, cursor: str | None) -> Changes:
        raise self._read_only("nobody works in it whose changes could be followed")

    def _predicted(self, record: Record, predictions: Mapping[str, tuple[Prediction, ...]]) -> Record:
        if record.item.name not in predictions:
            return record
        return replace(record, predictions=predictions[record.item.name], predicted_by=(self.model,))

    def _read_only(self, what: str) -> ToolError:
        return ToolError(
            f"{self.target} is read-only: {what}",
            expected="an annotation tool, as in ls:project/7",
            todo=f"See the findings with `labelbridge report {self.target}`; its --out names the file to write",
        )
