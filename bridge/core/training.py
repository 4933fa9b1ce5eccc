"""What a trainer is, to the bridge: labelled images in, a predictor out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bridge.core.predictor import Predictor
from bridge.core.provenance import Provenance


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled image.

    Attributes:
        path: an RGB image file, upright.
        xyxy: (N, 4) float64, pixels of that file, half-open, each with area.
        label: (N,) int64, indices into the trainer's labels.
    """

    path: Path
    xyxy: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the images brought.

    Attributes:
        number: counted from 1.
        loss: mean over the pass.
        ap, ap50: COCO average precision on the held-out images (mean over IoU 0.50 to 0.95; IoU 0.50 alone), in [0, 1];
            None where none are held out, or nothing is labelled on them.
        seconds: wall time.
    """

    number: int
    loss: float
    ap: float | None
    ap50: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Fit:
    """One training to be done.

    Attributes:
        train: the images to learn from.
        held_out: images that only say when to stop; may be empty.
        folder: where the training keeps its checkpoint; the same fit in the same folder goes on where it was killed.
        seed: of everything that is drawn by chance.
        epochs: at most so many.
        patience: stop after so many epochs without a better AP.
    """

    train: Sequence[Example]
    held_out: Sequence[Example]
    folder: Path
    seed: int
    epochs: int
    patience: int


class Fitted(Protocol):
    """A trained model and how it came about."""

    @property
    def predictor(self) -> Predictor:
        """The model, with a threshold of nothing: faint detections are worth having here."""

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """All epochs there were."""

    @property
    def best(self) -> int:
        """The number of the epoch whose weights the predictor has."""

    def save(self, folder: Path, name: str, threshold: float, notes: Mapping[str, Any]) -> Path:
        """Write the weights and ``manifest.json`` into ``folder``; answers with the manifest's path.

        Args:
            name: how the model's name begins; a digest of its weights is added.
            threshold: the confidence from which its detections are worth showing.
            notes: JSON-able, kept in the manifest for people.
        """


#: Called after each epoch, in the thread that trains.
Tell = Callable[[Epoch], None]


class Trainer(Protocol):
    """Fine-tunes one network on one set of labels.

    A Trainer MUST give the same model for the same fit as far as the device's arithmetic allows, whether or not it was
    killed in between. It MUST use ``held_out`` for nothing but deciding when to stop. It MUST raise ``ModelError``
    when it cannot train at all. It MUST bound the memory it uses by the batch, not by the number of images.
    """

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON-able: the network, the digest of the weights it starts from, and all that shapes the training beside
        the images, the seed and the number of epochs."""

    @property
    def start(self) -> Provenance | None:
        """What the weights it starts from were trained on by labelbridge; None where they were not."""

    @property
    def side(self) -> int:
        """The longest side in pixels at which the network looks at an image; larger files are a waste."""

    def epochs(self, images: int) -> int:
        """How many epochs it recommends for so many images."""

    def fit(self, fit: Fit, tell: Tell) -> Fitted:
        """Train, or go on where a killed training stopped."""
