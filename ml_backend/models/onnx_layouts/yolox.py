"""YOLOX, exported without decoding: offsets to the cells of three grids (strides 8, 16 and 32).

One output (B, cells, 5 + C): per cell ``x, y`` (offset of the centre in cells), ``w, h`` (logarithm of the size in
cells), the probability of an object, and C class probabilities. Ge et al., YOLOX: Exceeding YOLO Series in 2021,
arXiv:2107.08430.
"""

from __future__ import annotations

import numpy as np

from ml_backend.models.onnx_input import Preprocessing
from ml_backend.models.onnx_layouts.layout import (
    Candidates,
    Declared,
    Decode,
    Floats,
    Misfit,
    Outputs,
    best_class,
    centre_to_corners,
    check_probabilities,
    only_output,
)

PREPROCESSING = Preprocessing(resize="letterbox", colour="bgr", range=255, fill=114)
NMS_IOU = 0.65
OUTPUT_ROLES: tuple[str, ...] = ()

_STRIDES = (8, 16, 32)
#: No network says that an object is e^20 cells wide: such numbers are sizes in pixels already.
_ABSURD_LOG_SIZE = 20.0


def fit(trial: Outputs, declared: Declared) -> Decode:
    """See :mod:`ml_backend.models.onnx_layouts`."""
    name, raw = only_output(trial)
    corner, stride = _cells(declared.width, declared.height)
    wanted = (len(corner), 5 + declared.classes)
    if raw.ndim != 3 or raw.shape[1:] != wanted:
        raise Misfit(
            f"{name!r} should have the shape (images, {wanted[0]}, {wanted[1]}): a row for each of the {wanted[0]} "
            f"cells of an input of {declared.width} x {declared.height}, and 5 + {declared.classes} classes"
        )
    check_probabilities(raw[..., 4:], name)
    if np.median(raw[..., 2:4]) > _ABSURD_LOG_SIZE:
        raise Misfit(f"the sizes in {name!r} are in pixels already: export without decoding (decode_in_inference off)")

    def decode(outputs: Outputs) -> list[Candidates]:
        return [_decode(image.astype(np.float64), corner, stride) for image in outputs[name]]

    return decode


def _decode(raw: Floats, corner: Floats, stride: Floats) -> Candidates:
    boxes = np.hstack([(raw[:, :2] + corner) * stride, np.exp(raw[:, 2:4]) * stride])
    return best_class(raw[:, 4:5] * raw[:, 5:], centre_to_corners(boxes))


def _cells(width: int, height: int) -> tuple[Floats, Floats]:
    """Column and row of each cell (N, 2), and its stride in pixels (N, 1), in the order of the output."""
    corners, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.indices((height // stride, width // stride)).reshape(2, -1)
        corners.append(np.stack([columns, rows], axis=1).astype(np.float64))
        strides.append(np.full((len(rows), 1), float(stride)))
    return np.concatenate(corners), np.concatenate(strides)
