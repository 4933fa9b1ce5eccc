"""SSD and SSDlite from pixels to boxes: preparation, network and post-processing, on torch or on OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from ml_backend.models.dense_stages import DTYPES
from ml_backend.models.given_boxes import Floats as Boxes
from ml_backend.models.openvino_network import Floats, StreamedNetwork, convert, import_openvino
from ml_backend.models.pixels import Image
from ml_backend.models.precision import Arithmetic
from ml_backend.models.raw import Raw, RawProbes
from ml_backend.models.resize import pixel_statistics, resized, resized_on, target_size
from ml_backend.models.ssd_postprocess import SsdPostprocess

#: (A, 4) corrections of the anchors and (A, C) probabilities of each image, in order; valid until the next step.
Dense = Callable[[Sequence[Image]], Iterator[tuple[Floats, Floats]]]


class SingleShot:
    """A torchvision SSD as a function of images of any sizes.

    Args:
        network: torchvision's SSD, in evaluation mode.
        threshold: what is less confident is not answered.
        openvino: compute the layers with OpenVINO; else with torch.

    Raises:
        ConfigError, ModelError: as :func:`~ml_backend.models.openvino_network.convert`.
    """

    def __init__(self, network: Any, threshold: float, arithmetic: Arithmetic, *, openvino: bool = False) -> None:
        self._size = target_size(network.transform, 1, 1)
        device = next(network.parameters()).device
        with torch.inference_mode():
            blank = torch.zeros(1, 3, *self._size, device=device)
            anchors = network.anchor_generator(ImageList(blank, [self._size]), list(network.backbone(blank).values()))
        self._post = SsdPostprocess.of(network, anchors[0].cpu().numpy(), self._size, threshold)
        layers = _Layers(network)
        self._dense: Dense = (
            _OpenVinoDense(layers, self._size, arithmetic)
            if openvino
            else _TorchDense(layers, self._size, device, arithmetic)
        )

    def __call__(self, images: Sequence[Image]) -> Iterator[Raw]:
        """What it finds in each image."""
        for image, (deltas, scores) in zip(images, self._dense(images), strict=True):
            boxes, confidence, labels = self._post(deltas, scores)
            scale = np.divide(image.shape[1::-1], self._size[::-1], dtype=np.float32)
            yield Raw(boxes * np.tile(scale, 2), confidence, labels)

    def probe(self, image: Image, boxes: Boxes) -> RawProbes:
        """What it says where it fits each of ``boxes`` (N, 4), pixels of the image, best: of all its boxes the one with
        the largest IoU, whatever its confidence and before suppression."""
        scale = np.tile(np.divide(image.shape[1::-1], self._size[::-1]), 2)
        ((deltas, scores),) = self._dense([image])
        anchors, own = self._post.best_fitting(boxes / scale, deltas)
        chances = scores[anchors]
        moved = (own * scale).astype(np.float32)
        return RawProbes(chances, np.broadcast_to(moved[:, None], (*chances.shape, 4)))


class _Layers(nn.Module):
    """All layers of an SSD: pixels in [0, 255] to corrections of the anchors and probabilities."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.head = network.head
        mean, scale = pixel_statistics(network)
        self.mean = nn.Buffer(mean)
        self.scale = nn.Buffer(scale)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, h, w) float32 -> (B, A, 4) and (B, A, C) float32."""
        found = self.head(list(self.backbone((pixels - self.mean) * self.scale).values()))
        return found["bbox_regression"].float(), found["cls_logits"].float().softmax(dim=-1)


class _TorchDense:
    """The layers on torch, all images at once."""

    def __init__(self, layers: nn.Module, size: tuple[int, int], device: torch.device, arithmetic: Arithmetic) -> None:
        self._layers = layers
        self._size = size
        self._device = device
        self._dtype = DTYPES.get(arithmetic)

    def __call__(self, images: Sequence[Image]) -> Iterator[tuple[Floats, Floats]]:
        # Seen as planes, an image whose colours lie together is what torch calls channels last.
        pixels = torch.stack([resized_on(self._device, image, *self._size) for image in images]).permute(0, 3, 1, 2)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None):
            deltas, scores = self._layers(pixels)
        return zip(deltas.cpu().numpy(), scores.cpu().numpy(), strict=True)


class _OpenVinoDense:
    """The layers on OpenVINO, several images side by side."""

    def __init__(self, layers: nn.Module, size: tuple[int, int], arithmetic: Arithmetic) -> None:
        openvino = import_openvino()
        steps = openvino.preprocess.PrePostProcessor(convert(layers, [torch.zeros(1, 3, *size)]))
        steps.input().tensor().set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        self._network = StreamedNetwork(steps.build(), (1, *size, 3), arithmetic)
        self._size = size

    def __call__(self, images: Sequence[Image]) -> Iterator[tuple[Floats, Floats]]:
        def fill(i: int, pixels: Floats) -> None:
            resized(images[i], *self._size, out=pixels[0])

        for deltas, scores in self._network.run(len(images), fill):
            yield deltas[0], scores[0]
