"""What a layout reads and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ml_backend.models.onnx_input import Preprocessing

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: A network's outputs by name, in the order of the file; the first dimension is the image, unless a layout says else.
Outputs = Mapping[str, Array]


class Misfit(Exception):
    """The outputs are not those of the layout; the text says which rule they break."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a network answered for one image, before thresholds and suppression.

    Attributes:
        xyxy: (N, 4) float64 pixels of the network's input; any number, also outside of it or not finite.
        label: (N,) int64, the number the network gives the class.
        confidence: (N,) float64.
    """

    xyxy: Floats
    label: Ints
    confidence: Floats


Decode = Callable[[Outputs], list[Candidates]]


@dataclass(frozen=True, slots=True)
class Declared:
    """What the manifest says of the network.

    Attributes:
        classes: how many classes it tells apart.
        width, height: of its input in pixels.
        outputs: the names of outputs by what they hold, for layouts that must be told.
        normalised: boxes are shares of the input's size, not pixels; for layouts that must be told.
    """

    classes: int
    width: int
    height: int
    outputs: Mapping[str, str] = field(default_factory=dict)
    normalised: bool = False


class Layout(Protocol):
    """A module in this package; see there."""

    PREPROCESSING: Preprocessing
    NMS_IOU: float | None
    OUTPUT_ROLES: tuple[str, ...]

    def fit(self, trial: Outputs, declared: Declared) -> Decode:
        """How to read outputs like those of a trial run."""


def best_class(scores: Floats, xyxy: Floats) -> Candidates:
    """One candidate per row of ``scores`` (N, C): its likeliest class."""
    label = scores.argmax(axis=1)
    return Candidates(xyxy, label.astype(np.int64), scores[np.arange(len(scores)), label])


def centre_to_corners(cxcywh: Floats) -> Floats:
    """Boxes (N, 4) ``centre x, centre y, width, height`` as ``x1, y1, x2, y2``."""
    half = cxcywh[:, 2:] / 2
    return np.hstack([cxcywh[:, :2] - half, cxcywh[:, :2] + half])


def softmax(logits: Floats) -> Floats:
    """Along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: Floats) -> Floats:
    # Beyond 40 the answer is 0 or 1 in double precision, and exp would overflow further out.
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -40.0, 40.0))))


def only_output(trial: Outputs) -> tuple[str, Array]:
    """Name and array of the one output there is.

    Raises:
        Misfit: there are more.
    """
    if len(trial) != 1:
        raise Misfit(f"there are {len(trial)} outputs, not one")
    return next(iter(trial.items()))


def check_probabilities(scores: Array, name: str) -> None:
    """Raises Misfit where scores of a trial run leave [0, 1]: the file was exported without its last activation."""
    if scores.size and not (scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3):
        raise Misfit(f"the scores in {name!r} run from {scores.min():.3g} to {scores.max():.3g}, not from 0 to 1")
