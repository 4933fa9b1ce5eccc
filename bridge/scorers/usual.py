"""What is usual for a class: one that a model hardly finds, or outlines loosely, must not flood the list."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: The share of labels that are wrong in one way, before anything is known.
ERRORS = 0.05
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


def telling(chance: Floats, label: Ints) -> Floats:
    """(N,) float64 in (0, 1]: how much a suspicion tells, from how many of the class are as suspect.

    It is the chance of an error where ``ERRORS`` of the labels have one, all of which look as bad as this, and of the
    others a share ``q`` does, ``ERRORS / (ERRORS + q)``. A model that cuts every second object in two says little.

    Args:
        chance: (N,) float64 in [0, 1], one for each label.
        label: (N,) int64, index of its class.
    """
    out = np.ones(len(chance))
    for kind in np.unique(label).tolist():
        rows = np.flatnonzero(label == kind)
        as_high = len(rows) - np.searchsorted(np.sort(chance[rows]), chance[rows]) - 1
        out[rows] = ERRORS / (ERRORS + as_high / (len(rows) + PRIOR_LABELS))
    return out


def _drawn_median(values: Floats, towards: float) -> float:
    n = len(values)
    return float((n * (np.median(values) if n else 0.0) + PRIOR_LABELS * towards) / (n + PRIOR_LABELS))
