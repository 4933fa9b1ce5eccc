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

from bridge.core.geometry import areas, clip_to_image
from bridge.core.masks import MaskCrop
from bridge.core.predictor import ClassMap, Detections, Kind
from bridge.core.probes import Probes

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


class DenseColours(ColourDetector):
    """Also says of each pixel what it is, and outlines what it found."""

    kind: Kind = "mask"

    def predict(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        return [found for found, _ in self.predict_dense(images)]

    def predict_dense(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[tuple[Detections, ClassMap]]:
        return [self._look(image) for image in images]

    def _look(self, image: npt.NDArray[np.uint8]) -> tuple[Detections, ClassMap]:
        boxes = self._detect(image)
        sure = np.stack([(image[..., c] > 120) & (image[..., 1] < 110) & (image[..., 2 - c] < 110) for c in (0, 2)])
        chances = np.concatenate([~sure.any(axis=0)[None], sure]) * np.float32(0.91) + np.float32(0.03)
        corners = boxes.xyxy.astype(int).tolist()
        masks = tuple(
            MaskCrop(x1, y1, sure[k, y1:y2, x1:x2])
            for k, (x1, y1, x2, y2) in zip(boxes.label.tolist(), corners, strict=True)
        )
        return Detections(boxes.xyxy, boxes.label, boxes.confidence, masks), chances


class AskedDetector(ColourDetector):
    """Also answers about given boxes: a class is as likely as its colour fills the box, and the object is drawn around
    that colour."""

    def score_regions(self, image: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float64]) -> Probes:
        answers = Probes.unasked(len(boxes), len(self.classes))
        for row, box in enumerate(clip_to_image(boxes, image.shape[1], image.shape[0])):
            if areas(box[None])[0] > 0:
                self._answer(image, box, answers.rows(slice(row, row + 1)))
        return answers

    def _answer(self, image: npt.NDArray[np.uint8], box: npt.NDArray[np.float64], answer: Probes) -> None:
        left, top = np.floor(box[:2]).astype(int)
        right, bottom = np.ceil(box[2:]).astype(int)
        crop = image[top:bottom, left:right].astype(int)
        seen = [(np.abs(crop - COLOURS[name]).max(axis=2) < 40) for name in self.classes]
        shares = np.array([colour.mean() for colour in seen])
        answer.probabilities[:] = [1 - shares.sum(), *shares]
        rows, columns = np.nonzero(seen[int(shares.argmax())])
        corner = np.array([left, top, left, top])
        around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
        answer.xyxy[:] = corner + around


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
