"""Two boxes on one object: the less confident one goes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


#: Boxes compared with the rest of their class at a time; those they remove are not compared again.
_BLOCK = 64


def suppress(xyxy: Floats, label: Ints, confidence: Floats, iou: float) -> Ints:
    """Non-maximum suppression within each class.

    From the most confident box down, each that is still there removes those of its class that overlap it by more than
    ``iou``.

    Args:
        xyxy: (N, 4) float64 finite; label: (N,) int64; confidence: (N,) float64.

    Returns:
        (K,) int64: rows that stay, in falling confidence; rows that are equal in it in their order.
    """
    order = np.argsort(-confidence, kind="stable")
    stays = np.zeros(len(order), dtype=np.bool_)
    for number in np.unique(label):
        left = np.flatnonzero(label[order] == number)
        while left.size:
            over = _overlap(xyxy[order[left[:_BLOCK]]], xyxy[order[left]], iou)
            gone = np.zeros(len(left), dtype=np.bool_)
            for row, removes in enumerate(over):
                if not gone[row]:
                    stays[left[row]] = True
                    gone |= removes
            left = left[_BLOCK:][~gone[_BLOCK:]]
    return order[stays].astype(np.int64)


def _overlap(a: Floats, b: Floats, iou: float) -> npt.NDArray[np.bool_]:
    """(N, M): whether ``a[i]`` and ``b[j]`` overlap by more than ``iou``."""
    shared = np.ones((len(a), len(b)))
    for low, high in ((0, 2), (1, 3)):
        reach = np.minimum(a[:, None, high], b[None, :, high]) - np.maximum(a[:, None, low], b[None, :, low])
        shared *= np.maximum(reach, 0.0)
    area_a, area_b = (np.prod(np.maximum(x[:, 2:] - x[:, :2], 0.0), axis=1) for x in (a, b))
    # Written without a division, so that boxes without area are no special case.
    return np.asarray(shared > iou * (area_a[:, None] + area_b[None, :] - shared))
