"""What probes add: the model's answer about each given box, read with what the first opinion taught.

Probes exist for the given boxes only, so nothing can be planted to learn from. Instead, a second model learns to tell
from the probes alone what the first opinion holds (which did not see them). What the first one gets wrong by chance
averages out, so the second knows more than its teacher where the two look at different things (co-training, Blum and
Mitchell 1998). The two are then combined as if they were nearly independent::

    P(kind) ~ prior * (first / prior) ** 0.7 * (second / prior) ** 0.7
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import pair_iou
from bridge.core.objects import ObjectTable
from bridge.core.probes import Probes
from bridge.scorers.boosted_trees import BoostedTrees

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: How far each of the two opinions counts; 1 would take them for independent.
_WEIGHT = 0.7
#: No opinion is surer than this that something is not so.
_LEAST = 1e-5


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """One model per fold, and ``prior`` (K,) float64, how common each kind is by the first opinion."""

    models: tuple[BoostedTrees | None, ...]
    prior: Floats

    @classmethod
    def learn(
        cls, given: ObjectTable, probes: Probes, first: Floats, fold: Ints, folds: int, rng: np.random.Generator
    ) -> SecondOpinion:
        """Fit on the rows that were probed.

        Args:
            first: (N, K) float64, the first opinion: column 0 is that nothing is wrong, and a row sums to 1.
            fold: (N,) int64, of each row's image.
        """
        drawn = rng.random((len(first), 1))
        kind = np.minimum((np.cumsum(first, axis=1) <= drawn).sum(axis=1), first.shape[1] - 1)
        asked = np.flatnonzero(_is_asked(probes))
        columns = _columns(given.rows(asked), probes.rows(asked))
        fold, kind, first = fold[asked], kind[asked], first[asked]
        prior = first.mean(axis=0) if len(first) else np.ones(first.shape[1])
        models = tuple(BoostedTrees.fit(columns[fold != k], kind[fold != k], None) for k in range(folds))
        return cls(models, np.maximum(prior, _LEAST))

    def combined(self, given: ObjectTable, probes: Probes, first: Floats, fold: Ints) -> Floats:
        """(N, K) float64: the first opinion with the second; the first alone where nothing was asked."""
        out = first.copy()
        asked = _is_asked(probes)
        for k, model in enumerate(self.models):
            rows = np.flatnonzero(asked & (fold == k))
            if model is None or not rows.size:
                continue
            second = model.probabilities(_columns(given.rows(rows), probes.rows(rows)), first.shape[1])
            log = sum(_WEIGHT * np.log(np.maximum(p, _LEAST) / self.prior) for p in (first[rows], second))
            log = log + np.log(self.prior)
            chances = np.exp(log - log.max(axis=1, keepdims=True))
            out[rows] = chances / chances.sum(axis=1, keepdims=True)
        return out


def _is_asked(probes: Probes) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(probes.probabilities).all(axis=1) & np.isfinite(probes.xyxy).all(axis=1))


def _columns(given: ObjectTable, probes: Probes) -> Floats:
    """(N, 8): background, own class, best other class, IoU of the regressed box, how far each edge moves."""
    rows = np.arange(len(given))
    others = probes.probabilities[:, 1:].copy()
    own = others[rows, given.label]
    others[rows, given.label] = 0.0
    side = np.tile(np.maximum(given.xyxy[:, 2:] - given.xyxy[:, :2], 1e-9), 2)
    iou = pair_iou(probes.xyxy, given.xyxy)
    edges = np.abs(probes.xyxy - given.xyxy) / side
    best_other = others.max(axis=1, initial=0.0)
    return np.column_stack([probes.probabilities[:, 0], own, best_other, iou, edges])
