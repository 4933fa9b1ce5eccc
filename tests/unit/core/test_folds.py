"""bridge.core.folds: images into folds."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.core.folds import assign_folds
from bridge.errors import DataError


def folds_of(groups: list[int], classes: np.ndarray | None = None, folds: int = 3, seed: int = 0) -> list[int]:
    counts = np.ones((len(groups), 1), np.int64) if classes is None else classes
    keys = [f"image {k}" for k in range(len(groups))]
    return assign_folds(keys, np.array(groups), counts, folds, seed).tolist()


def test_a_group_stays_together() -> None:
    found = folds_of([0, 1, 0, 2, 3, 1, 4, 5, 0])
    assert found[0] == found[2] == found[8]
    assert found[1] == found[5]
    assert sorted(np.bincount(found).tolist()) == [3, 3, 3]


def test_a_rare_class_is_in_every_fold() -> None:
    rng = np.random.default_rng(0)
    classes = np.stack([rng.integers(5, 20, 60), (np.arange(60) % 10 == 0).astype(np.int64)], axis=1)
    found = np.array(folds_of(list(range(60)), classes, folds=3))
    assert [int(classes[found == k, 1].sum()) for k in range(3)] == [2, 2, 2]
    objects = [int(classes[found == k, 0].sum()) for k in range(3)]
    assert max(objects) - min(objects) < 0.15 * np.mean(objects)


def test_kinds_of_images_are_mixed() -> None:
    """Images of cats and images of dogs, as many of each: no fold gets more of one kind."""
    classes = np.array([[9, 0]] * 9 + [[0, 9]] * 9)
    found = np.array(folds_of(list(range(18)), classes, folds=3))
    assert [int((found[:9] == k).sum()) for k in range(3)] == [3, 3, 3]


def test_the_seed_decides() -> None:
    one, again, other = (folds_of(list(range(20)), seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


@pytest.mark.parametrize(("groups", "folds"), [([0, 0, 1], 3), ([0], 2), ([], 2), ([0, 1, 2], 1)])
def test_too_few_groups(groups: list[int], folds: int) -> None:
    with pytest.raises(DataError, match="cannot make"):
        folds_of(groups, folds=folds)


def test_an_image_twice() -> None:
    with pytest.raises(DataError, match="occurs twice"):
        assign_folds(["a", "a"], np.array([0, 1]), np.ones((2, 1), np.int64), 2, 0)
