"""Two boxes on one object: the less confident one goes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def suppress(xyxy: Floats, label: Ints, confidence: Floats, iou: float) -> Ints:
    """Non-maximum suppression within each class.

    From the most confident box down, each that is still there removes those of its class that overlap it by more than
    ``iou``. Takes time in the number of boxes times the number kept: callers bound both.

    Args:
        xyxy: (N, 4) float64 finite; label: (N,) int64; confidence: (N,) float64.

    Returns:
        (K,) int64: rows that stay, in falling confidence; rows that are equal in it in their order.
    """
    order = np.argsort(-confidence, kind="stable")
    boxes, labels = xyxy[order], label[order]
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
    left = np.ones(len(order), dtype=np.bool_)
    for row in range(len(order)):
        if not left[row]:
            continue
        rest = row + 1 + np.flatnonzero(left[row + 1 :] & (labels[row + 1 :] == labels[row]))
        if not rest.size:
            continue
        low, high = np.maximum(boxes[rest, :2], boxes[row, :2]), np.minimum(boxes[rest, 2:], boxes[row, 2:])
        shared = np.prod(np.maximum(high - low, 0.0), axis=1)
        # Written without a division, so that boxes without area are no special case.
        left[rest[shared > iou * (area[rest] + area[row] - shared)]] = False
    return order[left].astype(np.int64)
