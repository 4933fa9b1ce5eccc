"""Resizing as torchvision's detectors do it: bilinear, pixel centres at one half, no smoothing, no rounding."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ml_backend.models.pixels import Image

Floats = npt.NDArray[np.float32]


def resized(image: Image, height: int, width: int, out: Floats | None = None) -> Floats:
    """An (H, W, 3) uint8 image as (height, width, 3) float32 in [0, 255].

    Differs from ``torch.nn.functional.interpolate`` of the float image by rounding only.

    Args:
        out: where to put it, (height, width, 3) float32 contiguous; None makes a new array.
    """
    numbers = np.asarray(image, np.float32, order="C")
    made = cv2.resize(numbers, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    if out is not None and made is not out:
        out[...] = made
        return out
    return np.asarray(made, np.float32)


def resized_on(device: torch.device, image: Image, height: int, width: int) -> Tensor:
    """The same as a (height, width, 3) float32 tensor on ``device``; a GPU resizes it itself."""
    if device.type == "cpu":
        return torch.from_numpy(resized(image, height, width))
    # torch takes neither read-only arrays nor negative strides.
    usable = image if image.flags.writeable and image.flags.c_contiguous else image.copy(order="C")
    planes = torch.from_numpy(usable).to(device).permute(2, 0, 1)[None].to(torch.float32)
    small = torch.nn.functional.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False)
    return small[0].permute(1, 2, 0)


def target_size(transform: Any, height: int, width: int) -> tuple[int, int]:
    """The (height, width) to which torchvision's ``GeneralizedRCNNTransform`` resizes an image; 0 where a side
    vanishes."""
    if transform.fixed_size is not None:
        return int(transform.fixed_size[1]), int(transform.fixed_size[0])
    scale = min(transform.min_size[-1] / min(height, width), transform.max_size / max(height, width))
    return math.floor(height * scale), math.floor(width * scale)


def pixel_statistics(network: Any) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation of pixels in [0, 255], each (1, 3, 1, 1) float32 on the network's device."""
    device = next(network.parameters()).device
    mean = torch.tensor(network.transform.image_mean, dtype=torch.float32).view(1, 3, 1, 1) * 255
    std = torch.tensor(network.transform.image_std, dtype=torch.float32).view(1, 3, 1, 1) * 255
    return mean.to(device), (1 / std).to(device)
