"""How good a cut-out region looks, as an estimate of its IoU with the object that was meant.

A cut always finds something. Whether it found an object shows: its edge lies where colours change, its colours are its
own, it is compact, and the click lies well inside of it. The weights below turn that into an IoU; they were fitted (by
ridge regression, ``benchmarks/quality/interactive.py --fit``) to regions of photos with known masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bridge.core.masks import Bools
from ml_backend.models.region_cut import Cut, Patch

Places = Sequence[tuple[int, int]]

#: What is measured of a region, in the order of :func:`measure`.
MEASURES = (
    "edge",  # mean change of colour along its edge, in mean changes of the patch, at most 6
    "open",  # share of its edge where colours hardly change
    "own",  # mean log odds of its colours
    "other",  # mean log odds of the colours just outside of it
    "size",  # log of its share of the image
    "round",  # 4 pi area / perimeter^2, at most 1
    "solid",  # area / area of its convex hull
    "deep",  # how far inside the deepest positive click lies, of the most that is possible
    "off",  # distance of the clicks' mean to its centre, in square roots of its area, at most 1
    "border",  # share of its edge that is the patch's border
    "beside",  # its share of what is close to a negative click
)


@dataclass(frozen=True, slots=True)
class Weights:
    """Attributes:
    base: the estimate for an average region.
    mean, spread: (M,) of each measure, over the regions that were fitted.
    linear, square: (M,) weights of a measure's distance to its mean, in spreads, and of that distance's square.
    """

    base: float
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    linear: tuple[float, ...]
    square: tuple[float, ...]

    def estimate(self, measures: npt.NDArray[np.float64]) -> float:
        """The IoU, in [0, 1]. What lies beyond three spreads counts as three."""
        apart = np.clip((measures - np.array(self.mean)) / np.array(self.spread), -3, 3)
        return float(np.clip(self.base + apart @ np.array(self.linear) + apart**2 @ np.array(self.square), 0, 1))


#: For regions cut out of a box. Mean error 0.112 over the 356 regions that were fitted.
BOX_QUALITY = Weights(
    0.684,
    (3.372, 0.103, 1.441, -1.216, -2.702, 0.570, 0.852, 1.000, 0.000, 0.069, 0.000),
    (0.917, 0.112, 0.364, 0.485, 1.718, 0.187, 0.080, 1.000, 1.000, 0.106, 1.000),
    (0.004, -0.066, 0.014, -0.075, 0.010, 0.050, 0.014, 0.000, 0.000, 0.006, 0.000),
    (0.007, -0.004, 0.016, -0.013, 0.018, -0.030, 0.013, 0.000, 0.000, -0.009, 0.000),
)
#: For regions around clicks. Mean error 0.170 over 2,906 regions, most of them too small or too large.
CLICK_QUALITY = Weights(
    0.383,
    (2.809, 0.153, 1.359, -1.045, -2.639, 0.591, 0.831, 0.744, 0.194, 0.182, 0.000),
    (1.008, 0.186, 0.401, 0.561, 1.901, 0.215, 0.110, 0.208, 0.139, 0.211, 1.000),
    (0.021, -0.043, 0.017, -0.096, -0.006, 0.045, -0.022, 0.096, -0.018, 0.018, 0.000),
    (0.006, 0.005, -0.012, 0.014, -0.026, -0.018, -0.001, 0.006, -0.009, -0.028, 0.000),
)


def measure(
    patch: Patch, cut: Cut, mask: Bools, on: Places, beside: Places, image_pixels: int
) -> npt.NDArray[np.float64]:
    """(M,) the MEASURES of ``mask`` (h, w), not empty, cut out of ``patch``.

    Args:
        on: places ``(column, row)`` of the positive clicks in the patch; without any, ``deep`` is 1 and ``off`` is 0.
        beside: places of the negative ones.
        image_pixels: of the whole image.
    """
    bits = mask.astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    area = int(bits.sum())
    inner = cv2.erode(bits, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    edge = mask & (inner == 0)
    width = max(1, round(0.15 * area**0.5))
    ring = (cv2.dilate(bits, kernel, iterations=width) > 0) & ~mask
    around = cv2.dilate(patch.change(), kernel)
    change = around[edge] if edge.any() else np.zeros(1, np.float32)
    rings, _ = cv2.findContours(bits, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    perimeter = sum(len(r) for r in rings)
    hull = max(cv2.contourArea(cv2.convexHull(r)) for r in rings) + perimeter / 2 + 1
    deep, off = 1.0, 0.0
    if on:
        depth = cv2.distanceTransform(np.pad(bits, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        deep = max(float(depth[row, column]) for column, row in on) / float(depth.max())
        rows, columns = np.nonzero(mask)
        middle = np.mean(on, axis=0)
        off = min(1.0, float(np.hypot(columns.mean() - middle[0], rows.mean() - middle[1])) / area**0.5)
    close = np.zeros(mask.shape, np.uint8)
    for place in beside:
        cv2.circle(close, place, max(2, round(area**0.5 / 4)), 1, cv2.FILLED)
    fx, fy = patch.scale
    border = mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum()
    return np.array(
        [
            float(change.mean()),
            float((change < 1).mean()),
            float(cut.evidence[mask].mean()),
            float(cut.evidence[ring].mean()) if ring.any() else 0.0,
            float(np.log(max(1e-7, area / (fx * fy) / image_pixels))),
            min(1.0, 4 * np.pi * area / perimeter**2),
            min(1.0, area / hull),
            deep,
            off,
            min(1.0, float(border) / perimeter),
            float(mask[close > 0].mean()) if beside else 0.0,
        ]
    )
