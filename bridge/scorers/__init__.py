"""Scorers: who suspects what, and how strongly.

A Scorer looks at a :class:`~bridge.core.objects.Workload` (what people gave, what a model predicted) and answers
with :class:`Suspects`, flat columns that are cheap for millions of rows. Only the rows that a person will see are
turned into findings, by :func:`bridge.scorers.explain.findings`.

A Scorer MUST be pure and deterministic; MUST give every score in [0, 1], higher meaning more likely an error;
MUST give the same answer for an image whatever other images are in the workload, unless its docstring says how it
learns from the whole set; MUST NOT need one-to-one matches, nor any order of the rows; MUST give at most one row for
each (error type, annotation) and one for each missing object. It MUST NOT raise for odd data: rows that cannot be
judged are left out.

What is no box has a :class:`RecordReview`: it sees whole records and answers with findings. All of the above holds for
it too, except that it names objects by their ids instead of by rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import LabelSet, Record
from bridge.core.findings import REVIEWED_TYPES, Finding
from bridge.core.objects import Workload


@dataclass(frozen=True, slots=True)
class Suspects:
    """Suspected errors, one row each.

    Attributes:
        error: (M,) int64, index into :data:`bridge.core.findings.REVIEWED_TYPES`.
        given: (M,) int64, row of ``workload.given``; -1 for a missing object.
        predicted: (M,) int64, row of ``workload.predicted`` that speaks for the fix; -1 when none does.
        score: (M,) float64 in [0, 1].
        iou: (M,) float64 in [0, 1], between that annotation and that prediction; 0 when either is absent.
    """

    error: npt.NDArray[np.int64]
    given: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    iou: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.error)

    def rows(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Suspects:
        return Suspects(self.error[keep], self.given[keep], self.predicted[keep], self.score[keep], self.iou[keep])


ERROR_CODES = {error: code for code, error in enumerate(REVIEWED_TYPES)}


class Scorer(Protocol):
    """One kind of review; see the module's text for what it MUST do."""

    @property
    def name(self) -> str:
        """Name and version, stored with every finding."""

    def score(self, workload: Workload) -> Suspects:
        """Judge every given object, and every prediction nobody drew."""


class RecordReview(Protocol):
    """One kind of review of anything but boxes; see the module's text for what it MUST do."""

    @property
    def name(self) -> str:
        """Name and version, stored with every finding."""

    def find(self, target: str, labels: LabelSet, records: Sequence[Record]) -> list[Finding]:
        """Judge what these records hold of its kind; nothing where they hold none."""
