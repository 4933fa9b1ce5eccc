"""What a model is, to the bridge: images in, boxes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Detections:
    """What a model found in one image.

    Attributes:
        xyxy: (N, 4) float64, pixels of the image as given, half-open, clipped to the image.
        label: (N,) int64, indices into the predictor's ``classes``.
        confidence: (N,) float64 in [0, 1], in falling order.
    """

    xyxy: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]

    @classmethod
    def none(cls) -> Detections:
        return cls(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))


class Predictor(Protocol):
    """Images -> detections.

    A Predictor MUST give one :class:`Detections` per image, in order; MUST NOT keep state between calls that
    changes an answer; MUST NOT depend on how images are batched beyond float rounding; MUST raise
    ``ModelError`` when it cannot run at all. It MUST be safe to call from one thread at a time; callers
    serialise.
    """

    @property
    def name(self) -> str:
        """Name and version, as in ``parts-ssdlite-1``: written beside every prediction."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; ``Detections.label`` indexes them."""

    def predict(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Detect objects. ``images``: (H, W, 3) uint8 RGB arrays, sizes may differ."""
