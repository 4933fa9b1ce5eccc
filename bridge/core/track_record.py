"""What verdicts teach about a scorer: the probability that each finding is a real error, and what the next ones hold.

A scorer's score is a probability of its own making. Verdicts show by how much its log odds are off: the *offset*. It
depends on scorer and error type, on the band of the score (verdicts come mostly from the top of the list, and what
holds there need not hold below) and on the class. Offsets are learned by maximum a posteriori under a Gaussian Markov
random field: each is drawn to that of the next band, a class's to that of its error type, and the error type's to 0,
which is to believe the scorer. So few verdicts change little, and none nothing.

All ties are between pairs of offsets (the precision is an M-matrix), so that a verdict never counts the other way
elsewhere: an accept lowers no probability, a rejection raises none. What is not known is told by Laplace's
approximation (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 3.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.metrics import Z_95
from bridge.core.sampling import Estimate
from bridge.errors import DataError

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Edges between the bands, in log odds: scores of .05, .12, .27, .50, .73, .88 and .95.
_EDGES = np.arange(-3.0, 4.0)
BANDS = len(_EDGES) + 1
#: Log odds beyond it are taken as it: a scorer that is surer of itself must be corrigible too.
_SUREST = math.log(0.99 / 0.01)
#: Strength of the ties, as inverse variances of differences in log odds: an error type's offset to 0, and to that of
#: the next band; a class's to its error type's, and to that of the next band.
_TO_SCORER, _TYPE_BANDS, _TO_TYPE, _CLASS_BANDS = 0.2, 1.0, 0.6, 4.0
#: The strength of the ties is itself a guess, so that what is not known of the offsets counts double, as a variance.
_DOUBT = 2.0


@dataclass(frozen=True, slots=True)
class Judged:
    """Findings, with what reviewers said of them.

    Attributes:
        kind: (N,) int64, numbers of scorer and error type.
        label: (N,) int64, numbers of the class.
        score: (N,) float64 in [0, 1], the scorer's.
        verdict: (N,) int64: 1 a real error (accepted or edited), 0 none, -1 nobody has said.
    """

    kind: Ints
    label: Ints
    score: Floats
    verdict: Ints

    def __post_init__(self) -> None:
        if len({len(self.kind), len(self.label), len(self.score), len(self.verdict)}) != 1:
            raise DataError("the columns of the judged findings differ in length", expected="one row for each finding")
        if not ((self.score >= 0) & (self.score <= 1)).all():
            raise DataError("a score is no probability", expected="numbers in [0, 1]")


def band_of(score: Floats) -> Ints:
    """(N,) int64 in [0, BANDS): the band of each score in [0, 1]."""
    return np.searchsorted(_EDGES, _log_odds(score), side="right").astype(np.int64)


class TrackRecord:
    """What the verdicts on a table of findings say about all of them.

    Attributes:
        probability: (N,) float64 in [0, 1]: that it is a real error; the score where nothing was learned.
    """

    def __init__(self, judged: Judged) -> None:
        own, band = _log_odds(judged.score), band_of(judged.score)
        self._kind = judged.kind
        self._fields: dict[int, _Field] = {}
        self._cell = np.zeros(len(band), np.int64)
        self._odds = own.copy()
        for kind in np.unique(judged.kind).tolist():
            rows = np.flatnonzero(judged.kind == kind)
            labels, label = np.unique(judged.label[rows], return_inverse=True)
            self._cell[rows] = label * BANDS + band[rows]
            known = rows[judged.verdict[rows] >= 0]
            field = _Field(len(labels), self._cell[known], own[known], judged.verdict[known] == 1)
            self._fields[kind] = field
            self._odds[rows] += field.offset[self._cell[rows]]
        # As a change of the score, so that it is the very score where there is none, also beyond the surest.
        self.probability = np.clip(judged.score + (_chance(self._odds) - _chance(own)), 0.0, 1.0)

    def expect(self, rows: Ints) -> Estimate:
        """How many real errors some findings of the table hold; bounds that hold it in 95 cases of 100.

        They allow for luck, and for what is not known of the offsets, which findings of a kind share.
        """
        odds, cell = self._odds[rows], self._cell[rows]
        chance = _chance(odds)
        steep = chance * (1 - chance)
        together, variance = np.zeros(len(rows)), 0.0
        for kind, field in self._fields.items():
            mine = np.flatnonzero(self._kind[rows] == kind)
            weight = _summed(cell[mine], steep[mine], field.offset)
            spread = field.spread(weight)
            variance += float(weight @ spread)
            together[mine] = spread[cell[mine]]
        # A sure scorer may be wrong by more than its small variance tells, so both ends are looked up on the curve.
        lean = Z_95 * math.sqrt(_DOUBT / max(variance, 1e-12)) * together
        luck = Z_95 * math.sqrt(float(steep.sum()))
        below = math.hypot(luck, float((chance - _chance(odds - lean)).sum()))
        above = math.hypot(luck, float((_chance(odds + lean) - chance).sum()))
        value = float(self.probability[rows].sum())
        return Estimate(value, max(0.0, value - below), min(float(len(rows)), value + above))


class _Field:
    """The offsets of one scorer and error type: (BANDS,) common to all classes, and (labels, BANDS) of each.

    Attributes:
        offset: (labels * BANDS,) float64, the most likely ones of the classes.
    """

    def __init__(self, labels: int, cell: Ints, odds: Floats, real: Bools) -> None:
        """``cell``, ``odds`` and ``real`` are (V,), of the findings with a verdict."""
        self._common_prior = _chain(_TO_SCORER, _TYPE_BANDS)
        self._own_prior = _chain(_TO_TYPE, _CLASS_BANDS)
        self._curvature = np.zeros((labels, BANDS))
        common, own = np.zeros(BANDS), np.zeros((labels, BANDS))
        if len(cell):
            own = self._learn(common, own, cell, odds, real)
        self.offset = own.ravel()

    def spread(self, weight: Floats) -> Floats:
        """(labels * BANDS,): the covariance of each offset with the sum of all, weighted by ``weight`` (likewise)."""
        _, own = self._solve(np.zeros(BANDS), weight.reshape(self._curvature.shape))
        return own.ravel()

    def _learn(self, common: Floats, own: Floats, cell: Ints, odds: Floats, real: Bools) -> Floats:
        """Newton's method; the posterior has one mode, and a step that would leave it behind is halved."""
        loss = self._loss(common, own, cell, odds, real)
        while True:
            chance = _chance(odds + own.ravel()[cell])
            surprise = _summed(cell, real - chance, own)
            self._curvature = _summed(cell, chance * (1 - chance), own)
            to_common, to_own = self._solve(
                _TO_TYPE * (own - common).sum(axis=0) - self._common_prior @ common,
                surprise - own @ self._own_prior + _TO_TYPE * common,
            )
            step = 1.0
            while (after := self._loss(common + step * to_common, own + step * to_own, cell, odds, real)) > loss:
                step /= 2
                if step < 1e-9:  # nothing but rounding is left
                    return own
            common, own = common + step * to_common, own + step * to_own
            if loss - after < 1e-12:
                return own
            loss = after

    def _loss(self, common: Floats, own: Floats, cell: Ints, odds: Floats, real: Bools) -> float:
        """Minus the log of the posterior, but for a constant."""
        against = np.where(real, -1.0, 1.0) * (odds + own.ravel()[cell])
        return float(
            np.logaddexp(0.0, against).sum()
            + common @ self._common_prior @ common / 2
            + _TO_TYPE * ((own - common) ** 2).sum() / 2
            + _CLASS_BANDS * (np.diff(own, axis=1) ** 2).sum() / 2
        )

    def _solve(self, common: Floats, own: Floats) -> tuple[Floats, Floats]:
        """The posterior's covariance times a vector. Classes are tied only through their type: a block for each."""
        inverse = np.linalg.inv(self._own_prior + self._curvature[:, :, None] * np.eye(BANDS))
        alone = np.einsum("gij,gj->gi", inverse, own)
        # Schur complement of all blocks in the type's own.
        left = self._common_prior + _TO_TYPE * np.eye(BANDS) * len(own) - _TO_TYPE**2 * inverse.sum(axis=0)
        solved = np.linalg.solve(left, common + _TO_TYPE * alone.sum(axis=0))
        return solved, alone + _TO_TYPE * (inverse @ solved)


def _chain(to_parent: float, to_next: float) -> Floats:
    """(BANDS, BANDS): the precision of bands, each tied to its parent and to the next."""
    steps = np.diff(np.eye(BANDS), axis=0)
    precision: Floats = to_parent * np.eye(BANDS) + to_next * steps.T @ steps
    return precision


def _summed(cell: Ints, value: Floats, like: Floats) -> Floats:
    """The sum of the values of each cell, in the shape of ``like``."""
    sums = np.zeros(like.size)
    np.add.at(sums, cell, value)
    return sums.reshape(like.shape)


def _log_odds(score: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        odds: Floats = np.clip(np.log(score) - np.log1p(-score), -_SUREST, _SUREST)
    return odds


def _chance(log_odds: Floats) -> Floats:
    chance: Floats = 1.0 / (1.0 + np.exp(-log_odds))
    return chance
