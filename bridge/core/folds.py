"""Dividing images into folds so that what belongs together stays together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import digest
from bridge.errors import DataError

Ints = npt.NDArray[np.int64]


def assign_folds(keys: Sequence[str], groups: Ints, classes: Ints, folds: int, seed: int) -> Ints:
    """Give every image a fold.

    All images of a group share a fold. The largest and the smallest fold differ by no more images than the largest
    group has; within that, each class is spread over the folds as evenly as a single pass allows. The answer depends
    on the seed and on what the images are, not on the order in which they come.

    Args:
        keys: (N,) names of the images, all different.
        groups: (N,) int64.
        classes: (N, C) int64, how many objects of each class an image has.
        folds: how many, at least 2.

    Returns:
        (N,) int64 in ``[0, folds)``; no fold is empty.

    Raises:
        DataError: there are fewer groups than folds, or a key occurs twice.
    """
    count = len(np.unique(groups))
    if folds < 2 or count < folds:
        raise DataError(
            f"{len(keys)} labelled images in {count} groups cannot make {folds} folds",
            expected="at least 2 folds, and a group of images that are not alike for each",
            todo="Ask for fewer folds, or label more images",
        )
    if len(set(keys)) != len(keys):
        raise DataError("an image occurs twice", expected="keys that are all different")
    members: dict[int, list[int]] = {}
    for k, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(k)
    totals = np.maximum(classes.sum(axis=0), 1)
    shares = {group: classes[rows].sum(axis=0) / totals for group, rows in members.items()}
    chance = {group: digest([seed, sorted(keys[k] for k in rows)]) for group, rows in members.items()}
    # Large groups first, while every fold has room; then those that hold most of what is rare.
    order = sorted(members, key=lambda g: (-len(members[g]), -float(shares[g].sum()), chance[g]))
    size = np.zeros(folds, np.int64)
    held = np.zeros((folds, classes.shape[1]))
    fold_of = np.empty(len(keys), np.int64)
    for group in order:
        smallest = np.flatnonzero(size == size.min())
        fold = int(smallest[np.argmin(held[smallest] @ shares[group])])
        size[fold] += len(members[group])
        held[fold] += shares[group]
        fold_of[members[group]] = fold
    return fold_of
