"""Objects that somebody drew twice: two boxes of one class that cover almost the same pixels.

A model cannot tell: it backs both. How far two boxes cover each other can, and nothing needs to be learned for it::

    doubled(g) = max(0, 2 * IoU(g, g') - 1) ** 2,   g' being the label of g's class that overlaps it most
                                                    among those that the model backs better than g

So only one of two is held to be too many, and neighbours in a crowd (IoU 0.6) stay out of the list: 0.04. Boxes that
are equal are a fact, which :mod:`bridge.scorers.data_checks` states without a model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import iou_matrix
from bridge.core.objects import ObjectTable
from bridge.scorers.box_evidence import Runs, overlaps

Floats = npt.NDArray[np.float64]


def doubled(given: ObjectTable, backing: Floats, chunk: int) -> Floats:
    """How likely each label is the worse one of two that show one object.

    Args:
        given: the labels of whole units, grouped by unit.
        backing: (N,) float64, how well the model backs each; of equal ones the first is the better.
        chunk: most pairs to look at in one go.

    Returns:
        (N,) float64 in [0, 1].
    """
    a, b, iou = overlaps(given, given, chunk)
    better = (backing[b] > backing[a]) | ((backing[b] == backing[a]) & (b < a))
    rivals = np.flatnonzero(better & (given.label[a] == given.label[b]) & (iou < 1))
    return suspicion(Runs(a[rivals], len(given)).highest(iou[rivals]))


def suspicion(iou: Floats | float) -> Floats:
    """How likely two labels of one class that overlap so far show one object."""
    return np.asarray(np.maximum(0.0, 2 * np.asarray(iou) - 1) ** 2)


def twins(given: ObjectTable, row: int) -> tuple[list[int], float]:
    """The labels of the same class and unit that overlap label ``row`` most, and their IoU; ([], 0.0) without any."""
    first, end = np.searchsorted(given.unit, (given.unit[row], given.unit[row] + 1))
    here = np.arange(first, end)
    others = here[(here != row) & (given.label[here] == given.label[row])]
    iou = iou_matrix(given.xyxy[[row]], given.xyxy[others], given.rotation[[row]], given.rotation[others])[0]
    most = float(iou.max(initial=0.0))
    return others[iou == most].tolist() if most > 0 else [], most
