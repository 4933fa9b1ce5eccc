"""bridge.core.class_noise: by hand, held against cleanlab, and on what only calibration can tell."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.core import class_noise
from bridge.core.metrics import average_precision
from bridge.errors import DataError

GIVEN = np.array([0, 0, 0, 1, 1, 1])
SURE = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])


def made_up(rows: int, classes: int, seed: int, wrong: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(given, probabilities, whether the label is wrong): a model that is unsure, and wrong labels at random."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    logits = rng.normal(0, 1, (rows, classes))
    logits[np.arange(rows), true] += 3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    is_wrong = rng.random(rows) < wrong
    given = np.where(is_wrong, (true + rng.integers(1, classes, rows)) % classes, true)
    return given, probabilities, is_wrong


def test_the_joint_by_hand() -> None:
    """Class 0 has the mean .6 over its labels, class 1 the mean .7; the last row reaches neither."""
    noise = class_noise.estimate_noise(GIVEN, SURE)
    assert noise.thresholds == pytest.approx([0.6, 0.7])
    assert noise.counts.tolist() == [[2, 1], [0, 2]]
    assert noise.joint == pytest.approx(np.array([[2 / 6, 1 / 6], [0, 3 / 6]]))
    assert noise.true_if_given == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))
    assert noise.given_if_true == pytest.approx(np.array([[1, 1 / 4], [0, 3 / 4]]))
    assert noise.error_rate == pytest.approx(1 / 6)


def test_the_single_scores_by_hand() -> None:
    assert class_noise.self_confidence(GIVEN, SURE) == pytest.approx([0.9, 0.8, 0.1, 0.8, 0.7, 0.6])
    assert class_noise.margin(GIVEN, SURE) == pytest.approx([-0.8, -0.6, 0.8, -0.6, -0.4, -0.2])
    assert class_noise.likeliest_other(GIVEN, SURE).tolist() == [1, 1, 1, 0, 0, 0]
    assert class_noise.entropy(np.array([[0.5, 0.5], [1.0, 0.0]])) == pytest.approx([1, 0])


@pytest.mark.parametrize(("rows", "classes"), [(40, 2), (300, 3), (2000, 12)])
def test_cleanlab_counts_the_same(rows: int, classes: int) -> None:
    count = pytest.importorskip("cleanlab.count")
    rank = pytest.importorskip("cleanlab.rank")
    given, probabilities, _ = made_up(rows, classes, seed=rows)
    noise = class_noise.estimate_noise(given, probabilities)
    counts = count.compute_confident_joint(given, probabilities, calibrate=False)
    assert noise.counts.tolist() == counts.tolist()
    assert noise.thresholds == pytest.approx(count.get_confident_thresholds(given, probabilities))
    # cleanlab rounds the calibrated counts to whole labels.
    assert noise.joint == pytest.approx(count.estimate_joint(given, probabilities), abs=1 / rows)
    _, given_if_true, true_if_given = count.estimate_latent(noise.joint * rows, given)
    assert noise.given_if_true == pytest.approx(given_if_true, abs=1e-3)
    assert noise.true_if_given == pytest.approx(true_if_given.T, abs=1e-3)
    ours = (1 - class_noise.margin(given, probabilities)) / 2
    assert ours == pytest.approx(rank.get_normalized_margin_for_each_label(given, probabilities))
    assert class_noise.self_confidence(given, probabilities) == pytest.approx(
        rank.get_self_confidence_for_each_label(given, probabilities)
    )


def test_entropy_is_that_of_cleanlab() -> None:
    util = pytest.importorskip("cleanlab.internal.label_quality_utils")
    _, probabilities, _ = made_up(50, 5, seed=0)
    assert class_noise.entropy(probabilities) == pytest.approx(util.get_normalized_entropy(probabilities))


def test_calibration_learns_what_the_model_confuses() -> None:
    """A model that mixes up classes 0 and 1 two times in five: its word on that pair must not fill the list."""
    given, probabilities, is_wrong = made_up(3000, 4, seed=1, wrong=0.05)
    rng = np.random.default_rng(2)
    true = np.where(is_wrong, -1, given)
    swapped = np.isin(true, (0, 1)) & (rng.random(3000) < 0.4)
    probabilities[swapped] = probabilities[swapped][:, [1, 0, 2, 3]]
    calibrated = class_noise.calibrate(given, probabilities)

    def quality(scores: np.ndarray) -> float:
        return average_precision(is_wrong[np.argsort(-scores, kind="stable")], int(is_wrong.sum()))

    before = quality(class_noise.margin(given, probabilities))
    assert quality(class_noise.margin(given, calibrated)) > before + 0.1


def test_calibration_makes_overconfident_probabilities_honest() -> None:
    """Labels drawn from the probabilities, which the model then overstates as their fourth power."""
    rng = np.random.default_rng(4)
    true = rng.dirichlet((1, 1, 1), 3000)
    given = (rng.random((3000, 1)) > true.cumsum(axis=1)).sum(axis=1)
    sharp = true**4 / (true**4).sum(axis=1, keepdims=True)
    assert np.abs(sharp - true).mean() > 0.1
    assert np.abs(class_noise.calibrate(given, sharp) - true).mean() < 0.02


def test_a_label_has_no_say_in_its_own_calibration() -> None:
    """Flip one label: in its own fold it changes nothing but the order in which the folds are dealt."""
    given, probabilities, _ = made_up(400, 3, seed=5)
    evidence = np.tile(np.array([[0.98, 0.01, 0.01]]), (3, 1))
    outlier = class_noise.calibrate(np.r_[given, 2, 2, 2], np.vstack([probabilities, evidence]))[-3:]
    assert (outlier[:, 0] > outlier[:, 2]).all()


def test_little_or_nothing_to_learn_from() -> None:
    assert class_noise.calibrate(GIVEN[:4], SURE[:4]) == pytest.approx(SURE[:4])
    one = np.ones((9, 1))
    assert class_noise.calibrate(np.zeros(9, np.int64), one) == pytest.approx(one)
    assert class_noise.margin(np.zeros(9, np.int64), one) == pytest.approx(-np.ones(9))
    assert class_noise.entropy(one).tolist() == [0.0] * 9
    none = class_noise.estimate_noise(np.zeros(0, np.int64), np.zeros((0, 3)))
    assert none.error_rate == 0
    assert none.counts.sum() == 0


def test_few_labels_barely_move_a_model() -> None:
    given, probabilities, _ = made_up(10, 3, seed=6)
    moved = np.abs(class_noise.calibrate(given, probabilities) - probabilities)
    assert moved.max() < 0.25


@pytest.mark.parametrize(
    ("given", "probabilities", "says"),
    [
        (np.array([0, 2]), np.array([[0.5, 0.5], [1.0, 0.0]]), "class 0 or 2"),
        (np.array([0, -1]), np.array([[0.5, 0.5], [1.0, 0.0]]), "class -1"),
        (np.array([0]), np.array([[0.5, 0.5], [1.0, 0.0]]), r"shape \(1,\)"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [0.9, 0.0]]), "row 1 sums to 0.9"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 1.0]]), "row 1"),
        (np.array([0, 1]), np.array([[1.5, -0.5], [0.5, 0.5]]), "row 0"),
    ],
)
def test_what_cannot_be_judged_is_named(given: np.ndarray, probabilities: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=says):
        class_noise.calibrate(given, probabilities)
    with pytest.raises(DataError, match=says):
        class_noise.estimate_noise(given, probabilities)
