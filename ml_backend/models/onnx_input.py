"""From images to what an ONNX detector is fed, and from its coordinates back to the image's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from ml_backend.models.pixels import Image, shrink

Floats = npt.NDArray[np.float64]
Triple = tuple[float, float, float]
Resize = Literal["stretch", "letterbox", "letterbox_centred"]
Colour = Literal["rgb", "bgr"]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes a network's input: resized, then ``(pixel * range / 255 - mean) / std``.

    Attributes:
        resize: ``stretch`` to the input's size; ``letterbox``: keep the aspect, the image at the top left;
            ``letterbox_centred``: keep the aspect, the image in the middle.
        colour: the order of the channels.
        range: the value of white before mean and std: 1 or 255.
        mean, std: of each channel in that order and range.
        fill: the pixel value, 0 to 255, beside the image in a letterbox.
    """

    resize: Resize
    colour: Colour = "rgb"
    range: int = 1
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    fill: int = 114

    @property
    def changes_pixels(self) -> bool:
        """Whether the input holds other numbers than 0 to 255."""
        return self.range != 255 or any(self.mean) or self.std != (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies in the input: ``input = image * scale + offset``, for x and y.

    Attributes:
        size: width and height of the image in pixels.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[int, int]

    def to_image(self, xyxy: Floats) -> Floats:
        """Boxes (N, 4) in pixels of the input as boxes in pixels of the image; not clipped."""
        return np.asarray((xyxy - np.tile(self.offset, 2)) / np.tile(self.scale, 2), dtype=np.float64)


def to_input(
    images: Sequence[Image], width: int, height: int, how: Preprocessing
) -> tuple[npt.NDArray[np.float32], list[Placement]]:
    """The images as one (B, 3, height, width) float32 array, and where each lies in it.

    Args:
        images: (H, W, 3) uint8 RGB, at least one pixel each.
    """
    canvas = np.full((len(images), height, width, 3), how.fill, np.uint8)
    placements = [_place(image, canvas[i], how.resize) for i, image in enumerate(images)]
    channels = canvas[..., ::-1] if how.colour == "bgr" else canvas
    planes = channels.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    if how.changes_pixels:
        mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (how.mean, how.std))
        planes *= np.float32(how.range / 255) / std
        planes -= mean / std
    return planes, placements


def _place(image: Image, canvas: Image, resize: Resize) -> Placement:
    """Draw the image into its (height, width, 3) canvas."""
    height, width = image.shape[:2]
    rows, columns = canvas.shape[:2]
    if resize == "stretch":
        wide, high = columns, rows
    else:
        factor = min(columns / width, rows / height)
        wide, high = (max(1, min(most, round(size * factor))) for size, most in ((width, columns), (height, rows)))
    left, top = ((columns - wide) // 2, (rows - high) // 2) if resize == "letterbox_centred" else (0, 0)
    small, (fx, fy) = shrink(image)
    seen = small.shape[1] * fx, small.shape[0] * fy
    if small.shape[:2] != (high, wide):
        small = np.asarray(
            PilImage.fromarray(small).resize((wide, high), PilImage.Resampling.BILINEAR, reducing_gap=2.0)
        )
    canvas[top : top + high, left : left + wide] = small
    return Placement((width, height), (wide / seen[0], high / seen[1]), (left, top))
