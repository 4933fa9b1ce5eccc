"""When two shapes are one object, and when a fix must not be written: the same in every tool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Box, Mask, Polygon, Shape, TextSpan
from bridge.core.class_maps import on_grid
from bridge.core.geometry import pair_iou
from bridge.core.spans import box_of
from bridge.tools import FixOrder, FixResult, Outcome

SAME_PX = 0.05
"""Pixels; a person cannot move a corner by less, and rounding of percentages stays far below."""

SAME_OBJECT_IOU = 0.5
"""A box that overlaps a new one of its class by as much is probably the same object."""

SAME_FIX_IOU = 0.95
"""A box that overlaps a new one of its class by as much is what the fix wanted."""


class InTheWay(Exception):
    """Why a fix is not written."""


class FixSheet(ABC):
    """The objects of one submission while fixes are worked into them, as each tool keeps them."""

    def apply(self, order: FixOrder) -> FixResult:
        """Work one fix in, or say why not. Never raises for anything a person may have done to the objects."""
        try:
            outcome, message = self._apply(order)
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
    def _add(self, order: FixOrder) -> tuple[Outcome, str]: ...

    @abstractmethod
    def _delete(self, order: FixOrder) -> tuple[Outcome, str]: ...

    @abstractmethod
    def _change(self, order: FixOrder) -> tuple[Outcome, str]: ...


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


def where(shape: Shape | None) -> str:
    if isinstance(shape, Box):
        return "({:.0f}, {:.0f}, {:.0f}, {:.0f})".format(*shape.xyxy)
    if isinstance(shape, TextSpan):
        return f"characters {shape.start} to {shape.end} ({shape.text!r})"
    return "its place" if shape is None else f"a {type(shape).__name__.lower()}"


def conflicts(orders: Sequence[FixOrder], message: str) -> list[FixResult]:
    """The same reason for all."""
    return [FixResult(o.finding.id, Outcome.CONFLICT, message) for o in orders]
