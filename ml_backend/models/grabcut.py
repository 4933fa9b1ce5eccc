"""An interactive model that needs no weights: boxes and clicks -> mask, by colours and edges alone.

Three steps, coarse to fine:

1. *Where?* A box says it. Clicks alone do not say how large the object is: a region is cut out at each of a row of
   sizes, each seen at a resolution of its own, and the region that looks most like an object is taken.
2. *Cut*: :mod:`ml_backend.models.region_cut`, with what step 1 knows as its prior.
3. *Edge*: OpenCV's GrabCut, at a higher resolution, in a narrow band around the edge.

All of it works on patches of bounded size, so an answer takes about as long for 100 megapixels as for one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Xyxy
from bridge.core.masks import Bools, MaskCrop
from bridge.errors import ImageError, ModelError
from ml_backend.models import region_cut, region_quality
from ml_backend.models.catalogue import ModelCard, ModelSpec
from ml_backend.models.interactor import Point, Prompt, Segment
from ml_backend.models.region_cut import Floats, Labels, Patch
from ml_backend.models.region_quality import BOX_QUALITY, CLICK_QUALITY, Weights

NAME = "grabcut-1"

#: Larger images are kept reduced: 24 MB at most.
MAX_PIXELS = 8_000_000
#: Pixels of the patches on which sizes are tried, the object is cut, and its edge is refined.
_TRY_PIXELS, _CUT_PIXELS, _EDGE_PIXELS = 6_000, 20_000, 150_000
#: Radii tried for clicks: from this share of the image's size (the root of its area), at least so many pixels, on.
_SMALLEST, _LARGEST, _RATIO, _LEAST_RADIUS = 0.02, 0.6, 2.0, 8.0
#: Seen around a box or region, as a share of its mean side.
_MARGIN = 0.5
#: Of clicks: how far they pull, in radii of the object, how strongly towards and away (log odds), how far they decide.
_REACH, _PULL, _PUSH, _PIN = 0.4, 2.0, 4.0, 0.05
#: Parts smaller than this share of the largest one are dropped, unless they were clicked; so are holes, of the whole.
_SMALL_PART = 0.1
_SMALL_HOLE = 0.05


def describe(spec: ModelSpec) -> ModelCard:
    """See :mod:`ml_backend.models`."""
    _check(spec)
    return ModelCard(NAME, "interactor", description="GrabCut: clicks and boxes, by colours and edges; no weights")


def load(spec: ModelSpec) -> GrabCut:
    """See :mod:`ml_backend.models`."""
    _check(spec)
    return GrabCut()


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Attributes:
    lab: (h, w, 3) uint8, the image in CIE Lab, reduced where it is larger than MAX_PIXELS.
    height, width: of the image as given.
    """

    lab: npt.NDArray[np.uint8]
    height: int
    width: int

    @property
    def nbytes(self) -> int:
        return self.lab.nbytes


