"""Wrong classes among given ones, from the class probabilities of a model that did not see these labels.

Throughout: ``given`` is (N,) int64, classes in ``[0, K)``; ``probabilities`` is (N, K) float64, out of sample, each row
at least 0 and summing to 1, column ``k`` that of class ``k``.

*Confident learning* (Northcutt, Jiang and Chuang, JAIR 2021) counts who is labelled what and looks like what::

    threshold(j)  = mean probability of j over what is labelled j
    counts(i, j)  = how many are labelled i and look most like j among the classes whose threshold they reach
    joint(i, j)   = counts, each row scaled to the number of labels i, all scaled to the sum 1

It assumes that a probability of .9 means nine in ten, and that all classes are told apart equally well. Hardly any
model keeps to that, so for ranking the probabilities are first *calibrated* on the given labels themselves, out of fold
(Dirichlet calibration, Kull et al., NeurIPS 2019)::

    calibrated = softmax(W . log probabilities + b), fitted with the penalty PRIOR / 2 * (|W - identity|^2 + |b|^2)

What is left after that is no habit of the model: a pair of classes that it often confuses has its margin drawn in, a
pair that it never confuses keeps it. The rank of a label is its calibrated margin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.matching import content_rank
from bridge.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: A probability this far below its threshold still reaches it: rounding of single precision.
TOLERANCE = 1e-6
#: Probabilities below this count as this: what a model says beyond one in a million is no evidence.
FLOOR = 1e-6
#: Strength of the belief that the model is calibrated already. Anything from 1 to 100 gives much the same ranking.
PRIOR = 10.0
#: Parts of which each is calibrated by the others.
FOLDS = 5
_STEPS = 60
_CONVERGED = 1e-7
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class NoiseEstimate:
    """What confident learning says about the labels as a whole; see the module's text.

    Attributes:
        thresholds: (K,) float64 in [0, 1]; 1 for a class without labels, which nothing confidently looks like.
        counts: (K, K) int64, rows given, columns likely: the confident joint.
        joint: (K, K) float64, sums to 1; its row sums are the shares of the given classes.
        given_if_true: (K, K) float64, ``[i, j]`` the share of true ``j`` that is labelled ``i``; columns sum to 1, or
            to 0 for a class that nothing looks like.
        true_if_given: (K, K) float64, ``[i, j]`` the share of those labelled ``i`` that are ``j``; rows sum to 1, or to
            0 for a class without labels.
    """

    thresholds: Floats
    counts: Ints
    joint: Floats
    given_if_true: Floats
    true_if_given: Floats

    @property
    def error_rate(self) -> float:
        """The estimated share of wrong labels, in [0, 1]."""
        return float(max(0.0, self.joint.sum() - np.trace(self.joint)))


def estimate_noise(given: Ints, probabilities: Floats) -> NoiseEstimate:
    """Confident learning's estimate of how labels go wrong.

    Where a label looks like no class confidently it is not counted. A class whose own labels never look like it is
    given one that does, as in cleanlab.

    Raises:
        DataError: an array is not of the form that the module's text demands.
    """
    check_classes(given, probabilities)
    classes = probabilities.shape[1]
    labelled = np.bincount(given, minlength=classes)
    own = np.bincount(given, weights=self_confidence(given, probabilities), minlength=classes)
    thresholds = np.where(labelled > 0, np.maximum(own / np.maximum(labelled, 1), 2 * TOLERANCE), 1.0)
    counts = np.zeros((classes, classes), dtype=np.int64)
    for rows in _chunks(len(given), classes):
        confident = np.where(probabilities[rows] >= thresholds - TOLERANCE, probabilities[rows], -1.0)
        likely = confident.argmax(axis=1)
        looks = confident[np.arange(len(likely)), likely] >= 0
        np.add.at(counts, (given[rows][looks], likely[looks]), 1)
    np.fill_diagonal(counts, np.maximum(np.diagonal(counts), labelled > 0))
    joint = _shares(counts.astype(np.float64), axis=1) * labelled[:, None] / max(len(given), 1)
    return NoiseEstimate(thresholds, counts, joint, _shares(joint, axis=0), _shares(joint, axis=1))


def self_confidence(given: Ints, probabilities: Floats) -> Floats:
    """The probability of the given class: (N,) float64 in [0, 1]; low is suspicious."""
    return np.asarray(probabilities[np.arange(len(given)), given])


def likeliest_other(given: Ints, probabilities: Floats) -> Ints:
    """The most probable class that is not the given one, of equals the first: (N,) int64; -1 when there is one class
    only."""
    if probabilities.shape[1] < 2:
        return np.full(len(given), -1, dtype=np.int64)
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -1.0
    return np.asarray(others.argmax(axis=1), dtype=np.int64)


def margin(given: Ints, probabilities: Floats) -> Floats:
    """Probability of the likeliest other class minus that of the given one: (N,) float64 in [-1, 1].

    High is suspicious.     cleanlab's normalised margin is ``(1 - margin) / 2``.
    """
    other = likeliest_other(given, probabilities)
    against = np.where(other < 0, 0.0, probabilities[np.arange(len(given)), other])
    return np.asarray(against - self_confidence(given, probabilities))


def entropy(probabilities: Floats) -> Floats:
    """Entropy of each row in units of its greatest value, ``log K``: (N,) float64 in [0, 1]; 0 with one class."""
    classes = probabilities.shape[1]
    if classes < 2:
        return np.zeros(len(probabilities))
    terms = probabilities * np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return np.asarray(np.clip(-terms.sum(axis=1) / np.log(classes), 0.0, 1.0))


def calibrate(given: Ints, probabilities: Floats) -> Floats:
    """The probabilities as they would be if the model knew its habits; each row by the labels of other rows only.

    Deterministic, and independent of the order of the rows up to rounding. Fewer labels than ``FOLDS`` teach nothing:
    they come back as they are. Needs about three times the memory of ``probabilities``, and ``N * K * K`` steps.

    Returns:
        (N, K) float64, rows summing to 1.

    Raises:
        DataError: an array is not of the form that the module's text demands.
    """
    check_classes(given, probabilities)
    count, classes = probabilities.shape
    if count < FOLDS or classes < 2:
        return probabilities.copy()
    logs = np.log(np.maximum(probabilities, FLOOR))
    evidence = np.hstack([logs - logs.mean(axis=1, keepdims=True), np.ones((count, 1))])
    # Dealt out in the order of content, the folds hold the same share of each class, whatever the order of the rows.
    fold = np.empty(count, dtype=np.int64)
    fold[np.argsort(content_rank(given, probabilities), kind="stable")] = np.arange(count) % FOLDS
    calibrated = np.empty((count, classes))
    for k in range(FOLDS):
        held_out = fold == k
        weights = _fit(evidence[~held_out], given[~held_out], classes)
        calibrated[held_out] = _softmax(evidence[held_out] @ weights)
    return calibrated


def check_classes(given: Ints, probabilities: Floats) -> None:
    """Whether the two arrays are as the module's text demands.

    Raises:
        DataError: they are not; says which and how.
    """
    if probabilities.ndim != 2 or given.shape != probabilities.shape[:1]:
        raise DataError(
            f"given has the shape {given.shape}, probabilities {probabilities.shape}", expected="(N,) and (N, K)"
        )
    classes = probabilities.shape[1]
    if given.size and not (given.min() >= 0 and given.max() < classes):
        raise DataError(f"given has the class {given.min()} or {given.max()}", expected=f"0 to {classes - 1}")
    sums = probabilities.sum(axis=1)
    bad = np.flatnonzero(~((np.abs(sums - 1) < 1e-3) & (probabilities >= 0).all(axis=1)))
    if bad.size:
        raise DataError(
            f"{bad.size} rows of probabilities are none; row {bad[0]} sums to {sums[bad[0]]:g}",
            expected="numbers of at least 0 that sum to 1 in each row",
        )


def _fit(evidence: Floats, given: Ints, classes: int) -> Floats:
    """(K + 1, K) weights of the multinomial regression in the module's text, the intercept last.

    Accelerated gradient steps under the fixed bound of the Hessian, ``evidence' evidence / 2`` (Boehning, 1992).
    """
    start = np.vstack([np.eye(classes), np.zeros(classes)])
    curvature = evidence.T @ evidence / 2 + PRIOR * np.eye(classes + 1)
    inverse = np.linalg.inv(curvature)
    weights, ahead, pace = start, start, 1.0
    for _ in range(_STEPS):
        gradient = PRIOR * (ahead - start)
        for rows in _chunks(len(given), classes):
            residual = _softmax(evidence[rows] @ ahead)
            residual[np.arange(len(residual)), given[rows]] -= 1.0
            gradient += evidence[rows].T @ residual
        step = inverse @ gradient
        after, next_pace = ahead - step, (1 + np.sqrt(1 + 4 * pace * pace)) / 2
        ahead = after + (pace - 1) / next_pace * (after - weights)
        weights, pace = after, next_pace
        if np.abs(step).max() < _CONVERGED:
            break
    return np.asarray(weights)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _shares(matrix: Floats, axis: int) -> Floats:
    total = matrix.sum(axis=axis, keepdims=True)
    return np.asarray(matrix / np.where(total > 0, total, 1.0))


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    size = max(1, _CHUNK // max(columns, 1))
    return (slice(start, start + size) for start in range(0, rows, size))
