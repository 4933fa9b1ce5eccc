"""The torchvision adapter with real networks of random weights, and torchvision itself as the oracle."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detector_kit import CLASSES, FASTER, SMALL, SSDLITE, blobs, detector, lively, noise, same, untouched
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torchvision.models import detection

from bridge.errors import ImageError, ModelError
from ml_backend.models import Detections
from ml_backend.models import pixels as pixels_module
from ml_backend.models import torchvision_detector as module
from ml_backend.models.torchvision_detector import (
    TorchvisionDetector,
    build_from_state,
    build_network,
    coco_outputs,
    detection_builders,
)


@pytest.fixture(scope="module")
def ssdlite() -> TorchvisionDetector:
    return plain(SSDLITE)


def plain(builder: str, threshold: float = 0.3) -> TorchvisionDetector:
    torch.manual_seed(0)
    return detector(build_network(builder, {"num_classes": 3}), score_threshold=threshold, batch_size=3)


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
    model = plain(builder, threshold=0.25)
    images = [noise(120, 160, 1), noise(200, 90, 2), noise(120, 160, 3), noise(64, 64, 4)]
    together = model.predict(images)
    assert sum(len(d.label) for d in together) > 0
    for image, found in zip(images, together, strict=True):
        same(found, model.predict([image])[0])


def test_faster_rcnn_survives_an_image_it_cannot_resize() -> None:
    thin = noise(1, 3000)
    (nothing, something) = plain(FASTER, threshold=0.2).predict([thin, noise(64, 64)])
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
    assert rows * columns <= pixels_module.MAX_PIXELS
    factor = 10_000 // rows
    np.testing.assert_allclose(found.xyxy, [[10 * factor, 20 * factor, 1000 * factor, 500 * factor]])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 300))
def test_shrink_averages_blocks(height: int, width: int, most: int) -> None:
    image = noise(height, width, height * 41 + width)
    small, (fx, fy) = pixels_module.shrink(image, most)
    rows, columns = small.shape[:2]
    assert rows >= 1
    assert columns >= 1
    assert rows * columns <= most
    assert (rows, columns) == (height // fy, width // fx)
    blocks = image[: rows * fy, : columns * fx].reshape(rows, fy, columns, fx, 3).mean(axis=(1, 3))
    assert np.abs(blocks - small).max() <= 0.5 + 1e-9


def test_heads_whose_answers_are_not_wanted_are_switched_off() -> None:
    network: Any = build_network("maskrcnn_resnet50_fpn", {"num_classes": 2})
    assert network.roi_heads.has_mask() is False
    assert "roi_heads.mask_predictor.conv5_mask.weight" in network.state_dict()
    network = build_network("maskrcnn_resnet50_fpn", {"num_classes": 2}, masks=True)
    assert network.roi_heads.has_mask() is True
    network = build_network("keypointrcnn_resnet50_fpn", {"num_classes": 2}, masks=True)
    assert network.roi_heads.has_keypoint() is False


@pytest.mark.parametrize(
    ("builder", "args"),
    [
        (SSDLITE, {}),
        (FASTER, {}),
        ("retinanet_resnet50_fpn", SMALL),
        ("fcos_resnet50_fpn", SMALL),
        ("ssd300_vgg16", {}),
    ],
)
def test_answers_are_those_of_torchvision(builder: str, args: Any) -> None:
    network = lively(builder, **args)
    for threshold in (0.3, 0.01):
        model = detector(network, score_threshold=threshold)
        for size in ((120, 170), (250, 190)):
            image = blobs(*size)
            wanted = untouched(network, image, threshold)
            assert len(wanted.label) > 4
            # Rounding decides a few cases of which box suppresses which.
            same(wanted, model.predict([image])[0], pixels=0.2, confidence=2e-3, strays=0.03)


def test_nothing_above_the_threshold_is_no_error() -> None:
    (found,) = detector(lively(SSDLITE), score_threshold=1.0).predict([blobs(60, 80)])
    assert found.xyxy.shape == (0, 4)


@pytest.fixture(scope="module")
def mask_network() -> Any:
    return lively("maskrcnn_resnet50_fpn", masks=True, **SMALL, box_detections_per_img=12)


def test_masks_are_those_of_torchvision(mask_network: Any) -> None:
    model = detector(mask_network)
    assert model.kind == "mask"
    compared = 0
    for seed, (height, width) in enumerate([(120, 170), (200, 90), (64, 64)]):
        image = blobs(height, width, seed)
        with torch.inference_mode():
            (raw,) = mask_network.eval()([torch.from_numpy(image).permute(2, 0, 1) / 255])
        shares = raw["masks"][:, 0].numpy()
        (found,) = model.predict([image])
        obeys_the_protocol(found, image, 0.3)
        assert len(found.masks) == len(found.label)
        for xyxy, label, score, mask in zip(found.xyxy, found.label, found.confidence, found.masks, strict=True):
            near = np.abs(raw["boxes"].numpy() - xyxy).max(axis=1) + 100 * np.abs(raw["scores"].numpy() - score)
            place = int(np.argmin(near + 1e6 * (raw["labels"].numpy() != label + 1)))
            assert near[place] < 0.1
            bits = mask.full(height, width)
            assert 0 < mask.area == bits.sum()
            # Where the probability is not one half but for rounding.
            sure = np.abs(shares[place] - 0.5) > 0.02
            np.testing.assert_array_equal(bits[sure], shares[place][sure] > 0.5)
            compared += int(bits.sum())
    assert compared > 5000


def test_masks_survive_batching_and_read_only_views(mask_network: Any) -> None:
    model = detector(mask_network)
    images = [blobs(120, 170, 1), blobs(120, 170, 2)[:, ::-1], blobs(90, 60, 3)]
    images[2].flags.writeable = False
    for image, found in zip(images, model.predict(images), strict=True):
        (alone,) = model.predict([image])
        same(found, alone, pixels=0.05, confidence=1e-3)
        assert [mask.area for mask in found.masks] == pytest.approx([mask.area for mask in alone.masks], abs=5)


def test_objects_without_a_pixel_are_dropped(mask_network: Any) -> None:
    loud, quiet = copy.deepcopy(mask_network), copy.deepcopy(mask_network)
    loud.roi_heads.detections_per_img = quiet.roi_heads.detections_per_img = 60
    with torch.no_grad():
        # The predictor answers per class: nothing of the first class has a mask.
        quiet.roi_heads.mask_predictor.mask_fcn_logits.weight[1] = 0
        quiet.roi_heads.mask_predictor.mask_fcn_logits.bias[1] = -9
    images = [blobs(120, 170, seed) for seed in range(4)]
    all_, found = (detector(n, score_threshold=0.05).predict(images) for n in (loud, quiet))
    assert {0, 1} <= {label for one in all_ for label in one.label}
    for one, other in zip(found, all_, strict=True):
        assert len(one.masks) == len(one.label) == (other.label == 1).sum()
        assert (one.label == 1).all()


def test_the_memory_of_masks_is_bounded(mask_network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    image = blobs(120, 170)
    (all_,) = detector(mask_network).predict([image])
    sizes = [mask.bits.size for mask in all_.masks]
    monkeypatch.setattr(module, "MAX_MASK_PIXELS", sum(sizes[:3]) + sizes[3] // 2)
    (found,) = detector(mask_network).predict([image])
    assert [mask.bits.size for mask in found.masks] == sizes[:3]
    same(Detections(all_.xyxy[:3], all_.label[:3], all_.confidence[:3]), found)


def test_the_images_of_a_mask_network_may_be_huge(mask_network: Any) -> None:
    # A view of few pixels: the test itself needs no 100 MB. It is seen at a ninth of its size.
    image = np.repeat(np.repeat(blobs(100, 200), 60, axis=0), 60, axis=1)
    (found,) = detector(mask_network, score_threshold=0.5).predict([image])
    assert len(found.masks) > 0
    for xyxy, mask in zip(found.xyxy, found.masks, strict=True):
        left, top, right, bottom = mask.xyxy
        assert 0 <= left < right <= 12_000
        assert 0 <= top < bottom <= 6_000
        slack = (xyxy[2:] - xyxy[:2]) / 28 + 2
        assert (np.array([left, top]) >= xyxy[:2] - slack).all()
        assert (np.array([right, bottom]) <= xyxy[2:] + slack).all()


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


@pytest.mark.parametrize("own", [True, False])
def test_coco_weights_from_a_file_answer_as_torchvisions_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    builder = "retinanet_resnet50_fpn"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = lively(builder, num_classes=91, **SMALL).state_dict()
    # Variances so small that what a batch norm adds to them matters.
    for key in state:
        if key.endswith(("bn1.running_var", "bn1.weight")):
            state[key] = state[key] * (1e-5 if key.endswith("var") else 3e-3)
    if own:
        state = {k: v for k, v in state.items() if not k.endswith(".num_batches_tracked")}
    file = tmp_path / "hub" / "checkpoints" / Path(module.coco_weights(builder).url).name
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    built, outputs = build_from_state(builder, state, None, {}, "the weights w.pt")
    assert outputs == coco_outputs(builder)
    theirs = module.build_coco(builder)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        gaps = [
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(
                built.eval().backbone(images).values(), theirs.eval().backbone(images).values(), strict=True
            )
        ]
    assert max(gaps) < 1e-4 if own else max(gaps) > 1e-2
