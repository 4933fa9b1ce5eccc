"""What several raters, people and models, see together: which objects are one, whether it is there, what it is.

*Clusters*: objects of one image that show the same thing, at most one of each rater, any two of them at an IoU of at
least ``SAME_OBJECT``. The closest are joined first; of equally close ones, those that make the larger cluster.

*Votes*: each rater who looked at the image votes on each cluster: a class, or that nothing is there. From the votes
alone, how far each rater can be relied on and what is true are estimated together (Dawid and Skene, 1979), with a few
rates for each rater instead of a full confusion matrix, because few raters say enough for that::

    found(level)  = P(says something, this loudly | the object is there)
    right         = P(names the right class | says something); a wrong one is any of the others alike
    ghosts(level) = objects of this loudness that the rater sees in an image and that are not there
    echo          = P(says something | nothing is there, but another rater saw a ghost)

A person always says it aloud; a model as loudly as it is confident, in steps, so what a confidence is worth is measured
too. A cluster exists because somebody spoke. So with nothing there one of those who spoke saw a ghost, and the others
echoed it or kept quiet::

    there(k) = objects of class k in an image * product over raters of P(vote | k)
    absent   = sum over those who spoke of ghosts * product over the other raters of P(vote | ghost of another)

Every rate begins as if ``PRIOR_VOTES`` votes had been seen: people find 9 in
10, ``1 - GHOST`` of what they see is there, ``RIGHT`` of it has the right class; a model begins as reliable as its
confidences claim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bridge.core.geometry import iou_matrix
from bridge.core.matching import content_rank

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Objects that overlap less are two objects.
SAME_OBJECT = 0.4
PRIOR_VOTES = 10.0
FOUND, RIGHT, GHOST, ECHO = 0.9, 0.95, 0.05, 0.1
#: Upper ends of the steps of loudness; people speak at the last.
LEVELS = np.array([0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
_ROUNDS = 100
_CONVERGED = 1e-7
#: Added to how far a rater's boxes are off, so that nobody is trusted alone.
_LEAST_OFF = 0.05


@dataclass(frozen=True, slots=True)
class Votes:
    """Who says what about which cluster; one row for each rater who looked at the cluster's image.

    Attributes:
        cluster: (V,) int64 in ``[0, C)``; every cluster has a row that names a class.
        rater: (V,) int64 in ``[0, R)``.
        label: (V,) int64 in ``[0, K)``; -1 where the rater has nothing there.
        loudness: (V,) float64 in (0, 1]: 1 for people, the confidence of a model; anything where ``label`` is -1.
        images: (R,) int64, how many images each rater looked at, at least 1.
        total: how many images there are.
        classes: K, at least 1.
    """

    cluster: Ints
    rater: Ints
    label: Ints
    loudness: Floats
    images: Ints
    total: int
    classes: int


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the votes come to.

    Attributes:
        posterior: (C, K + 1) float64, rows summing to 1: how likely each cluster is each class, or (last) absent.
        found: (R, L) float64, P(says something, at each level | it is there).
        right: (R,) float64 in (0, 1).
        ghosts: (R, L) float64, at least 0, in one image.
        echo: (R,) float64 in (0, 1).
        objects: (K,) float64, above 0, in one image.
    """

    posterior: Floats
    found: Floats
    right: Floats
    ghosts: Floats
    echo: Floats
    objects: Floats


def cluster_objects(rater: Ints, xyxy: Floats, rotation: Floats) -> Ints:
    """The clusters of one image, as in the module's text.

    Args:
        rater: (N,) int64, whose object each row is.
        xyxy: (N, 4) float64 pixels.
        rotation: (N,) float64 degrees.

    Returns:
        (N,) int64 from 0 without gaps: the same number for the same thing. The order of the rows decides at most which
        of several objects of one rater that are equal to the last digit is taken.
    """
    iou = iou_matrix(xyxy, xyxy, rotation, rotation)
    iou[rater[:, None] == rater[None, :]] = 0.0
    rank = content_rank(xyxy, rotation)
    cluster = np.arange(len(rater))
    for rows in _components(iou >= SAME_OBJECT):
        cluster[rows] = rows[_joined(iou[np.ix_(rows, rows)], rank[rows])]
    return np.asarray(np.unique(cluster, return_inverse=True)[1], dtype=np.int64)


