"""What a model says about boxes that others drew: the answers to a question, not its own detections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Probes:
    """One row per given box; NaN in all columns where the model was not asked, or could not answer.

    Attributes:
        probabilities: (N, C + 1) float64 in [0, 1], background first, then the classes: of a workload in the order of
            its label set, of a model in the order of its ``classes``. A row sums to 1.
        xyxy: (N, 4) float64 pixels, half-open: where the model would draw the object.
    """

    probabilities: Floats
    xyxy: Floats

    @classmethod
    def unasked(cls, rows: int, classes: int) -> Probes:
        return cls(np.full((rows, classes + 1), np.nan), np.full((rows, 4), np.nan))

    def rows(self, keep: npt.NDArray[np.int64] | slice) -> Probes:
        return Probes(self.probabilities[keep], self.xyxy[keep])
