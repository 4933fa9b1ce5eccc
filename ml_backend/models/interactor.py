"""What an interactive model is: look at an image once, then answer many prompts about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Xyxy
from bridge.core.masks import MaskCrop

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Where a person says that an object is: points, a box, or both. Float pixels of the image.

    Attributes:
        positive: points ``(x, y)`` on the object, in the order they were set.
        negative: points beside it.
        box: half-open ``xyxy`` around it.
    """

    positive: tuple[Point, ...] = ()
    negative: tuple[Point, ...] = ()
    box: Xyxy | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing says where the object is; negative points alone do not."""
        return not self.positive and self.box is None


@dataclass(frozen=True, slots=True)
class Segment:
    """The answer to a prompt.

    Attributes:
        mask: the object, inside of the image, not empty.
        confidence: the model's own estimate of how good the mask is, in [0, 1].
    """

    mask: MaskCrop
    confidence: float


class Interactor(Protocol):
    """Image and prompt -> mask.

    ``preprocess`` does all that depends on the image alone, so that a ``prompt`` on the same image is quick. What it
    returns is opaque to callers, who keep it in memory by its ``nbytes`` and hand it back; it MUST NOT be changed by
    ``prompt``. Answers MUST NOT depend on earlier prompts. ``prompt`` MUST accept prompts anywhere, also beside the
    image, and answer None where it finds nothing. One ``preprocess`` and one ``prompt`` may run at the same time in two
    threads; callers serialise each of them. It MUST bound the memory it uses whatever the size of the image, and raise
    :class:`~bridge.errors.ModelError` when it cannot run.
    """

    @property
    def name(self) -> str:
        """Name and version; changes whenever answers change."""

    def preprocess(self, image: npt.NDArray[np.uint8]) -> Preprocessed:
        """Look at an (H, W, 3) uint8 RGB image."""

    def prompt(self, preprocessed: Any, prompts: Sequence[Prompt]) -> list[Segment | None]:
        """One answer per prompt, in order; each prompt is an object of its own."""


class Preprocessed(Protocol):
    """What an interactor keeps of an image."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory it holds, on whatever device."""
