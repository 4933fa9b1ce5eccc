"""Binary masks in memory: the part of the image that holds the object, and where it lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Xyxy

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MaskCrop:
    """A mask as a crop: outside of it the mask is empty.

    Attributes:
        left, top: the pixel of the image on which the crop's first pixel lies, 0 or more.
        bits: (h, w) bool, True where the object is; h and w at least 1.
    """

    left: int
    top: int
    bits: Bools

    @classmethod
    def of(cls, mask: Bools, left: int = 0, top: int = 0) -> MaskCrop | None:
        """The smallest crop that holds all of ``mask`` (H, W), whose first pixel is ``(left, top)``; None where it is
        empty."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return None
        y1, y2, x1, x2 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        return cls(left + x1, top + y1, np.ascontiguousarray(mask[y1:y2, x1:x2]))

    @property
    def xyxy(self) -> Xyxy:
        """The crop's half-open box in pixels of the image."""
        height, width = self.bits.shape
        return (float(self.left), float(self.top), float(self.left + width), float(self.top + height))

    @property
    def area(self) -> int:
        """Pixels of the object."""
        return int(np.count_nonzero(self.bits))

    def full(self, height: int, width: int) -> Bools:
        """The mask on the whole image, (height, width) bool; what lies outside of the image is cut off."""
        whole = np.zeros((height, width), dtype=np.bool_)
        rows, columns = self.bits.shape
        target = whole[self.top : self.top + rows, self.left : self.left + columns]
        target[...] = self.bits[: target.shape[0], : target.shape[1]]
        return whole

    def shared(self, other: MaskCrop) -> int:
        """Pixels that both masks hold."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right = min(self.left + self.bits.shape[1], other.left + other.bits.shape[1])
        bottom = min(self.top + self.bits.shape[0], other.top + other.bits.shape[0])
        if right <= left or bottom <= top:
            return 0
        a, b = (m.bits[top - m.top : bottom - m.top, left - m.left : right - m.left] for m in (self, other))
        return int(np.count_nonzero(a & b))

    def iou(self, other: MaskCrop) -> float:
        """Intersection over union in pixels, in [0, 1]; 0 of two empty masks."""
        shared = self.shared(other)
        return shared / (self.area + other.area - shared) if shared else 0.0

    def cover(self, others: Iterable[tuple[MaskCrop, float]]) -> float:
        """How far other masks cover this one: the mean over its pixels of the highest weight of those that hold each.

        Args:
            others: masks with their weights in [0, 1].

        Returns:
            In [0, 1]; 0 of an empty mask.
        """
        area = self.area
        return float(self._painted(others)[self.bits].sum()) / area if area else 0.0

    def without(self, others: Sequence[MaskCrop], keep: MaskCrop) -> MaskCrop:
        """This mask less the pixels that any of ``others`` holds and ``keep`` does not; the crop stays as it is."""
        if not others:
            return self
        gone = self._painted((other, 1.0) for other in others) > self._painted([(keep, 1.0)])
        return MaskCrop(self.left, self.top, self.bits & ~gone)

    def _painted(self, others: Iterable[tuple[MaskCrop, float]]) -> Floats:
        """The highest weight at each pixel of the crop, (h, w) float64; 0 where there is none."""
        height, width = self.bits.shape
        out = np.zeros((height, width))
        for other, weight in others:
            top, left = max(self.top, other.top), max(self.left, other.left)
            bottom = min(self.top + height, other.top + other.bits.shape[0])
            right = min(self.left + width, other.left + other.bits.shape[1])
            if top < bottom and left < right:
                place = out[top - self.top : bottom - self.top, left - self.left : right - self.left]
                bits = other.bits[top - other.top : bottom - other.top, left - other.left : right - other.left]
                np.maximum(place, weight * bits, out=place)
        return out
