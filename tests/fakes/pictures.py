"""Drawn pictures in the colours of the :mod:`colour detector <fakes.colour_detector>`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from fakes.colour_detector import COLOURS

from bridge.core.annotations import Box

WIDTH, HEIGHT = 160, 120
CAT, DOG = Box(10, 10, 60, 50), Box(90, 60, 150, 110)
ELSEWHERE = Box(100, 5, 140, 35)
LOOSE_CAT = Box(10, 10, 85, 55)

Objects = Sequence[tuple[str, Box]]
TRUTH: Objects = (("cat", CAT), ("dog", DOG))


def draw(
    objects: Objects = TRUTH, width: int = WIDTH, height: int = HEIGHT, backdrop: int | None = None
) -> npt.NDArray[np.uint8]:
    """A light picture with a rectangle in its class's colour for each object.

    Pictures with another number for a ``backdrop`` of grey squares are not alike.
    """
    pixels = np.full((height, width, 3), 235, np.uint8)
    if backdrop is not None:
        squares = np.random.default_rng(backdrop).choice(np.array([140, 255], np.uint8), (16, 16))
        rows, columns = np.arange(height) * 16 // height, np.arange(width) * 16 // width
        pixels[:] = squares[rows][:, columns, None]
    for label, box in objects:
        x1, y1, x2, y2 = map(int, box.xyxy)
        pixels[y1:y2, x1:x2] = COLOURS[label]
    return pixels