def weigh_votes(votes: Votes) -> Opinion:
    """Who can be relied on, and what is true; see the module's text."""
    clusters = int(votes.cluster.max(initial=-1)) + 1
    speaks = votes.label >= 0
    posterior = np.zeros((clusters, votes.classes + 1))
    np.add.at(posterior, (votes.cluster[speaks], votes.label[speaks]), votes.loudness[speaks])
    # To begin with, a thing is what the majority says.
    lookers = np.bincount(votes.cluster, minlength=clusters)
    posterior[:, -1] = np.maximum(lookers - posterior.sum(axis=1), 0.0)
    posterior /= np.maximum(lookers, 1)[:, None]
    level = np.searchsorted(LEVELS, np.minimum(votes.loudness, 1.0))
    began = np.where(speaks, posterior[votes.cluster, -1], 0.0)
    for _ in range(_ROUNDS):
        opinion = _measured(votes, level, posterior, began)
        before = posterior
        posterior, began = _judged(votes, level, opinion)
        if np.abs(posterior - before).max(initial=0.0) < _CONVERGED:
            break
    return replace(opinion, posterior=posterior)


def box_offsets(cluster: Ints, rater: Ints, xyxy: Floats) -> Floats:
    """How far each rater's boxes are off: (R,) float64, the mean distance of a side from the median of its cluster.

    In shares of the length of that side of the median box; clusters of fewer than three objects do not count. Every
    rater is drawn towards the mean of all as if by ten more boxes.
    """
    raters = int(rater.max(initial=-1)) + 1
    order = np.argsort(cluster, kind="stable")
    off, weight = np.zeros(raters), np.zeros(raters)
    for rows in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
        if len(rows) > 2:
            middle = np.median(xyxy[rows], axis=0)
            side = np.maximum(np.tile(middle[2:] - middle[:2], 2), 1e-9)
            np.add.at(off, rater[rows], (np.abs(xyxy[rows] - middle) / side).mean(axis=1))
            np.add.at(weight, rater[rows], 1.0)
    overall = off.sum() / weight.sum() if weight.sum() else 0.0
    return np.asarray((off + PRIOR_VOTES * overall) / (weight + PRIOR_VOTES))


def fuse_boxes(xyxy: Floats, offset: Floats, confidence: Floats) -> Floats:
    """One box of several, (4,) float64: the mean of each side, weighed by confidence and by how exact the rater is.

    Args:
        xyxy: (N, 4) float64, N at least 1.
        offset: (N,) float64, of the rater of each box, from :func:`box_offsets`.
        confidence: (N,) float64 in [0, 1]; 1 for people.
    """
    weight = np.maximum(confidence, 1e-6) / (offset + _LEAST_OFF)
    return np.asarray((xyxy * weight[:, None]).sum(axis=0) / weight.sum())


def _components(near: npt.NDArray[np.bool_]) -> list[Ints]:
    """The rows of each group that is connected in a symmetric (N, N) relation; groups of one are left out."""
    label = np.arange(len(near))
    while label.size:
        lowest = np.minimum(label, np.where(near, label[None, :], len(near)).min(axis=1, initial=len(near)))
        if (lowest == label).all():
            break
        label = lowest
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return [rows for rows in groups if len(rows) > 1]


def _joined(link: Floats, rank: Ints) -> Ints:
    """(n,) int64: for each row the row that stands for its cluster, by complete linkage.

    Args:
        link: (n, n) float64, IoU of the rows, 0 within a rater.
        rank: (n,) int64, their order by content.
    """
    count = len(link)
    home = np.arange(count)
    if (link + np.eye(count) >= SAME_OBJECT).all():
        return np.zeros(count, dtype=np.int64)
    link, rank, size = np.triu(link, 1) + np.triu(link, 1).T, rank.copy(), np.ones(count)
    while True:
        a, b = np.nonzero(np.triu(link >= SAME_OBJECT, 1))
        if not a.size:
            return home
        low, high = np.minimum(rank[a], rank[b]), np.maximum(rank[a], rank[b])
        first = np.lexsort((high, low, -(size[a] + size[b]), -link[a, b]))[0]
        keep, gone = a[first], b[first]
        link[keep] = link[:, keep] = np.minimum(link[keep], link[gone])
        link[gone] = link[:, gone] = link[keep, keep] = 0.0
        size[keep] += size[gone]
        rank[keep] = low[first]
        home[home == gone] = keep


