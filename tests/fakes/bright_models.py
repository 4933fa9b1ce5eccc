"""A family of one's own, as a models file names it: ``weights`` is the role, ``rectangle``, ``mask``, ``tag`` or
``interactor``.

It sees what is brighter than 200: red is a cat, green a dog; the confidence is how much of its box an object fills. A
picture whose first pixel has blue 255 makes it fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridge.core.masks import MaskCrop
from bridge.core.predictor import Detections, Kind
from bridge.errors import ModelError
from ml_backend.models import Interactor, Predictor, Prompt, Segment
from ml_backend.models.catalogue import ModelCard, ModelSpec

PATH = Path(__file__)
CLASSES = ("cat", "dog")
NAME = "bright-1"


def describe(spec: ModelSpec) -> ModelCard:
    role = str(spec.weights)
    return ModelCard(NAME, role, () if role == "interactor" else CLASSES, 0.5, "bright things")  # type: ignore[arg-type]


def load(spec: ModelSpec) -> Predictor | Interactor:
    if str(spec.weights) == "interactor":
        return BrightInteractor()
    return BrightFinder(str(spec.weights), spec.score_threshold or 0.0)  # type: ignore[arg-type]


class BrightFinder:
    name = NAME
    classes = CLASSES

    def __init__(self, kind: Kind, threshold: float) -> None:
        self.kind = kind
        self.threshold = threshold

    def predict(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        return [self._one(image) for image in images]

    def _one(self, image: npt.NDArray[np.uint8]) -> Detections:
        if image[0, 0, 2] == 255:
            raise ModelError("this picture is cursed")
        masks = [(MaskCrop.of(image[:, :, label] > 200), label) for label in range(2)]
        found = [(mask.area / mask.bits.size, label, mask) for mask, label in masks if mask is not None]
        kept = sorted((f for f in found if f[0] >= self.threshold), key=lambda f: -f[0])
        whole = (0, 0, image.shape[1], image.shape[0])
        xyxy = [whole if self.kind == "tag" else mask.xyxy for _, _, mask in kept]
        return Detections(
            np.array(xyxy, float).reshape(-1, 4),
            np.array([label for _, label, _ in kept], np.int64),
            np.array([confidence for confidence, _, _ in kept], float),
            tuple(mask for _, _, mask in kept) if self.kind == "mask" else (),
        )


@dataclass(frozen=True)
class Kept:
    bright: npt.NDArray[np.bool_]

    @property
    def nbytes(self) -> int:
        return self.bright.nbytes


class BrightInteractor:
    """What is bright inside of the box, or the whole of the channel that is bright at the last point."""

    name = NAME

    def preprocess(self, image: npt.NDArray[np.uint8]) -> Kept:
        return Kept(image > 200)

    def prompt(self, preprocessed: Kept, prompts: Sequence[Prompt]) -> list[Segment | None]:
        return [self._one(preprocessed.bright, prompt) for prompt in prompts]

    def _one(self, bright: npt.NDArray[np.bool_], prompt: Prompt) -> Segment | None:
        wanted = bright.any(axis=2)
        if prompt.box is not None:
            x1, y1, x2, y2 = (round(number) for number in prompt.box)
            crop = MaskCrop.of(wanted[y1:y2, x1:x2], x1, y1)
        else:
            x, y = (int(number) for number in prompt.positive[-1])
            channel = int(bright[y, x].argmax())
            crop = MaskCrop.of(bright[:, :, channel]) if bright[y, x].any() else None
        if crop is None or any(crop.full(*wanted.shape)[int(y), int(x)] for x, y in prompt.negative):
            return None
        return Segment(crop, 0.75)
