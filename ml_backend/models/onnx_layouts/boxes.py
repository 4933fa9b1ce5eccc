"""Finished detections: boxes, scores and labels as three outputs, which the manifest's ``outputs`` names.

Boxes (B, N, 4) ``x1, y1, x2, y2`` in pixels of the input, or in shares of its size where the manifest's
``coordinates`` is ``normalised``; scores (B, N); labels (B, N), numbers of classes. For one image at a time the first
dimension may be absent. Rows whose label is no class, as -1 of padding, are dropped.
"""

from __future__ import annotations

import numpy as np

from ml_backend.models.onnx_input import Preprocessing
from ml_backend.models.onnx_layouts.layout import (
    Array,
    Candidates,
    Declared,
    Decode,
    Misfit,
    Outputs,
    check_probabilities,
)

PREPROCESSING = Preprocessing(resize="stretch")
#: Files of this kind have suppressed duplicates themselves.
NMS_IOU: float | None = None
OUTPUT_ROLES: tuple[str, ...] = ("boxes", "scores", "labels")


def fit(trial: Outputs, declared: Declared) -> Decode:
    """See :mod:`ml_backend.models.onnx_layouts`."""
    if not declared.outputs:
        raise Misfit('the manifest\'s outputs must name them, as {"boxes": ..., "scores": ..., "labels": ...}')
    names = [declared.outputs[role] for role in OUTPUT_ROLES]
    boxes, scores, labels = (trial[name] for name in names)
    if boxes.ndim not in (2, 3) or boxes.shape[-1] != 4:
        raise Misfit(f"{names[0]!r} should have the shape (images, N, 4) or (N, 4)")
    for name, array in zip(names[1:], (scores, labels), strict=True):
        if array.shape != boxes.shape[:-1]:
            raise Misfit(f"{name!r} should have the shape {boxes.shape[:-1]}, one number for each box")
    check_probabilities(scores, names[1])
    share = np.array([declared.width, declared.height] * 2, dtype=np.float64) if declared.normalised else np.ones(4)

    def decode(outputs: Outputs) -> list[Candidates]:
        arrays: list[Array] = [outputs[name] for name in names]
        if arrays[0].ndim == 2:
            arrays = [array[None] for array in arrays]
        return [
            Candidates(xyxy.astype(np.float64) * share, label.astype(np.int64), score.astype(np.float64))
            for xyxy, score, label in zip(*arrays, strict=True)
        ]

    return decode
