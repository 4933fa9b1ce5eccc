"""How the labels of a run are spread: over classes, over the splits of the dataset, and over sizes.

Facts of a run, not findings: a rare class is no error, but a model will not learn it, and a class that the validation
split lacks is not measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Box, LabelSet, Record, Tag
from bridge.core.geometry import box_envelope
from bridge.core.objects import outline_envelope
from bridge.core.splits import learned_from_first

Floats = npt.NDArray[np.float64]

#: Fainter predictions do not speak for a class that nobody labels.
CONFIDENT = 0.5
#: A class with fewer objects than this part of an even share is rare.
_RARE = 0.1


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """One class.

    Attributes:
        objects: how many people labelled; ``images`` on how many items.
        predicted: confident predictions of it; ``ever_predicted`` whether there is any at all.
        smallest, largest: the square root of the part of its image that an object fills, in [0, 1]; None where no
            object of the class has a box and an image of known size.
        by_split: objects in each split, in the order of :attr:`ClassBalance.splits`.
    """

    label: str
    objects: int
    images: int
    predicted: int
    ever_predicted: bool
    smallest: float | None
    largest: float | None
    by_split: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One split; items of none have the name ``""``.

    Attributes:
        divergence: Jensen-Shannon divergence in bits, in [0, 1], of its classes from those of all other splits
            together (Lin 1991); None where there is no other one with objects.
        absent: classes that other splits have and this one has not.
    """

    name: str
    items: int
    objects: int
    divergence: float | None
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClassBalance:
    """Facts about the classes of a run.

    Attributes:
        classes: in the order of the label set.
        ratio: objects of the commonest class for each of the rarest that is labelled at all; None without objects.
        effective: the number of classes of equal size that would be as mixed, 2 to the entropy in bits (Hill 1973).
        rare: labelled classes with less than a tenth of an even share, rarest first.
        unlabelled: classes of the label set that nobody used.
        never_predicted: labelled on items that a model has looked at, and never predicted there.
        only_predicted: confidently predicted, and never labelled.
    """

    classes: tuple[ClassFacts, ...]
    splits: tuple[SplitFacts, ...]
    ratio: float | None
    effective: float
    rare: tuple[str, ...]
    unlabelled: tuple[str, ...]
    never_predicted: tuple[str, ...]
    only_predicted: tuple[str, ...]


class BalanceCount:
    """Counts submitted records, page by page; what comes out does not depend on the pages."""

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels.names
        self._known = frozenset(labels.names)
        self._objects: Counter[tuple[str, str]] = Counter()
        self._images: Counter[str] = Counter()
        self._items: Counter[str] = Counter()
        self._predicted: Counter[str] = Counter()
        self._faint: set[str] = set()
        self._looked_at: set[str] = set()
        self._smallest: dict[str, float] = {}
        self._largest: dict[str, float] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Count more. Of an item that several people labelled, everybody's objects count."""
        for record in records:
            if not record.submissions:
                continue
            self._items[record.item.split] += 1
            here: set[str] = set()
            for annotation in (a for s in record.submissions for a in s.annotations if a.label in self._known):
                here.add(annotation.label)
                self._objects[annotation.label, record.item.split] += 1
                self._measure(record, annotation)
            self._images.update(here)
            self._looked_at |= here if record.predicted_by else set()
            for prediction in record.predictions:
                self._faint.add(prediction.label)
                self._predicted[prediction.label] += prediction.confidence >= CONFIDENT

    def balance(self) -> ClassBalance:
        """What was counted so far."""
        splits = sorted(self._items, key=lambda s: (not s, learned_from_first(s)))
        table = np.array([[self._objects[c, s] for s in splits] for c in self._labels], np.float64)
        table = table.reshape(len(self._labels), len(splits))
        total = table.sum(axis=1)
        used = total[total > 0]
        share = _RARE * float(total.sum()) / max(1, len(used))
        order = np.argsort(total, kind="stable").tolist()
        return ClassBalance(
            classes=tuple(
                ClassFacts(
                    label=label,
                    objects=int(total[k]),
                    images=self._images[label],
                    predicted=self._predicted[label],
                    ever_predicted=label in self._faint,
                    smallest=self._smallest.get(label),
                    largest=self._largest.get(label),
                    by_split=tuple(map(int, table[k].tolist())),
                )
                for k, label in enumerate(self._labels)
            ),
            splits=tuple(self._split(table, k, name) for k, name in enumerate(splits)),
            ratio=float(used.max() / used.min()) if used.size else None,
            effective=2.0 ** _entropy(total) if used.size else 0.0,
            rare=tuple(self._labels[k] for k in order if 0 < total[k] < share),
            unlabelled=tuple(label for label, n in zip(self._labels, total.tolist(), strict=True) if not n),
            never_predicted=tuple(c for c in self._labels if c in self._looked_at and c not in self._faint),
            only_predicted=tuple(
                label for label, n in zip(self._labels, total.tolist(), strict=True) if not n and self._predicted[label]
            ),
        )

    def _split(self, table: Floats, k: int, name: str) -> SplitFacts:
        here, elsewhere = table[:, k], np.delete(table, k, axis=1).sum(axis=1)
        return SplitFacts(
            name=name,
            items=self._items[name],
            objects=int(here.sum()),
            divergence=jensen_shannon(here, elsewhere) if here.any() and elsewhere.any() else None,
            absent=tuple(self._labels[c] for c in np.flatnonzero((here == 0) & (elsewhere > 0)).tolist()),
        )

    def _measure(self, record: Record, annotation: Annotation) -> None:
        width, height = record.item.width, record.item.height
        shape, label = annotation.shape, annotation.label
        if not width or not height or isinstance(shape, Tag):
            return
        box = outline_envelope(shape)
        if isinstance(shape, Box) and shape.problem() is None:
            box = box_envelope(shape)
        if box is not None:
            x1, x2 = (min(max(x, 0.0), float(width)) for x in (box[0], box[2]))
            y1, y2 = (min(max(y, 0.0), float(height)) for y in (box[1], box[3]))
            side = math.sqrt((x2 - x1) * (y2 - y1) / (width * height))
            self._smallest[label] = min(side, self._smallest.get(label, side))
            self._largest[label] = max(side, self._largest.get(label, side))


def count_balance(labels: LabelSet, records: Sequence[Record]) -> ClassBalance:
    """The balance of these records."""
    count = BalanceCount(labels)
    count.add(records)
    return count.balance()


def jensen_shannon(first: Floats, second: Floats) -> float:
    """Jensen-Shannon divergence of two distributions in bits, in [0, 1]; symmetric.

    Args:
        first, second: (C,) float64 counts, not below 0 and not all 0.
    """
    p, q = first / first.sum(), second / second.sum()
    middle = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
    return float(min(max(middle, 0.0), 1.0))


def warnings_of(balance: ClassBalance) -> list[str]:
    """What of it a lead should know at once, a sentence each, the weightiest first."""
    found: list[str] = []
    named: Mapping[str, Sequence[str]] = {
        "Labelled, but the model never predicts them": balance.never_predicted,
        "Predicted with confidence, but nobody labels them": balance.only_predicted,
        **{
            f"Not in the split {split.name!r}, though in others": split.absent
            for split in balance.splits
            if split.name and split.objects
        },
        "Rare, with less than a tenth of an even share": balance.rare,
    }
    for what, labels in named.items():
        if labels:
            more = f" and {len(labels) - 8} more" if len(labels) > 8 else ""
            found.append(f"{what}: {', '.join(labels[:8])}{more}.")
    return found


def _entropy(counts: Floats) -> float:
    """In bits; of counts or probabilities."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())
