"""Post-processing of single-shot detectors against torchvision's own, from the same raw outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detector_kit import SSDLITE
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_backend.models.ssd_postprocess import SsdPostprocess, just_below
from ml_backend.models.torchvision_detector import build_network

SIZE = (320, 320)


@pytest.fixture(scope="module")
def network() -> Any:
    return build_network(SSDLITE, {"num_classes": 5}).eval()


def raw(seed: int, anchors: int, classes: int, background: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Corrections, logits and anchors; the more background, the fewer candidates."""
    random = torch.Generator().manual_seed(seed)
    corners = torch.rand(anchors, 2, generator=random) * 300 - 10
    sides = torch.rand(anchors, 2, generator=random) * 120 + 1
    logits = torch.randn(anchors, classes, generator=random) * 2
    logits[:, 0] += background
    return torch.randn(anchors, 4, generator=random) * 2, logits, torch.cat((corners, corners + sides), dim=1)


def compare(network: Any, seed: int, anchors: int, background: float, threshold: float) -> int:
    deltas, logits, boxes = raw(seed, anchors, 5, background)
    post = SsdPostprocess.of(network, boxes.numpy(), SIZE, threshold)
    found_boxes, confidence, labels = post(deltas.numpy(), logits.softmax(dim=1).numpy())
    outputs = {"bbox_regression": deltas[None], "cls_logits": logits[None]}
    (wanted,) = network.postprocess_detections(outputs, [boxes], [SIZE])
    kept = wanted["scores"] >= threshold
    np.testing.assert_array_equal(labels, wanted["labels"][kept].numpy())
    np.testing.assert_array_equal(confidence, wanted["scores"][kept].numpy())
    # Of equal confidences neither comes first.
    wanted_boxes = wanted["boxes"][kept].numpy()
    order = [np.lexsort((*boxes.round(1).T, labels, -confidence)) for boxes in (found_boxes, wanted_boxes)]
    np.testing.assert_allclose(found_boxes[order[0]], wanted_boxes[order[1]], atol=2e-4)
    return len(labels)


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**31),
    anchors=st.sampled_from([0, 1, 7, 300, 2000]),
    background=st.sampled_from([-3.0, 0.0, 4.0, 9.0]),
    threshold=st.sampled_from([0.0, 0.001, 0.05, 0.3, 0.5, 0.999, 1.0]),
)
def test_the_same_as_torchvision(network: Any, seed: int, anchors: int, background: float, threshold: float) -> None:
    compare(network, seed, anchors, background, threshold)


@pytest.mark.parametrize(("best", "most"), [(1, 200), (20, 200), (20, 7), (400, 3)])
def test_limits_per_class_and_per_image(best: int, most: int) -> None:
    network = build_network(SSDLITE, {"num_classes": 5, "topk_candidates": best, "detections_per_img": most}).eval()
    for seed in range(5):
        assert 0 < compare(network, seed, 500, 0.0, 0.0) <= min(most, 4 * best)


def test_growth_of_boxes_is_limited(network: Any) -> None:
    post = SsdPostprocess.of(network, np.array([[100.0, 100, 101, 102]], np.float32), SIZE, 0.0)
    deltas, scores = np.full((1, 4), 1e4, np.float32), np.array([[0.1, 0.9, 0, 0, 0]], np.float32)
    (box,), _, _ = post(deltas, scores)
    assert np.isfinite(box).all()
    assert (box == [320, 320, 320, 320]).all()


def test_a_confidence_equal_to_the_threshold_is_kept(network: Any) -> None:
    scores = np.array([[0.5, 0.5, 0, 0, 0], [0.51, 0.49, 0, 0, 0]], np.float32)
    anchors = np.array([[10, 10, 50, 50], [100, 100, 150, 150]], np.float32)
    post = SsdPostprocess.of(network, anchors, SIZE, 0.5)
    _, confidence, _ = post(np.zeros((2, 4), np.float32), scores)
    assert confidence.tolist() == [0.5]


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 0.5, 1.0])
def test_just_below_is_below_and_next(threshold: float) -> None:
    below = just_below(threshold)
    assert below < np.float32(threshold)
    assert np.nextafter(np.float32(below), np.float32(2)) == np.float32(threshold)
