"""When two shapes are one object, and when a fix must not be written: the same in every tool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Box, Mask, Polygon, Shape, TextSpan
from bridge.core.class_maps import on_grid
from bridge.core.findings import Finding
from bridge.core.geometry import pair_iou
from bridge.core.spans import box_of
from bridge.tools import FixNote, FixOrder, FixResult, Outcome, UndoOrder

SAME_PX = 0.05
"""Pixels; a person cannot move a corner by less, and rounding of percentages stays far below."""

SAME_OBJECT_IOU = 0.5
"""A box that overlaps a new one of its class by as much is probably the same object."""

SAME_FIX_IOU = 0.95
"""A box that overlaps a new one of its class by as much is what the fix wanted."""


class InTheWay(Exception):
    """Why a fix is not written."""


class FixSheet(ABC):
    """The objects of one submission while fixes are worked into them, as each tool keeps them.

    Attributes:
        notes: of the fixes that were worked in.
    """

    def __init__(self) -> None:
        self.notes: list[FixNote] = []

    def apply(self, order: FixOrder) -> FixResult:
        """Work one fix in, or say why not. Never raises for anything a person may have done to the objects."""
        finding, is_new = order.finding, order.fix.action == "add"
        try:
            before = None if is_new else self._object(finding, is_new=False)
            outcome, message = self._apply(order)
        except InTheWay as reason:
            return FixResult(finding.id, Outcome.CONFLICT, str(reason))
        if outcome is Outcome.APPLIED:
            self.notes.append(FixNote(finding.id, before, self._object(finding, is_new=is_new)))
        return FixResult(finding.id, outcome, message)

    def undo_all(self, orders: Sequence[UndoOrder]) -> list[FixResult]:
        """Take fixes back in this order, or say why not; never raises for anything a person may have done either.

        Several fixes of one object that were undone together before leave it as it was before the first of them.
        """
        results = [self.undo(order) for order in orders]
        whole: set[tuple[str, ...]] = set()
        for n in reversed(range(len(orders))):
            about = _object_ids(orders[n].finding)
            if results[n].outcome is Outcome.ALREADY and about:
                whole.add(about)
            elif results[n].outcome is Outcome.CONFLICT and about in whole:
                results[n] = FixResult(orders[n].finding.id, Outcome.ALREADY, "the object is as it was before already")
        return results

    def undo(self, order: UndoOrder) -> FixResult:
        """Take one fix back, or say why not."""
        try:
            outcome, message = self._undo(order)
        except InTheWay as reason:
            outcome, message = Outcome.CONFLICT, str(reason)
        return FixResult(order.finding.id, outcome, message)

    def _apply(self, order: FixOrder) -> tuple[Outcome, str]:
        match order.fix.action:
            case "add":
                return self._add(order)
            case "delete":
                return self._delete(order)
            case "relabel" | "reshape":
                return self._change(order)
        raise InTheWay("there is no fix to write: only a person can tell what is right")

    @abstractmethod
    def _object(self, finding: Finding, *, is_new: bool) -> Any:
        """What the finding is about, or what was added for it just now, with the fixes so far; see :class:`FixNote`."""

    @abstractmethod
    def _undo(self, order: UndoOrder) -> tuple[Outcome, str]: ...

    @abstractmethod
    def _add(self, order: FixOrder) -> tuple[Outcome, str]: ...

    @abstractmethod
    def _delete(self, order: FixOrder) -> tuple[Outcome, str]: ...

    @abstractmethod
    def _change(self, order: FixOrder) -> tuple[Outcome, str]: ...


def _object_ids(finding: Finding) -> tuple[str, ...]:
    """The objects of a finding, whatever the frame: CVAT's tracks are one object on many."""
    return tuple(i.partition("@")[0] for i in finding.annotation_ids)


def same_shape(a: Shape | None, b: Shape | None, within: float = SAME_PX) -> bool:
    """Whether two boxes or polygons agree to ``within`` pixels; shapes of other kinds when they are equal."""
    mine, other = _numbers(a), _numbers(b)
    if mine is None or other is None:
        return a == b
    return type(a) is type(b) and len(mine) == len(other) and bool(np.all(np.abs(mine - other) <= within))


def _numbers(shape: Shape | None) -> npt.NDArray[np.float64] | None:
    match shape:
        case Box():
            return np.array([*shape.xyxy, shape.rotation])
        case Polygon():
            return np.array(shape.points, dtype=np.float64).ravel()
        case _:
            return None


def closest(shape: Box | TextSpan, label: str, objects: Sequence[Annotation]) -> float:
    """The largest IoU with a box, or span, of the same label; 0 where there is none."""
    box = _as_box(shape)
    kind = type(shape)
    others = [
        _as_box(o.shape) for o in objects if o.label == label and isinstance(o.shape, kind) and not o.shape.problem()
    ]
    if not others:
        return 0.0
    n = len(others)
    ious = pair_iou(
        np.array([o.xyxy for o in others]),
        np.tile(np.array(box.xyxy), (n, 1)),
        np.array([o.rotation for o in others]),
        np.full(n, box.rotation),
    )
    return float(ious.max())


def closest_outline(shape: Polygon | Mask, label: str, objects: Sequence[Annotation], size: tuple[int, int]) -> float:
    """The largest IoU, by pixels, with a polygon or mask of the same label; 0 where there is none.

    Args:
        size: (width, height) of the image.
    """
    image = size[::-1]
    mine = on_grid(shape, image, image)
    others = [on_grid(o.shape, image, image) for o in objects if o.label == label and not isinstance(o.shape, Box)]
    return max((mine.iou(other) for other in others if other is not None), default=0.0) if mine is not None else 0.0


def _as_box(shape: Box | TextSpan) -> Box:
    return box_of(shape) if isinstance(shape, TextSpan) else shape


def require_free(shape: Shape, label: str, objects: Sequence[Annotation]) -> None:
    """Make sure that nobody has drawn the object anew meanwhile.

    Raises:
        InTheWay: somebody has.
    """
    iou = closest(shape, label, objects) if isinstance(shape, Box | TextSpan) and not shape.problem() else 0.0
    if iou >= SAME_OBJECT_IOU:
        raise InTheWay(f"a {label!r} object that overlaps the deleted one (IoU {iou:.2f}) is there now")


def where(shape: Shape | None) -> str:
    if isinstance(shape, Box):
        return "({:.0f}, {:.0f}, {:.0f}, {:.0f})".format(*shape.xyxy)
    if isinstance(shape, TextSpan):
        return f"characters {shape.start} to {shape.end} ({shape.text!r})"
    return "its place" if shape is None else f"a {type(shape).__name__.lower()}"


def conflicts(orders: Sequence[FixOrder | UndoOrder], message: str) -> list[FixResult]:
    """The same reason for all."""
    return [FixResult(o.finding.id, Outcome.CONFLICT, message) for o in orders]
