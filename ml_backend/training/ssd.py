"""Forward pass and loss of torchvision's single-shot detectors (SSD, SSDlite), written for small batches.

The loss differs from torchvision's: an object claims its three best anchors, boxes are also judged by their complete
IoU (Zheng et al., 2020), and objects that a crop shows only in part count neither for nor against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou, complete_box_iou_loss, distance_box_iou

#: The label of an object that counts neither for nor against.
IGNORED = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """Square pictures with their objects.

    Attributes:
        images: (B, 3, S, S) float32, normalised as the network wants it.
        boxes: per picture (G, 4) float32 pixels, xyxy, in that square.
        labels: per picture (G,) int64 from 1, or `IGNORED`.
    """

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]


def forward(network: Any, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Raw head outputs of a batch and its anchors, (A, 4) float32 pixels."""
    features = list(network.backbone(images).values())
    anchors = network.anchor_generator(ImageList(images[:1], [(images.shape[2], images.shape[3])]), features)[0]
    return network.head(features), anchors


def assign(anchors: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Give every anchor (A, 4) a box index (A,) and a class (A,): 0 background, `IGNORED` for neither.

    An anchor belongs to the box it overlaps best from IoU 0.5 on; each box also claims its three best anchors by
    distance IoU (Zheng et al., 2020) from IoU 0.25 on, or from half of its best IoU where that is less. No anchor fits
    a box much smaller than the smallest of them: all those around it overlap it alike, so that only the distance tells
    which is nearest, and the others count neither for nor against. Nor do those of 0.4..0.5.
    """
    if len(boxes) == 0:
        nothing = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
        return nothing, nothing.clone()
    overlap = box_iou(boxes, anchors)
    best, owner = overlap.max(0)
    classes = labels[owner].clone()
    classes[best < 0.5] = IGNORED
    classes[best < 0.4] = 0
    most = overlap.max(1).values
    around = (overlap >= 0.5 * most[:, None]) & (most < 0.4)[:, None]
    classes[(classes == 0) & around.any(0)] = IGNORED
    claimed = distance_box_iou(boxes, anchors).topk(3, dim=1).indices
    enough = (most / 2).clamp(max=0.25)
    for rank in (2, 1, 0):
        anchor = claimed[:, rank]
        strong = overlap[torch.arange(len(boxes), device=anchors.device), anchor] >= (enough if rank else 0.0)
        owner[anchor[strong]] = torch.arange(len(boxes), device=anchors.device)[strong]
        classes[anchor[strong]] = labels[strong]
    return owner, classes


def detection_loss(network: Any, outputs: dict[str, Tensor], anchors: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Class loss (cross entropy, three hard negatives per positive) and box loss (smooth L1 and CIoU)."""
    logits, offsets = outputs["cls_logits"], outputs["bbox_regression"]
    assigned = [assign(anchors, boxes, labels) for boxes, labels in zip(batch.boxes, batch.labels, strict=True)]
    classes = torch.stack([item[1] for item in assigned])
    positive = classes > 0
    count = positive.sum().clamp(min=1)
    per_anchor = nn.functional.cross_entropy(
        logits.flatten(0, 1), classes.clamp(min=0).flatten(), reduction="none", label_smoothing=0.02
    ).view_as(classes)
    negative = torch.where(classes == 0, per_anchor.detach(), torch.full_like(per_anchor, -1.0))
    wanted = (3 * positive.sum(1, keepdim=True)).clamp(min=16)
    rank = negative.argsort(1, descending=True).argsort(1)
    hard = (rank < wanted) & (classes == 0)

    picture, anchor = positive.nonzero(as_tuple=True)
    first = torch.tensor([0, *(len(boxes) for boxes in batch.boxes[:-1])], device=anchors.device).cumsum(0)
    owners = torch.stack([item[0] for item in assigned])[picture, anchor] + first[picture]
    weight = object_weights(owners, classes[positive])
    class_loss = ((per_anchor[positive] * weight).sum() + per_anchor[hard].sum()) / count

    truth = torch.cat(batch.boxes)[owners]
    found = offsets[picture, anchor]
    own = anchors[anchor]
    target = network.box_coder.encode_single(truth, own)
    decoded = network.box_coder.decode_single(found, own)
    box_loss = 0.5 * nn.functional.smooth_l1_loss(found, target, beta=0.5, reduction="none").sum(1)
    box_loss = box_loss + 2.0 * complete_box_iou_loss(decoded, truth, reduction="none")
    return class_loss, (box_loss * weight).sum() / count


def object_weights(owners: Tensor, labels: Tensor) -> Tensor:
    """What each positive anchor (P,) counts: objects alike, however many anchors they have, and rare classes more.

    A class counts by the square root of how much rarer it is in the batch than the mean. The weights have the mean 1.
    """
    if not len(owners):
        return torch.ones(0, device=owners.device)
    share = 1.0 / torch.bincount(owners)[owners]
    objects = torch.bincount(labels, weights=share)
    weight = share * objects[labels].rsqrt()
    return weight * (len(weight) / weight.sum())


def average_into(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the running average of weights and statistics towards the network."""
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1.0 - decay)
            else:
                mean.copy_(value)
