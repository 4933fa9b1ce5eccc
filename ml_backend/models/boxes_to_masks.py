"""A detector and an interactive model as one: every box becomes a mask, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.core.masks import MaskCrop
from bridge.core.predictor import ScoreRegions, region_scorer
from bridge.errors import ModelError
from ml_backend.models import Detections, Interactor, Kind, Predictor, Prompt, Segment
from ml_backend.models.catalogue import ModelCard, ModelSpec, is_predictor
from ml_backend.models.catalogue import describe as describe_part
from ml_backend.models.catalogue import load as load_part


def describe(spec: ModelSpec) -> ModelCard:
    """See :mod:`ml_backend.models`."""
    detector, interactor = _parts(spec)
    boxes, masks = describe_part(detector), describe_part(interactor)
    if boxes.role != "rectangle" or masks.role != "interactor":
        raise _no_pair(spec.spec)
    return replace(
        boxes,
        name=f"{boxes.name}+{masks.name}",
        role="mask",
        description=f"{boxes.description}; boxes to masks by {masks.name}",
    )


def load(spec: ModelSpec) -> BoxesToMasks:
    """See :mod:`ml_backend.models`."""
    detector, interactor = _parts(spec)
    boxes, masks = load_part(detector), load_part(interactor)
    if not is_predictor(boxes) or is_predictor(masks):
        raise _no_pair(spec.spec)
    return BoxesToMasks(boxes, masks)  # type: ignore[arg-type]


class BoxesToMasks:
    """A Predictor of masks.

    A detection for which the interactive model finds nothing keeps its box, filled: it was found, and a reviewer can
    correct a shape more easily than notice an object that is not there. Confidences stay the detector's.

    Args:
        detector: finds boxes.
        interactor: turns each of them into a mask.
    """

    def __init__(self, detector: Predictor, interactor: Interactor) -> None:
        self._detector = detector
        self._interactor = interactor
        self.nbytes = sum(int(getattr(model, "nbytes", 0)) for model in (detector, interactor))

    @property
    def name(self) -> str:
        return f"{self._detector.name}+{self._interactor.name}"

    @property
    def classes(self) -> tuple[str, ...]:
        return self._detector.classes

    @property
    def kind(self) -> Kind:
        return "mask"

    def predict(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """See :class:`~bridge.core.predictor.Predictor`."""
        found = self._detector.predict(images)
        return [self._masked(image, boxes) for image, boxes in zip(images, found, strict=True)]

    @property
    def score_regions(self) -> ScoreRegions | None:
        """The detector's own: its answers about boxes need no mask."""
        scorer = region_scorer(self._detector)
        return None if scorer is None else scorer.score_regions

    def _masked(self, image: npt.NDArray[np.uint8], found: Detections) -> Detections:
        if not len(found.label):
            return found
        prompts = [Prompt(box=(x1, y1, x2, y2)) for x1, y1, x2, y2 in found.xyxy.tolist()]
        segments = self._interactor.prompt(self._interactor.preprocess(image), prompts)
        masks = tuple(_mask(s, p, image.shape[:2]) for s, p in zip(segments, prompts, strict=True))
        # The mask is the better box.
        xyxy = np.array([mask.xyxy for mask in masks], dtype=np.float64)
        return replace(found, xyxy=xyxy, masks=masks)


def _mask(segment: Segment | None, prompt: Prompt, size: tuple[Any, ...]) -> MaskCrop:
    if segment is not None:
        return segment.mask
    assert prompt.box is not None
    height, width = size
    left, top = min(int(prompt.box[0]), width - 1), min(int(prompt.box[1]), height - 1)
    right, bottom = (int(np.ceil(v)) for v in prompt.box[2:])
    return MaskCrop(left, top, np.ones((max(1, min(bottom, height) - top), max(1, min(right, width) - left)), np.bool_))


def _parts(spec: ModelSpec) -> tuple[ModelSpec, ModelSpec]:
    """The two models. Weights and class names are the detector's where it is a builder's name, and weights the
    interactive model's where the detector needs none."""
    names = spec.spec.split("+")
    if len(names) != 2 or not all(names):
        raise _no_pair(spec.spec)
    brings_its_own = names[0] == "embedded" or names[0].lower().endswith((".json", ".py"))
    detector = replace(spec, spec=names[0], weights=None if brings_its_own else spec.weights, tile=None)
    interactor = replace(
        spec,
        spec=names[1],
        classes=None,
        score_threshold=None,
        weights=spec.weights if brings_its_own else None,
        tile=None,
    )
    return detector, interactor


def _no_pair(spec: str) -> ModelError:
    return ModelError(
        f"{spec!r} is no detector and interactive model",
        expected="DETECTOR+INTERACTOR, as in embedded+grabcut or fasterrcnn_resnet50_fpn_v2+sam_vit_b",
        todo="Correct the name; for weights of both, write a manifest for the detector",
    )
