"""The YOLOv8 family's plain export (without built-in suppression), which its later versions share.

One output (B, 4 + C, N): per column ``centre x, centre y, width, height`` in pixels of the input, then C class
probabilities.
"""

from __future__ import annotations

import numpy as np

from ml_backend.models.onnx_input import Preprocessing
from ml_backend.models.onnx_layouts.layout import (
    Candidates,
    Declared,
    Decode,
    Misfit,
    Outputs,
    best_class,
    centre_to_corners,
    check_probabilities,
    only_output,
)

PREPROCESSING = Preprocessing(resize="letterbox_centred", fill=114)
NMS_IOU = 0.7
OUTPUT_ROLES: tuple[str, ...] = ()


def fit(trial: Outputs, declared: Declared) -> Decode:
    """See :mod:`ml_backend.models.onnx_layouts`."""
    name, raw = only_output(trial)
    if raw.ndim != 3 or raw.shape[1] != 4 + declared.classes:
        raise Misfit(f"{name!r} should have the shape (images, 4 + {declared.classes} classes, boxes)")
    check_probabilities(raw[:, 4:], name)

    def decode(outputs: Outputs) -> list[Candidates]:
        return [
            best_class(rows[:, 4:], centre_to_corners(rows[:, :4]))
            for rows in outputs[name].transpose(0, 2, 1).astype(np.float64)
        ]

    return decode
