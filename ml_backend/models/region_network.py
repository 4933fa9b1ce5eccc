"""Faster, Mask and Keypoint R-CNN, RetinaNet and FCOS from pixels to boxes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import clip_boxes_to_image

from ml_backend.models.given_boxes import Floats
from ml_backend.models.pixels import Image
from ml_backend.models.raw import Raw, RawProbes
from ml_backend.models.resize import pixel_statistics, resized_on, target_size
from ml_backend.models.ssd_postprocess import just_below

#: Given boxes that are pooled at a time, about as many as the network proposes itself: each takes some 100 kB.
_MOST = 1000


class WholeNetwork:
    """A torchvision detector as it is, as a function of images of one size.

    Args:
        network: in evaluation mode.
        threshold: what is less confident is not answered.
    """

    def __init__(self, network: nn.Module, threshold: float) -> None:
        self._network = _stricter(network, threshold)

    def __call__(self, images: Sequence[Image]) -> Iterator[Raw]:
        device = next(iter(self._network.parameters()), torch.empty(0)).device
        return map(Raw.of, self._network([_planes(image, device) for image in images]))


class RegionNetwork:
    """A torchvision R-CNN as a function of images of one size. Masks stay the small grids they are in the network:
    torchvision would enlarge each to the whole image.

    Args:
        network: a GeneralizedRCNN, in evaluation mode.
        threshold: what is less confident is not answered.
    """

    def __init__(self, network: Any, threshold: float) -> None:
        self._network = network
        self._heads = _stricter(network.roi_heads, threshold)
        self._mean, self._scale = pixel_statistics(network)

    def __call__(self, images: Sequence[Image]) -> Iterator[Raw]:
        prepared = self._prepared(images)
        features = self._network.backbone(prepared.tensors)
        proposals, _ = self._network.rpn(prepared, features)
        found, _ = self._heads(features, proposals, prepared.image_sizes)
        for image, size, one in zip(images, prepared.image_sizes, found, strict=True):
            yield Raw.of({**one, "boxes": resize_boxes(one["boxes"], list(size), list(image.shape[:2]))})

    def probe(self, image: Image, boxes: Floats) -> RawProbes:
        """What the second stage says about ``boxes`` (N, 4), pixels of the image, in place of the first stage's
        proposals: neither threshold nor suppression comes after it."""
        prepared = self._prepared([image])
        (size,) = prepared.image_sizes
        features = self._network.backbone(prepared.tensors)
        asked = torch.as_tensor(boxes, dtype=torch.float32, device=self._mean.device)
        scaled = resize_boxes(asked, list(image.shape[:2]), list(size))
        answers = [self._answer(features, part, size) for part in scaled.split(_MOST)]
        probabilities, moved = (torch.cat(parts) for parts in zip(*answers, strict=True))
        back = resize_boxes(moved.reshape(-1, 4), list(size), list(image.shape[:2])).reshape(moved.shape)
        return RawProbes(probabilities.cpu().numpy(), back.cpu().numpy())

    def _answer(self, features: Any, boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(N, C) probabilities and (N, C, 4) boxes, pixels of the network's input."""
        heads = self._heads
        pooled = heads.box_roi_pool(features, [boxes], [size])
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        return logits.softmax(dim=-1), clip_boxes_to_image(heads.box_coder.decode(deltas, [boxes]), size)

    def _prepared(self, images: Sequence[Image]) -> ImageList:
        """Resized, normalised, and padded at the right and bottom to what the network can halve evenly."""
        transform = self._network.transform
        height, width = target_size(transform, *images[0].shape[:2])
        whole = transform.size_divisible
        rows, columns = (-(-side // whole) * whole for side in (height, width))
        device = self._mean.device
        padded = torch.zeros(len(images), rows, columns, 3, device=device).permute(0, 3, 1, 2)
        for i, image in enumerate(images):
            pixels = resized_on(device, image, height, width).permute(2, 0, 1)
            padded[i, :, :height, :width] = (pixels - self._mean[0]) * self._scale[0]
        return ImageList(padded, [(height, width)] * len(images))


def _stricter(module: Any, threshold: float) -> Any:
    """A copy that shares its layers and answers nothing below ``threshold``."""
    made = copy.copy(module)
    if hasattr(made, "score_thresh"):
        made.score_thresh = max(float(made.score_thresh), just_below(threshold))
    return made


def _planes(image: Image, device: torch.device) -> Tensor:
    """(3, H, W) float32 in [0, 1]."""
    # torch takes neither read-only arrays nor negative strides.
    usable = image if image.flags.writeable and image.flags.c_contiguous else image.copy(order="C")
    return torch.from_numpy(usable).to(device).permute(2, 0, 1).to(torch.float32).div_(255)