class GrabCut:
    """An Interactor without weights; see the module.

    Answers are the same in every process. The confidence is an estimate of the mask's IoU with what was meant
    (:mod:`ml_backend.models.region_quality`), never a probability of a class.
    """

    @property
    def name(self) -> str:
        return NAME

    def preprocess(self, image: npt.NDArray[np.uint8]) -> Seen:
        """Keep an (H, W, 3) uint8 RGB image, reduced to MAX_PIXELS.

        Raises:
            ImageError: the array has another shape or dtype.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageError(
                f"the image has shape {image.shape} and dtype {image.dtype}", expected="(H, W, 3) uint8 RGB"
            )
        height, width = image.shape[:2]
        if not height or not width:
            return Seen(np.zeros((0, 0, 3), np.uint8), height, width)
        small = Patch.of(image, (0, 0, width, height), MAX_PIXELS).lab
        return Seen(np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.uint8), height, width)

    def prompt(self, preprocessed: Seen, prompts: Sequence[Prompt]) -> list[Segment | None]:
        """See :class:`~ml_backend.models.interactor.Interactor`.

        Points that lie beside the image, and a box that does not touch it, are not heeded.
        """
        return [_answer(preprocessed, prompt) for prompt in prompts]


@dataclass(frozen=True, slots=True)
class _Wish:
    """A prompt in pixels of the kept image, without what lies beside it."""

    positive: tuple[Point, ...]
    negative: tuple[Point, ...]
    box: Xyxy | None


@dataclass(frozen=True, slots=True)
class Region:
    """A region that was cut out.

    Attributes:
        patch: what it was cut out of.
        mask: (h, w) of the patch, not empty.
        measures: see :func:`ml_backend.models.region_quality.measure`.
        quality: the estimate of its IoU.
    """

    patch: Patch
    mask: Bools
    measures: npt.NDArray[np.float64]
    quality: float


def regions(seen: Seen, prompt: Prompt) -> list[Region]:
    """Every region that is cut out on the way to the answer, before its edge is refined; the last one is the answer."""
    wish = _wish(seen, prompt)
    return [] if wish is None else _regions(seen, wish)


def _regions(seen: Seen, wish: _Wish) -> list[Region]:
    if wish.box is None:
        return _from_clicks(seen, wish)
    region = _from_box(seen, wish, wish.box)
    return [] if region is None else [region]


def _answer(seen: Seen, prompt: Prompt) -> Segment | None:
    wish = _wish(seen, prompt)
    if wish is None:
        return None
    found = _regions(seen, wish)
    if not found:
        return None
    mask = in_image(seen, *_with_sharp_edge(seen, wish, found[-1]))
    return None if mask is None else Segment(mask, found[-1].quality)


def _wish(seen: Seen, prompt: Prompt) -> _Wish | None:
    height, width = seen.lab.shape[:2]
    if not height or not width:
        return None
    fx, fy = width / seen.width, height / seen.height

    def inside(points: Sequence[Point]) -> tuple[Point, ...]:
        return tuple((x * fx, y * fy) for x, y in points if 0 <= x < seen.width and 0 <= y < seen.height)

    box = None
    if prompt.box is not None and not any(map(math.isnan, prompt.box)):
        x1, x2 = (min(max(v, 0.0), float(seen.width)) for v in prompt.box[::2])
        y1, y2 = (min(max(v, 0.0), float(seen.height)) for v in prompt.box[1::2])
        if x2 > x1 and y2 > y1:
            (left, right), (top, bottom) = _pixel_wide(x1 * fx, x2 * fx), _pixel_wide(y1 * fy, y2 * fy)
            box = (left, top, right, bottom)
    positive = inside(prompt.positive)
    return _Wish(positive, inside(prompt.negative), box) if positive or box else None


def _pixel_wide(start: float, end: float) -> tuple[float, float]:
    """The interval, at least one long."""
    middle, half = (start + end) / 2, max(0.5, (end - start) / 2)
    return middle - half, middle + half


def _from_box(seen: Seen, wish: _Wish, box: Xyxy) -> Region | None:
    size = math.sqrt((box[2] - box[0]) * (box[3] - box[1])) / 2
    # Clicks may lie beside the box.
    x, y = (box[0], box[2], *(p[0] for p in wish.positive)), (box[1], box[3], *(p[1] for p in wish.positive))
    patch = Patch.of(seen.lab, _around(seen, (min(x), min(y), max(x), max(y)), _MARGIN), _CUT_PIXELS)
    prior, fixed = region_cut.box_prior(patch, box)
    return _region(seen, wish, patch, prior, fixed, size, BOX_QUALITY, trust=0.6, colours=64, rounds=4, steps=60)


def _from_clicks(seen: Seen, wish: _Wish) -> list[Region]:
    tried = [region for radius in _radii(seen, wish) if (region := _at_size(seen, wish, radius)) is not None]
    if not tried:
        return []
    best = max(tried, key=lambda region: region.quality)
    box = _box_of(best)
    size = math.sqrt((box[2] - box[0]) * (box[3] - box[1])) / 2
    patch = Patch.of(seen.lab, _around(seen, box, _MARGIN), _CUT_PIXELS)
    again = _region(
        seen,
        wish,
        patch,
        _prior_from(best, patch),
        np.zeros(patch.shape, np.int8),
        size,
        CLICK_QUALITY,
        trust=0.6,
        colours=64,
        rounds=2,
        steps=60,
    )
    return [*tried, again or best]


def _radii(seen: Seen, wish: _Wish) -> list[float]:
    """Sizes to try, in pixels: not much smaller than the clicks are apart."""
    side = math.sqrt(seen.lab.shape[0] * seen.lab.shape[1])
    x, y = zip(*wish.positive, strict=True)
    apart = math.hypot(max(x) - min(x), max(y) - min(y))
    radii = [max(_LEAST_RADIUS, _SMALLEST * side, apart / 4)]
    while radii[-1] < _LARGEST * side:
        radii.append(radii[-1] * _RATIO)
    return radii


def _at_size(seen: Seen, wish: _Wish, radius: float) -> Region | None:
    x, y = zip(*wish.positive, strict=True)
    window = _clipped(seen, (min(x) - 3 * radius, min(y) - 3 * radius, max(x) + 3 * radius, max(y) + 3 * radius))
    patch = Patch.of(seen.lab, window, _TRY_PIXELS)
    prior = region_cut.disc_prior(patch, wish.positive, radius)
    fixed = np.zeros(patch.shape, np.int8)
    return _region(seen, wish, patch, prior, fixed, radius, CLICK_QUALITY, trust=0.3, colours=48, rounds=3, steps=40)


def _region(
    seen: Seen,
    wish: _Wish,
    patch: Patch,
    prior: Floats,
    fixed: Labels,
    size: float,
    weights: Weights,
    *,
    trust: float,
    colours: int,
    rounds: int,
    steps: int,
) -> Region | None:
    """What is cut out of ``patch``, None where that is nothing. ``size`` is about the object's radius, in pixels."""
    _heed_clicks(wish, patch, prior, fixed, size)
    found = region_cut.cut(patch, prior, fixed, trust=trust, colours=colours, rounds=rounds, steps=steps)
    mask = _tidied(found.mask, patch, wish)
    if not mask.any():
        return None
    on, beside = patch.places(wish.positive), patch.places(wish.negative)
    measures = region_quality.measure(patch, found, mask, on, beside, seen.lab.shape[0] * seen.lab.shape[1])
    return Region(patch, mask, measures, weights.estimate(measures))


