"""Accepted fixes into a CVAT job, without touching anything else that is in it.

In a track, a fix of an object's place makes or changes one keyframe, a deleted object is outside on that one frame, and
another label is one of the whole track, as in CVAT's editor.

CVAT has no locks and no versions. The job is read, each fix is judged against what is there now, and only the objects
concerned are deleted, updated or created, by their own ids: never the whole job (a PUT would give every object a new
id). An annotator whose page is open at that moment keeps what it shows, and saves by difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bridge.core.annotations import Annotation, Box, Mask, Polygon, Shape, digest, revision_of
from bridge.core.findings import Finding
from bridge.dialects.cvat_labels import CvatLabels, attribute_values
from bridge.dialects.cvat_new_shapes import NewObject, create_body, mask_to_points, new_object
from bridge.dialects.cvat_shapes import FrameObjects, Size, entry_revision, read_frame
from bridge.dialects.cvat_track_edits import hide_on, relabel_track, set_keyframe
from bridge.dialects.cvat_tracks import read_tracks
from bridge.errors import AuthError, DataError, NotFound, ToolError
from bridge.tools import FixNote, FixOrder, FixResult, Outcome, UndoOrder
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_layout import Job, parse_item_id
from bridge.tools.fix_rules import (
    SAME_FIX_IOU,
    SAME_OBJECT_IOU,
    FixSheet,
    InTheWay,
    closest,
    closest_outline,
    conflicts,
    require_free,
    same_shape,
    where,
)

_SHAPE, _TRACK = "shape", "track"
_JUDGED = "semi-auto"
"""The source of what a fix adds or changes: CVAT's own word for a suggestion that a person has judged. As ``auto`` it
could be taken for one that nobody has looked at."""


class JobFixes:
    """Fixes to one job.

    Args:
        size: width and height of an item's frame, by item id; asked for added objects and for masks.
    """

    def __init__(self, client: CvatClient, job: Job, labels: CvatLabels, size: Callable[[str], Size]) -> None:
        self._client = client
        self._job = job
        self._labels = labels
        self._size = size

    def apply(self, orders: Sequence[FixOrder], note: Callable[[FixNote], None]) -> list[FixResult]:
        """One result per order. One request reads, and one each deletes, updates and creates, where there is any.

        Raises:
            ToolError: the server failed. What was written by then is found to be there by the next attempt.
        """

        def work(sheet: JobSheet) -> list[FixResult]:
            results = [sheet.apply(order) for order in orders]
            for one in sheet.notes:
                note(one)
            return results

        return self._change(orders, work)

    def undo(self, orders: Sequence[UndoOrder]) -> list[FixResult]:
        """One result per order; as many requests as :meth:`apply`, and one more where objects are put back."""
        results = self._change(orders, lambda sheet: sheet.undo_all(orders))
        back = {order.finding.id: order for order in orders if order.note.after is None}
        if not any(r.finding_id in back and r.outcome is not Outcome.CONFLICT for r in results):
            return results
        now = JobSheet(self._client.annotations(self._job.id), self._job.stop, self._labels, self._size)
        return [replace(r, renewed=now.renewed(back[r.finding_id])) if r.finding_id in back else r for r in results]

    def _change(
        self, orders: Sequence[FixOrder | UndoOrder], work: Callable[[JobSheet], list[FixResult]]
    ) -> list[FixResult]:
        try:
            sheet = JobSheet(self._client.annotations(self._job.id), self._job.stop, self._labels, self._size)
            results = work(sheet)
            self._write(sheet)
        except NotFound:
            return conflicts(orders, f"job {self._job.id} no longer exists")
        except AuthError as error:
            raise ToolError(
                f"the fixes cannot be written into job {self._job.id}: {error.found}",
                expected="a user who may edit it: its assignee, the owner of its task or project, or a maintainer",
                todo="It may have been given to somebody else; run sync as such a user, the verdicts are kept",
            ) from None
        return results

    def _write(self, sheet: JobSheet) -> None:
        for action, entries in (("delete", sheet.deleted), ("update", sheet.updated)):
            if entries:
                body: Row = {"version": 0, "tags": [], "shapes": [], "tracks": []}
                for name, entry in entries.items():
                    body["tracks" if name.startswith(_TRACK) else "shapes"].append(entry)
                self._client.patch_annotations(self._job.id, action, body)
        if sheet.added:
            self._client.patch_annotations(self._job.id, "create", create_body(sheet.added))


class JobSheet(FixSheet):
    """The shapes and tracks of a job while fixes are worked into them.

    A track is one object on many frames: a fix of its place is one of a single frame, and its label is that of all.

    Attributes:
        deleted, updated: whole shapes and tracks as CVAT wants them back, by ``shape:<id>`` and ``track:<id>``.
        added: new objects.
    """

    def __init__(self, answer: Row, last: int, labels: CvatLabels, size: Callable[[str], Size]) -> None:
        super().__init__()
        self._last = last
        self._labels = labels
        self._size = size
        self._read: dict[str, Row] = {}
        self._on_frame: dict[int, list[str]] = {}
        for kind in (_SHAPE, _TRACK):
            for entry in answer.get(f"{kind}s") or []:
                if isinstance(entry, dict) and "id" in entry:
                    self._read[f"{kind}:{entry['id']}"] = entry
                    if kind == _SHAPE:
                        self._on_frame.setdefault(int(entry.get("frame", -1)), []).append(f"{kind}:{entry['id']}")
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

    def undo(self, order: UndoOrder) -> FixResult:
        """See :meth:`FixSheet.undo`; what CVAT's labels do not take any more is a conflict too."""
        try:
            return super().undo(order)
        except DataError as error:
            return FixResult(order.finding.id, Outcome.CONFLICT, error.found)

    def renewed(self, order: UndoOrder) -> str:
        """The id of an object that was put back where it was deleted; empty where it has the one that it had."""
        name = _object_of(order.finding)
        there = self._like(_frame_of(order.finding), order.note.before)
        return "" if not there or name in there else there[-1]

    def on(self, frame: int) -> list[Row]:
        """The shapes of a frame with the fixes so far, as CVAT takes them; the new ones have no id."""
        kept = [i for i in self._on_frame.get(frame, ()) if i not in self.deleted]
        return [self._entry(i) for i in kept] + [new.body for new in self.added if new.body["frame"] == frame]

    def _add(self, order: FixOrder) -> tuple[Outcome, str]:
        fix, frame = order.fix, _frame_of(order.finding)
        is_box = isinstance(fix.shape, Box) and not fix.shape.problem()
        if fix.label is None or not (is_box or isinstance(fix.shape, Polygon | Mask)):
            raise InTheWay("only a box with an area, a polygon or a mask, with a label, can be added")
        assert isinstance(fix.shape, Box | Polygon | Mask)
        size = self._size(order.finding.item_id)
        tracks = [name for name in self._read if name.startswith(_TRACK)]
        here = [a for name in [*self._on_frame.get(frame, ()), *tracks] if (a := self._now(name, order.finding))]
        here += self._new.get(frame, ())
        if isinstance(fix.shape, Box):
            iou, kind = closest(fix.shape, fix.label, here), "box"
        else:
            iou, kind = closest_outline(fix.shape, fix.label, here, size), "object"
        if iou >= SAME_FIX_IOU:
            return Outcome.ALREADY, f"a {fix.label!r} {kind} is there already (IoU {iou:.2f})"
        if iou >= SAME_OBJECT_IOU:
            raise InTheWay(f"a {fix.label!r} {kind} that overlaps the new one (IoU {iou:.2f}) is there already")
        self.added.append(new_object(fix.label, fix.shape, frame, self._labels, size, source=_JUDGED))
        self._new.setdefault(frame, []).append(Annotation(order.finding.id, fix.label, fix.shape))
        return Outcome.APPLIED, f"added a {fix.label!r} {kind} at {where(fix.shape)}"

    def _delete(self, order: FixOrder) -> tuple[Outcome, str]:
        name, frame, label = _object_of(order.finding), _frame_of(order.finding), order.finding.label
        if name not in self._read or name in self.deleted or self._is_outside(name, frame):
            return Outcome.ALREADY, "the object is gone already"
        self._require_unchanged(name, order)
        if name.startswith(_TRACK):
            self.updated[name] = _judged(hide_on(self._entry(name), frame, self._last))
            return Outcome.APPLIED, f"took the {label!r} object off frame {frame}; on others its track is as it was"
        self.deleted[name] = self._read[name]
        self.updated.pop(name, None)
        return Outcome.APPLIED, f"deleted the {label!r} object"

    def _change(self, order: FixOrder) -> tuple[Outcome, str]:
        finding, fix, name = order.finding, order.fix, _object_of(order.finding)
        label = fix.label if fix.label not in (None, finding.label) else None
        shape = None if same_shape(fix.shape, finding.current_shape) else fix.shape
        now = self._now(name, order.finding)
        is_labelled = label is None or (now is not None and now.label == label)
        is_shaped = shape is None or (now is not None and same_shape(now.shape, shape))
        if now is not None and is_labelled and is_shaped:
            return Outcome.ALREADY, f"the object is {now.label!r} at {where(now.shape)} already"
        self._require_unchanged(name, order)
        entry, parts = self._entry(name), []
        if not is_labelled and label is not None:
            entry = self._relabelled(name, entry, label)
            whole = f" all along track {entry['id']}" if name.startswith(_TRACK) else ""
            parts.append(f"relabelled {finding.label!r} as {label!r}{whole}")
        if not is_shaped and shape is not None:
            entry = _reshaped(name, entry, _frame_of(order.finding), shape)
            parts.append(f"moved the {label or finding.label!r} object to {where(shape)}")
        self.updated[name] = _judged(entry)
        return Outcome.APPLIED, " and ".join(parts)

    def _object(self, finding: Finding, *, is_new: bool) -> Any:
        if is_new:
            return self.added[-1].body
        name = finding.annotation_ids[0].partition("@")[0] if finding.annotation_ids else ""
        return self._entry(name) if name in self._read and name not in self.deleted else None

    def _undo(self, order: UndoOrder) -> tuple[Outcome, str]:
        finding, note = order.finding, order.note
        if note.before is None:
            return self._undo_added(order)
        if note.after is None:
            return self._undo_deleted(order)
        name = _object_of(finding)
        if name not in self._read or name in self.deleted:
            raise InTheWay(f"{name.replace(':', ' ')} was deleted since the fix was written")
        now = self._content(self._entry(name))
        if now == self._content(note.before):
            return Outcome.ALREADY, "the object is as it was before the fix already"
        if now != self._content(note.after):
            raise InTheWay(f"{name.replace(':', ' ')} was changed since the fix was written")
        self.updated[name] = _without_key_ids(note.before)
        return Outcome.APPLIED, f"undone: the {finding.label!r} object is as it was before the fix"

    def _undo_added(self, order: UndoOrder) -> tuple[Outcome, str]:
        frame, added = _frame_of(order.finding), order.note.after
        there = self._like(frame, added)
        if there:
            self.deleted[there[-1]] = self._read[there[-1]]
            return Outcome.APPLIED, "undone: the object that was added is deleted"
        mine = self._annotation("", {**added, "id": 0}, order.finding)
        here = [a for name in self._on_frame.get(frame, ()) if (a := self._now(name, order.finding))]
        shape = mine.shape if mine is not None and isinstance(mine.shape, Box) else None
        if shape is not None and any(closest(shape, a.label, [a]) >= SAME_OBJECT_IOU for a in here):
            raise InTheWay("the object that was added was changed since")
        return Outcome.ALREADY, "the object that was added is gone already"

    def _undo_deleted(self, order: UndoOrder) -> tuple[Outcome, str]:
        finding, before = order.finding, order.note.before
        frame = _frame_of(finding)
        if self._like(frame, before):
            return Outcome.ALREADY, "the object that was deleted is there already"
        mine = self._annotation("", before, finding)
        if mine is not None:
            here = [a for name in self._on_frame.get(frame, ()) if (a := self._now(name, finding))]
            require_free(mine.shape, mine.label, here)
        self.added.append(NewObject("shapes", {k: v for k, v in before.items() if k != "id"}))
        return Outcome.APPLIED, f"undone: the {finding.label!r} object is there again"

    def _like(self, frame: int, entry: Row) -> list[str]:
        """The shapes of a frame that are just so."""
        there = [name for name in self._on_frame.get(frame, ()) if name not in self.deleted]
        return [name for name in there if self._content(self._entry(name)) == self._content(entry)]

    def _content(self, entry: Row) -> str:
        """A digest over all of a shape or a track that a person can change."""
        keys = [{**key, "label_id": entry.get("label_id")} for key in entry.get("shapes") or ()]
        along = sorted((int(key["frame"]), entry_revision(key, self._labels)) for key in keys)
        return digest([entry_revision(entry, self._labels), along])

    def _entry(self, name: str) -> Row:
        """A shape or track with the fixes so far."""
        return self.updated.get(name) or self._read[name]

    def _now(self, name: str, finding: Finding) -> Annotation | None:
        """The object on the fix's frame with the fixes so far; None where it is gone."""
        is_there = name in self._read and name not in self.deleted
        return self._annotation(name, self._entry(name), finding) if is_there else None

    def _annotation(self, name: str, entry: Row, finding: Finding) -> Annotation | None:
        frame = _frame_of(finding)
        if name.startswith(_TRACK):
            masks = any(key.get("type") == "mask" for key in entry.get("shapes") or [])
            size = self._size(finding.item_id) if masks else None
            tracked = read_tracks([entry], [frame], self._labels, lambda _: size).objects
            return tracked[0].annotation if tracked else None
        size = self._size(finding.item_id) if entry.get("type") == "mask" else None
        found = read_frame(FrameObjects(shapes=[entry]), self._labels, size).annotations
        return found[0] if found else None

    def _is_outside(self, name: str, frame: int) -> bool:
        if not name.startswith(_TRACK):
            return False
        before = [key for key in self._entry(name).get("shapes") or [] if key["frame"] <= frame]
        return not before or max(before, key=lambda key: int(key["frame"])).get("outside") is True

    def _require_unchanged(self, name: str, order: FixOrder) -> None:
        """Judged against what was read, so that the second fix of an object is no conflict with the first."""
        finding, called = order.finding, name.replace(":", " ")
        if len(finding.revisions) != 1:
            raise InTheWay("the finding does not say how the object was when it was scored")
        is_there = name in self._read and name not in self.deleted
        found = self._annotation(name, self._read[name], finding) if is_there and self._now(name, finding) else None
        if found is None:
            raise InTheWay(f"{called} was deleted since it was scored")
        if found.revision == finding.revisions[0]:
            return
        if (
            revision_of(finding.label, found.shape) == finding.revisions[0]
            and finding.label not in self._labels.by_name
        ):
            raise InTheWay(
                f"the label {finding.label!r} was renamed since it was scored, perhaps to {found.label!r}: score again"
            )
        raise InTheWay(f"{called} was changed since it was scored: it is now {found.label!r} at {where(found.shape)}")

    def _relabelled(self, name: str, entry: Row, label: str) -> Row:
        """Under another label, and of the attributes those that it has too, by their names."""
        old, new = self._labels.by_id.get(entry.get("label_id", -1)), self._labels.require(label)
        is_track = name.startswith(_TRACK)
        taken = [str(e.get("type")) for e in (entry["shapes"] if is_track else [entry])]
        if refused := set(taken) - set(new.takes):
            raise InTheWay(f"the label {label!r} takes no {' and no '.join(sorted(refused))}")
        if is_track:
            if entry["label_id"] != self._read[name]["label_id"]:
                raise InTheWay(f"another fix gave the whole of {name.replace(':', ' ')} another label")
            return relabel_track(entry, old, new)
        values = attribute_values(entry.get("attributes"), old)
        kept = [{"spec_id": a.spec_id, "value": values[a.name]} for a in new.attributes if a.name in values]
        return {**entry, "label_id": new.id, "attributes": kept}


