"""The parts of torchvision's detectors that are plain layers, to be run by another runtime or in half precision.

What lies between them (anchors, decoding of boxes, suppression, pooling of regions) stays torchvision's own, in full
precision: box coordinates in half precision would be several pixels wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ml_backend.models.nested import mapped
from ml_backend.models.precision import Arithmetic

#: Puts another module in the place of a stage, given an example of what the stage is called with.
Replace = Callable[[nn.Module, Sequence[Any]], nn.Module]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Autocast(nn.Module):
    """A module in half precision, with full precision outside."""

    def __init__(self, inner: nn.Module, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.inner = inner
        self._dtype = DTYPES[arithmetic]

    def forward(self, *inputs: Any) -> Any:
        device = next(self.inner.parameters()).device.type
        with torch.autocast(device, self._dtype):
            outputs = self.inner(*inputs)
        return mapped(outputs, Tensor.float)


def replace_stages(network: Any, replace: Replace) -> None:
    """Puts what ``replace`` makes in the place of each stage of a RetinaNet, an FCOS or one of the R-CNNs.

    Where ``replace`` raises, the network is as before.
    """
    device = next(network.parameters()).device
    made = []
    with torch.no_grad():
        for owner, name, example in _stages(network, torch.ones(1, 3, 256, 320, device=device)):
            made.append((owner, name, replace(getattr(owner, name), example)))
    for owner, name, stage in made:
        setattr(owner, name, stage)


def _stages(network: Any, images: Tensor) -> list[tuple[nn.Module, str, tuple[Any, ...]]]:
    """Each stage as its owner, its name there, and what it is called with."""
    levels = list(network.backbone(images).values())
    stages: list[tuple[nn.Module, str, tuple[Any, ...]]] = [(network, "backbone", (images,))]
    if not hasattr(network, "roi_heads"):
        return [*stages, (network, "head", (levels,))]
    heads = network.roi_heads
    stages.append((network.rpn, "head", (levels,)))
    for kind, pool in (("box", heads.box_roi_pool), ("mask", heads.mask_roi_pool)):
        if pool is None:
            continue
        pooled = torch.ones(2, levels[0].shape[1], *pool.output_size, device=images.device)
        head = getattr(heads, f"{kind}_head")
        stages.append((heads, f"{kind}_head", (pooled,)))
        stages.append((heads, f"{kind}_predictor", (head(pooled),)))
    return stages
