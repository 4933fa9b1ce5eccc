"""A model's class map turned into notes while it is in memory: the maps are far too large to keep.

Noted are the numbers of :mod:`bridge.scorers.map_evidence` about each label as it came, about labels with planted
errors (:mod:`bridge.scorers.map_planting`), about what the model sees beside the labels, and about what it sees where a
label was taken away in thought. What an item's notes say depends on this item alone, and not on the order of its
objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bridge.core.annotations import Annotation, Item, MapNote, Mask, Polygon, Record, Submission
from bridge.core.class_maps import off_grid, on_grid, paint
from bridge.core.masks import MaskCrop
from bridge.core.pixels import parts
from bridge.core.predictor import ClassMap
from bridge.core.rle import encode_coco
from bridge.scorers.map_evidence import LABEL_COLUMNS, Evidence, Scene, label_evidence, proposals
from bridge.scorers.map_planting import plant

#: Objects of one submission in which errors are planted.
PRACTICE = 8
#: A region is a suggestion where the model is so sure of it, and the label does not fit it better than this.
SURE, SAME = 0.6, 0.9


def take_notes(record: Record, chances: ClassMap, labels: Sequence[str]) -> tuple[MapNote, ...]:
    """What is worth keeping of a class map.

    Args:
        record: the item with its size, and what people outlined in it; submissions without outlines are passed over,
            unless they are empty.
        chances: over ``labels``, background first.
        labels: of the target.
    """
    notes: list[MapNote] = []
    for submission in record.submissions:
        pen = _pen(record.item, submission, chances, labels)
        if pen is not None:
            notes += [*pen.labels(), *pen.proposals(submission.id), *pen.practice(digest(record.item))]
    return tuple(notes)


def digest(item: Item) -> int:
    """64 bits that are the same for an item in every run."""
    text = f"{item.id}\0{item.name}".encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _pen(item: Item, submission: Submission, chances: ClassMap, labels: Sequence[str]) -> _Pen | None:
    """None where the submission is not about outlines."""
    drawn = submission.annotations
    if drawn and not any(isinstance(a.shape, Polygon | Mask) for a in drawn):
        return None
    image, index = (item.height or 0, item.width or 0), {name: k + 1 for k, name in enumerate(labels)}
    placed = [(on_grid(a.shape, image, chances.shape[1:]), a) for a in drawn]
    placed.sort(key=lambda one: _by_content(*one))
    # What is no outline is no gap either, but is not judged.
    known = [index.get(a.label, 0) if isinstance(a.shape, Polygon | Mask) else 0 for _, a in placed]
    painting = paint([crop for crop, _ in placed], chances.shape[1:])
    scene = Scene(chances, painting, np.array(known, dtype=np.int64))
    return _Pen(scene, tuple(a for _, a in placed), image, tuple(labels))


def _by_content(crop: MaskCrop | None, annotation: Annotation) -> tuple[object, ...]:
    if crop is None:
        return (True, annotation.label)
    return (False, crop.xyxy, annotation.label, crop.bits.tobytes())


@dataclass(frozen=True, slots=True)
class _Pen:
    """Writes the notes of one submission, whose ``annotations`` are the objects of ``scene``."""

    scene: Scene
    annotations: tuple[Annotation, ...]
    image: tuple[int, int]
    names: tuple[str, ...]

    def labels(self) -> list[MapNote]:
        notes = []
        for k, annotation in enumerate(self.annotations):
            mask, kind = self.scene.painting.visible[k], int(self.scene.label[k])
            seen = label_evidence(self.scene, mask, kind, (k,)) if mask is not None and kind else None
            if seen is not None:
                rival = self.names[seen.rival - 1] if seen.rival else ""
                notes.append(MapNote("label", annotation.id, rival, seen.numbers, self._suggestion(seen)))
        return notes

    def proposals(self, submission_id: str) -> list[MapNote]:
        return [
            MapNote("proposal", submission_id, self.names[p.kind - 1], p.numbers, self._shape(p.mask))
            for p in proposals(self.scene)
        ]

    def practice(self, seed: int) -> list[MapNote]:
        """Notes of planted errors."""
        rng = np.random.default_rng(seed)
        notes = []
        able = [k for k, mask in enumerate(self.scene.painting.visible) if mask is not None and self.scene.label[k]]
        for k in rng.permutation(able)[:PRACTICE].tolist():
            for planted in plant(self.scene, k, rng):
                seen = label_evidence(self.scene, planted.mask, planted.kind, planted.without, planted.over)
                if seen is not None:
                    notes.append(MapNote(planted.error, "", "", seen.numbers))
            mask = self.scene.painting.visible[k]
            assert mask is not None
            left = proposals(self.scene, mask, (k,))
            mine = [p for p in left if p.mask.shared(mask) >= 0.5 * max(p.mask.area, mask.area)]
            notes += [MapNote("missing", "", "", p.numbers) for p in mine]
        return notes

    def _suggestion(self, seen: Evidence) -> Mask | None:
        """Where the model sees the object, if that is one solid region and another outline."""
        fit = seen.numbers[LABEL_COLUMNS.index("fit")]
        if seen.region is None or fit >= SAME or parts(seen.region.bits).max() > 1:
            return None
        rows, columns = seen.region.bits.shape
        left, top = seen.region.left, seen.region.top
        chances = self.scene.probabilities[1:, top : top + rows, left : left + columns].max(axis=0)
        return self._shape(seen.region) if chances[seen.region.bits].mean() >= SURE else None

    def _shape(self, region: MaskCrop) -> Mask | None:
        crop = off_grid(region, self.scene.painting.owner.shape, self.image)
        return None if crop is None else encode_coco(crop.full(*self.image))
