"""Augmented views of labelled images: what the network sees in place of the same picture again and again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from bridge.core.training import Example
from bridge.errors import ImageError
from ml_backend.training.ssd import IGNORED

#: An object of which a crop shows less than the first share is gone; less than the second, it counts for nothing.
GONE, PARTIAL = 0.05, 0.5


@dataclass(frozen=True, slots=True)
class View:
    """One view of an image.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (G, 4) float32, pixels of ``image``, half-open.
        labels: (G,) int64 from 1, or `IGNORED` for an object of which the view shows too little.
    """

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def draw_view(rng: np.random.Generator, example: Example, side: int | None, plain: bool) -> View:
    """One view by chance.

    Args:
        side: views are stretched to squares of so many pixels; None keeps the image's own scale.
        plain: mirror only; otherwise crop and stretch too.

    Raises:
        ImageError: the file cannot be read.
    """
    try:
        with Image.open(example.path) as file:
            picture = file.convert("RGB")
    except (OSError, ValueError) as error:
        raise ImageError(f"the training image {example.path} cannot be read: {error}") from error
    width, height = picture.size
    left, top, right, bottom = 0, 0, width, height
    if not plain and rng.random() < 0.7:
        share, stretch = float(rng.uniform(0.6, 1.0)), float(rng.uniform(0.9, 1.1))
        wide, high = (max(1, min(n, int(n * s))) for n, s in ((width, share * stretch), (height, share / stretch)))
        left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
        right, bottom = left + wide, top + high
    size = (right - left, bottom - top) if side is None else (side, side)
    picture = picture.resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    area = np.prod(example.xyxy[:, 2:] - example.xyxy[:, :2], axis=1)
    boxes = np.clip(example.xyxy, (left, top, left, top), (right, bottom, right, bottom))
    seen = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / area
    boxes = (boxes - (left, top, left, top)) * np.tile((size[0] / (right - left), size[1] / (bottom - top)), 2)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes = np.stack((size[0] - boxes[:, 2], boxes[:, 1], size[0] - boxes[:, 0], boxes[:, 3]), 1)
    labels = np.where(seen < PARTIAL, IGNORED, example.label + 1)
    # What is narrower than a pixel has nothing to learn from, and a box without area breaks the losses.
    kept = (seen >= GONE) & (np.minimum(*(boxes[:, 2:] - boxes[:, :2]).T) >= 1.0)
    return View(np.array(picture), boxes[kept].astype(np.float32), labels[kept].astype(np.int64))


def batches(
    examples: Sequence[Example], *, batch: int, seed: tuple[int, int], side: int | None, plain: bool, workers: int
) -> Iterator[list[View]]:
    """One pass over the examples in an order by chance, in batches of exactly ``batch`` views.

    The last batch is filled up with examples of the first one. What comes out depends on ``seed`` alone, not on the
    number of threads that decode.

    Args:
        seed: of the run, and the number of the pass.
        workers: threads that draw views ahead.
    """
    order = np.random.default_rng(seed).permutation(len(examples))
    order = np.resize(order, -(-len(order) // batch) * batch)

    def draw(position: int) -> View:
        rng = np.random.default_rng((*seed, position + 1))
        return draw_view(rng, examples[int(order[position])], side, plain)

    with ThreadPoolExecutor(workers, "views") as pool:
        ahead: deque[list[Future[View]]] = deque()
        try:
            for start in range(0, len(order), batch):
                ahead.append([pool.submit(draw, position) for position in range(start, start + batch)])
                if len(ahead) > 2:
                    yield [view.result() for view in ahead.popleft()]
            while ahead:
                yield [view.result() for view in ahead.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)


def recolour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Jitter exposure, contrast, white balance and saturation of (B, 3, H, W) float32 in 0..255; same range."""
    count = images.shape[0]

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        drawn = torch.empty(count, channels, 1, 1).uniform_(low, high, generator=generator)
        return drawn.to(images.device)

    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * uniform(0.6, 1.3)
    level = images.mean((1, 2, 3), keepdim=True)
    images = (images - level) * uniform(0.8, 1.25) + level * uniform(0.8, 1.2) * uniform(0.96, 1.04, 3)
    return images.clamp_(0, 255)
