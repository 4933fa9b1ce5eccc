"""From the raw outputs of a single-shot detector to boxes: the least confident are dropped before anything is computed.

Confidence decides both what is suppressed by an overlapping box and what belongs to the best of its class, so dropping
what is below the threshold first leaves the answer as it is, and most of the work undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import batched_nms

from bridge.core.geometry import iou_matrix

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

#: Overlaps that are computed at a time; each takes about 100 bytes.
_MOST_PAIRS = 1_000_000


@dataclass(frozen=True, slots=True)
class SsdPostprocess:
    """The steps of torchvision's ``SSD.postprocess_detections``, threshold first and all classes at once.

    Attributes:
        anchors: (A, 4) float32, pixels of the network's input, xyxy.
        size: (height, width) of that input.
        weights: by which corrections of x, y, width and height are divided.
        most_growth: logarithm of the most that an anchor's side may be multiplied by.
        above: only confidences above it are answered.
        overlap: of two boxes of a class whose IoU is larger the less confident one is dropped.
        best_of_class: boxes per class that take part in that, the most confident ones.
        most: boxes answered per image.
    """

    anchors: Floats
    size: tuple[int, int]
    weights: tuple[float, float, float, float]
    most_growth: float
    above: float
    overlap: float
    best_of_class: int
    most: int

    @classmethod
    def of(cls, network: Any, anchors: Floats, size: tuple[int, int], threshold: float) -> SsdPostprocess:
        """For a torchvision SSD; what is below ``threshold`` is not wanted either."""
        return cls(
            anchors,
            size,
            tuple(network.box_coder.weights),
            float(network.box_coder.bbox_xform_clip),
            max(float(network.score_thresh), just_below(threshold)),
            float(network.nms_thresh),
            int(network.topk_candidates),
            int(network.detections_per_img),
        )

    def __call__(self, deltas: Floats, scores: Floats) -> tuple[Floats, Floats, Places]:
        """Boxes (N, 4) in pixels of the network's input, confidences (N,) in falling order, and classes (N,).

        Args:
            deltas: (A, 4) float32, the network's corrections of the anchors.
            scores: (A, C) float32, per anchor the probability of each class; class 0 is the background.
        """
        # An anchor of which the background leaves too little has no class above the threshold. The margin outweighs
        # the rounding of the sum of the classes.
        likely = np.flatnonzero(scores[:, 0] < 1.0 - self.above + 1e-4)
        by_class = scores[likely, 1:].T
        classes, places = np.nonzero(by_class > self.above)
        anchors, labels = likely[places], classes + 1
        confidence = scores[anchors, labels]
        if len(labels) > self.best_of_class:
            best = _best_of_each(labels, confidence, self.best_of_class)
            anchors, labels, confidence = anchors[best], labels[best], confidence[best]
        boxes = self._decoded(deltas[anchors], self.anchors[anchors])
        kept = batched_nms(*(torch.from_numpy(a) for a in (boxes, confidence, labels)), self.overlap).numpy()
        kept = kept[: self.most]
        return boxes[kept], confidence[kept], labels[kept]

    def best_fitting(self, boxes: npt.NDArray[np.float64], deltas: Floats) -> tuple[Places, Floats]:
        """For each of ``boxes`` (N, 4), in pixels of the network's input, the anchor whose box fits it best, (N,), and
        that box, (N, 4).

        Args:
            deltas: (A, 4) float32, the network's corrections of the anchors.
        """
        own = self._decoded(deltas, self.anchors)
        parts = np.array_split(boxes, max(1, len(boxes) * len(own) // _MOST_PAIRS))
        best = np.concatenate([iou_matrix(part, own.astype(np.float64)).argmax(axis=1) for part in parts])
        return best, own[best]

    def _decoded(self, deltas: Floats, anchors: Floats) -> Floats:
        """(N, 4) anchors moved and scaled by their corrections, clipped to the network's input."""
        moves, growth = (
            deltas[:, half] / np.asarray(self.weights[half], np.float32) for half in (slice(0, 2), slice(2, 4))
        )
        sides = anchors[:, 2:] - anchors[:, :2]
        centres = moves * sides + (anchors[:, :2] + np.float32(0.5) * sides)
        halves = np.exp(np.minimum(growth, np.float32(self.most_growth))) * sides * np.float32(0.5)
        height, width = self.size
        limits = np.array([width, height, width, height], np.float32)
        boxes: Floats = np.concatenate((centres - halves, centres + halves), axis=1).clip(np.float32(0), limits)
        return boxes


def just_below(threshold: float) -> float:
    """The next smaller float32: torchvision keeps what is above a threshold, and here equal is enough."""
    return float(np.nextafter(np.float32(threshold), np.float32(-1)))


def _best_of_each(labels: Places, confidence: Floats, most: int) -> Places:
    """Places of the ``most`` most confident of each label, (M,) int64, by label and falling confidence."""
    order = np.lexsort((-confidence, labels))
    counts = np.bincount(labels)
    rank = np.arange(len(order)) - (np.cumsum(counts) - counts)[labels[order]]
    return np.asarray(order[rank < most], np.int64)
