"""Asking a model about the boxes that people drew, while the image is in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Box, Probe, Record, Xyxy
from bridge.core.geometry import clip_to_image
from bridge.core.predictor import RegionScorer

Floats = npt.NDArray[np.float64]


def boxes_to_ask(record: Record, labels: Collection[str]) -> list[Xyxy]:
    """The boxes of all submissions, each once, in the order in which they come.

    Left out are other shapes and turned boxes, which a model answers with an upright one; boxes without area; and
    those with none of ``labels``: a model that does not know a label can only ever deny it.
    """
    shapes = (a.shape for s in record.submissions for a in s.annotations if a.label in labels)
    upright = (s for s in shapes if isinstance(s, Box) and s.rotation == 0 and s.problem() is None)
    return list(dict.fromkeys(shape.xyxy for shape in upright))


def ask(
    scorer: RegionScorer,
    image: npt.NDArray[np.uint8],
    boxes: Sequence[Xyxy],
    label_of: Mapping[str, str],
    classes: Sequence[str],
    original: tuple[int, int] | None = None,
) -> tuple[Probe, ...]:
    """The model's answers about some boxes, in labels of the target; a box that it has no answer for is left out.

    Classes that become the same label add up. What a class without a label is likely to be is no object of these
    labels, so it counts for the background.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: in pixels of the original.
        label_of: class to label.
        classes: of the model, in its order.
        original: (width, height) of the original where ``image`` is a smaller copy.
    """
    if not boxes:
        return ()
    width, height = original or (image.shape[1], image.shape[0])
    scale = np.tile(np.array(image.shape[1::-1]) / (width, height), 2)
    found = scorer.score_regions(image, np.array(boxes, np.float64) * scale)
    labels = list(dict.fromkeys(label_of[c] for c in classes if c in label_of))
    becomes = np.array([[label_of.get(c) == label for label in labels] for c in classes], np.float64)
    chances = np.round(found.probabilities[:, 1:] @ becomes, 4)
    xyxy = np.round(clip_to_image(found.xyxy / scale, width, height), 2)
    answered = np.isfinite(chances).all(axis=1) & np.isfinite(xyxy).all(axis=1)
    return tuple(
        Probe(boxes[k], tuple((labels[c], float(chances[k, c])) for c in np.flatnonzero(chances[k])), _xyxy(xyxy[k]))
        for k in np.flatnonzero(answered).tolist()
    )


def _xyxy(row: Floats) -> Xyxy:
    x1, y1, x2, y2 = row.tolist()
    return (x1, y1, x2, y2)
