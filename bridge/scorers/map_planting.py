"""Known errors in outlined objects: what a learner is to tell from the labels as they came.

Shapes change as people's do: grown, shrunk, moved, with a hole, with a piece of something else, one label over two
neighbours, two labels on one object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bridge.core.class_maps import NOBODY
from bridge.core.masks import MaskCrop
from bridge.core.pixels import inner_border
from bridge.scorers.map_evidence import Scene, grown

Bools = npt.NDArray[np.bool_]

#: Room around a mask for it to grow and move in, in its sizes.
_ROOM = 2.0
_TRIES = 8
#: A part of a shape that is left, or added, holds at least this share of it.
_LEAST = 0.08
#: Of the objects in which errors are planted, the share that is split in two as well.
_SPLITS = 0.3


@dataclass(frozen=True, slots=True)
class Planted:
    """A label with a known error.

    Attributes:
        error: what is wrong with it.
        mask: what it holds, in cells of the scene.
        kind: its class.
        without: objects of the scene that are not there beside it.
        over: the object that it lies on, of which the rest stays; -1 for none.
    """

    error: Literal["extra", "wrong_class", "imprecise"]
    mask: MaskCrop
    kind: int
    without: tuple[int, ...]
    over: int = NOBODY


def plant(scene: Scene, k: int, rng: np.random.Generator) -> list[Planted]:
    """Errors in the object ``k``, as far as it can have them: extra, of the wrong class, one change of its outline, one
    label over it and a neighbour, and now and then one half of two."""
    mask = scene.painting.visible[k]
    kind = int(scene.label[k])
    if mask is None or not kind:
        return []
    found = []
    place = _elsewhere(scene, mask, rng)
    if place is not None:
        found.append(Planted("extra", place, kind, ()))
    others = [c for c in range(1, len(scene.probabilities)) if c != kind]
    if others:
        found.append(Planted("wrong_class", mask, int(rng.choice(others)), (k,)))
    for change in rng.permutation(np.array(_CHANGES, dtype=object)).tolist():
        changed = change(scene, mask, rng)
        if changed is not None:
            found.append(Planted("imprecise", changed, kind, (k,)))
            break
    whole, half = _merge(scene, k, mask, rng), _cut(mask, rng)
    if whole is not None:
        found.append(Planted("imprecise", whole[0], kind, (k, whole[1])))
    if half is not None and rng.random() < _SPLITS:
        found.append(Planted("imprecise", half, kind, (), k))
    return found


_Change = Callable[[Scene, MaskCrop, np.random.Generator], MaskCrop | None]


def _roomy(mask: MaskCrop) -> tuple[Bools, int, int]:
    """The mask with room around it, and where its first cell lies, which may be outside of the grid."""
    room = max(2, round(_ROOM * np.sqrt(mask.area)))
    return np.pad(mask.bits, room), mask.left - room, mask.top - room


def _cropped(scene: Scene, bits: Bools, left: int, top: int) -> MaskCrop | None:
    height, width = scene.painting.owner.shape
    y, x = max(0, -top), max(0, -left)
    inside = bits[y : max(y, height - top), x : max(x, width - left)]
    return MaskCrop.of(inside, left + x, top + y)


def _changed(scene: Scene, mask: MaskCrop, bits: Bools, left: int, top: int) -> MaskCrop | None:
    """None where hardly anything is left, or nothing has changed."""
    crop = _cropped(scene, bits, left, top)
    if crop is None or crop.area < 2 or 1 - crop.iou(mask) < _LEAST:
        return None
    return crop


def _radius(mask: MaskCrop, rng: np.random.Generator) -> int:
    return max(1, round(float(np.sqrt(mask.area) * rng.uniform(0.08, 0.25))))


def _grow(scene: Scene, mask: MaskCrop, rng: np.random.Generator) -> MaskCrop | None:
    bits, left, top = _roomy(mask)
    return _changed(scene, mask, grown(bits, _radius(mask, rng)), left, top)


def _shrink(scene: Scene, mask: MaskCrop, rng: np.random.Generator) -> MaskCrop | None:
    bits, left, top = _roomy(mask)
    return _changed(scene, mask, bits & ~inner_border(bits, _radius(mask, rng)), left, top)


def _move(scene: Scene, mask: MaskCrop, rng: np.random.Generator) -> MaskCrop | None:
    bits, left, top = _roomy(mask)
    far, angle = max(1.0, np.sqrt(mask.area) * rng.uniform(0.2, 0.5)), rng.uniform(0, 2 * np.pi)
    return _changed(scene, mask, bits, left + round(far * np.cos(angle)), top + round(far * np.sin(angle)))


def _cut(mask: MaskCrop, rng: np.random.Generator) -> MaskCrop | None:
    """What lies on one side of a line through the object."""
    y, x = np.nonzero(mask.bits)
    angle = rng.uniform(0, 2 * np.pi)
    along = (x - x.mean()) * np.cos(angle) + (y - y.mean()) * np.sin(angle)
    kept = along > np.quantile(along, rng.uniform(0.25, 0.75))
    part = np.zeros_like(mask.bits)
    part[y[kept], x[kept]] = True
    return MaskCrop.of(part, mask.left, mask.top)


def _disc(bits: Bools, x: float, y: float, area: float) -> Bools:
    rows, columns = np.ogrid[: bits.shape[0], : bits.shape[1]]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= area / np.pi)


def _hollow(scene: Scene, mask: MaskCrop, rng: np.random.Generator) -> MaskCrop | None:
    bits, left, top = _roomy(mask)
    inside = bits & ~inner_border(bits, 1)
    y, x = np.nonzero(inside)
    if not len(x):
        return None
    at = int(rng.integers(len(x)))
    gone = inside & _disc(bits, float(x[at]), float(y[at]), mask.area * rng.uniform(_LEAST, 0.3))
    return _changed(scene, mask, bits & ~gone, left, top)


def _straggle(scene: Scene, mask: MaskCrop, rng: np.random.Generator) -> MaskCrop | None:
    bits, left, top = _roomy(mask)
    y, x = np.nonzero(bits)
    side = float(np.sqrt(mask.area))
    for _ in range(_TRIES):
        far, angle = side * rng.uniform(0.8, 1.8), rng.uniform(0, 2 * np.pi)
        at = (x.mean() + far * np.cos(angle), y.mean() + far * np.sin(angle))
        blob = _disc(bits, *at, mask.area * rng.uniform(0.1, 0.3))
        if not (blob & bits).any():
            return _changed(scene, mask, bits | blob, left, top)
    return None


def _merge(scene: Scene, k: int, mask: MaskCrop, rng: np.random.Generator) -> tuple[MaskCrop, int] | None:
    """One label over the object and a neighbour of its class."""
    bits, left, top = _roomy(mask)
    gap = 2
    near = _cropped(scene, grown(bits, gap), left, top)
    assert near is not None
    rows, columns = near.bits.shape
    owner = scene.painting.owner[near.top : near.top + rows, near.left : near.left + columns]
    others = [o for o in np.unique(owner[near.bits]).tolist() if o not in (-1, k) and scene.label[o] == scene.label[k]]
    if not others:
        return None
    other = int(rng.choice(others))
    theirs = scene.painting.visible[other]
    assert theirs is not None
    x1, y1 = min(mask.left, theirs.left) - gap, min(mask.top, theirs.top) - gap
    x2 = max(mask.left + mask.bits.shape[1], theirs.left + theirs.bits.shape[1]) + gap
    y2 = max(mask.top + mask.bits.shape[0], theirs.top + theirs.bits.shape[0]) + gap
    both = np.zeros((y2 - y1, x2 - x1), dtype=np.bool_)
    for one in (mask, theirs):
        rows, columns = one.bits.shape
        both[one.top - y1 : one.top - y1 + rows, one.left - x1 : one.left - x1 + columns] |= one.bits
    wide = grown(both, gap)
    crop = _cropped(scene, both | (wide & ~inner_border(wide, gap)), x1, y1)
    return None if crop is None else (crop, other)


def _elsewhere(scene: Scene, mask: MaskCrop, rng: np.random.Generator) -> MaskCrop | None:
    """The mask where nothing is labelled; None where there is no such place."""
    owner = scene.painting.owner
    rows, columns = mask.bits.shape
    for _ in range(_TRIES):
        top, left = int(rng.integers(0, owner.shape[0] - rows + 1)), int(rng.integers(0, owner.shape[1] - columns + 1))
        if not (owner[top : top + rows, left : left + columns][mask.bits] >= 0).any():
            return MaskCrop(left, top, mask.bits)
    return None


_CHANGES: tuple[_Change, ...] = (_grow, _shrink, _move, _hollow, _straggle)
