"""Large images in tiles: what a network would see too small is looked at piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import clip_to_image
from bridge.core.masks import MaskCrop
from bridge.core.predictor import ScoreRegions, region_scorer
from bridge.core.probes import Probes
from bridge.errors import ModelError
from ml_backend.models import Detections, Kind, Predictor
from ml_backend.models.pixels import Image, check_images
from ml_backend.models.tile_merge import Sighting, merge

MIN_TILE = 64
#: The share of a tile that its neighbour sees too: smaller objects lie whole in one of them.
OVERLAP = 0.2
#: Beyond this many tiles, tiles grow instead: an image must not take an hour.
MAX_TILES = 1024
#: Tiles that are in memory, and given to the model, at a time.
BATCH = 8
#: What is kept of one image until its tiles are merged; the least confident detections go first.
MAX_DETECTIONS = 5000
MAX_MASK_BYTES = 256 * 2**20

Window = tuple[int, int, int, int]
Floats = npt.NDArray[np.float64]


class Tiled:
    """A predictor that looks at images larger than a tile twice: as a whole, and in tiles that overlap.

    An image whose sides are at most ``tile`` gets exactly the answer of the predictor itself.

    Args:
        predictor: finds boxes or masks.
        tile: side of a tile in pixels of the image.

    Attributes:
        nbytes: of the predictor's weights.

    Raises:
        ModelError: the tile is too small, or the predictor answers tags, which belong to whole images.
    """

    def __init__(self, predictor: Predictor, tile: int) -> None:
        if tile < MIN_TILE:
            raise ModelError(
                f"the tile size is {tile}",
                expected=f"pixels, {MIN_TILE} or more",
                todo="Take about twice the size at which the model looks at images, as in 640",
            )
        if predictor.kind == "tag":
            raise ModelError(
                f"the model {predictor.name} tags whole images and takes no tiles",
                expected="a model that finds boxes or masks",
                todo="Leave the tile size out",
            )
        self._predictor = predictor
        self._tile = tile
        self.nbytes = int(getattr(predictor, "nbytes", 0))

    @property
    def name(self) -> str:
        return f"{self._predictor.name}-tile{self._tile}"

    @property
    def classes(self) -> tuple[str, ...]:
        return self._predictor.classes

    @property
    def kind(self) -> Kind:
        return self._predictor.kind

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """Detect objects.

        Args:
            images: (H, W, 3) uint8 RGB arrays; sizes may differ and one may be very large.

        Raises:
            ImageError: an array has another shape or dtype; names its place.
            ModelError: the predictor cannot run.
        """
        check_images(images)
        small = [i for i, image in enumerate(images) if max(image.shape[:2]) <= self._tile or not image.size]
        answers = dict(zip(small, self._predictor.predict([images[i] for i in small]) if small else [], strict=True))
        return [answers[i] if i in answers else self._look(image) for i, image in enumerate(images)]

    @property
    def score_regions(self) -> ScoreRegions | None:
        """The predictor's own answers: about each box in the tile that shows it whole with the most around it, or in
        the whole image where no tile does."""
        return None if region_scorer(self._predictor) is None else self._score_regions

    def _score_regions(self, image: Image, boxes: Floats) -> Probes:
        check_images([image])
        scorer = region_scorer(self._predictor)
        assert scorer is not None
        height, width = image.shape[:2]
        if max(height, width) <= self._tile or not image.size:
            return scorer.score_regions(image, boxes)
        windows = [(0, 0, width, height), *tile_windows(width, height, self._tile)]
        views = _best_views(clip_to_image(boxes, width, height), windows, (width, height))
        answers = Probes.unasked(len(boxes), len(self.classes))
        for view in np.unique(views).tolist():
            x1, y1, x2, y2 = windows[view]
            rows, corner = np.flatnonzero(views == view), np.array([x1, y1, x1, y1])
            found = scorer.score_regions(np.ascontiguousarray(image[y1:y2, x1:x2]), boxes[rows] - corner)
            answers.probabilities[rows] = found.probabilities
            answers.xyxy[rows] = found.xyxy + corner
        return answers

    def _look(self, image: Image) -> Detections:
        height, width = image.shape[:2]
        (whole,) = self._predictor.predict([image])
        seen = [_sighting(whole, (0, 0, width, height), 0, (width, height))]
        windows = list(tile_windows(width, height, self._tile))
        for start in range(0, len(windows), BATCH):
            part = windows[start : start + BATCH]
            crops = [np.ascontiguousarray(image[y1:y2, x1:x2]) for x1, y1, x2, y2 in part]
            found = self._predictor.predict(crops)
            seen += [
                _sighting(one, window, start + i + 1, (width, height))
                for i, (one, window) in enumerate(zip(found, part, strict=True))
            ]
            seen = [Sighting.join(seen).most_confident(MAX_DETECTIONS, MAX_MASK_BYTES)]
        return merge(seen[0], np.array([(0, 0, width, height), *windows], dtype=np.float64))


def tile_windows(width: int, height: int, tile: int) -> Iterator[Window]:
    """Half-open windows ``x1, y1, x2, y2`` that cover an image, row by row.

    They are of one size and evenly spread, with at least :data:`OVERLAP` in common with their neighbours; where an
    image is narrower than a tile, so are they. Tiles are larger than asked where there would be more than
    :data:`MAX_TILES`.
    """
    side = tile
    while len(_starts(width, side)) * len(_starts(height, side)) > MAX_TILES:
        side = math.ceil(side * 1.25)
    for y in _starts(height, side):
        for x in _starts(width, side):
            yield x, y, min(x + side, width), min(y + side, height)


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    steps = math.ceil((length - side) / (side - math.ceil(side * OVERLAP)))
    return [round(step * (length - side) / steps) for step in range(steps + 1)]


def _sighting(found: Detections, window: Window, view: int, size: tuple[int, int]) -> Sighting:
    """Detections of one tile in pixels of the image, and which of them its border may have cut."""
    x1, y1 = window[:2]
    xyxy = found.xyxy + np.array([x1, y1, x1, y1])
    cut = _room(xyxy, window, size) < 0
    masks = tuple(MaskCrop(mask.left + x1, mask.top + y1, mask.bits) for mask in found.masks)
    return Sighting(xyxy, found.label, found.confidence, np.full(len(xyxy), view), cut, masks)


def _room(xyxy: Floats, window: Window, size: tuple[int, int]) -> Floats:
    """(N,) pixels between boxes and where a window's border begins to cut; below 0 where it may cut them. The border of
    the image cuts nothing."""
    x1, y1, x2, y2 = window
    # Boxes end some pixels beside the border that cuts their object: detectors are not exact.
    margin = max(2.0, max(x2 - x1, y2 - y1) / 32)
    low = np.array([x1 + margin if x1 > 0 else -math.inf, y1 + margin if y1 > 0 else -math.inf])
    high = np.array([x2 - margin if x2 < size[0] else math.inf, y2 - margin if y2 < size[1] else math.inf])
    room: Floats = np.minimum(xyxy[:, :2] - low, high - xyxy[:, 2:]).min(axis=1)
    return room


def _best_views(xyxy: Floats, windows: Sequence[Window], size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """(N,) the window, the first of which is the whole image, in which each box is to be looked at."""
    room = np.stack([_room(xyxy, window, size) for window in windows[1:]])
    return np.where(room.max(axis=0) >= 0, 1 + room.argmax(axis=0), 0)
