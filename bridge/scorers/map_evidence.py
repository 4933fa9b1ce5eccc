"""What a model's class map says about outlined objects, as numbers: of each label, and of each object nobody outlined.

Everything is measured in a window around the object, so that the cost grows with the objects and not with the image.
A learner reads the columns (:mod:`bridge.scorers.map_review`); none of them is a score of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.class_maps import NOBODY, Painting
from bridge.core.masks import MaskCrop
from bridge.core.pixels import holes, inner_border, local_mean, parts
from bridge.scorers.semantic_review import softmin

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LABEL_COLUMNS = (
    *("own", "background", "rival", "softmin", "core", "rim", "near", "far", "fit", "lack", "gain", "pieces"),
    *("stray", "hole", "round", "touch", "seam", "rounder", "size"),
)
PROPOSAL_COLUMNS = ("own", "background", "rival", "surest", "beside", "beside_same", "apart", "round", "share", "size")
#: From here on the model sees a class in a cell; what never gets there is seen faintly from the second level on.
LEVELS = (0.5, 0.2)
#: Levels at which an object may fall into several.
_CUTS = (0.5, 0.7, 0.9)
#: Cells; anything smaller is noise.
SMALLEST = 6


_NOTHING = MaskCrop(0, 0, np.zeros((1, 1), dtype=np.bool_))


@dataclass(frozen=True, slots=True)
class Scene:
    """One submission beside a class map.

    Attributes:
        probabilities: (C + 1, h, w) float32, background first; sums to 1.
        painting: the submission's objects.
        label: (G,) int64 in [0, C], the class of each object; 0 for one that the model does not know.
    """

    probabilities: npt.NDArray[np.float32]
    painting: Painting
    label: Ints


@dataclass(frozen=True, slots=True)
class Moments:
    """Of a set of cells: their number, the sums of x and y, and of xx, yy and xy."""

    sums: Floats

    @classmethod
    def of(cls, mask: MaskCrop) -> Moments:
        rows, columns = np.nonzero(mask.bits)
        x, y = columns + float(mask.left), rows + float(mask.top)
        return cls(np.array([len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]))

    def with_(self, other: Moments) -> Moments:
        return Moments(self.sums + other.sums)

    @property
    def roundness(self) -> float:
        """The area as a share of that of the ellipse with the same moments: 1 for ellipses, lower for all else."""
        area = float(self.sums[0])
        x, y, xx, yy, xy = (self.sums[1:] / area).tolist()
        # A cell is no point: it has moments of its own.
        spread = (xx - x * x + 1 / 12) * (yy - y * y + 1 / 12) - (xy - x * y) ** 2
        return area / float(4 * np.pi * np.sqrt(max(spread, 1e-9)))


@dataclass(frozen=True, slots=True)
class Evidence:
    """``numbers`` are the columns, ``rival`` the likeliest other class, ``region`` where the model sees the object."""

    numbers: tuple[float, ...]
    rival: int
    region: MaskCrop | None


def label_evidence(
    scene: Scene, mask: MaskCrop, kind: int, without: Sequence[int] = (), over: int = NOBODY
) -> Evidence | None:
    """What the map says about a mask labelled ``kind``.

    None where nothing of the mask is to be seen beside the other objects.

    Args:
        without: objects of the scene that are taken away first.
        over: one that the mask lies on; it covers all others only where they are not seen.
    """
    side = float(np.sqrt(mask.area))
    window = _Window.around(scene, mask, max(3, round(side / 2)), without, over)
    own = window.mask & ~window.taken
    count = int(own.sum())
    if not count:
        return None
    q = window.probabilities[kind].astype(np.float64)
    means = window.probabilities[:, own].mean(axis=1, dtype=np.float64)
    beside = means.copy()
    beside[[0, kind]] = -1.0
    rival = int(beside.argmax())
    step = max(1, round(side / 8))
    border = inner_border(own, step)
    core = own & ~border
    free = ~own & ~window.taken
    wide = grown(own, step)
    near, far = wide & free, grown(own, 3 * step) & ~wide & free
    region = _touching((q >= LEVELS[0]) & (own | free), own)
    hollow = holes(own) & (q >= LEVELS[0])
    union = int((region | own).sum())
    shape = MaskCrop.of(own, window.left, window.top)
    assert shape is not None
    whole = Moments.of(shape)
    touch, seam, rounder = window.seam(scene, own, kind, q, whole)
    numbers = (
        float(means[kind]),
        float(means[0]),
        max(0.0, float(beside.max())),
        softmin(np.clip(local_mean(q, 1)[own], 0.0, 1.0)),
        _mean(q[core]),
        _mean(q[border]),
        _mean(q[near]),
        _mean(q[far]),
        int((region & own).sum()) / union,
        _largest(own & ~region) / count,
        _largest(region & ~own) / count,
        max(_second(own & (q >= level)) for level in _CUTS) / count,
        int((_strays(own) & (q < LEVELS[0])).sum()) / count,
        int(hollow.sum()) / count,
        whole.roundness,
        touch,
        seam,
        rounder,
        float(np.log(count)),
    )
    return Evidence(numbers, rival, MaskCrop.of(region, window.left, window.top))


@dataclass(frozen=True, slots=True)
class Proposal:
    """An object that the model sees where nothing is labelled."""

    kind: int
    mask: MaskCrop
    numbers: tuple[float, ...]


def proposals(scene: Scene, around: MaskCrop | None = None, without: Sequence[int] = ()) -> Iterator[Proposal]:
    """What the model sees beside the labels, as if the objects ``without`` were not there.

    Args:
        around: look only near this mask; None looks at the whole grid.
    """
    if around is None:
        height, width = scene.painting.owner.shape
        around = MaskCrop(0, 0, np.ones((height, width), dtype=np.bool_))
    window = _Window.around(scene, around, max(3, round(np.sqrt(around.area))), without)
    seen = (1 - window.probabilities[0]) * ~window.taken
    known = np.zeros(seen.shape, dtype=np.bool_)
    for level in LEVELS:
        number = parts(seen >= level)
        area = np.bincount(number.ravel())
        told = np.bincount(number.ravel(), known.ravel())
        for k in np.flatnonzero((area >= SMALLEST) & (told == 0) & (np.arange(len(area)) > 0)).tolist():
            crop = MaskCrop.of(number == k)
            assert crop is not None
            yield _proposal(scene, window, crop)
        known |= number > 0


def _proposal(scene: Scene, window: _Window, crop: MaskCrop) -> Proposal:
    """``crop`` is in cells of the window."""
    rows, columns = crop.bits.shape
    y, x = crop.top, crop.left
    y1, x1, y2, x2 = max(0, y - 1), max(0, x - 1), y + rows + 1, x + columns + 1
    mask = np.zeros(window.taken[y1:y2, x1:x2].shape, dtype=np.bool_)
    mask[y - y1 : y - y1 + rows, x - x1 : x - x1 + columns] = crop.bits
    chances = window.probabilities[:, y1:y2, x1:x2]
    owner = window.owner[y1:y2, x1:x2]
    means = chances[:, mask].mean(axis=1, dtype=np.float64)
    kind = 1 + int(means[1:].argmax())
    others = np.delete(means, [0, kind])
    ring = grown(mask, 1) & ~mask
    label = np.where(owner >= 0, scene.label[owner] if len(scene.label) else 0, -1)
    next_to, same = ring & (owner >= 0), ring & (label == kind)
    neighbours = [m for k in np.unique(owner[same]).tolist() if (m := scene.painting.visible[k]) is not None]
    largest = max((m.area for m in neighbours), default=0)
    placed = MaskCrop(window.left + x, window.top + y, crop.bits)
    area = placed.area
    numbers = (
        float(means[kind]),
        float(means[0]),
        float(others.max(initial=0.0)),
        float(local_mean(chances[kind].astype(np.float64), 1)[mask].max()),
        next_to.sum() / max(1, ring.sum()),
        same.sum() / max(1, ring.sum()),
        float((mask & ~grown(owner >= 0, 1)).sum()) / area,
        Moments.of(placed).roundness,
        area / largest if largest else float("nan"),
        float(np.log(area)),
    )
    return Proposal(kind, placed, tuple(float(n) for n in numbers))


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a scene around a mask. ``taken`` is what other objects hold, ``owner`` who does."""

    left: int
    top: int
    mask: Bools
    probabilities: npt.NDArray[np.float32]
    owner: Ints
    taken: Bools

    @classmethod
    def around(cls, scene: Scene, mask: MaskCrop, margin: int, without: Sequence[int], over: int = NOBODY) -> _Window:
        height, width = scene.painting.owner.shape
        rows, columns = mask.bits.shape
        x1, y1 = max(0, mask.left - margin), max(0, mask.top - margin)
        x2, y2 = min(width, mask.left + columns + margin), min(height, mask.top + rows + margin)
        owner = scene.painting.owner[y1:y2, x1:x2]
        if without:
            owner = np.where(np.isin(owner, without), NOBODY, owner)
        own = np.zeros((y2 - y1, x2 - x1), dtype=np.bool_)
        own[mask.top - y1 : mask.top - y1 + rows, mask.left - x1 : mask.left - x1 + columns] = mask.bits
        if over != NOBODY:
            owner = np.where(own & (owner == over), NOBODY, owner)
        return cls(x1, y1, own, scene.probabilities[:, y1:y2, x1:x2], owner, owner >= 0)

    def seam(self, scene: Scene, own: Bools, kind: int, q: Floats, whole: Moments) -> tuple[float, float, float]:
        """How much of the outline touches objects of the same class, how sure the model is of the class there, and how
        much rounder the two would be as one object with the neighbour that it touches most."""
        ring = grown(own, 1) & ~own
        same = ring & (self.owner >= 0)
        same[same] = scene.label[self.owner[same]] == kind
        if not same.any():
            return 0.0, float("nan"), float("nan")
        most = int(np.bincount(self.owner[same]).argmax())
        neighbour = scene.painting.visible[most]
        assert neighbour is not None
        beside = neighbour.without([MaskCrop(self.left, self.top, own)], keep=_NOTHING)
        both = whole.with_(Moments.of(beside))
        return float(same.sum() / ring.sum()), float(q[same].mean()), both.roundness - whole.roundness


def grown(mask: Bools, radius: int) -> Bools:
    """A mask and all cells within ``radius`` cells (in the larger of x and y) of it."""
    return np.asarray(local_mean(mask.astype(np.float64), radius) > 0.5 / (2 * radius + 1) ** 2)


def _touching(mask: Bools, own: Bools) -> Bools:
    """The parts of a mask that share a cell with ``own``."""
    number = parts(mask)
    kept = np.zeros(int(number.max(initial=0)) + 1, dtype=np.bool_)
    kept[number[own]] = True
    kept[0] = False
    return np.asarray(kept[number])


def _strays(mask: Bools) -> Bools:
    """All parts of a mask but the largest."""
    number = parts(mask)
    return np.asarray((number > 0) & (number != 1 + int(np.bincount(number.ravel())[1:].argmax())))


def _areas(mask: Bools) -> Ints:
    return np.sort(np.bincount(parts(mask).ravel())[1:])


def _largest(mask: Bools) -> int:
    return int(_areas(mask)[-1]) if mask.any() else 0


def _second(mask: Bools) -> int:
    areas = _areas(mask) if mask.any() else np.zeros(0, np.int64)
    return int(areas[-2]) if len(areas) > 1 else 0


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")
