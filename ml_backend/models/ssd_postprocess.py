"""From the raw outputs of a single-shot detector to boxes: the least confident are dropped before anything is computed.

Confidence decides both what is suppressed by an overlapping box and what belongs to the best of its class, so dropping
what is below the threshold first leaves the answer as it is, and most of the work undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image


@dataclass(frozen=True, slots=True)
class SsdPostprocess:
    """The steps of torchvision's ``SSD.postprocess_detections``, threshold first and all classes at once.

    Attributes:
        anchors: (A, 4) float32, pixels of the network's input, xyxy.
        size: (height, width) of that input.
        box_coder: torchvision's BoxCoder of the network.
        above: only confidences above it are answered.
        overlap: of two boxes of a class whose IoU is larger the less confident one is dropped.
        best_of_class: boxes per class that take part in that, the most confident ones.
        most: boxes answered per image.
    """

    anchors: Tensor
    size: tuple[int, int]
    box_coder: Any
    above: float
    overlap: float
    best_of_class: int
    most: int

    @classmethod
    def of(cls, network: Any, anchors: Tensor, size: tuple[int, int], threshold: float) -> SsdPostprocess:
        """For a torchvision SSD; what is below ``threshold`` is not wanted either."""
        return cls(
            anchors,
            size,
            network.box_coder,
            max(float(network.score_thresh), just_below(threshold)),
            float(network.nms_thresh),
            int(network.topk_candidates),
            int(network.detections_per_img),
        )

    def __call__(self, deltas: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, 4) in pixels of the network's input, confidences (N,) in falling order, and classes (N,).

        Args:
            deltas: (A, 4) float32, the network's corrections of the anchors.
            scores: (A, C) float32, per anchor the probability of each class; class 0 is the background.
        """
        # An anchor of which the background leaves too little has no class above the threshold. The margin outweighs
        # the rounding of the sum of the classes.
        likely = torch.nonzero(scores[:, 0] < 1.0 - self.above + 1e-4).squeeze(1)
        classes, places = torch.nonzero((scores[likely, 1:] > self.above).T, as_tuple=True)
        anchors, labels = likely[places], classes + 1
        confidence = scores[anchors, labels]
        if len(labels) > self.best_of_class:
            best = _best_of_each(labels, confidence, self.best_of_class)
            anchors, labels, confidence = anchors[best], labels[best], confidence[best]
        boxes = self.box_coder.decode_single(deltas[anchors], self.anchors[anchors])
        boxes = clip_boxes_to_image(boxes, self.size)
        kept = batched_nms(boxes, confidence, labels, self.overlap)[: self.most]
        return boxes[kept], confidence[kept], labels[kept]


def just_below(threshold: float) -> float:
    """The next smaller float32: torchvision keeps what is above a threshold, and here equal is enough."""
    return float(np.nextafter(np.float32(threshold), np.float32(-1)))


def _best_of_each(labels: Tensor, confidence: Tensor, most: int) -> Tensor:
    """Places of the ``most`` most confident of each label, (M,) int64; ``labels`` (N,) are sorted."""
    order = confidence.argsort(descending=True, stable=True)
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=order.device) - first[labels[order]]
    return order[rank < most]
