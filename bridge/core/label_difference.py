"""How two people's labels of one picture differ, when the picture is there twice: resized, or cropped a little."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Box, Item, Shape, Submission, Tag, Xyxy
from bridge.core.geometry import box_envelope, iou_matrix
from bridge.core.matching import content_rank, match_pairs
from bridge.core.objects import SAME_OBJECT, outline_envelope

Floats = npt.NDArray[np.float64]

#: Boxes are grown by this part of the picture on each side before they are compared: a crop moves them by as much.
_MARGIN = 0.02
#: What lies in the outer part of a picture may be cropped off the other one.
_RIM = 0.05
#: Classes of one side that a sentence names.
_NAMED = 4


@dataclass(frozen=True, slots=True)
class RelativeObjects:
    """The objects of one submission; ``xyxy`` is (N, 4) float64, parts of the picture's width and height.

    A tag is an object that fills the picture.
    """

    annotations: tuple[Annotation, ...]
    xyxy: Floats


@dataclass(frozen=True, slots=True)
class Difference:
    """What is labelled otherwise: objects without a counterpart, and (here, there) pairs of different classes."""

    only_here: tuple[Annotation, ...]
    only_there: tuple[Annotation, ...]
    other_class: tuple[tuple[Annotation, Annotation], ...]

    def __len__(self) -> int:
        return len(self.only_here) + len(self.only_there) + len(self.other_class)

    @property
    def here(self) -> tuple[Annotation, ...]:
        """The objects of this side that are concerned."""
        return (*self.only_here, *(here for here, _ in self.other_class))

    def sentence(self) -> str:
        """As in ``only here: 2 cat; only there: 1 dog; 1 cat here is dog there``."""
        changed = Counter((here.label, there.label) for here, there in self.other_class)
        parts = [f"only {where}: {_counts(objects)}" for where, objects in self._alone if objects]
        parts += [f"{n} {here} here is {there} there" for (here, there), n in sorted(changed.items())[:_NAMED]]
        return "; ".join(parts)

    @property
    def _alone(self) -> tuple[tuple[str, tuple[Annotation, ...]], ...]:
        return ("here", self.only_here), ("there", self.only_there)


def relative_objects(item: Item, submission: Submission) -> RelativeObjects | None:
    """The objects of a submission in parts of the picture; None where the picture's size is not known.

    Shapes without area, and spans of text, are left out.
    """
    if not item.width or not item.height:
        return None
    kept: list[Annotation] = []
    boxes: list[Xyxy] = []
    for annotation in submission.annotations:
        box = _envelope(annotation.shape, item.width, item.height)
        if box is not None:
            kept.append(annotation)
            boxes.append(box)
    scale = np.array([item.width, item.height, item.width, item.height], np.float64)
    return RelativeObjects(tuple(kept), np.array(boxes, np.float64).reshape(-1, 4) / scale)


def difference(here: RelativeObjects, there: RelativeObjects) -> Difference:
    """Match the objects of both sides one to one, those of one class first, and name the rest."""
    iou = iou_matrix(_grown(here.xyxy), _grown(there.xyxy))
    g, p = np.nonzero(iou >= SAME_OBJECT)
    ours, theirs = [a.label for a in here.annotations], [a.label for a in there.annotations]
    number = {label: k for k, label in enumerate(sorted({*ours, *theirs}))}
    label_here, label_there = (np.array([number[x] for x in side], np.int64) for side in (ours, theirs))
    value = iou[g, p] + (label_here[g] == label_there[p])
    ranks = content_rank(label_here, here.xyxy), content_rank(label_there, there.xyxy)
    taken = match_pairs(g, p, value, *ranks)
    pairs = [(here.annotations[i], there.annotations[j]) for i, j in zip(g[taken], p[taken], strict=True)]
    return Difference(
        only_here=_alone(here, set(g[taken].tolist())),
        only_there=_alone(there, set(p[taken].tolist())),
        other_class=tuple((a, b) for a, b in pairs if a.label != b.label),
    )


def _alone(side: RelativeObjects, matched: set[int]) -> tuple[Annotation, ...]:
    inner = ((side.xyxy[:, 2:] > _RIM) & (side.xyxy[:, :2] < 1.0 - _RIM)).all(axis=1)
    return tuple(side.annotations[k] for k in np.flatnonzero(inner).tolist() if k not in matched)


def _grown(xyxy: Floats) -> Floats:
    return xyxy + np.array([-_MARGIN, -_MARGIN, _MARGIN, _MARGIN], np.float64)


def _envelope(shape: Shape, width: int, height: int) -> Xyxy | None:
    if isinstance(shape, Tag):
        return 0.0, 0.0, float(width), float(height)
    if not isinstance(shape, Box):
        return outline_envelope(shape)
    box = box_envelope(shape) if shape.problem() is None else None
    return box if box is not None and all(map(math.isfinite, box)) else None


def _counts(objects: Sequence[Annotation]) -> str:
    counts = sorted(Counter(a.label for a in objects).items(), key=lambda c: (-c[1], c[0]))
    more = f" and {sum(count for _, count in counts[_NAMED:])} more" if len(counts) > _NAMED else ""
    return ", ".join(f"{count} {label}" for label, count in counts[:_NAMED]) + more
