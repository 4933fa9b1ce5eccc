"""Class maps held against a model's class probabilities: where a pixel's class is doubtful, and which images are.

The quality of a pixel is the probability of its given class. cleanlab's image score is the softmin of these (Lad and
Mueller, 2023, arXiv 2307.05080): a mean in which a pixel of quality q weighs ``exp((1 - q) / .1)``. Along the outline
of every object there is a thin line of pixels of low quality, and it drowns what is really wrong. An error is a patch:
so here each pixel first takes the mean of its neighbourhood, and the softmin is over those. A line one pixel wide then
counts a third, a patch in full.

The probabilities must come from a model that has not seen these maps. Memory is that of a few images of float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Xyxy
from bridge.core.pixels import local_mean, parts
from bridge.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Of the softmin; cleanlab's own.
TEMPERATURE = 0.1
#: Neighbours on each side that a pixel is averaged with.
RADIUS = 1


@dataclass(frozen=True, slots=True)
class Region:
    """A connected patch that the model gives to another class.

    Attributes:
        xyxy: its half-open box, pixels.
        area: pixels.
        given, likely: class indices.
        score: in (0, 1], the mean over its pixels of how much likelier the other class is.
    """

    xyxy: Xyxy
    area: int
    given: int
    likely: int
    score: float


@dataclass(frozen=True, slots=True)
class SemanticJudgement:
    """One image.

    Attributes:
        score: in [0, 1]; higher means more likely that something is wrong.
        quality: (H, W) float64 in [0, 1], the mean probability of the given classes around each pixel; low is doubtful.
        regions: the patches, those that weigh most (area x score) first; of equal ones the uppermost.
    """

    score: float
    quality: Floats
    regions: tuple[Region, ...]


def judge_map(given: Ints, probabilities: npt.NDArray[np.floating], smallest: int = 9) -> SemanticJudgement:
    """Hold one class map against the model's probabilities.

    Args:
        given: (H, W) int64, classes in ``[0, K)``.
        probabilities: (K, H, W), at least 0, summing to 1 over the classes.
        smallest: area in pixels from which a patch is worth a look.

    Raises:
        DataError: an array has another form.
    """
    own = pixel_quality(given, probabilities)
    quality = np.clip(local_mean(own, RADIUS), 0.0, 1.0)
    return SemanticJudgement(1 - softmin(quality), quality, _regions(given, probabilities, own, smallest))


def pixel_quality(given: Ints, probabilities: npt.NDArray[np.floating]) -> Floats:
    """The probability of each pixel's given class: (H, W) float64.

    Raises:
        DataError: the shapes do not fit, or a class is none.
    """
    if probabilities.ndim != 3 or given.shape != probabilities.shape[1:]:
        raise DataError(
            f"given has the shape {given.shape}, probabilities {probabilities.shape}", expected="(H, W) and (K, H, W)"
        )
    classes = len(probabilities)
    if given.size and not (given.min() >= 0 and given.max() < classes):
        raise DataError(f"given has the class {given.min()} or {given.max()}", expected=f"0 to {classes - 1}")
    return np.asarray(np.take_along_axis(probabilities, given[None], axis=0)[0], dtype=np.float64)


def softmin(quality: Floats, temperature: float = TEMPERATURE) -> float:
    """The mean of values in [0, 1], the low ones weighing more: ``exp((1 - q) / temperature)``; 1 of nothing."""
    if not quality.size:
        return 1.0
    weight = np.exp((quality.min() - quality) / temperature)
    return float((quality * weight).sum() / weight.sum())


def _regions(given: Ints, probabilities: npt.NDArray[np.floating], own: Floats, smallest: int) -> tuple[Region, ...]:
    likely = probabilities.argmax(axis=0)
    margin = probabilities.max(axis=0).astype(np.float64) - own
    found: list[Region] = []
    classes = len(probabilities)
    pair = np.where(margin > 0, given * classes + likely, -1)
    for kind in np.unique(pair[pair >= 0]).tolist():
        number = parts(pair == kind)
        area = np.bincount(number.ravel())
        score = np.bincount(number.ravel(), margin.ravel())
        for k in (np.flatnonzero(area[1:] >= smallest) + 1).tolist():
            rows, columns = np.nonzero(number == k)
            box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
            mean = min(1.0, float(score[k] / area[k]))
            found.append(Region(box, int(area[k]), kind // classes, kind % classes, mean))
    return tuple(sorted(found, key=lambda r: (-r.area * r.score, r.xyxy[1], r.xyxy[0], r.given, r.likely)))
