"""The torchvision adapter with real networks of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torchvision.models import detection

from bridge.errors import ImageError, ModelError
from ml_backend.models import Detections
from ml_backend.models import torchvision_detector as module
from ml_backend.models.torchvision_detector import (
    TorchvisionDetector,
    build_from_state,
    build_network,
    coco_outputs,
    detection_builders,
    shrink,
)

SSDLITE = "ssdlite320_mobilenet_v3_large"
FASTER = "fasterrcnn_mobilenet_v3_large_320_fpn"
CLASSES = ("bolt", "nut")


@pytest.fixture(scope="module")
def ssdlite() -> TorchvisionDetector:
    return detector(SSDLITE)


def detector(builder: str, threshold: float = 0.3) -> TorchvisionDetector:
    torch.manual_seed(0)
    network = build_network(builder, {"num_classes": 3})
    return TorchvisionDetector(
        network, name="t-1", outputs=(None, *CLASSES), device="cpu", score_threshold=threshold, batch_size=3
    )


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(a: Detections, b: Detections) -> None:
    np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-5)
    order_a, order_b = (np.lexsort((*d.xyxy.round(1).T, d.label, -d.confidence.round(4))) for d in (a, b))
    np.testing.assert_allclose(a.xyxy[order_a], b.xyxy[order_b], atol=0.05)
    np.testing.assert_array_equal(a.label[order_a], b.label[order_b])


def obeys_the_protocol(found: Detections, image: np.ndarray, threshold: float) -> None:
    height, width = image.shape[:2]
    assert found.xyxy.dtype == np.float64
    assert found.xyxy.shape == (len(found.label), 4)
    assert found.label.dtype == np.int64
    assert found.confidence.dtype == np.float64
    assert np.isfinite(found.xyxy).all()
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= (width, height, width, height)).all()
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()
    assert ((found.label >= 0) & (found.label < len(CLASSES))).all()
    assert ((found.confidence >= threshold) & (found.confidence <= 1)).all()
    assert (np.diff(found.confidence) <= 0).all()


def test_answers_obey_the_protocol_for_all_sizes(ssdlite: TorchvisionDetector) -> None:
    images = [noise(240, 320), noise(1, 1), noise(1, 900), noise(700, 30), np.zeros((0, 5, 3), np.uint8)]
    answers = ssdlite.predict(images)
    assert len(answers) == len(images)
    assert len(answers[0].label) > 0
    for image, found in zip(images, answers, strict=True):
        obeys_the_protocol(found, image, 0.3)
    assert len(answers[-1].label) == 0


@pytest.mark.parametrize("builder", [SSDLITE, FASTER])
def test_batching_does_not_change_answers(builder: str) -> None:
    # Faster R-CNN answers random weights with class probabilities near a third.
    model = detector(builder, threshold=0.25)
    images = [noise(120, 160, 1), noise(200, 90, 2), noise(120, 160, 3), noise(64, 64, 4)]
    together = model.predict(images)
    assert sum(len(d.label) for d in together) > 0
    for image, found in zip(images, together, strict=True):
        same(found, model.predict([image])[0])


def test_faster_rcnn_survives_an_image_it_cannot_resize() -> None:
    thin = noise(1, 3000)
    (nothing, something) = detector(FASTER, threshold=0.2).predict([thin, noise(64, 64)])
    assert len(nothing.label) == 0
    obeys_the_protocol(something, noise(64, 64), 0.2)


def test_read_only_and_flipped_arrays_are_taken(ssdlite: TorchvisionDetector) -> None:
    image = noise(60, 80)
    flipped = image[:, ::-1]
    locked = np.ascontiguousarray(flipped)
    locked.flags.writeable = False
    same(ssdlite.predict([flipped])[0], ssdlite.predict([locked])[0])
    assert (image == noise(60, 80)).all()


@pytest.mark.parametrize(
    "image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)]
)
def test_arrays_that_are_no_rgb_images_are_named(ssdlite: TorchvisionDetector, image: Any) -> None:
    with pytest.raises(ImageError, match="image 1 of the call"):
        ssdlite.predict([noise(8, 8), image])


class Scripted(nn.Module):
    """Answers what it is told, as a torchvision network would."""

    def __init__(self, boxes: Any, scores: Any, labels: Any) -> None:
        super().__init__()
        self.transform = type("T", (), {"fixed_size": (320, 320)})()
        self.raw = {
            "boxes": torch.tensor(boxes, dtype=torch.float32),
            "scores": torch.tensor(scores, dtype=torch.float32),
            "labels": torch.tensor(labels),
        }
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        self.sizes += [tuple(image.shape) for image in images]
        return [self.raw for _ in images]


def test_background_unused_numbers_and_nonsense_are_dropped() -> None:
    inf, nan = float("inf"), float("nan")
    boxes = [[0, 0, 9, 9], [1, 1, 8, 8], [0, 0, inf, 9], [0, 0, nan, 9], [5, 5, 5, 9], [2, 2, 50, 60], [-5, -5, 3, 3]]
    boxes += [[0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9]]
    scores = [0.9, 0.8, 0.9, 0.9, 0.9, 0.95, 0.5, nan, 0.9, 0.1]
    labels = [0, 1, 1, 1, 1, 3, 1, 1, 77, 1]
    network = Scripted(boxes, scores, labels)
    model = TorchvisionDetector(network, name="s", outputs=(None, "a", None, "b"), device="cpu", score_threshold=0.2)
    (found,) = model.predict([noise(20, 10)])
    assert model.classes == ("a", "b")
    assert found.label.tolist() == [1, 0, 0]
    np.testing.assert_allclose(found.confidence, [0.95, 0.8, 0.5])
    np.testing.assert_allclose(found.xyxy, [[2, 2, 10, 20], [1, 1, 8, 8], [0, 0, 3, 3]])


def test_a_hundred_megapixels_are_shrunk_first_and_boxes_come_back_in_full_pixels() -> None:
    network = Scripted([[10, 20, 1000, 500]], [0.9], [1])
    model = TorchvisionDetector(network, name="s", outputs=(None, "a"), device="cpu")
    # A view of one pixel: the test itself needs no 300 MB.
    huge = np.broadcast_to(np.zeros(3, np.uint8), (10_000, 10_000, 3))
    (found,) = model.predict([huge])
    ((_, rows, columns),) = network.sizes
    assert rows * columns <= module.MAX_PIXELS
    factor = 10_000 // rows
    np.testing.assert_allclose(found.xyxy, [[10 * factor, 20 * factor, 1000 * factor, 500 * factor]])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 300))
def test_shrink_averages_blocks(height: int, width: int, most: int) -> None:
    image = noise(height, width, height * 41 + width)
    small, (fx, fy) = shrink(image, most)
    rows, columns = small.shape[:2]
    assert rows >= 1
    assert columns >= 1
    assert rows * columns <= most
    assert (rows, columns) == (height // fy, width // fx)
    blocks = image[: rows * fy, : columns * fx].reshape(rows, fy, columns, fx, 3).mean(axis=(1, 3))
    assert np.abs(blocks - small).max() <= 0.5 + 1e-9


def test_mask_and_keypoint_heads_are_switched_off() -> None:
    network: Any = build_network("maskrcnn_resnet50_fpn", {"num_classes": 2})
    assert network.roi_heads.has_mask() is False
    assert "roi_heads.mask_predictor.conv5_mask.weight" in network.state_dict()


def test_coco_names_leave_out_background_and_unused_numbers() -> None:
    names = coco_outputs("fasterrcnn_resnet50_fpn_v2")
    assert len(names) == 91
    assert names[0] is None
    assert names[1] == "person"
    assert names[90] == "toothbrush"
    assert sum(name is not None for name in names) == 80
    assert coco_outputs("keypointrcnn_resnet50_fpn") == (None, "person")


def test_every_builder_is_listed_when_one_is_unknown() -> None:
    with pytest.raises(ModelError) as caught:
        build_network("resnet50", {})
    assert all(builder in str(caught.value) for builder in detection_builders())
    assert "embedded" in str(caught.value)


@pytest.mark.parametrize("builder", [SSDLITE, FASTER, "retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssd300_vgg16"])
def test_a_wrong_number_of_classes_is_told_with_both_numbers(builder: str) -> None:
    state = build_network(builder, {"num_classes": 5}).state_dict()
    with pytest.raises(ModelError, match="num_classes is 5 in the weights and 3 in the model"):
        build_from_state(builder, state, CLASSES, {}, "the weights w.pt")


@pytest.mark.parametrize("builder", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
def test_networks_without_a_background_output_are_recognised(builder: str) -> None:
    state = build_network(builder, {"num_classes": 2}).state_dict()
    _, outputs = build_from_state(builder, state, CLASSES, {}, "w")
    assert outputs == CLASSES
    state = build_network(builder, {"num_classes": 3}).state_dict()
    _, outputs = build_from_state(builder, state, CLASSES, {}, "w")
    assert outputs == (None, *CLASSES)


def test_weights_of_another_builder_are_refused_with_examples() -> None:
    state = build_network(FASTER, {"num_classes": 3}).state_dict()
    with pytest.raises(ModelError, match=r"do not fit the model: 0 other shapes; .* missing .*; .* unknown"):
        build_from_state(SSDLITE, state, CLASSES, {}, "the weights w.pt")


def test_device_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="'cuda:99' cannot be used"):
        module.choose_device("cuda:99")
    with pytest.raises(ModelError, match="'abacus' cannot be used"):
        module.choose_device("abacus")
    assert module.choose_device("cpu").type == "cpu"


def test_saved_and_loaded_weights_answer_the_same(tmp_path: Path, ssdlite: TorchvisionDetector) -> None:
    from ml_backend.models.catalogue import load_predictor

    torch.manual_seed(0)
    network = build_network(SSDLITE, {"num_classes": 3})
    state = network.state_dict()
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "a.pth")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "a.safetensors")
    image = noise(90, 120)
    (wanted,) = ssdlite.predict([image])
    for file in ("a.pth", "a.safetensors"):
        loaded = load_predictor(SSDLITE, weights=tmp_path / file, classes=CLASSES, device="cpu", score_threshold=0.3)
        assert loaded.classes == CLASSES
        same(loaded.predict([image])[0], wanted)


def test_frozen_batch_norm_weights_load() -> None:
    network = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    built, _ = build_from_state("fasterrcnn_resnet50_fpn", state, CLASSES, {}, "w")
    weight = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(built.state_dict()[weight], state[weight])
