"""Gradient-boosted trees: learned by scikit-learn, applied to many rows here.

A small tree is applied without walking it. Its leaves are counted from the left, a bit for each; every test that a row
passes rules out the leaves to the left of it, whichever node it stands at, and the row ends in the first leaf that is
not ruled out (Lucchese et al., "QuickScorer", SIGIR 2015). So each test is a few operations on whole columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_LEAVES = 8
#: (256,) int64: the first leaf that is not ruled out, by the bits of those that are.
_FIRST_LEFT = np.array([(~gone & (gone + 1)).bit_length() - 1 for gone in range(1 << _LEAVES)])
#: With fewer rows than this, twice as many steps of half the size and finer bins find more; with more they only take
#: longer.
_FEW = 10_000
#: Columns are cut to this size: trees need no more, and infinity is refused. No number is the lowest of all.
_LARGEST = 1e9
#: Rows in one go: what a tree reads should stay in the processor's cache.
_ROWS = 1 << 14


@dataclass(frozen=True, slots=True)
class _Tree:
    """One tree, which adds to the score of the class ``about``.

    Attributes:
        tests: column, threshold, and the leaves (bits) ruled out by a number above it; no number is above nothing.
        values: (256,) float64, the value of the first leaf left, by the leaves ruled out.
    """

    about: int
    tests: tuple[tuple[int, float, np.uint8], ...]
    values: Floats

    @classmethod
    def of(cls, nodes: Any, about: int) -> _Tree:
        tests: list[tuple[int, float, np.uint8]] = []
        leaves: list[float] = []

        def walk(at: int) -> int:
            node = nodes[at]
            if node["is_leaf"]:
                leaves.append(float(node["value"]))
                return 1 << (len(leaves) - 1)
            left, right = walk(int(node["left"])), walk(int(node["right"]))
            tests.append((int(node["feature_idx"]), float(node["num_threshold"]), np.uint8(left)))
            return left | right

        walk(0)
        return cls(about, tuple(tests), np.array(leaves)[np.minimum(_FIRST_LEFT, len(leaves) - 1)])


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """A classifier.

    Attributes:
        classes: (C,) int64, at least two.
        start: the scores before any tree: one for each class, or with two classes one, the log odds of the second.
    """

    classes: Ints
    start: Floats
    trees: tuple[_Tree, ...]

    @classmethod
    def fit(cls, columns: Floats, kind: Ints, rising: list[int] | None) -> BoostedTrees | None:
        """Trees that tell kinds apart; None where there is only one.

        Args:
            columns: (N, F) float64, NaN where there is no number.
            kind: (N,) int64.
            rising: for each column whether it may only raise (1) or lower (-1) the odds of the second kind, or do
                both (0); only for two kinds.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier

        if len(np.unique(kind)) < 2:
            return None
        model = HistGradientBoostingClassifier(**parameters(len(kind)), monotonic_cst=rising)
        tamed = np.clip(np.nan_to_num(columns, nan=-_LARGEST), -_LARGEST, _LARGEST)
        # Threads would cost more than they bring on tables this small, above all beside other work.
        with _threads().limit(limits=1, user_api="openmp"):
            model.fit(tamed, kind)
        # What scikit-learn itself walks; a test holds the two against each other.
        trees = (_Tree.of(tree.nodes, about) for step in model._predictors for about, tree in enumerate(step))
        return cls(model.classes_, model._baseline_prediction.ravel(), tuple(trees))

    def probabilities(self, columns: Floats, kinds: int) -> Floats:
        """(N, kinds) float64 for columns (N, F), rows that sum to 1; kinds that were never seen have 0."""
        out = np.zeros((len(columns), kinds))
        for first in range(0, len(columns), _ROWS):
            scores = self._scores(np.ascontiguousarray(columns[first : first + _ROWS].T))
            if len(scores) == 1:
                scores = np.vstack([np.zeros_like(scores), scores])
            odds = np.exp(scores - scores.max(axis=0))
            out[first : first + _ROWS, self.classes] = (odds / odds.sum(axis=0)).T
        return out

    def _scores(self, columns: Floats) -> Floats:
        scores = np.repeat(self.start[:, None], columns.shape[1], axis=1)
        for tree in self.trees:
            gone = np.zeros(columns.shape[1], np.uint8)
            for column, threshold, leaves in tree.tests:
                gone |= (columns[column] > threshold).view(np.uint8) * leaves
            scores[tree.about] += tree.values.take(gone)
        return scores


def parameters(rows: int) -> dict[str, Any]:
    """What scikit-learn is asked for, to learn from so many rows."""
    steps, bins = (30, 64) if rows < _FEW else (15, 32)
    size = {"max_iter": steps, "learning_rate": 3 / steps, "max_leaf_nodes": _LEAVES, "max_bins": bins}
    return {**size, "l2_regularization": 5.0, "early_stopping": False, "random_state": 0}


@cache
def _threads() -> Any:
    """To find the libraries that start threads takes as long as a few trees."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
