"""Odds that a row is a planted error rather than one of the rows as they came, learned fold by fold.

Gradient boosting tells the rows as they came (kind 0) from planted errors (kinds 1 and up). Some rows as they came are
errors themselves, and nobody knows which. So what is learned is not taken for a probability but for the ratio ::

    odds_k(x) = density of planted errors of kind k at x / density of the rows as they came at x

If a share ``pi_k`` of the rows as they came are errors of kind k that look like planted ones, the probability that
the row x is one of them is ``pi_k * odds_k(x)`` (learning from positive and unlabelled examples, Elkan and Noto, KDD
2008). It cannot exceed 1, and where errors are unmistakable nothing else lies near, so ``pi_k`` is about 1 over the
odds of planted errors that are easily told. That is how the share is estimated: from the median of the planted rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.scorers.boosted_trees import BoostedTrees

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ErrorOdds:
    """One model per fold, which has not seen that fold, and the shares of errors.

    Attributes:
        models: one per fold; None where there was nothing to learn from: its odds are 0.
        kinds: K, kind 0 included.
        counts: (K,) float64, rows of each kind that were learned from.
        share: (K,) float64, the estimated share of each kind among the rows as they came; 0 for kind 0.
    """

    models: tuple[BoostedTrees | None, ...]
    kinds: int
    counts: Floats
    share: Floats

    def probabilities(self, columns: Floats, fold: Ints) -> Floats:
        """(N, K) float64 in [0, 1]: of each kind of error; column 0 is 0, and a row sums to at most 1."""
        chances = self._odds(columns, fold) * self.share
        return np.asarray(chances / np.maximum(1.0, chances.sum(axis=1, keepdims=True)))

    def _odds(self, columns: Floats, fold: Ints) -> Floats:
        odds = np.zeros((len(columns), self.kinds))
        for k, model in enumerate(self.models):
            rows = np.flatnonzero(fold == k)
            if model is None or not rows.size:
                continue
            chances = model.probabilities(columns[rows], self.kinds)
            odds[rows] = chances / np.maximum(chances[:, :1], 1e-9) * self.counts[0] / np.maximum(self.counts, 1.0)
        odds[:, 0] = 0.0
        return odds


def learn(columns: Floats, kind: Ints, fold: Ints, folds: int, kinds: int, rising: dict[int, int]) -> ErrorOdds:
    """Fit one model per fold on the rows of the other folds.

    Args:
        columns: (N, F) float64, NaN where there is no number.
        kind: (N,) int64, 0 for rows as they came.
        fold: (N,) int64 in ``[0, folds)``; what belongs together has one fold.
        kinds: K, kind 0 included.
        rising: columns that may only raise (1) or lower (-1) the odds; only for two kinds.
    """
    counts = np.bincount(kind, minlength=kinds).astype(np.float64)
    order = [rising.get(column, 0) for column in range(columns.shape[1])] if rising else None
    models = tuple(BoostedTrees.fit(columns[fold != k], kind[fold != k], order) for k in range(folds))
    unscaled = ErrorOdds(models, kinds, counts, np.ones(kinds))
    odds = unscaled._odds(columns, fold)
    share = np.zeros(kinds)
    for k in range(1, kinds):
        own = odds[kind == k, k]
        easy = float(np.median(own)) if len(own) else 0.0
        share[k] = min(1.0, 1 / easy) if easy > 0 else 0.0
    return ErrorOdds(models, kinds, counts, share)