def _measured(votes: Votes, level: Ints, posterior: Floats, began: Floats) -> Opinion:
    """The rates, if that were the truth.

    Args:
        level: (V,) int64, index into ``LEVELS``.
        posterior: (C, K + 1) float64.
        began: (V,) float64, the chance that nothing is there and the ghost began with this vote.
    """
    raters, steps, speaks = len(votes.images), len(LEVELS), votes.label >= 0
    truth = posterior[votes.cluster]
    absent, there = truth[:, -1], 1 - truth[:, -1]
    cell = votes.rater * steps + level

    def per_level(weight: Floats) -> Floats:
        counts = np.bincount(cell, np.where(speaks, weight, 0.0), raters * steps)
        return np.asarray(counts.reshape(raters, steps), dtype=np.float64)

    said = per_level(np.ones(len(cell)))
    sure = np.minimum(per_level(np.minimum(votes.loudness, 1.0)), said)
    # A person's word has the loudness 1, which claims more than anybody can know.
    sure[:, -1] = np.minimum(sure[:, -1], (1 - GHOST) * said[:, -1])
    all_said = np.maximum(said.sum(axis=1, keepdims=True), 1.0)
    all_sure = np.maximum(sure.sum(axis=1, keepdims=True), 1e-9)
    seen = np.bincount(votes.rater, there, raters)[:, None] + PRIOR_VOTES
    found = (per_level(there) + PRIOR_VOTES * FOUND * (sure + 1e-3) / (all_sure + 1e-3 * steps)) / seen
    right_votes = np.where(speaks, truth[np.arange(len(truth)), votes.label], 0.0)
    right = np.bincount(votes.rater, right_votes, raters) + PRIOR_VOTES * RIGHT
    right /= np.bincount(votes.rater, np.where(speaks, there, 0.0), raters) + PRIOR_VOTES
    # Ten more of the rater's objects stand for as many more images as they would fill.
    images = votes.images[:, None] * (1 + PRIOR_VOTES / all_said)
    ghosts = (per_level(began) + PRIOR_VOTES * (said - sure) / all_said + 1e-3) / images
    others = np.maximum(absent - began, 0.0)
    echo = np.bincount(votes.rater, np.where(speaks, others, 0.0), raters) + PRIOR_VOTES * ECHO
    echo /= np.bincount(votes.rater, others, raters) + PRIOR_VOTES
    objects = (posterior[:, :-1].sum(axis=0) + 1 / votes.classes) / votes.total
    return Opinion(posterior, found, np.clip(right, 0.01, 0.99), ghosts, np.clip(echo, 1e-3, 0.99), objects)


def _judged(votes: Votes, level: Ints, opinion: Opinion) -> tuple[Floats, Floats]:
    """``posterior`` and ``began`` of :func:`_measured`, if those were the rates."""
    clusters, classes = int(votes.cluster.max(initial=-1)) + 1, votes.classes
    rater, label, speaks = votes.rater, votes.label, votes.label >= 0
    right = opinion.right[rater] if classes > 1 else np.ones(len(rater))
    loud = np.log(opinion.found[rater, level])
    silent = np.log(np.maximum(1 - opinion.found[rater].sum(axis=1), 1e-3))
    wrong = np.log(np.maximum((1 - right) / max(classes - 1, 1), 1e-9))
    logs = np.zeros((clusters, classes + 1))
    logs[:, :-1] = np.bincount(votes.cluster, np.where(speaks, loud + wrong, silent), clusters)[:, None]
    np.add.at(logs, (votes.cluster[speaks], label[speaks]), (np.log(right) - wrong)[speaks])
    logs[:, :-1] += np.log(opinion.objects)
    # Each class as often as it is there, whoever sees the ghost.
    kind = np.log(opinion.objects / opinion.objects.sum())[label]
    ghosts = np.maximum(opinion.ghosts[rater, level], 1e-12)
    shape = ghosts / opinion.ghosts.sum(axis=1)[rater]
    echo = np.where(speaks, np.log(opinion.echo[rater] * shape), np.log(1 - opinion.echo[rater]))
    began = np.where(speaks, ghosts * np.exp(-echo), 0.0)
    beginnings = np.bincount(votes.cluster, began, clusters)
    logs[:, -1] = np.bincount(votes.cluster, echo + np.where(speaks, kind, 0.0), clusters) + np.log(beginnings)
    logs -= logs.max(axis=1, keepdims=True, initial=-np.inf)
    posterior = np.exp(logs)
    posterior /= posterior.sum(axis=1, keepdims=True)
    return posterior, posterior[votes.cluster, -1] * began / beginnings[votes.cluster]
