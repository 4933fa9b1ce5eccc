"""bridge.core.consensus: clusters by hand, and rates and truth recovered from votes that were drawn from known ones."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.core.consensus import Votes, box_offsets, cluster_objects, fuse_boxes, weigh_votes


def boxes(*lefts: float) -> np.ndarray:
    """Squares of 10 px at these places; a shift of 2 px is an IoU of .67, of 4 px .43, of 5 px .33."""
    return np.array([[x, 0, x + 10, 10] for x in lefts], dtype=np.float64).reshape(-1, 4)


def clusters(rater: list[int], *lefts: float) -> list[int]:
    return cluster_objects(np.array(rater, dtype=np.int64), boxes(*lefts), np.zeros(len(lefts))).tolist()


def test_one_object_of_each_rater() -> None:
    assert clusters([0, 1, 2], 0, 2, 4) == [0, 0, 0]
    assert clusters([0, 0, 1], 0, 1, 0) == [0, 1, 0]


def test_no_chains() -> None:
    """The ends of the chain are too far apart, so the closest pair wins."""
    first, second, third = clusters([0, 1, 2], 0, 3, 5)
    assert (first, second == third) == (0, True)


def test_of_equally_close_ones_the_larger_cluster_grows() -> None:
    assert clusters([0, 0, 1, 2], 0, 0, 0, 3) in ([0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 1, 1], [1, 0, 1, 1])


def test_nothing_to_cluster() -> None:
    assert clusters([]) == []
    assert clusters([0], 0) == [0]


def ballots(images: int, seed: int) -> tuple[Votes, np.ndarray, np.ndarray]:
    """Votes on 10 objects of each image and on what raters invent; (votes, found rates, true class of each cluster).

    Three people: who finds .98, who finds .7, and who sees .3 ghosts for each object; and a model whose confidence is
    drawn high for objects and low for its three ghosts an image.
    """
    rng = np.random.default_rng(seed)
    found, invents = np.array([0.98, 0.7, 0.95, 0.9]), np.array([0.01, 0.01, 0.3, 0.3])
    rows: list[tuple[int, int, int, float]] = []
    truth: list[int] = []

    def loud(rater: int, there: bool) -> float:
        return 1.0 if rater < 3 else float(rng.beta(8, 2) if there else rng.beta(1, 6)) + 1e-6

    for _ in range(images):
        for _ in range(10):
            kind = int(rng.integers(0, 2))
            says = rng.random(4) < found
            if says.any():
                named = np.where(says, np.where(rng.random(4) < 0.95, kind, 1 - kind), -1)
                rows += [(len(truth), r, int(named[r]), loud(r, True)) for r in range(4)]
                truth.append(kind)
        for ghost_of in range(4):
            for _ in range(rng.binomial(10, invents[ghost_of])):
                kind = int(rng.integers(0, 2))
                rows += [(len(truth), r, kind if r == ghost_of else -1, loud(r, False)) for r in range(4)]
                truth.append(2)
    cluster, rater, label, loudness = (np.array(c) for c in zip(*rows, strict=True))
    return (
        Votes(cluster, rater, label, loudness, np.full(4, images), images, 2),
        found,
        np.array(truth),
    )


def test_rates_and_truth_are_recovered() -> None:
    votes, found, truth = ballots(200, seed=0)
    opinion = weigh_votes(votes)
    assert opinion.found.sum(axis=1) == pytest.approx(found, abs=0.03)
    assert opinion.right == pytest.approx(0.95, abs=0.02)
    assert opinion.ghosts.sum(axis=1) == pytest.approx([0.1, 0.1, 3, 3], abs=0.3)
    assert opinion.objects == pytest.approx([5, 5], abs=0.4)
    guessed = opinion.posterior.argmax(axis=1)
    spoken = votes.label >= 0
    counts = np.zeros((len(truth), 3))
    np.add.at(counts, (votes.cluster[spoken & (votes.rater < 3)], votes.label[spoken & (votes.rater < 3)]), 1)
    counts[:, 2] = 3 - counts.sum(axis=1)
    majority = counts.argmax(axis=1)
    assert (guessed == truth).mean() > 0.97
    assert (guessed == truth).mean() > (majority == truth).mean() + 0.01


def test_the_posterior_is_honest() -> None:
    votes, _, truth = ballots(500, seed=1)
    posterior = weigh_votes(votes).posterior
    claimed, right = posterior.max(axis=1), posterior.argmax(axis=1) == truth
    for low, high in ((0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
        rows = (claimed >= low) & (claimed < high)
        assert rows.sum() > 20
        assert abs(claimed[rows].mean() - right[rows].mean()) < 0.1


def test_one_image_is_judged_by_what_is_usual_anywhere() -> None:
    """Two people and a sure model against one who is silent; then one person alone against three."""
    votes = Votes(
        cluster=np.repeat([0, 1], 4),
        rater=np.tile(np.arange(4), 2),
        label=np.array([0, 0, -1, 0, -1, -1, 0, -1]),
        loudness=np.ones(8),
        images=np.ones(4, np.int64),
        total=1,
        classes=1,
    )
    there = weigh_votes(votes).posterior[:, 0]
    assert there[0] > 0.95
    assert there[1] < 0.2


def test_exact_raters_weigh_more_in_the_fused_box() -> None:
    rng = np.random.default_rng(0)
    cluster, rater = np.repeat(np.arange(50), 3), np.tile(np.arange(3), 50)
    noise = np.array([0.1, 0.1, 2.0])[rater][:, None]
    xyxy = np.tile([0.0, 0, 40, 40], (150, 1)) + rng.normal(0, 1, (150, 4)) * noise
    offset = box_offsets(cluster, rater, xyxy)
    assert offset[2] > 3 * max(offset[:2])
    even = fuse_boxes(xyxy[:3], np.ones(3), np.ones(3))
    weighed = fuse_boxes(xyxy[:3], offset, np.ones(3))
    assert even == pytest.approx(xyxy[:3].mean(axis=0))
    assert np.abs(weighed - [0, 0, 40, 40]).max() < np.abs(even - [0, 0, 40, 40]).max()
    assert fuse_boxes(xyxy[:1], offset[:1], np.zeros(1)) == pytest.approx(xyxy[0])


def test_two_boxes_tell_nothing_about_who_is_off() -> None:
    assert box_offsets(np.zeros(2, np.int64), np.arange(2), boxes(0, 3)).tolist() == [0, 0]