def _without_key_ids(entry: Row) -> Row:
    """A track whose keyframes come back: CVAT has given their numbers up."""
    if "shapes" not in entry:
        return entry
    return {**entry, "shapes": [{k: v for k, v in key.items() if k != "id"} for key in entry["shapes"]]}


def _judged(entry: Row) -> Row:
    return {**entry, "source": _JUDGED} if entry.get("source") == "auto" else entry


def _frame_of(finding: Finding) -> int:
    place = parse_item_id(finding.item_id)
    if place is None:
        raise InTheWay(f"{finding.item_id!r} is no frame of a task")
    return place[1]


def _object_of(finding: Finding) -> str:
    """``shape:<id>`` or ``track:<id>``."""
    ids = finding.annotation_ids
    if len(ids) != 1:
        raise InTheWay("the finding does not name one object")
    name, _, frame = ids[0].partition("@")
    if not name.startswith((_SHAPE, _TRACK)) or (frame and frame != str(_frame_of(finding))):
        raise InTheWay("the object is neither a shape nor a track on this frame: change it by hand in CVAT")
    return name


def _reshaped(name: str, entry: Row, frame: int, shape: Shape) -> Row:
    if not name.startswith(_TRACK):
        return {**entry, **geometry_of(entry, shape)}
    return set_keyframe(entry, frame, geometry_of(entry["shapes"][0], shape))


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
        case "mask", Mask():
            return {"points": mask_to_points(shape)}
    raise InTheWay("the new shape is of another kind than the object")
