"""Where predictions come from, and whether their model was trained on the very images that it predicts.

A model that was trained on an annotation agrees with it, errors included. So a model that labelbridge trained remembers
its training images, by two marks each: where the tool keeps the image, and what its pixels are. By the second an image
is known again under another name and in another tool.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Item, Record, Sample, digest
from bridge.core.objects import ObjectTable, Workload


def place_mark(target: str, item: Item) -> str:
    """16 hex digits for an image as its tool knows it."""
    return digest([target, item.id, item.image])


def pixel_mark(pixels: npt.NDArray[np.uint8]) -> str:
    """16 hex digits for an upright (H, W, 3) uint8 RGB image."""
    whole = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=8)
    whole.update(np.ascontiguousarray(pixels).data)
    return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a set of predictions comes from.

    Attributes:
        model: name and version.
        targets: what the model was trained on, and before it the weights that its training began with.
        snapshot: hash of the annotations that it was trained on; empty where nobody noted it.
        folds: of a cross-fit, how many models share the predictions, each for the images that it has not seen; else 0.
        seen: the marks of all images that it was trained on.
    """

    model: str
    targets: tuple[str, ...] = ()
    snapshot: str = ""
    folds: int = 0
    seen: frozenset[str] = field(default=frozenset(), repr=False)

    def sample(self, target: str, item: Item, pixels: npt.NDArray[np.uint8] | None = None) -> Sample:
        """Whether an image is one of those that the model was trained on.

        Args:
            target: where the item is, as in ``ls:project/7``.
            pixels: the image; without it, images of a target that the model was not trained on are ``unknown``.
        """
        if place_mark(target, item) in self.seen or (pixels is not None and pixel_mark(pixels) in self.seen):
            return "in"
        return "out" if pixels is not None or target in self.targets else "unknown"

    def to_notes(self) -> dict[str, Any]:
        """JSON-able: what a model's manifest keeps of it under ``training.seen``."""
        return {"targets": list(self.targets), "marks": " ".join(sorted(self.seen))}

    @classmethod
    def from_manifest(cls, manifest: Any) -> Provenance | None:
        """What the parsed manifest of a model tells; None where it is of no model that labelbridge trained."""
        try:
            training = manifest["training"]
            targets, marks = training["seen"]["targets"], training["seen"]["marks"]
            return cls(manifest["name"], tuple(targets), training["snapshot"], seen=frozenset(marks.split()))
        except (TypeError, KeyError, AttributeError):
            return None

    def describe(self) -> dict[str, Any]:
        """JSON-able: what the record of a run keeps of it."""
        return {"trained_on": list(self.targets), "snapshot": self.snapshot, "folds": self.folds}


def tally(records: Iterable[Record]) -> dict[str, Counter[Sample]]:
    """How many submitted items each model predicted, in and out of its sample; by the models' names, sorted."""
    counts: dict[str, Counter[Sample]] = {}
    for record in records:
        if record.submissions:
            for model, sample in record.sample_of.items():
                counts.setdefault(model, Counter())[sample] += 1
    return dict(sorted(counts.items()))


def copies(workload: Workload) -> npt.NDArray[np.bool_]:
    """(N,) bool: the labelled boxes that are a prediction of their image, to 1/100 of a pixel.

    A person who draws a box does not hit all four edges of a model's: among 27,803 boxes of two sets with
    predictions out of fold it never happened. Such a box was a suggestion that somebody accepted.
    """
    given, predicted = _box_keys(workload.given), np.sort(_box_keys(workload.predicted))
    if not len(predicted):
        return np.zeros(len(given), bool)
    # What np.isin does, in a quarter of its time.
    at = np.searchsorted(predicted, given)
    return np.asarray(predicted[np.minimum(at, len(predicted) - 1)] == given)


def _box_keys(table: ObjectTable) -> npt.NDArray[np.uint64]:
    """(N,) uint64, equal for boxes that are equal; others share one with a chance of 2 ** -63."""
    keys = table.unit.astype(np.uint64) * _FACTORS[0] + table.label.astype(np.uint64) * _FACTORS[1]
    for column, factor in zip((*table.xyxy.T, table.rotation), _FACTORS[2:], strict=True):
        with np.errstate(over="ignore"):
            hundredths = np.rint(column * 100).clip(-_LARGEST, _LARGEST)
        keys += hundredths.astype(np.int64).view(np.uint64) * factor
    return np.asarray(keys)


_LARGEST = 1e15
_FACTORS = np.random.default_rng(0).integers(2**63, size=7, dtype=np.uint64) * 2 + 1