def _heed_clicks(wish: _Wish, patch: Patch, prior: Floats, fixed: Labels, size: float) -> None:
    """Clicks pull at what is near them, and decide what is under them."""
    for points, pull in ((wish.positive, _PULL), (wish.negative, -_PUSH)):
        if points:
            prior += np.float32(pull) * np.exp(-np.square(patch.distance(points) / np.float32(_REACH * size)))
    region_cut.pin(fixed, patch, wish.negative, _PIN * size, -1)
    region_cut.pin(fixed, patch, wish.positive, _PIN * size, 1)


def _tidied(mask: Bools, patch: Patch, wish: _Wish) -> Bools:
    """``mask`` without small parts and small holes, and without parts that hold only negative clicks; of clicks without
    a box only what was clicked."""
    on, beside = patch.places(wish.positive), patch.places(wish.negative)
    kept = region_cut.connected(mask, on)
    if wish.box is not None:
        _, number, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
        areas = stats[1:, cv2.CC_STAT_AREA]
        large = np.isin(number, np.flatnonzero(areas >= _SMALL_PART * areas.max(initial=1)) + 1)
        refused = region_cut.connected(region_cut.without_holes(large), beside)
        kept |= large & ~refused if (large & ~refused).any() else large
    return region_cut.without_holes(kept, _SMALL_HOLE * float(kept.sum()), beside)


def _with_sharp_edge(seen: Seen, wish: _Wish, region: Region) -> tuple[Patch, Bools]:
    """The region with OpenCV's GrabCut run in a band around its edge: on its own patch, which gives the colour models,
    then on a finer one."""
    patch, mask = region.patch, region.mask
    band = max(2, round(0.08 * math.sqrt(float(mask.sum()))))
    ours, theirs = np.zeros((1, 65)), np.zeros((1, 65))
    sharp = _in_band(patch, mask, band, wish, theirs, ours, cv2.GC_INIT_WITH_MASK)
    if sharp is None:
        return patch, mask
    finer = Patch.of(seen.lab, _around(seen, _box_of(region), 0.1), _EDGE_PIXELS)
    step = finer.scale[0] / patch.scale[0]
    if step < 1.2:
        return patch, sharp
    guess = _resampled(patch, sharp.astype(np.float32), finer) > 0.5
    finest = _in_band(finer, guess, max(2, round(1.5 * step)), wish, theirs, ours, cv2.GC_EVAL)
    return finer, guess if finest is None else finest


