"""Scenes of round objects with the class map of a model that is unsure along their outlines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Annotation, Item, MapNote, Record, Submission
from bridge.core.pixels import local_mean
from bridge.core.rle import encode_coco
from bridge.scorers.map_notes import take_notes

Bools = npt.NDArray[np.bool_]
Objects = list[tuple[str, Bools]]
LABELS = ("cat", "dog")
SIZE = 96
#: Middles of nine objects, and their radii.
PLACES = tuple((16 + 32 * x, 16 + 32 * y, 8 + (x + y) % 3) for y in range(3) for x in range(3))


def disc(x: float, y: float, radius: float) -> Bools:
    rows, columns = np.ogrid[:SIZE, :SIZE]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def truth(seed: int) -> Objects:
    """Nine objects of both classes, each moved a little."""
    rng = np.random.default_rng(seed)
    return [
        (LABELS[int(rng.integers(2))], disc(x + rng.uniform(-3, 3), y + rng.uniform(-3, 3), r)) for x, y, r in PLACES
    ]


def class_map(objects: Objects, seed: int) -> npt.NDArray[np.float32]:
    """(3, SIZE, SIZE): what a good model says about these objects."""
    rng = np.random.default_rng(seed + 1000)
    logits = np.zeros((3, SIZE, SIZE))
    for label, mask in objects:
        logits[1 + LABELS.index(label)] += 6 * local_mean(mask.astype(float), 2)
    logits[0] = 3.0
    logits += local_mean(rng.normal(0, 1, (SIZE, SIZE)), 1)[None] * np.array([1, -1, 0])[:, None, None]
    chances = np.exp(logits - logits.max(axis=0))
    return (chances / chances.sum(axis=0)).astype(np.float32)


def record(k: int, drawn: Objects, *, notes: bool = True, seen: Objects | None = None) -> Record:
    """Item ``k``, labelled so, as a model sees ``seen`` (None: its true objects)."""
    given = tuple(Annotation(f"{k}:{n}", label, encode_coco(mask)) for n, (label, mask) in enumerate(drawn))
    item = Item(str(k), f"{k}.png", "", SIZE, SIZE)
    made = Record(item, (Submission(f"s{k}", "ann", given),), predicted_by=("dense-1",))
    return replace(made, notes=noted(made, class_map(truth(k) if seen is None else seen, k))) if notes else made


def noted(of: Record, chances: npt.NDArray[np.float32]) -> tuple[MapNote, ...]:
    return take_notes(of, chances, LABELS)


def clean(count: int, first: int = 100) -> list[Record]:
    return [record(k, truth(k)) for k in range(first, first + count)]
