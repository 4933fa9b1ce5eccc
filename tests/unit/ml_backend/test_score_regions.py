"""Torchvision detectors asked about given boxes: their own detections and torchvision's own second stage as oracles."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from detector_kit import CLASSES, FASTER, SMALL, SSDLITE, blobs, detector, lively, noise
from torchvision.models.detection.transform import resize_boxes

from bridge.core.geometry import pair_iou
from bridge.core.predictor import region_scorer
from bridge.core.probes import Probes
from bridge.errors import ImageError
from bridge.scenes import draw_scene
from ml_backend.models.catalogue import load_predictor
from ml_backend.models.openvino_network import is_installed
from ml_backend.models.pixels import MAX_PIXELS
from ml_backend.models.torchvision_detector import TorchvisionDetector

MASK = "maskrcnn_resnet50_fpn_v2"


@pytest.fixture(scope="module")
def faster() -> Any:
    return lively(FASTER, **SMALL)


@pytest.fixture(scope="module")
def ssdlite() -> Any:
    return lively(SSDLITE)


def ask(model: TorchvisionDetector, image: np.ndarray, boxes: Any) -> Probes:
    scorer = region_scorer(model)
    assert scorer is not None
    return scorer.score_regions(image, np.array(boxes, np.float64).reshape(-1, 4))


def alike(a: Probes, b: Probes, tolerance: float = 1e-4, pixels: float = 1e-2) -> None:
    np.testing.assert_allclose(a.probabilities, b.probabilities, atol=tolerance)
    np.testing.assert_allclose(a.xyxy, b.xyxy, atol=pixels)


def some_boxes(height: int, width: int, count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 0.8, (count, 2))
    other = corner + random.uniform(0.05, 0.2, (count, 2))
    return np.hstack([corner, other]) * (width, height, width, height)


def says_again_what_it_detected(model: TorchvisionDetector, image: np.ndarray) -> None:
    (found,) = model.predict([image])
    assert len(found.label) > 5
    assert len(set(found.label.tolist())) == 2
    answer = ask(model, image, found.xyxy)
    own = answer.probabilities[np.arange(len(found.label)), 1 + found.label]
    np.testing.assert_allclose(own, found.confidence, atol=2e-3)
    best = answer.probabilities[:, 1:].argmax(axis=1) == found.label
    assert best.any()
    np.testing.assert_allclose(answer.xyxy[best], found.xyxy[best], atol=0.05)


@pytest.mark.parametrize("builder", [FASTER, pytest.param(MASK, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [(96, 160), (240, 100), (60, 61)])
def test_two_stages_say_of_their_own_detections_what_they_said(builder: str, size: tuple[int, int]) -> None:
    """With a second stage that moves no box, a detection is where its class was judged."""
    network = lively(builder, masks=builder == MASK, **SMALL)
    with torch.no_grad():
        network.roi_heads.box_predictor.bbox_pred.weight.zero_()
        network.roi_heads.box_predictor.bbox_pred.bias.zero_()
    says_again_what_it_detected(detector(network, score_threshold=0.05), blobs(*size))


@pytest.mark.parametrize("size", [(96, 160), (640, 480), (60, 61)])
def test_one_stage_says_of_its_own_detections_what_it_said(ssdlite: Any, size: tuple[int, int]) -> None:
    says_again_what_it_detected(detector(ssdlite, score_threshold=0.05), blobs(*size))


@pytest.mark.parametrize("size", [(96, 160), (200, 90)])
def test_the_second_stage_answers_as_for_a_proposal(faster: Any, size: tuple[int, int]) -> None:
    """torchvision's own steps, given the boxes in place of its proposals, with nothing dropped after them."""
    image = blobs(*size)
    boxes = some_boxes(*size, 20)
    network = copy.deepcopy(faster).eval()
    heads = network.roi_heads
    with torch.inference_mode():
        prepared, _ = network.transform([torch.from_numpy(image).permute(2, 0, 1) / 255])
        inner = list(prepared.image_sizes[0])
        scaled = resize_boxes(torch.from_numpy(boxes).float(), list(size), inner)
        features = network.backbone(prepared.tensors)
        pooled = heads.box_head(heads.box_roi_pool(features, [scaled], prepared.image_sizes))
        logits, deltas = heads.box_predictor(pooled)
        chances = logits.softmax(-1).double().numpy()
        moved = heads.box_coder.decode(deltas, [scaled])
        moved = moved[torch.arange(len(boxes)), 1 + logits[:, 1:].argmax(1)]
        expected = resize_boxes(moved, inner, list(size)).double().numpy()
    answer = ask(detector(faster), image, boxes)
    height, width = size
    alike(answer, Probes(chances, np.clip(expected, 0, (width, height, width, height))))
    assert np.ptp(answer.probabilities, axis=0).max() > 0.1


