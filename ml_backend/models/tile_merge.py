"""One answer from what was seen in several overlapping views of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import areas, pair_iou
from bridge.core.masks import MaskCrop
from ml_backend.models import Detections

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Overlap from which two boxes in different views are one object.
SAME_IOU = 0.5
#: The share of a cut piece from which a more confident whole object covers it.
COVERED = 0.7
#: Two views tell of one object only if neither is more than this much less sure of it: of faint detections, which
#: callers filter out later, there are some everywhere.
_FAINTER = 1 / 3


@dataclass(frozen=True, slots=True)
class Sighting:
    """Detections in one or more views, in pixels of the image.

    Attributes:
        xyxy, label, confidence, masks: as in Detections, in any order.
        view: (N,) int64, the number of the view.
        cut: (N,) bool, whether the border of the view may have cut the object.
    """

    xyxy: Floats
    label: Ints
    confidence: Floats
    view: Ints
    cut: Bools
    masks: tuple[MaskCrop, ...]

    @classmethod
    def join(cls, some: Sequence[Sighting]) -> Sighting:
        """All of them as one."""
        return cls(
            np.concatenate([one.xyxy for one in some]),
            np.concatenate([one.label for one in some]),
            np.concatenate([one.confidence for one in some]),
            np.concatenate([one.view for one in some]),
            np.concatenate([one.cut for one in some]),
            tuple(mask for one in some for mask in one.masks),
        )

    def most_confident(self, count: int, mask_bytes: int) -> Sighting:
        """At most ``count`` detections whose masks take at most ``mask_bytes``, in falling confidence."""
        order = np.argsort(-self.confidence, kind="stable")[:count]
        if self.masks:
            sizes = np.cumsum([self.masks[row].bits.nbytes for row in order])
            order = order[: int(np.searchsorted(sizes, mask_bytes, side="right"))]
        return self.take(order)

    def take(self, rows: Ints) -> Sighting:
        masks = tuple(self.masks[row] for row in rows) if self.masks else ()
        return Sighting(
            self.xyxy[rows], self.label[rows], self.confidence[rows], self.view[rows], self.cut[rows], masks
        )


def merge(seen: Sighting, windows: Floats) -> Detections:
    """Each object once.

    Only detections of one class in different views are compared: what one view tells apart stays apart. Two of them
    are one object where their boxes agree in the part of the image that both views show. Then

    - of two whole objects the more confident one stays;
    - a piece that a border cut goes where another view shows the object whole, which gets the higher confidence;
    - pieces of an object that no view shows whole are put together: the box around all, the highest confidence.

    The result does not depend on faint detections: what is lost in merging leaves behind something at least as
    confident.

    Args:
        windows: (V, 4) float64, the views in pixels of the image, by number.
    """
    if not len(seen.label):
        return Detections.none()
    pairs = _Pairs.of(seen, windows)
    confidence = seen.confidence.copy()
    stays = np.ones(len(confidence), dtype=np.bool_)
    _drop_shown_whole(seen, pairs, confidence, stays)
    _drop_repeated(seen, pairs, confidence, stays)
    groups = [*_stitched(seen, pairs, stays), *([row] for row in np.flatnonzero(stays & ~seen.cut).tolist())]
    groups.sort(key=lambda rows: (-confidence[rows].max(), rows))
    boxes = [np.hstack([seen.xyxy[rows, :2].min(axis=0), seen.xyxy[rows, 2:].max(axis=0)]) for rows in groups]
    return Detections(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        seen.label[[rows[0] for rows in groups]].astype(np.int64),
        np.array([confidence[rows].max() for rows in groups], dtype=np.float64),
        tuple(_together([seen.masks[row] for row in rows]) for rows in groups) if seen.masks else (),
    )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Detections of one class in different views that touch.

    Attributes:
        a, b: (P,) int64 rows; the cut one of a whole and a cut one is ``b``.
        agree: (P,) float64, IoU of both boxes: of two whole objects as they are, else within both views.
        covered: (P,) float64, the share of ``b`` that lies in ``a``.
    """

    a: Ints
    b: Ints
    agree: Floats
    covered: Floats

    @classmethod
    def of(cls, seen: Sighting, windows: Floats) -> _Pairs:
        found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
        for a, b in _touching(seen, windows):
            swap = seen.cut[a] & ~seen.cut[b]
            a, b = np.where(swap, b, a), np.where(swap, a, b)
            common = _intersection(windows[seen.view[a]], windows[seen.view[b]])
            iou = pair_iou(seen.xyxy[a], seen.xyxy[b])
            inside = pair_iou(_intersection(seen.xyxy[a], common), _intersection(seen.xyxy[b], common))
            agree = np.where(seen.cut[b], np.maximum(iou, inside), iou)
            shared = areas(_intersection(seen.xyxy[a], seen.xyxy[b]))
            covered = shared / np.maximum(areas(seen.xyxy[b]), np.finfo(np.float64).tiny)
            near = np.flatnonzero((agree > SAME_IOU) | (covered >= COVERED))
            found.append((a[near], b[near], agree[near], covered[near]))
        return cls(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _touching(seen: Sighting, windows: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Rows of one class in two views that overlap, view by view."""
    order = np.argsort(seen.view, kind="stable")
    views, starts = np.unique(seen.view[order], return_index=True)
    rows = dict(zip(views.tolist(), np.split(order, starts[1:]), strict=True))
    for view, own in rows.items():
        shared = _intersection(np.broadcast_to(windows[view], windows.shape), windows)
        near = [other for other in np.flatnonzero(areas(shared) > 0).tolist() if other > view and other in rows]
        if not near:
            continue
        others = np.concatenate([rows[other] for other in near])
        same = seen.label[own][:, None] == seen.label[others][None, :]
        low = np.maximum(seen.xyxy[own, None, :2], seen.xyxy[None, others, :2])
        high = np.minimum(seen.xyxy[own, None, 2:], seen.xyxy[None, others, 2:])
        i, j = np.nonzero(same & (high > low).all(axis=2))
        yield own[i], others[j]


def _intersection(a: Floats, b: Floats) -> Floats:
    """What boxes ``a[k]`` and ``b[k]`` share; without area where that is nothing."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    return np.hstack([low, np.maximum(low, high)])


def _drop_shown_whole(seen: Sighting, pairs: _Pairs, confidence: Floats, stays: Bools) -> None:
    """Pieces of what another view shows whole."""
    mixed = np.flatnonzero(seen.cut[pairs.b] & ~seen.cut[pairs.a])
    whole, piece = pairs.a[mixed], pairs.b[mixed]
    agree = pairs.agree[mixed]
    surer = seen.confidence[whole] >= seen.confidence[piece]
    same = (agree > SAME_IOU) & (seen.confidence[whole] >= _FAINTER * seen.confidence[piece])
    stays[piece[same | surer]] = False
    # Each piece lends its confidence to the object it agrees with best.
    by_agreement = np.flatnonzero(same)[np.argsort(-agree[same], kind="stable")]
    _, first = np.unique(piece[by_agreement], return_index=True)
    best = by_agreement[first]
    np.maximum.at(confidence, whole[best], seen.confidence[piece[best]])


def _drop_repeated(seen: Sighting, pairs: _Pairs, confidence: Floats, stays: Bools) -> None:
    """Whole objects that a more confident one repeats."""
    both = np.flatnonzero(~seen.cut[pairs.b] & ~seen.cut[pairs.a] & (pairs.agree > SAME_IOU))
    a, b = pairs.a[both], pairs.b[both]
    rank = np.empty(len(confidence), dtype=np.int64)
    rank[np.argsort(-confidence, kind="stable")] = np.arange(len(confidence))
    first, second = np.where(rank[a] < rank[b], a, b), np.where(rank[a] < rank[b], b, a)
    for place in np.argsort(rank[first], kind="stable").tolist():
        if stays[first[place]]:
            stays[second[place]] = False


def _stitched(seen: Sighting, pairs: _Pairs, stays: Bools) -> Iterator[list[int]]:
    """Rows of pieces that belong together, most confident first, each piece once or not at all."""
    partners: dict[int, list[tuple[float, int]]] = {row: [] for row in np.flatnonzero(stays & seen.cut).tolist()}
    for a, b, agree in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.agree.tolist(), strict=True):
        if a in partners and b in partners and agree > SAME_IOU:
            partners[a].append((agree, b))
            partners[b].append((agree, a))
    left = dict.fromkeys(sorted(partners, key=lambda row: -seen.confidence[row]))
    while left:
        seed = next(iter(left))
        del left[seed]
        group, views, least = [seed], {int(seen.view[seed])}, _FAINTER * seen.confidence[seed]
        for member in group:
            for _, other in sorted(partners[member], reverse=True):
                view = int(seen.view[other])
                # One piece from each view: a second one there is another object.
                if other in left and view not in views and seen.confidence[other] >= least:
                    group.append(other)
                    views.add(view)
                    del left[other]
        box = np.hstack([seen.xyxy[group, :2].min(axis=0), seen.xyxy[group, 2:].max(axis=0)])[None]
        # Fainter sightings of the same from yet other views say nothing new.
        for other in {other for member in group for _, other in partners[member] if other in left}:
            inside = areas(_intersection(box, seen.xyxy[[other]]))[0]
            if int(seen.view[other]) not in views and inside >= COVERED * areas(seen.xyxy[[other]])[0]:
                del left[other]
        yield group


def _together(masks: Sequence[MaskCrop]) -> MaskCrop:
    if len(masks) == 1:
        return masks[0]
    left, top = min(mask.left for mask in masks), min(mask.top for mask in masks)
    right = max(mask.left + mask.bits.shape[1] for mask in masks)
    bottom = max(mask.top + mask.bits.shape[0] for mask in masks)
    bits = np.zeros((bottom - top, right - left), dtype=np.bool_)
    for mask in masks:
        rows, columns = mask.bits.shape
        bits[mask.top - top : mask.top - top + rows, mask.left - left : mask.left - left + columns] |= mask.bits
    return MaskCrop(left, top, bits)
