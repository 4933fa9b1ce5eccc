"""Torchvision detectors of random weights whose answers are worth comparing."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from ml_backend.models import Detections
from ml_backend.models.torchvision_detector import TorchvisionDetector, build_network

SSDLITE = "ssdlite320_mobilenet_v3_large"
FASTER = "fasterrcnn_mobilenet_v3_large_320_fpn"
SMALL = {"min_size": 96, "max_size": 160}
CLASSES = ("bolt", "nut")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blobs(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image with structure at every scale, unlike noise, which all networks see as grey."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.full((height, width, 3), 128.0)
    for _ in range(12):
        y, x, size = random.uniform(0, height), random.uniform(0, width), random.uniform(0.02, 0.3) * min(height, width)
        inside = np.hypot(rows - y, columns - x) < size + 1
        image[inside] = random.uniform(0, 255, 3)
    return np.asarray((image + random.normal(0, 4, image.shape)).clip(0, 255), np.uint8)


#: Layers that a random initialisation leaves much too loud or too quiet, and how much their outputs are to vary.
_LOUDNESS = {
    "fpn.inner_blocks": 1.0,
    "fpn.extra_blocks": 1.0,
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.3,
    "box_predictor.cls_score": 2.0,
    "box_predictor.bbox_pred": 1.0,
    "mask_fcn_logits": 4.0,
    "classification_head.cls_logits": 1.5,
    "regression_head.bbox_reg": 0.5,
    "bbox_ctrness": 1.0,
}


def lively(builder: str, *, masks: bool = False, **args: Any) -> Any:
    """A network of random weights that sees something: its batch norms know what they see, its heads are decided."""
    torch.manual_seed(1)
    network: Any = build_network(builder, {"num_classes": 3, **args}, masks=masks)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    size = (320, 320) if network.transform.fixed_size else (96, 160)
    seen = torch.stack([torch.from_numpy(blobs(*size, seed)).permute(2, 0, 1) / 255 for seed in range(4)])
    hooks = [
        part.register_forward_hook(_Tuned(loudness))
        for name, part in network.named_modules()
        for place, loudness in _LOUDNESS.items()
        if place in name and isinstance(part, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        ready = network.eval().transform(list(seen))[0].tensors
        features = list(network.train().backbone(ready).values())
        if hasattr(network, "head"):
            network.head(features)
        network.eval()(list(seen[:1]))
    for hook in hooks:
        hook.remove()
    return network


class _Tuned:
    """Scales a layer's weights by what it sees first."""

    def __init__(self, loudness: float) -> None:
        self._loudness = loudness
        self._done = False

    def __call__(self, layer: Any, inputs: Any, outputs: torch.Tensor) -> torch.Tensor:
        if not self._done and outputs.std() > 0:
            self._done = True
            layer.weight *= self._loudness / outputs.std()
            if layer.bias is not None:
                layer.bias.zero_()
            return layer.forward(*inputs)
        return outputs


def detector(network: Any, **options: Any) -> TorchvisionDetector:
    """A detector of a copy of the network."""
    settings: dict[str, Any] = {"name": "t-1", "outputs": (None, *CLASSES), "device": "cpu", "score_threshold": 0.3}
    return TorchvisionDetector(copy.deepcopy(network), **{**settings, **options})


def untouched(network: Any, image: np.ndarray, threshold: float) -> Detections:
    """What torchvision's own network answers all by itself, without background and boxes that hold nothing."""
    with torch.inference_mode():
        (found,) = network.eval()([torch.from_numpy(image.copy()).permute(2, 0, 1) / 255])
    sides = found["boxes"][:, 2:] - found["boxes"][:, :2]
    kept = (found["scores"] >= threshold) & (found["labels"] > 0) & (sides > 0).all(dim=1)
    return Detections(
        found["boxes"][kept].double().numpy(),
        (found["labels"][kept] - 1).numpy(),
        found["scores"][kept].double().numpy(),
    )


def same(a: Detections, b: Detections, pixels: float = 1e-3, confidence: float = 1e-4, strays: float = 0.0) -> None:
    """Asserts that both hold the same objects; those of nearly equal confidence may change places.

    Args:
        strays: share of the objects that may be without a partner, for want of which others may come or go.
    """
    left = list(range(len(b.label)))
    alone = []
    for xyxy, label, score in zip(a.xyxy, a.label, a.confidence, strict=True):
        matches = [
            i
            for i in left
            if b.label[i] == label
            and np.abs(b.xyxy[i] - xyxy).max() <= pixels
            and abs(b.confidence[i] - score) <= confidence
        ]
        if matches:
            left.remove(matches[0])
        else:
            alone.append((xyxy, label, score))
    limit = strays * max(len(a.label), len(b.label))
    assert len(alone) <= limit, alone
    assert len(left) <= limit, [(b.xyxy[i], b.label[i], b.confidence[i]) for i in left]