@pytest.mark.parametrize("name", ["faster", "ssdlite"])
class TestTheProtocol:
    @pytest.fixture
    def model(self, name: str, request: pytest.FixtureRequest) -> TorchvisionDetector:
        return detector(request.getfixturevalue(name), score_threshold=0.9)

    def test_answers_every_box_whatever_the_threshold(self, model: TorchvisionDetector) -> None:
        boxes = some_boxes(100, 150, 30)
        answer = ask(model, blobs(100, 150), boxes)
        assert answer.probabilities.shape == (30, 1 + len(CLASSES))
        assert answer.probabilities.dtype == answer.xyxy.dtype == np.float64
        assert ((answer.probabilities >= 0) & (answer.probabilities <= 1)).all()
        np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1.0, atol=1e-5)
        assert ((answer.xyxy >= 0) & (answer.xyxy <= (150, 100, 150, 100))).all()

    def test_no_boxes(self, model: TorchvisionDetector) -> None:
        answer = ask(model, blobs(60, 60), [])
        assert (answer.probabilities.shape, answer.xyxy.shape) == ((0, 3), (0, 4))

    def test_boxes_without_area_in_the_image(self, model: TorchvisionDetector) -> None:
        good, nan = (10, 10, 40, 50), float("nan")
        bad = [(10, 10, 10, 30), (30, 10, 20, 40), (100, 10, 130, 40), (-20, -20, -1, -1), (0, nan, 9, 9)]
        image = blobs(60, 80)
        answer = ask(model, image, [*bad, good])
        assert np.isnan(answer.probabilities[:-1]).all()
        assert np.isnan(answer.xyxy[:-1]).all()
        alike(answer.rows(slice(len(bad), None)), ask(model, image, [good]))

    def test_boxes_are_cut_at_the_edges_of_the_image(self, model: TorchvisionDetector) -> None:
        image = blobs(60, 80)
        alike(ask(model, image, [(-30, 20, 50, 999)]), ask(model, image, [(0, 20, 50, 60)]))

    @pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3)])
    def test_an_image_without_pixels(self, model: TorchvisionDetector, shape: tuple[int, ...]) -> None:
        assert np.isnan(ask(model, np.zeros(shape, np.uint8), [(0, 0, 3, 3)]).probabilities).all()

    def test_what_is_no_image(self, model: TorchvisionDetector) -> None:
        with pytest.raises(ImageError):
            ask(model, np.zeros((5, 5), np.uint8), [(0, 0, 3, 3)])

    @pytest.mark.parametrize("rows", [[0], [11, 3, 4], [5, 5, 5], list(range(11, -1, -1))])
    def test_other_boxes_do_not_count(self, model: TorchvisionDetector, rows: list[int]) -> None:
        image, boxes = blobs(90, 120), some_boxes(90, 120, 12)
        alike(ask(model, image, boxes).rows(np.array(rows)), ask(model, image, boxes[rows]))

    def test_a_large_image_is_asked_in_its_own_pixels(self, model: TorchvisionDetector) -> None:
        """Of more pixels than are looked at; each of the small image is a block of the large one."""
        image, boxes = blobs(1500, 1500), some_boxes(1500, 1500, 10)
        assert image.size // 3 < MAX_PIXELS < 2 * image.size // 3
        large = image.repeat(2, axis=0).repeat(2, axis=1)
        one, other = ask(model, image, boxes), ask(model, large, 2 * boxes)
        alike(one, Probes(other.probabilities, other.xyxy / 2))


def test_more_boxes_than_are_pooled_at_a_time(faster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    image, boxes = blobs(90, 120), some_boxes(90, 120, 25)
    whole = ask(detector(faster), image, boxes)
    monkeypatch.setattr("ml_backend.models.region_network._MOST", 7)
    alike(whole, ask(detector(faster), image, boxes))


def test_more_overlaps_than_are_computed_at_a_time(ssdlite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    image, boxes = blobs(90, 120), some_boxes(90, 120, 25)
    whole = ask(detector(ssdlite), image, boxes)
    monkeypatch.setattr("ml_backend.models.ssd_postprocess._MOST_PAIRS", 9000)
    alike(whole, ask(detector(ssdlite), image, boxes))


def test_numbers_without_a_class_are_background(faster: Any) -> None:
    image, boxes = blobs(90, 120), some_boxes(90, 120, 12)
    both = ask(detector(faster), image, boxes)
    one = ask(detector(faster, outputs=(None, "bolt", None)), image, boxes)
    assert one.probabilities.shape == (12, 2)
    np.testing.assert_allclose(one.probabilities[:, 1], both.probabilities[:, 1], atol=1e-6)
    np.testing.assert_allclose(one.probabilities[:, 0], both.probabilities[:, [0, 2]].sum(axis=1), atol=1e-6)


@pytest.mark.skipif(not is_installed(), reason="needs OpenVINO")
@pytest.mark.parametrize("name", ["faster", "ssdlite"])
def test_openvino_answers_the_same(name: str, request: pytest.FixtureRequest) -> None:
    network = request.getfixturevalue(name)
    image, boxes = blobs(120, 150), some_boxes(120, 150, 20)
    alike(ask(detector(network), image, boxes), ask(detector(network, accelerator="openvino"), image, boxes), 1e-3, 0.1)


@pytest.mark.parametrize("builder", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
def test_who_cannot_be_asked_says_so(builder: str) -> None:
    assert region_scorer(detector(lively(builder, **SMALL))) is None


def test_the_embedded_model_tells_objects_from_empty_places_and_classes_from_each_other() -> None:
    scene = draw_scene(31, 640, 480)
    model: Any = load_predictor(device="cpu")
    truth = ask(model, scene.image, scene.xyxy)
    best = [model.classes[k] for k in truth.probabilities[:, 1:].argmax(axis=1)]
    assert np.mean([a == b for a, b in zip(best, scene.labels, strict=True)]) >= 0.8
    assert np.median(truth.probabilities[:, 0]) < 0.2
    # Where it would draw the object is nearer to the truth than a box that somebody moved.
    moved = scene.xyxy + np.tile(0.1 * (scene.xyxy[:, 2:] - scene.xyxy[:, :2]), 2)
    better = pair_iou(ask(model, scene.image, moved).xyxy, scene.xyxy) > pair_iou(moved, scene.xyxy)
    assert better.mean() >= 0.8
    empty = noise(480, 640) // 16 + 100
    assert (ask(model, empty, scene.xyxy).probabilities[:, 0] > 0.9).all()
