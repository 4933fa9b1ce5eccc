"""What a fix does to the regions of one annotation, without any I/O.

A fix changes the entries of one region id and nothing else: every other entry stays the very object that was read.
A fix counts as the *difference* between the finding and what it wants: a ``reshape`` whose label is the one the object
had when it was scored does not touch the label. So two accepted fixes of one object do not undo each other.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from bridge.core.annotations import Annotation, Box, Mask, Polygon, Shape, TextSpan
from bridge.core.findings import Finding
from bridge.core.masks import MaskCrop
from bridge.core.rle import decode_coco
from bridge.dialects.label_studio import (
    LabelConfig,
    Region,
    Size,
    box_entries,
    box_to_value,
    group_regions,
    mask_entries,
    mask_to_value,
    polygon_entries,
    polygon_to_value,
    region_size,
    regions_to_annotations,
    span_region,
    span_to_value,
)
from bridge.errors import DataError
from bridge.tools import FixOrder, Outcome, UndoOrder
from bridge.tools.fix_rules import (
    SAME_FIX_IOU,
    SAME_OBJECT_IOU,
    FixSheet,
    InTheWay,
    closest,
    closest_outline,
    require_free,
    same_shape,
    where,
)


class Sheet(FixSheet):
    """The regions of one annotation while fixes are worked into them.

    Args:
        result: as Label Studio gave it; not changed.
        size: gives the image's size where no region says it; asked only for an added box.
        text: what the spans are in; empty for an image.

    Attributes:
        result: the regions with the fixes so far.
    """

    def __init__(
        self,
        result: Sequence[Region],
        config: LabelConfig,
        submission_id: str,
        size: Callable[[], Size],
        text: str = "",
    ) -> None:
        super().__init__()
        self.result = list(result)
        self._config = config
        self._submission_id = submission_id
        self._size = size
        self._text = text
        # Changes are judged against what was read, so that the second fix of an object is no conflict with the first.
        self._read = {a.id: a for a in self._objects()}

    def _objects(self) -> list[Annotation]:
        return regions_to_annotations(self.result, self._config, self._submission_id, self._text)[0]

    def _region_id(self, annotation_id: str) -> str:
        return annotation_id.removeprefix(f"{self._submission_id}:")

    def _require_unchanged(self, order: FixOrder) -> None:
        finding = order.finding
        if len(finding.revisions) != len(finding.annotation_ids):
            raise InTheWay("the finding does not say how the object was when it was scored")
        for annotation_id, revision in zip(finding.annotation_ids, finding.revisions, strict=True):
            found = self._read.get(annotation_id)
            if found is None or not self._entries(annotation_id):
                raise InTheWay(f"object {self._region_id(annotation_id)} was deleted since it was scored")
            if found.revision != revision:
                raise InTheWay(
                    f"object {self._region_id(annotation_id)} was changed since it was scored: it is now "
                    f"{found.label!r} at {where(found.shape)}"
                )

    def _entries(self, annotation_id: str) -> list[Region]:
        return group_regions(self.result).get(self._region_id(annotation_id), [])

    def _add(self, order: FixOrder) -> tuple[Outcome, str]:
        label, shape, region_id = order.fix.label, order.fix.shape, added_region_id(order.finding)
        if region_id in group_regions(self.result):
            return Outcome.ALREADY, f"the {label!r} object was added before"
        if label is None or not self._can_add(shape):
            raise InTheWay("only a box with an area, a polygon, a mask or a span of a text, with a label, can be added")
        if isinstance(shape, Polygon | Mask):
            iou = closest_outline(shape, label, self._objects(), self._image_size())
        else:
            iou = closest(shape, label, self._objects())
        if iou >= (1.0 if isinstance(shape, TextSpan) else SAME_FIX_IOU):
            return Outcome.ALREADY, f"a {label!r} object is there already (IoU {iou:.2f})"
        if iou >= SAME_OBJECT_IOU:
            raise InTheWay(f"a {label!r} object that overlaps the new one (IoU {iou:.2f}) is there already")
        try:
            entries = self._new(region_id, label, shape)
        except DataError as error:
            raise InTheWay(error.found) from None
        self.result.extend({**entry, "origin": "manual"} for entry in entries)
        return Outcome.APPLIED, f"added a {label!r} object at {where(shape)}"

    @staticmethod
    def _can_add(shape: Shape | None) -> TypeGuard[Box | Polygon | Mask | TextSpan]:
        return isinstance(shape, Polygon | Mask) or (isinstance(shape, Box | TextSpan) and not shape.problem())

    def _image_size(self) -> Size:
        return next((s for s in map(region_size, self.result) if s), None) or self._size()

    def _new(self, region_id: str, label: str, shape: Box | Polygon | Mask | TextSpan) -> list[Region]:
        """The entries of an added object.

        Raises:
            DataError: the configuration has no tag for it.
        """
        if isinstance(shape, Box):
            return box_entries(self._config, region_id, label, shape, *self._image_size())
        if isinstance(shape, Polygon | Mask):
            return self._outline(region_id, label, shape)
        self._require_text(shape)
        control = self._config.control_for("labels", label)
        if control is None:
            raise DataError(f"the label configuration has no Labels tag with {label!r}")
        return [span_region(region_id, control, label, shape)]

    def _outline(self, region_id: str, label: str, shape: Polygon | Mask) -> list[Region]:
        width, height = self._image_size()
        if isinstance(shape, Polygon):
            place = self._config.place(label, ("polygon",))
            if place is not None:
                return polygon_entries(place, region_id, shape, width, height)
            raise DataError(f"the label configuration has no tag to draw a polygon labelled {label!r}")
        place, crop = self._config.place(label, ("brush",)), MaskCrop.of(decode_coco(shape))
        if place is None or crop is None:
            raise DataError(f"the label configuration has no tag to brush an object labelled {label!r}")
        return mask_entries(place, region_id, crop, width, height)

    def _require_text(self, span: TextSpan) -> None:
        there = self._text[span.start : span.end]
        if there != span.text:
            raise InTheWay(f"the text was changed since it was scored: {there!r} now stands where {span.text!r} stood")

    def _delete(self, order: FixOrder) -> tuple[Outcome, str]:
        ids = order.finding.annotation_ids
        if not ids:
            raise InTheWay("the finding names no object to delete")
        if not any(self._entries(i) for i in ids):
            return Outcome.ALREADY, "the object is gone already"
        self._require_unchanged(order)
        regions = self._regions(order.finding, is_new=False)
        self._require_untied(regions)
        self.result = [entry for entry in self.result if str(entry.get("id")) not in regions]
        return Outcome.APPLIED, f"deleted the {order.finding.label!r} object"

    def _require_untied(self, regions: set[str]) -> None:
        for entry in self.result:
            linked = {entry.get("from_id"), entry.get("to_id"), entry.get("parentID")} & regions
            if linked and entry.get("id") not in regions:
                raise InTheWay(f"object {linked.pop()} is tied to another one by a relation or as its parent")

    def _change(self, order: FixOrder) -> tuple[Outcome, str]:
        finding, fix = order.finding, order.fix
        if not finding.annotation_ids:
            raise InTheWay("the finding names no object to change")
        annotation_id = finding.annotation_ids[0]
        label = fix.label if fix.label not in (None, finding.label) else None
        shape = None if same_shape(fix.shape, finding.current_shape) else fix.shape
        now = next((o for o in self._objects() if o.id == annotation_id), None)
        done_label = label is None or (now is not None and now.label == label)
        done_shape = shape is None or (now is not None and same_shape(now.shape, shape))
        if now is not None and done_label and done_shape:
            return Outcome.ALREADY, f"the object is {now.label!r} at {where(now.shape)} already"
        self._require_unchanged(order)
        changed = {
            id(e): self._changed(e, None if done_label else label, None if done_shape else shape)
            for e in self._entries(annotation_id)
        }
        self.result = [changed.get(id(entry), entry) for entry in self.result]
        parts = [] if done_label else [f"relabelled {finding.label!r} as {label!r}"]
        if shape is not None and not done_shape:
            parts.append(f"moved the {label or finding.label!r} object to {where(shape)}")
        return Outcome.APPLIED, " and ".join(parts)

    def _changed(self, entry: Region, label: str | None, shape: Shape | None) -> Region:
        value = dict(entry["value"]) if isinstance(entry.get("value"), dict) else {}
        new = {**entry, "value": value}
        if shape is not None:
            value.update(self._geometry(entry, value, shape))
        kind = str(entry.get("type"))
        if label is not None and kind.endswith("labels"):
            control = self._config.control_for(kind, label)
            if control is None:
                raise InTheWay(f"the label configuration has no {label!r} for this kind of object")
            rest = value.get(kind)
            value[kind] = [label, *(rest[1:] if isinstance(rest, list) else [])]
            new["from_name"] = control.name
        if new.get("origin") == "prediction":
            new["origin"] = "prediction-changed"
        return new

    def _object(self, finding: Finding, *, is_new: bool) -> Any:
        """The entries with their places among all."""
        ids = self._regions(finding, is_new)
        found = [[n, entry] for n, entry in enumerate(self.result) if str(entry.get("id")) in ids]
        return copy.deepcopy(found) or None

    def _regions(self, finding: Finding, is_new: bool) -> set[str]:
        return {added_region_id(finding)} if is_new else {self._region_id(i) for i in finding.annotation_ids}

    def _undo(self, order: UndoOrder) -> tuple[Outcome, str]:
        finding, note = order.finding, order.note
        regions = self._regions(finding, note.before is None)
        now = [entry for entry in self.result if str(entry.get("id")) in regions]
        before, after = ([entry for _, entry in side or ()] for side in (note.before, note.after))
        if _alike(now, before):
            return Outcome.ALREADY, "the object is as it was before the fix already"
        if not _alike(now, after):
            raise InTheWay(f"object {', '.join(sorted(regions))} was changed since the fix was written")
        if not before:
            self._require_untied(regions)
        if not after:
            for one in regions_to_annotations(before, self._config, self._submission_id, self._text)[0]:
                require_free(one.shape, one.label, self._objects())
        if len(now) == len(before):
            back = dict(zip(map(id, now), before, strict=True))
            self.result = [back.get(id(entry), entry) for entry in self.result]
        else:
            self.result = [entry for entry in self.result if str(entry.get("id")) not in regions]
            for place, entry in note.before or ():
                self.result.insert(place, entry)
        return Outcome.APPLIED, f"undone: the {finding.label!r} object is as it was before the fix"

    def _geometry(self, entry: Region, value: Region, shape: Shape) -> Region:
        """The new place of one entry; an entry without a place of its own keeps having none."""
        size = region_size(entry) or next((s for s in map(region_size, self.result) if s), None)
        if "start" in value and isinstance(shape, TextSpan):
            self._require_text(shape)
            return span_to_value(shape)
        if "points" in value and isinstance(shape, Polygon) and size:
            return {"points": polygon_to_value(shape, *size)["points"]}
        if "rle" in value and isinstance(shape, Mask):
            return mask_to_value(shape)
        if {"x", "y", "width", "height"} <= value.keys() and isinstance(shape, Box) and size:
            return dict(box_to_value(shape, *size))
        if {"points", "rle", "x", "start"} & value.keys():
            raise InTheWay("the new shape is of another kind than the object")
        return {}


def added_region_id(finding: Finding) -> str:
    """The same finding always adds the same region, so that adding it twice shows."""
    return f"lb-{finding.id}"


def _alike(mine: Any, other: Any) -> bool:
    """Whether two results are the same but for the noise of numbers, and for what no person sets."""
    match mine, other:
        case dict(), dict():
            names = (mine.keys() | other.keys()) - {"origin", "score"}
            return all(_alike(mine.get(name), other.get(name)) for name in names)
        case list(), list():
            return len(mine) == len(other) and all(map(_alike, mine, other))
        case int() | float(), int() | float():
            return math.isclose(mine, other, rel_tol=1e-6, abs_tol=1e-6)
    return bool(mine == other)
