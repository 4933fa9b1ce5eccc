"""Accepted fixes into a CVAT job, without touching anything else that is in it.

CVAT has no locks and no versions. The job is read, each fix is judged against what is there now, and only the objects
concerned are deleted, updated or created, by their own ids: never the whole job (a PUT would give every object a new
id). An annotator whose page is open at that moment keeps what it shows, and saves by difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.core.annotations import Annotation, Box, Polygon, Shape
from bridge.dialects.cvat_labels import CvatLabels, attribute_values
from bridge.dialects.cvat_new_shapes import NewObject, create_body, new_object
from bridge.dialects.cvat_shapes import FrameObjects, Size, read_frame
from bridge.errors import AuthError, DataError, NotFound, ToolError
from bridge.tools import FixOrder, FixResult, Outcome
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_layout import parse_item_id
from bridge.tools.fix_rules import (
    SAME_FIX_IOU,
    SAME_OBJECT_IOU,
    FixSheet,
    InTheWay,
    closest,
    conflicts,
    same_shape,
    where,
)

_JUDGED = "semi-auto"
"""The source of what a fix adds or changes: CVAT's own word for a suggestion that a person has judged. As ``auto`` it
could be taken for one that nobody has looked at."""


class JobFixes:
    """Fixes to one job.

    Args:
        size: width and height of an item's frame, by item id; asked only for added objects.
    """

    def __init__(self, client: CvatClient, job: int, labels: CvatLabels, size: Callable[[str], Size]) -> None:
        self._client = client
        self._job = job
        self._labels = labels
        self._size = size

    def apply(self, orders: Sequence[FixOrder]) -> list[FixResult]:
        """One result per order. One request reads, and one each deletes, updates and creates, where there is any.

        Raises:
            ToolError: the server failed. What was written by then is found to be there by the next attempt.
        """
        try:
            answer = self._client.annotations(self._job)
        except NotFound:
            return conflicts(orders, f"job {self._job} no longer exists")
        sheet = JobSheet(answer, self._labels, self._size)
        results = [sheet.apply(order) for order in orders]
        try:
            self._write(sheet)
        except AuthError as error:
            raise ToolError(
                f"the fixes cannot be written into job {self._job}: {error.found}",
                expected="a user who may edit it: its assignee, the owner of its task or project, or a maintainer",
                todo="Run sync as such a user; the verdicts are kept",
            ) from None
        return results

    def _write(self, sheet: JobSheet) -> None:
        for action, entries in (("delete", sheet.deleted), ("update", sheet.updated)):
            if entries:
                body: Row = {"version": 0, "tags": [], "shapes": list(entries.values()), "tracks": []}
                self._client.patch_annotations(self._job, action, body)
        if sheet.added:
            self._client.patch_annotations(self._job, "create", create_body(sheet.added))


class JobSheet(FixSheet):
    """The shapes of a job while fixes are worked into them.

    Attributes:
        deleted, updated: whole shapes by annotation id, as CVAT wants them back.
        added: new objects.
    """

    def __init__(self, answer: Row, labels: CvatLabels, size: Callable[[str], Size]) -> None:
        self._labels = labels
        self._size = size
        shapes = [s for s in answer.get("shapes") or [] if isinstance(s, dict) and "id" in s]
        self._read = {f"shape:{s['id']}": s for s in shapes}
        self._on_frame: dict[int, list[str]] = {}
        for annotation_id, shape in self._read.items():
            self._on_frame.setdefault(int(shape.get("frame", -1)), []).append(annotation_id)
        self.deleted: dict[str, Row] = {}
        self.updated: dict[str, Row] = {}
        self.added: list[NewObject] = []
        self._new: dict[int, list[Annotation]] = {}

    def apply(self, order: FixOrder) -> FixResult:
        """See :meth:`FixSheet.apply`; what CVAT's labels or the frame do not take is a conflict too."""
        try:
            return super().apply(order)
        except DataError as error:
            return FixResult(order.finding.id, Outcome.CONFLICT, error.found)

    def on(self, frame: int) -> list[Row]:
        """The shapes of a frame with the fixes so far, as CVAT takes them; the new ones have no id."""
        kept = [i for i in self._on_frame.get(frame, ()) if i not in self.deleted]
        here = [self.updated.get(i) or self._read[i] for i in kept]
        return here + [new.body for new in self.added if new.body["frame"] == frame]

    def _add(self, order: FixOrder) -> tuple[Outcome, str]:
        fix, (_, frame) = order.fix, _place(order)
        if not isinstance(fix.shape, Box) or fix.shape.problem() or fix.label is None:
            raise InTheWay("only a box with an area and a label can be added")
        here = [a for i in self._on_frame.get(frame, ()) if (a := self._now(i, order))]
        iou = closest(fix.shape, fix.label, [*here, *self._new.get(frame, ())])
        if iou >= SAME_FIX_IOU:
            return Outcome.ALREADY, f"a {fix.label!r} box is there already (IoU {iou:.2f})"
        if iou >= SAME_OBJECT_IOU:
            raise InTheWay(f"a {fix.label!r} box that overlaps the new one (IoU {iou:.2f}) is there already")
        size = self._size(order.finding.item_id)
        self.added.append(new_object(fix.label, fix.shape, frame, self._labels, size, source=_JUDGED))
        self._new.setdefault(frame, []).append(Annotation(order.finding.id, fix.label, fix.shape))
        return Outcome.APPLIED, f"added a {fix.label!r} box at {where(fix.shape)}"

    def _delete(self, order: FixOrder) -> tuple[Outcome, str]:
        annotation_id = _one_shape(order)
        if annotation_id not in self._read or annotation_id in self.deleted:
            return Outcome.ALREADY, "the object is gone already"
        self._require_unchanged(annotation_id, order)
        self.deleted[annotation_id] = self._read[annotation_id]
        self.updated.pop(annotation_id, None)
        return Outcome.APPLIED, f"deleted the {order.finding.label!r} object"

    def _change(self, order: FixOrder) -> tuple[Outcome, str]:
        finding, fix, annotation_id = order.finding, order.fix, _one_shape(order)
        label = fix.label if fix.label not in (None, finding.label) else None
        shape = None if same_shape(fix.shape, finding.current_shape) else fix.shape
        now = self._now(annotation_id, order)
        is_labelled = label is None or (now is not None and now.label == label)
        is_shaped = shape is None or (now is not None and same_shape(now.shape, shape))
        if now is not None and is_labelled and is_shaped:
            return Outcome.ALREADY, f"the object is {now.label!r} at {where(now.shape)} already"
        self._require_unchanged(annotation_id, order)
        entry = dict(self.updated.get(annotation_id) or self._read[annotation_id])
        parts = []
        if not is_labelled and label is not None:
            self._relabel(entry, label)
            parts.append(f"relabelled {finding.label!r} as {label!r}")
        if not is_shaped and shape is not None:
            entry.update(geometry_of(entry, shape))
            parts.append(f"moved the {label or finding.label!r} object to {where(shape)}")
        if entry.get("source") == "auto":
            entry["source"] = _JUDGED
        self.updated[annotation_id] = entry
        return Outcome.APPLIED, " and ".join(parts)

    def _now(self, annotation_id: str, order: FixOrder) -> Annotation | None:
        """The object with the fixes so far; None where it is gone."""
        entry = self.updated.get(annotation_id) or self._read.get(annotation_id)
        return None if entry is None or annotation_id in self.deleted else self._annotation(entry, order)

    def _annotation(self, entry: Row, order: FixOrder) -> Annotation | None:
        size = self._size(order.finding.item_id) if entry.get("type") == "mask" else None
        found = read_frame(FrameObjects(shapes=[entry]), self._labels, size).annotations
        return found[0] if found else None

    def _require_unchanged(self, annotation_id: str, order: FixOrder) -> None:
        """Judged against what was read, so that the second fix of an object is no conflict with the first."""
        if len(order.finding.revisions) != 1:
            raise InTheWay("the finding does not say how the object was when it was scored")
        name = annotation_id.replace(":", " ")
        entry = self._read.get(annotation_id)
        found = None if entry is None or annotation_id in self.deleted else self._annotation(entry, order)
        if found is None:
            raise InTheWay(f"{name} was deleted since it was scored")
        if found.revision != order.finding.revisions[0]:
            raise InTheWay(f"{name} was changed since it was scored: it is now {found.label!r} at {where(found.shape)}")

    def _relabel(self, entry: Row, name: str) -> None:
        """Another label, and of the attributes those that it has too, by their names."""
        old, new = self._labels.by_id.get(entry.get("label_id", -1)), self._labels.require(name)
        if entry.get("type") not in new.takes:
            raise InTheWay(f"the label {name!r} takes no {entry.get('type')}")
        values = attribute_values(entry.get("attributes"), old)
        kept = [{"spec_id": a.spec_id, "value": values[a.name]} for a in new.attributes if a.name in values]
        entry.update(label_id=new.id, attributes=kept)


def _place(order: FixOrder) -> tuple[int, int]:
    place = parse_item_id(order.finding.item_id)
    if place is None:
        raise InTheWay(f"{order.finding.item_id!r} is no frame of a task")
    return place


def _one_shape(order: FixOrder) -> str:
    ids = order.finding.annotation_ids
    if len(ids) != 1:
        raise InTheWay("the finding does not name one object")
    if not ids[0].startswith("shape:"):
        raise InTheWay("the object is part of a track, or a tag: change it by hand in CVAT")
    return ids[0]


def geometry_of(entry: Row, shape: Shape) -> Row:
    """Points and rotation of a shape in the form that the entry has.

    Raises:
        InTheWay: the entry is of another kind than the shape.
    """
    match entry.get("type"), shape:
        case "rectangle", Box():
            return {"points": list(shape.xyxy), "rotation": shape.rotation % 360}
        case "ellipse", Box():
            middle = ((shape.x1 + shape.x2) / 2, (shape.y1 + shape.y2) / 2)
            return {"points": [*middle, shape.x2, shape.y1], "rotation": shape.rotation % 360}
        case "polygon", Polygon():
            return {"points": [n for point in shape.points for n in point]}
    raise InTheWay("the new shape is of another kind than the object")
