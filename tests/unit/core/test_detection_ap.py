"""bridge.core.detection_ap: COCO's figures, held against pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bridge.core.detection_ap import Truth, best_threshold, detection_ap
from bridge.core.predictor import Detections

CLASSES = 4


def scene(rng: np.random.Generator, most: int) -> tuple[Truth, Detections]:
    """Boxes, and detections of which many are near them; of the last class nothing is labelled."""
    count = int(rng.integers(0, 12))
    corner, size = rng.uniform(0, 300, (count, 2)), rng.uniform(10, 60, (count, 2))
    boxes = np.hstack([corner, corner + size])
    found = int(rng.integers(0, most))
    near = boxes[rng.integers(0, count, found)] if count else np.tile((10.0, 10.0, 50.0, 50.0), (found, 1))
    near = near + rng.normal(0, 5, near.shape)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    # Few values, so that confidences tie.
    confidence = -np.sort(-np.round(rng.random(found), 1))
    truth = Truth(boxes, rng.integers(0, CLASSES - 1, count))
    return truth, Detections(near, rng.integers(0, CLASSES, found), confidence)


def oracle(truth: Sequence[Truth], found: Sequence[Detections]) -> tuple[float, float]:
    """AP and AP50 as pycocotools has them."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, results = [], []
    for image, (t, f) in enumerate(zip(truth, found, strict=True)):
        for (x1, y1, x2, y2), label in zip(t.xyxy.tolist(), t.label.tolist(), strict=True):
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": label, **box})
        for (x1, y1, x2, y2), label, score in zip(
            f.xyxy.tolist(), f.label.tolist(), f.confidence.tolist(), strict=True
        ):
            results.append(
                {"image_id": image, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": k} for k in range(len(truth))],
            "annotations": annotations,
            "categories": [{"id": k, "name": str(k)} for k in range(CLASSES)],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


def on_grid(boxes: np.ndarray) -> np.ndarray:
    """Coarse boxes, so that one detection overlaps several objects equally."""
    corner = np.round(boxes[:, :2] / 40) * 10
    return np.hstack([corner, corner + 20])


@pytest.mark.parametrize("seed", range(6))
def test_the_figures_are_cocos_also_where_overlaps_tie(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    scenes = [scene(rng, 30) for _ in range(25)]
    truth = [replace(t, xyxy=on_grid(t.xyxy), label=t.label % 1) for t, _ in scenes]
    found = [replace(f, xyxy=np.add(on_grid(f.xyxy), (5, 0, 5, 0)), label=f.label % 1) for _, f in scenes]
    ours = detection_ap(truth, found)
    assert (ours.ap, ours.ap50) == pytest.approx(oracle(truth, found), abs=1e-12)
    assert ours.ap50 > 0.01


@pytest.mark.parametrize("seed", range(6))
def test_the_figures_are_cocos(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # With 400 detections in an image the limit of 100 for a class counts.
    scenes = [scene(rng, 20 if seed < 4 else 400) for _ in range(25)]
    truth, found = [t for t, _ in scenes], [f for _, f in scenes]
    ours = detection_ap(truth, found)
    assert (ours.ap, ours.ap50) == pytest.approx(oracle(truth, found), abs=1e-12)
    assert ours.ap50 > 0.01


def test_all_found_and_nothing_else() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [20, 20, 50, 60]])
    truth, found = Truth(boxes, np.array([0, 2])), Detections(boxes, np.array([0, 2]), np.array([0.9, 0.8]))
    judged = detection_ap([truth], [found])
    assert (judged.ap, judged.ap50) == pytest.approx((1.0, 1.0))
    assert {k: c.objects for k, c in judged.by_class.items()} == {0: 1, 2: 1}


def test_nothing_labelled_has_no_figure() -> None:
    nothing = Truth(np.zeros((0, 4)), np.zeros(0, np.int64))
    found = Detections(np.array([[0.0, 0, 5, 5]]), np.array([0]), np.array([0.9]))
    for judged in (detection_ap([nothing], [found]), detection_ap([], [])):
        assert (judged.ap, judged.ap50, dict(judged.by_class)) == (None, None, {})
    assert best_threshold([nothing], [found]) == 0.5
    assert best_threshold([], []) == 0.5


def test_nothing_found_is_zero() -> None:
    truth = Truth(np.array([[0.0, 0, 5, 5]]), np.array([1]))
    assert detection_ap([truth], [Detections.none()]).ap == 0.0
    assert best_threshold([truth], [Detections.none()]) == 0.5


@pytest.mark.parametrize(("right", "wrong", "threshold"), [(0.8, 0.3, 0.35), (0.62, 0.58, 0.6), (0.3, 0.1, 0.15)])
def test_the_threshold_parts_right_from_wrong(right: float, wrong: float, threshold: float) -> None:
    boxes = np.array([[0.0, 0, 10, 10], [50, 50, 70, 70], [100, 100, 110, 110]])
    truth = Truth(boxes[:1], np.array([0]))
    # One wrong one of the same class, and one of a class that is labelled nowhere.
    found = Detections(boxes, np.array([0, 0, 3]), np.array([right, wrong, wrong]))
    assert best_threshold([truth], [found]) == pytest.approx(threshold)
