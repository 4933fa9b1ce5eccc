"""What a torchvision detector answers for one image, before it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Raw:
    """Attributes:
    boxes: (N, 4) float32, pixels of the image, xyxy; may leave the image, be empty or not finite.
    scores: (N,) float32, confidences.
    labels: (N,) int64, the network's own numbers.
    masks: (N, M, M) float32, per box the probability that a cell of a grid over it belongs to the object; or None.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    masks: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(cls, found: Mapping[str, Tensor]) -> Raw:
        """From torchvision's dict of tensors on any device; (N, 1, M, M) masks."""

        def array(key: str) -> Any:
            return found[key].cpu().numpy()

        return cls(array("boxes"), array("scores"), array("labels"), array("masks")[:, 0] if "masks" in found else None)


@dataclass(frozen=True, slots=True)
class RawProbes:
    """What it answers about N boxes that it was given.

    Attributes:
        probabilities: (N, C) float32, by the network's own numbers, of which 0 is the background.
        boxes: (N, C, 4) float32, pixels of the image, xyxy: where each of them would be.
    """

    probabilities: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
