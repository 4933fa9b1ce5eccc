"""Figures about findings and labels: confusion, rates with their uncertainty, histograms, average precision."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bridge.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Two-sided normal quantile of 95 percent.
Z_95 = 1.959963984540054


def confusion_matrix(given: Ints, predicted: Ints, classes: int) -> Ints:
    """How often each pair of classes met.

    Args:
        given, predicted: (N,) int64 class indices of matched objects, in ``[0, classes)``; -1 where an object has no
            partner.

    Returns:
        (classes + 1, classes + 1) int64: rows are given, columns predicted, the last of each is "no partner".
    """
    for name, values in (("given", given), ("predicted", predicted)):
        if values.size and not (values.min() >= -1 and values.max() < classes):
            raise DataError(f"{name} has the class {values.min()} or {values.max()}", expected=f"-1 to {classes - 1}")
    side = classes + 1
    cells = np.where(given < 0, classes, given) * side + np.where(predicted < 0, classes, predicted)
    return np.bincount(cells, minlength=side * side).reshape(side, side).astype(np.int64)


def wilson_interval(hits: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Bounds of a rate of which ``hits`` of ``total`` were seen (Wilson's score interval, 1927).

    Args:
        z: two-sided normal quantile; the default gives 95 percent.

    Returns:
        ``low, high`` in [0, 1]; ``0, 1`` when nothing was seen.

    Raises:
        DataError: not ``0 <= hits <= total``.
    """
    if not 0 <= hits <= total:
        raise DataError(f"{hits} hits of {total}", expected="0 <= hits <= total")
    if not total:
        return 0.0, 1.0
    rate, z2 = hits / total, z * z
    middle = (rate + z2 / (2 * total)) / (1 + z2 / total)
    spread = z / (1 + z2 / total) * math.sqrt(rate * (1 - rate) / total + z2 / (4 * total * total))
    # At both ends the bound is exactly the end; rounding must not say otherwise.
    low = 0.0 if hits == 0 else max(0.0, middle - spread)
    high = 1.0 if hits == total else min(1.0, middle + spread)
    return low, high


def histogram(values: Floats, bins: int = 10) -> Ints:
    """(bins,) int64: how many of ``values`` in [0, 1] fall into each of ``bins`` equal parts; 1 counts in the last.

    Values that are no number, or outside of [0, 1], are not counted.
    """
    good = values[(values >= 0) & (values <= 1)]
    place = np.minimum((good * bins).astype(np.int64), bins - 1)
    return np.bincount(place, minlength=bins).astype(np.int64)


def average_precision(hits: npt.NDArray[np.bool_], total: int) -> float:
    """Mean over all ``total`` true errors of the precision at the rank where it was found; 0 for those never found.

    Args:
        hits: (N,) bool, best-ranked first: whether this finding is a true error not counted before.
        total: number of true errors, found or not.

    Returns:
        In [0, 1]; 0 when there is nothing to find.

    Raises:
        DataError: more hits than errors.
    """
    found = np.flatnonzero(hits)
    if len(found) > total:
        raise DataError(f"{len(found)} hits but only {total} errors", expected="each error counted once")
    if not total:
        return 0.0
    return float((np.arange(1, len(found) + 1) / (found + 1)).sum() / total)
