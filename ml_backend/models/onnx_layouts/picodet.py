"""PicoDet, exported without post-processing: two outputs per stride.

First one output per stride with class probabilities, (B, cells, C), then one per stride with distances from the
centre of the cell to the left, top, right and bottom of the object, (B, cells, 4 * bins): for each side the logits of
a distribution over 0, 1 ... bins - 1 strides, of which the mean counts (generalised focal loss, Li et al.,
arXiv:2006.04388). Yu et al., PP-PicoDet, arXiv:2111.00902.
"""

from __future__ import annotations

import math

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
    check_probabilities,
    softmax,
)

PREPROCESSING = Preprocessing(resize="stretch", mean=IMAGENET_MEAN, std=IMAGENET_STD)
NMS_IOU = 0.6
OUTPUT_ROLES: tuple[str, ...] = ()

_STRIDES = (4, 8, 16, 32, 64, 128)


def fit(trial: Outputs, declared: Declared) -> Decode:
    """See :mod:`ml_backend.models.onnx_layouts`."""
    names = list(trial)
    if len(names) < 2 or len(names) % 2:
        raise Misfit(f"there are {len(names)} outputs, not two per stride")
    half = len(names) // 2
    levels = [_level(trial, *pair, declared) for pair in zip(names[:half], names[half:], strict=True)]

    def decode(outputs: Outputs) -> list[Candidates]:
        images = len(outputs[names[0]])
        return [_decode(outputs, image, levels) for image in range(images)]

    return decode


def _level(trial: Outputs, scores: str, sides: str, declared: Declared) -> tuple[str, str, Floats, int]:
    """Names of the two outputs, centres of the cells (N, 2) in pixels, and the stride."""
    shapes = trial[scores].shape, trial[sides].shape
    if any(len(shape) != 3 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise Misfit(f"{scores!r} and {sides!r} should have three dimensions and as many rows as each other")
    if shapes[0][2] != declared.classes:
        raise Misfit(f"{scores!r} should have {declared.classes} columns, one per class")
    if shapes[1][2] % 4 or shapes[1][2] < 8:
        raise Misfit(f"{sides!r} should have 4 x bins columns, with 2 bins or more")
    check_probabilities(trial[scores], scores)
    for stride in _STRIDES:
        rows, columns = math.ceil(declared.height / stride), math.ceil(declared.width / stride)
        if rows * columns == shapes[0][1]:
            y, x = np.indices((rows, columns)).reshape(2, -1)
            centre: Floats = (np.stack([x, y], axis=1).astype(np.float64) + 0.5) * stride
            return scores, sides, centre, stride
    raise Misfit(
        f"the {shapes[0][1]} rows of {scores!r} are the cells of no stride ({', '.join(map(str, _STRIDES))}) for an "
        f"input of {declared.width} x {declared.height}"
    )


def _decode(outputs: Outputs, image: int, levels: list[tuple[str, str, Floats, int]]) -> Candidates:
    found = []
    for scores, sides, centre, stride in levels:
        logits = outputs[sides][image].astype(np.float64)
        shares = softmax(logits.reshape(len(logits), 4, -1))
        distance = shares @ np.arange(shares.shape[2]) * stride
        xyxy = np.hstack([centre - distance[:, :2], centre + distance[:, 2:]])
        found.append(best_class(outputs[scores][image].astype(np.float64), xyxy))
    return Candidates(
        np.concatenate([one.xyxy for one in found]),
        np.concatenate([one.label for one in found]),
        np.concatenate([one.confidence for one in found]),
    )
