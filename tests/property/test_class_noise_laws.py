"""Confident learning and calibration keep to the laws of probability, whatever the labels and the order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bridge.core import class_noise


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities with ties, zeros and ones among them, and classes that nobody is labelled."""
    classes, rows = draw(st.integers(1, 4)), draw(st.integers(0, 14))
    weights = st.sampled_from((0.0, 0.0, 1e-12, 0.1, 0.5, 1.0, 3.0))
    drawn = np.array(draw(st.lists(weights, min_size=rows * classes, max_size=rows * classes)))
    drawn = drawn.reshape(rows, classes)
    drawn[drawn.sum(axis=1) == 0] = 1.0
    given = np.array(draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows)), dtype=np.int64)
    return given, drawn / drawn.sum(axis=1, keepdims=True)


@given(labelled())
def test_shares_are_shares(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = case
    noise = class_noise.estimate_noise(labels, probabilities)
    labelled = np.bincount(labels, minlength=probabilities.shape[1])
    if len(labels):
        np.testing.assert_allclose(noise.joint.sum(axis=1), labelled / len(labels))
    for matrix, axis in ((noise.given_if_true, 0), (noise.true_if_given, 1)):
        sums = matrix.sum(axis=axis)
        assert (np.isclose(sums, 1) | (sums == 0)).all()
    assert 0 <= noise.error_rate <= 1
    assert (noise.counts >= 0).all()
    assert noise.counts.sum() <= len(labels) + probabilities.shape[1]


@given(labelled())
def test_every_score_stays_in_its_range(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = case
    calibrated = class_noise.calibrate(labels, probabilities)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    assert (calibrated >= 0).all()
    assert (np.abs(class_noise.margin(labels, calibrated)) <= 1 + 1e-12).all()
    entropy = class_noise.entropy(probabilities)
    assert ((entropy >= 0) & (entropy <= 1)).all()
    other = class_noise.likeliest_other(labels, probabilities)
    assert (other != labels).all()


@given(labelled(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(case: tuple[np.ndarray, np.ndarray], random: object) -> None:
    labels, probabilities = case
    order = list(range(len(labels)))
    random.shuffle(order)
    here = class_noise.calibrate(labels, probabilities)[order]
    there = class_noise.calibrate(labels[order], probabilities[order])
    # Rows that are equal in label and probabilities are interchangeable, so they are compared as a set.
    key = np.lexsort((*probabilities[order].T, labels[order]))
    same = np.flatnonzero(np.any(np.diff(np.c_[labels[order], probabilities[order]][key], axis=0) != 0, axis=1))
    for rows in np.split(key, same + 1):
        np.testing.assert_allclose(np.sort(here[rows], axis=0), np.sort(there[rows], axis=0), atol=1e-6)
