"""A network's answers about boxes that others drew, in the caller's pixels and classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import areas, clip_to_image
from bridge.core.probes import Probes
from ml_backend.models.pixels import Image, shrink
from ml_backend.models.raw import RawProbes

Floats = npt.NDArray[np.float64]

#: An image, and boxes (N, 4) float64 with area in its pixels, to what a network says about each of them.
NetworkProbe = Callable[[Image, Floats], RawProbes]


def judge(probe: NetworkProbe, image: Image, boxes: Floats, numbers: npt.NDArray[np.int64]) -> Probes:
    """What :class:`~bridge.core.predictor.RegionScorer` asks for.

    Args:
        image: not empty.
        numbers: (C,) int64, the network's own number of each class; what else it has numbers for is background.
    """
    height, width = image.shape[:2]
    answers = Probes.unasked(len(boxes), len(numbers))
    xyxy = clip_to_image(np.asarray(boxes, np.float64).reshape(-1, 4), width, height)
    rows = np.flatnonzero(areas(xyxy) > 0)
    if not rows.size:
        return answers
    small, factors = shrink(image)
    scale = np.tile(factors, 2)
    raw = probe(small, xyxy[rows] / scale)
    chances = np.clip(raw.probabilities[:, numbers].astype(np.float64), 0.0, 1.0)
    likeliest = raw.boxes[np.arange(len(rows)), numbers[chances.argmax(axis=1)]].astype(np.float64)
    answers.probabilities[rows, 0] = np.maximum(0.0, 1.0 - chances.sum(axis=1))
    answers.probabilities[rows, 1:] = chances
    answers.xyxy[rows] = clip_to_image(likeliest * scale, width, height)
    return answers
