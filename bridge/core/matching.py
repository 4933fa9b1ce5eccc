"""One-to-one matching of objects, and the order that only content decides.

Law: of all pairs with a positive value, :func:`match_pairs` takes the one set in which no two share an object, and in
which every pair left out shares an object with a better pair that was taken. *Better* is: of higher value; of equal
value, the one whose given object, then whose predicted object, comes first in content order. There is exactly one such
set, so neither the order of rows and pairs nor what else is in the batch can change it, and an object far away cannot
either. (The greatest *sum* of values would let a chain of neighbours turn on a hair; peers match greedily too.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def content_rank(*columns: npt.NDArray[np.generic]) -> Ints:
    """The place of each row in the order of its columns, the first column weighing most.

    Args:
        columns: (N,) or (N, K) numeric arrays, as in ``content_rank(label, xyxy)``.

    Returns:
        (N,) int64, from 0; rows that are equal in every column have the same rank.
    """
    flat = [c[:, None] if c.ndim == 1 else c for c in columns]
    keys = [c[:, k] for c in flat for k in range(c.shape[1])]
    order = np.lexsort(keys[::-1])
    differs = np.zeros(len(order), dtype=np.bool_)
    for key in keys:
        differs[1:] |= key[order[1:]] != key[order[:-1]]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.cumsum(differs)
    return rank


def match_pairs(given: Ints, predicted: Ints, value: Floats, given_rank: Ints, predicted_rank: Ints) -> Ints:
    """The matched pairs, by the law in the module's text.

    Args:
        given, predicted: (P,) int64 rows of the two objects of each pair; no pair twice.
        value: (P,) float64, how well they fit; pairs that are not above 0 (or are no number) are never taken.
        given_rank: (N,) int64, content rank of every given row, from :func:`content_rank`.
        predicted_rank: (M,) int64, the same of every predicted row.

    Returns:
        (K,) int64, rising positions in the pair arrays. Among rows of equal content it is open which one is taken.
    """
    candidates = np.flatnonzero(value > 0)
    g, p = given[candidates], predicted[candidates]
    order = np.lexsort((p, g, predicted_rank[p], given_rank[g], -value[candidates]))
    candidates, g, p = candidates[order], g[order], p[order]
    taken: list[Ints] = []
    while candidates.size:
        # Pairs stand best first, so a pair that is the first of both its objects is blocked by nothing.
        first = _is_first(g) & _is_first(p)
        taken.append(candidates[first])
        open_pair = ~np.isin(g, g[first]) & ~np.isin(p, p[first])
        candidates, g, p = candidates[open_pair], g[open_pair], p[open_pair]
    return np.sort(np.concatenate(taken)) if taken else np.zeros(0, dtype=np.int64)


def _is_first(rows: Ints) -> npt.NDArray[np.bool_]:
    """Whether a row number occurs here for the first time."""
    first = np.zeros(len(rows), dtype=np.bool_)
    first[np.unique(rows, return_index=True)[1]] = True
    return first
