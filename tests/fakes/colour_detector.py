"""A detector that takes no time to load and is never wrong: in drawn pictures, red is a cat and blue is a dog.

Unit tests use the class. For end-to-end tests, :func:`offer` makes it a plugin of the real command, as anybody's
package could: it then stands in for the embedded network, whose libraries take seconds to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bridge.core.predictor import Detections, Kind

COLOURS = {"cat": (200, 30, 30), "dog": (30, 30, 200)}
CONFIDENCE = 0.95
NAME = "colour-1"


class ColourDetector:
    """One box around each connected patch of a class's colour. Also tolerates what JPEG does to a colour."""

    name = NAME
    classes = tuple(COLOURS)
    kind: Kind = "rectangle"

    def predict(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        return [self._detect(image) for image in images]

    def _detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        boxes, labels = [], []
        strong, weak = image > 120, image < 110
        for index, channel in enumerate((0, 2)):
            patches, _ = ndimage.label(strong[..., channel] & weak[..., 1] & weak[..., 2 - channel])
            for rows, columns in ndimage.find_objects(patches):
                if rows.stop - rows.start > 2 and columns.stop - columns.start > 2:
                    boxes.append((columns.start, rows.start, columns.stop, rows.stop))
                    labels.append(index)
        confidence = np.full(len(boxes), CONFIDENCE)
        return Detections(np.array(boxes, float).reshape(-1, 4), np.array(labels, np.int64), confidence)


def load(spec: str, **options: Any) -> ColourDetector:
    """What the entry point ``predictor`` names."""
    return ColourDetector()


def offer(folder: Path) -> str:
    """Make an installed package of this file, found before all others; answers with the value for ``PYTHONPATH``."""
    package = folder / "colour_detector-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: colour-detector\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[labelbridge.plugins]\npredictor = colour_detector:load\n")
    return f"{folder}:{Path(__file__).parent}"
