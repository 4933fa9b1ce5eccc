"""DETR and its descendants: a fixed number of queries, each a box and class logits.

Two outputs: boxes (B, queries, 4) ``centre x, centre y, width, height`` as shares of the input's size; and logits
(B, queries, K). K = C + 1: softmax, of which the last is "no object" (Carion et al., arXiv:2005.12872). K = C: a
sigmoid for each class, as in Deformable DETR and RT-DETR. ``outputs`` in the manifest may name ``logits`` and
``boxes``; it must where shapes do not tell them apart or the file has more outputs.
"""

from __future__ import annotations

import numpy as np

from ml_backend.models.onnx_input import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from ml_backend.models.onnx_layouts.layout import (
    Candidates,
    Declared,
    Decode,
    Floats,
    Misfit,
    Outputs,
    best_class,
    centre_to_corners,
    sigmoid,
    softmax,
)

PREPROCESSING = Preprocessing(resize="stretch", mean=IMAGENET_MEAN, std=IMAGENET_STD)
#: Queries compete while the network is trained, so that each object has one.
NMS_IOU: float | None = None
OUTPUT_ROLES: tuple[str, ...] = ("logits", "boxes")


def fit(trial: Outputs, declared: Declared) -> Decode:
    """See :mod:`ml_backend.models.onnx_layouts`."""
    logits, boxes = _names(trial, declared)
    shape = trial[boxes].shape
    columns = (declared.classes, declared.classes + 1)
    if len(shape) != 3 or shape[2] != 4:
        raise Misfit(f"{boxes!r} should have the shape (images, queries, 4)")
    if trial[logits].shape[:2] != shape[:2] or trial[logits].ndim != 3 or trial[logits].shape[2] not in columns:
        raise Misfit(
            f"{logits!r} should have the shape (images, {shape[1]}, {columns[0]} classes), or {columns[1]} with one "
            "for no object"
        )
    size = np.array([declared.width, declared.height] * 2, dtype=np.float64)
    background = trial[logits].shape[2] == columns[1]

    def decode(outputs: Outputs) -> list[Candidates]:
        pairs = zip(outputs[logits].astype(np.float64), outputs[boxes].astype(np.float64), strict=True)
        return [best_class(_scores(raw, background), centre_to_corners(box) * size) for raw, box in pairs]

    return decode


def _scores(logits: Floats, background: bool) -> Floats:
    return softmax(logits)[:, :-1] if background else sigmoid(logits)


def _names(trial: Outputs, declared: Declared) -> tuple[str, str]:
    if declared.outputs:
        return declared.outputs["logits"], declared.outputs["boxes"]
    boxes = [name for name, array in trial.items() if array.ndim == 3 and array.shape[2] == 4]
    others = [name for name in trial if name not in boxes]
    if len(boxes) != 1 or len(others) != 1:
        raise Misfit(
            "there should be two outputs, one with 4 columns and one with the classes; otherwise the manifest's "
            'outputs must say which are which, as {"logits": ..., "boxes": ...}'
        )
    return others[0], boxes[0]
