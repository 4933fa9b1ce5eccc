"""ml_backend.training.ssd: which anchor learns what, and from how far off."""

from __future__ import annotations

import pytest
import torch

from ml_backend.training.embedded import build_network
from ml_backend.training.ssd import IGNORED, Batch, assign, average_into, detection_loss, forward, object_weights

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [4, 0, 14, 10], [5, 0, 15, 10], [50, 50, 60, 60]])


def test_near_anchors_are_taken_and_far_ones_are_background() -> None:
    owner, classes = assign(ANCHORS, torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([3]))
    # IoU 1, 0.82, 0.43 (one of the three best), 0.33 (no), 0.
    assert classes.tolist() == [3, 3, 3, 0, 0]
    assert owner[:3].tolist() == [0, 0, 0]


def test_in_between_counts_neither_for_nor_against() -> None:
    anchors = torch.cat([ANCHORS[:1]] * 3 + [ANCHORS[2:3]])
    _, classes = assign(anchors, torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([1]))
    assert classes.tolist() == [1, 1, 1, IGNORED]


def test_an_object_that_no_anchor_fits_still_claims_one() -> None:
    owner, classes = assign(ANCHORS, torch.tensor([[0.0, 0, 10, 10], [57, 57, 90, 90]]), torch.tensor([1, 2]))
    assert (int(owner[4]), int(classes[4])) == (1, 2)


def test_an_ignored_object_has_no_anchor_that_learns_from_it() -> None:
    _, classes = assign(ANCHORS, torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([IGNORED]))
    assert classes.tolist() == [IGNORED, IGNORED, IGNORED, 0, 0]


def test_no_objects() -> None:
    _, classes = assign(ANCHORS, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert classes.tolist() == [0] * 5


def test_the_loss_falls_as_the_answer_nears_the_truth() -> None:
    torch.manual_seed(0)
    network = build_network().eval()
    images = torch.zeros(2, 3, 64, 64)
    outputs, anchors = forward(network, images)
    boxes = [anchors[40:42].clamp(0, 64) + torch.tensor([0.0, 0, 8, 8]), torch.zeros(0, 4)]
    labels = [torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64)]
    batch = Batch(images, boxes, labels)
    wrong = sum(detection_loss(network, outputs, anchors, batch))
    owner, classes = assign(anchors, boxes[0], labels[0])
    logits = torch.full_like(outputs["cls_logits"], -8.0)
    logits[0, torch.arange(len(anchors)), classes.clamp(min=0)] = 8.0
    logits[1, :, 0] = 8.0
    offsets = torch.stack([network.box_coder.encode_single(boxes[0][owner], anchors), outputs["bbox_regression"][1]])
    right = sum(detection_loss(network, {"cls_logits": logits, "bbox_regression": offsets}, anchors, batch))
    assert float(right.detach()) < 0.2 * float(wrong.detach())


def test_the_average_moves_towards_the_network() -> None:
    average, network = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    with torch.no_grad():
        average.weight.fill_(0.0)
        network.weight.fill_(1.0)
        network.num_batches_tracked.fill_(7)
    average_into(average, network, 0.75)
    assert average.weight.tolist() == [0.25, 0.25]
    assert int(average.num_batches_tracked) == 7


def test_of_anchors_that_overlap_a_small_box_alike_the_nearest_is_its_own() -> None:
    """Ten pixels lie wholly in any anchor of 60 around them: the IoU is the same, the distance tells."""
    x = torch.arange(0.0, 50, 10)
    anchors = torch.stack((x, torch.zeros(5), x + 60, torch.full((5,), 60.0)), 1)
    owner, classes = assign(anchors, torch.tensor([[45.0, 25, 55, 35]]), torch.tensor([2]))
    assert classes[2] == 2
    assert classes[owner == 0].max() == 2
    assert set(classes.tolist()) <= {2, IGNORED}, "none of those around it is background"


def test_objects_count_alike_whatever_their_anchors() -> None:
    owners, labels = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([1, 1, 1, 1, 2])
    weight = object_weights(owners, labels)
    assert weight[:4].sum() == pytest.approx(float(weight[4]))
    assert weight.mean() == pytest.approx(1.0)


def test_rare_classes_count_more() -> None:
    owners, labels = torch.arange(5), torch.tensor([1, 1, 1, 1, 2])
    weight = object_weights(owners, labels)
    assert weight[4] == pytest.approx(2 * float(weight[0]))
    assert len(object_weights(owners[:0], labels[:0])) == 0
