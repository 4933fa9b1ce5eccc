"""What a model's class map says about the outlines that people drew, noted while the map is in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bridge.core.annotations import Box, MapNote, Mask, Polygon, Record
from bridge.core.predictor import ClassMap
from bridge.scorers.map_notes import take_notes


def is_outlined(record: Record) -> bool:
    """Whether people answered in outlines: with polygons or masks, or with nothing at all."""
    shapes = [a.shape for s in record.submissions for a in s.annotations]
    return any(isinstance(shape, Polygon | Mask) for shape in shapes) or not any(isinstance(s, Box) for s in shapes)


def note(record: Record, chances: ClassMap, label_of: Mapping[str, str], classes: Sequence[str]) -> tuple[MapNote, ...]:
    """Notes in labels of the target.

    Classes that become the same label add up; one that becomes none is nothing of the project's, and counts for the
    background.

    Args:
        record: knows the size of its image.
        chances: over ``classes``, background first.
        label_of: class to label.
    """
    labels = list(dict.fromkeys(label_of[c] for c in classes if c in label_of))
    row = {label: k + 1 for k, label in enumerate(labels)}
    becomes = np.zeros((len(labels) + 1, len(classes) + 1), dtype=np.float32)
    becomes[[0, *(row.get(label_of.get(c, ""), 0) for c in classes)], np.arange(len(classes) + 1)] = 1.0
    mapped = (becomes @ chances.reshape(len(chances), -1)).reshape(-1, *chances.shape[1:])
    return take_notes(record, mapped, labels)
