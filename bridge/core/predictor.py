"""What a model is, to the bridge: images in, boxes, masks or tags out; and, where it can tell, what it makes of boxes
that others drew, and how likely each class is in every place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from bridge.core.masks import MaskCrop
from bridge.core.probes import Probes

#: What a predictor finds: objects as boxes, objects as masks, or labels of the whole image.
Kind = Literal["rectangle", "mask", "tag"]


#: (C + 1, h, w) float32 in [0, 1], background first, then a predictor's classes, summing to 1: a grid that covers the
#: whole image, at whatever step the model has.
ClassMap = npt.NDArray[np.float32]

#: What :class:`RegionScorer` describes.
ScoreRegions = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.float64]], Probes]


@dataclass(frozen=True, slots=True)
class Detections:
    """What a model found in one image.

    Attributes:
        xyxy: (N, 4) float64, pixels of the image as given, half-open, clipped to the image; of a tag the whole image.
        label: (N,) int64, indices into the predictor's ``classes``.
        confidence: (N,) float64 in [0, 1], in falling order.
        masks: N masks, each inside of the image, where the predictor's kind is ``mask``; else empty.
    """

    xyxy: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    masks: tuple[MaskCrop, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of memory, for caches."""
        arrays = self.xyxy.nbytes + self.label.nbytes + self.confidence.nbytes
        return arrays + sum(mask.bits.nbytes for mask in self.masks)

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

    @property
    def kind(self) -> Kind:
        """What it finds."""

    def predict(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Detect objects. ``images``: (H, W, 3) uint8 RGB arrays, sizes may differ."""


class RegionScorer(Protocol):
    """What a Predictor MAY be as well: one that answers about boxes that others drew.

    It MUST answer one row for each box, in order, whatever the other boxes of the call, beyond float rounding. It MUST
    NOT match boxes with its own detections, suppress any, nor apply its threshold: a box on which nothing is gets its
    background. ``probabilities`` are over the predictor's ``classes``; what it holds for likely beside them is
    background. ``xyxy`` is where it would draw the object of the likeliest class, clipped to the image. A box without
    area inside of the image, or that is not finite, gets a row of NaN. All else is as for a Predictor.

    A Predictor that cannot answer has no ``score_regions``, or None for it; :func:`region_scorer` tells.
    """

    def score_regions(self, image: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float64]) -> Probes:
        """Judge given boxes.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: (N, 4) float64 ``xyxy``, pixels of the image, half-open; cut at its edges. N may be 0.
        """


def region_scorer(predictor: Predictor) -> RegionScorer | None:
    """The predictor, where it can be asked about boxes; else None."""
    return cast(RegionScorer, predictor) if getattr(predictor, "score_regions", None) is not None else None


class DensePredictor(Protocol):
    """What a Predictor MAY be as well: one that says of every place in an image how likely each class is there.

    The map MUST cover the whole image, and be what the detections were made from, before any threshold. Its size MUST
    be bounded, whatever that of the image. All else is as for a Predictor, whose kind is ``mask``.

    A Predictor that cannot tell has no ``predict_dense``, or None for it; :func:`dense_predictor` tells.
    """

    def predict_dense(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[tuple[Detections, ClassMap]]:
        """What :meth:`Predictor.predict` answers, and the class map of each image."""


def dense_predictor(predictor: Predictor) -> DensePredictor | None:
    """The predictor, where it makes class maps; else None."""
    return cast(DensePredictor, predictor) if getattr(predictor, "predict_dense", None) is not None else None
