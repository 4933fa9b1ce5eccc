"""Copies of a picture, as people make them without meaning to."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def as_jpeg(pixels: Pixels) -> Pixels:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=25)
    return np.asarray(Image.open(out).convert("RGB"))


def smaller(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((pixels.shape[1] // 2, pixels.shape[0] // 2)))


def brighter(pixels: Pixels) -> Pixels:
    return (pixels * 0.7 + 70).astype(np.uint8)


def cropped(pixels: Pixels) -> Pixels:
    """Without 4 % of the width and the height, most of it top left."""
    height, width = pixels.shape[:2]
    return pixels[round(0.03 * height) : round(0.99 * height), round(0.03 * width) : round(0.99 * width)]


def worked_over(pixels: Pixels) -> Pixels:
    return as_jpeg(smaller(cropped(brighter(pixels))))


WAYS: dict[str, Callable[[Pixels], Pixels]] = {
    way.__name__: way for way in (as_jpeg, smaller, brighter, cropped, worked_over)
}