def _in_band(
    patch: Patch,
    mask: Bools,
    band: int,
    wish: _Wish,
    background: npt.NDArray[np.float64],
    foreground: npt.NDArray[np.float64],
    mode: int,
) -> Bools | None:
    """``mask`` cut again within ``band`` pixels of its edge; None where there is nothing to cut, or little is left."""
    kernel = np.ones((3, 3), np.uint8)
    bits = mask.astype(np.uint8)
    inner = cv2.erode(bits, kernel, iterations=band, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    outer = cv2.dilate(bits, kernel, iterations=band) == 0
    labels = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[inner], labels[outer] = cv2.GC_FGD, cv2.GC_BGD
    for points, label in ((wish.negative, cv2.GC_BGD), (wish.positive, cv2.GC_FGD)):
        for column, row in patch.places(points):
            labels[row, column] = label
    ours = (labels & 1) > 0
    if ours.all() or not ours.any() or min(patch.shape) < 3:
        return None
    cv2.setRNGSeed(1)  # of this thread
    cv2.grabCut(patch.lab, labels, None, background, foreground, 1, mode)  # type: ignore[call-overload]
    found = _tidied((labels & 1) > 0, patch, wish)
    return found if found.sum() >= 0.5 * mask.sum() else None


def _prior_from(region: Region, patch: Patch) -> Floats:
    """Log odds on ``patch`` from a region cut out of a coarser one: certain up to 2, softened at its edge."""
    fx = patch.scale[0] / region.patch.scale[0]
    inside = _resampled(region.patch, region.mask.astype(np.float32), patch)
    soft = cv2.GaussianBlur(inside, (0, 0), max(0.5, fx, 0.06 * math.sqrt(float(inside.sum()))))
    return np.asarray(4 * soft - 2, np.float32)


def _resampled(source: Patch, values: Floats, target: Patch) -> Floats:
    """(h, w) values of ``source`` at the pixels of ``target``; 0 beside it."""
    fx, fy = source.scale
    x, y = target.grid()
    at_x = np.broadcast_to((x - source.window[0]) * np.float32(fx) - np.float32(0.5), target.shape)
    at_y = np.broadcast_to((y - source.window[1]) * np.float32(fy) - np.float32(0.5), target.shape)
    rows, columns = source.shape
    held = cv2.remap(
        values,
        np.ascontiguousarray(np.clip(at_x, 0, columns - 1)),
        np.ascontiguousarray(np.clip(at_y, 0, rows - 1)),
        cv2.INTER_LINEAR,
    )
    held[(at_x < -0.5) | (at_x > columns - 0.5) | (at_y < -0.5) | (at_y > rows - 0.5)] = 0
    return np.asarray(held, np.float32)


def in_image(seen: Seen, patch: Patch, mask: Bools) -> MaskCrop | None:
    """A mask of a patch in pixels of the image."""
    x1, y1, x2, y2 = patch.window
    fx, fy = seen.width / seen.lab.shape[1], seen.height / seen.lab.shape[0]
    left, top, right, bottom = round(x1 * fx), round(y1 * fy), round(x2 * fx), round(y2 * fy)
    if (right - left, bottom - top) == patch.shape[::-1]:
        return MaskCrop.of(mask, left, top)
    grown = cv2.resize(mask.astype(np.uint8) * 255, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return MaskCrop.of(grown > 127, left, top)


def _box_of(region: Region) -> Xyxy:
    """The region's half-open box in pixels of the kept image."""
    rows, columns = np.flatnonzero(region.mask.any(axis=1)), np.flatnonzero(region.mask.any(axis=0))
    fx, fy = region.patch.scale
    x1, y1 = region.patch.window[:2]
    return (x1 + columns[0] / fx, y1 + rows[0] / fy, x1 + (columns[-1] + 1) / fx, y1 + (rows[-1] + 1) / fy)


def _around(seen: Seen, box: Xyxy, margin: float) -> tuple[int, int, int, int]:
    more = max(2.0, margin * (box[2] - box[0] + box[3] - box[1]) / 2)
    return _clipped(seen, (box[0] - more, box[1] - more, box[2] + more, box[3] + more))


def _clipped(seen: Seen, box: Xyxy) -> tuple[int, int, int, int]:
    """Whole pixels of the kept image that hold ``box``, at least one."""
    height, width = seen.lab.shape[:2]
    x1, y1 = min(max(0, math.floor(box[0])), width - 1), min(max(0, math.floor(box[1])), height - 1)
    return x1, y1, max(x1 + 1, min(width, math.ceil(box[2]))), max(y1 + 1, min(height, math.ceil(box[3])))


def _check(spec: ModelSpec) -> None:
    for word, value in (("weights", spec.weights), ("class names", spec.classes)):
        if value is not None:
            raise ModelError(
                f"{word} were given for 'grabcut', which takes none",
                expected="no weights and no class names: it works by colours and edges",
                todo="Leave them out",
            )
