"""What is usual for a class: one that a model hardly finds, or outlines loosely, must not flood the list."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: What is usual for a class is drawn towards what is usual for all, and that towards perfection, as if this many more
#: labels had been seen: with few labels the formulas are those of a perfect detector.
PRIOR_LABELS = 10


def usual(values: Floats, label: Ints, classes: int) -> Floats:
    """(C,) float64 in (0, 1]: the median of each class, drawn in as ``PRIOR_LABELS`` says.

    Args:
        values: (N,) float64 in [0, 1], one for each label.
        label: (N,) int64, index of its class.
    """
    overall = _drawn_median(values, towards=1.0)
    found = np.full(classes, overall)
    order = np.argsort(label, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        if rows.size:
            found[label[rows[0]]] = _drawn_median(values[rows], towards=overall)
    return found


def _drawn_median(values: Floats, towards: float) -> float:
    n = len(values)
    return float((n * (np.median(values) if n else 0.0) + PRIOR_LABELS * towards) / (n + PRIOR_LABELS))
