"""Laws of folds: every image once, groups whole, sizes even, and blind to the order of the images."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.folds import assign_folds


@st.composite
def collections(draw: st.DrawFn) -> tuple[list[str], np.ndarray, np.ndarray, int, int]:
    """Keys, groups (at least as many as folds), objects by class, folds and a seed."""
    folds = draw(st.integers(2, 6))
    extra = draw(st.lists(st.integers(0, 40), max_size=40))
    groups = draw(st.permutations([*range(folds), *extra]))
    classes = draw(st.integers(1, 3))
    counts = st.lists(st.integers(0, 9), min_size=classes, max_size=classes)
    table = draw(st.lists(counts, min_size=len(groups), max_size=len(groups)))
    keys = draw(st.lists(st.text(max_size=5), min_size=len(groups), max_size=len(groups), unique=True))
    return keys, np.array(groups), np.array(table, np.int64).reshape(-1, classes), folds, draw(st.integers(0, 99))


@given(collections())
def test_every_image_has_one_fold_and_every_fold_an_image(collection: tuple) -> None:
    found = assign_folds(*collection)
    assert found.shape == (len(collection[0]),)
    assert set(found.tolist()) == set(range(collection[3]))


@given(collections())
def test_groups_are_never_split(collection: tuple) -> None:
    groups, found = collection[1], assign_folds(*collection)
    for group in np.unique(groups):
        assert len(set(found[groups == group].tolist())) == 1


@given(collections())
def test_sizes_differ_by_no_more_than_the_largest_group(collection: tuple) -> None:
    groups, found = collection[1], assign_folds(*collection)
    sizes = np.bincount(found, minlength=collection[3])
    assert sizes.max() - sizes.min() <= np.bincount(groups).max()


@given(collections(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(collection: tuple, random: object) -> None:
    keys, groups, classes, folds, seed = collection
    order = list(range(len(keys)))
    random.shuffle(order)
    renamed = groups[order] * 7 + 3
    moved = assign_folds([keys[k] for k in order], renamed, classes[order], folds, seed)
    assert moved.tolist() == assign_folds(*collection)[order].tolist()
