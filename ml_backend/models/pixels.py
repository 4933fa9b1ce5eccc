"""What every model here does with pixels before its network sees them: check them, and bound their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ImageError

Image = npt.NDArray[np.uint8]

#: Larger images are shrunk by a whole factor first: the networks here look at about one megapixel at most.
MAX_PIXELS = 4_000_000

#: Small enough that a strip stays in the processor's cache.
_STRIP_PIXELS = 300_000


def check_images(images: Sequence[Image]) -> None:
    """Raises ImageError, naming its place in the call, where an array is no (H, W, 3) uint8 image."""
    for i, image in enumerate(images):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageError(
                f"image {i} of the call has shape {image.shape} and dtype {image.dtype}",
                expected="(H, W, 3) uint8 RGB",
            )


def shrink(image: Image, most: int = MAX_PIXELS) -> tuple[Image, tuple[int, int]]:
    """The image reduced by whole factors (averages of blocks) to at most ``most`` pixels, and the factors (x, y).

    At most factor - 1 pixels at the right and bottom edges are not seen. Works strip by strip, so it needs no second
    copy of a large image.
    """
    height, width = image.shape[:2]
    fx = fy = 1
    while (height // fy) * (width // fx) > most:
        if width // fx >= height // fy:
            fx += 1
        else:
            fy += 1
    if fx == fy == 1:
        return image, (1, 1)
    rows, columns = height // fy, width // fx
    block = fx * fy
    wide: Any = np.uint16 if 256 * block <= 65536 else np.uint32
    small = np.empty((rows, columns, 3), np.uint8)
    step = max(1, _STRIP_PIXELS // (columns * block))
    for top in range(0, rows, step):
        strip = image[top * fy : min(top + step, rows) * fy, : columns * fx]
        down = strip[::fy].astype(wide)
        for dy in range(1, fy):
            down += strip[dy::fy]
        total = down[:, ::fx].copy()
        for dx in range(1, fx):
            total += down[:, dx::fx]
        small[top : top + step] = (total + wide(block // 2)) // wide(block)
    return small, (fx, fy)
