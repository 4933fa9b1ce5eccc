"""Where the predictions for a scoring run come from, and what the model says about the boxes that people drew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Box, Item, MapNote, Prediction, Probe, Record, Sample, Shape, Tag
from bridge.core.fingerprints import thumbnail
from bridge.core.predictor import ClassMap, Detections, Predictor, dense_predictor, region_scorer
from bridge.core.provenance import Provenance
from bridge.core.rle import encode_coco
from bridge.errors import ImageError
from bridge.flows.failures import Failure
from bridge.flows.noting import is_outlined, note
from bridge.flows.probing import ask, boxes_to_ask
from bridge.images import decode
from bridge.tools import AnnotationTool


class PredictionSource(Protocol):
    """Adds predictions to records; ``model`` names them, None when they come from several models. The records tell of
    each model whether it was trained on them, as far as its ``provenance`` is known.

    ``key`` is JSON-able and differs whenever the predictions would: a journey that was interrupted goes on only with
    the predictions it began with.
    """

    @property
    def model(self) -> str | None: ...

    @property
    def key(self) -> list[Any]: ...

    def attach(self, records: Sequence[Record]) -> tuple[list[Record], list[Failure]]:
        """The same records with their predictions; an item that failed comes back without, and is named."""

    def provenance(self, model: str) -> Provenance | None:
        """What the predictions of one of its models come from; None where that is not known."""


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Reads and decodes items through the tool, within the limit on pixels."""

    tool: AnnotationTool
    max_pixels: int

    def read(self, item: Item) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, EXIF-oriented. Raises ``ImageError`` naming the item."""
        return decode(self.tool.read_image(item), f"{item.name} (item {item.id})", max_pixels=self.max_pixels)


#: What is known of the model of a name; None where nothing is.
Origins = Callable[[str], Provenance | None]


def _nobody(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class StoredPredictions:
    """The predictions that the tool holds already.

    Images are read only where a model is known to have been trained on another target: the pixels must then tell
    whether it was on the same images.

    Attributes:
        model: whose; None takes every model's.
        origins: what is known of models by their names.
        reader: of the tool's images; None where ``origins`` knows nothing.
    """

    model: str | None = None
    origins: Origins = _nobody
    reader: ImageReader | None = None

    @property
    def key(self) -> list[Any]:
        return ["stored", self.model]

    def provenance(self, model: str) -> Provenance | None:
        return self.origins(model)

    def attach(self, records: Sequence[Record]) -> tuple[list[Record], list[Failure]]:
        return [self._told(record) for record in records], []

    def _told(self, record: Record) -> Record:
        known = [self.origins(model) for model in record.predicted_by]
        if self.reader is None or not any(known):
            return record
        target, item = self.reader.tool.target, record.item
        samples = [None if one is None else one.sample(target, item) for one in known]
        if "unknown" in samples:
            try:
                pixels = self.reader.read(item)
            except ImageError:
                pixels = None
            samples = [None if one is None else one.sample(target, item, pixels) for one in known]
        return replace(record, samples=tuple(sample or "unknown" for sample in samples))


@dataclass(frozen=True, slots=True)
class FilePredictions:
    """Predictions read from a file, by item name. Items that the file does not know stay without.

    Attributes:
        model: what they are called.
        content: a digest of the file.
        origin: what they come from, where somebody noted it.
        seen: the names of the images that the model was trained on; None where nobody noted them.
    """

    model: str
    by_name: Mapping[str, tuple[Prediction, ...]]
    content: str = ""
    origin: Provenance | None = None
    seen: frozenset[str] | None = None

    @property
    def key(self) -> list[Any]:
        return ["file", self.model, self.content]

    def provenance(self, model: str) -> Provenance | None:
        return self.origin if model == self.model else None

    def attach(self, records: Sequence[Record]) -> tuple[list[Record], list[Failure]]:
        return [
            replace(
                record,
                predictions=self.by_name[record.item.name],
                predicted_by=(self.model,),
                samples=(self._sample(record.item),),
            )
            if record.item.name in self.by_name
            else _unpredicted(record)
            for record in records
        ], []

    def _sample(self, item: Item) -> Sample:
        if self.seen is None:
            return "unknown"
        return "in" if item.name in self.seen or item.image in self.seen else "out"


@dataclass(frozen=True, slots=True)
class ModelPredictions:
    """Runs a model over the images, ``batch`` at a time.

    ``label_of`` maps the model's class names to the target's label names; classes that are not in it are dropped.
    ``threshold`` is what the predictor was loaded with; None where it is the model's own. ``origin`` is what the model
    was trained on, where that is known. With ``probes``, as scoring wants it, a model that can is also asked about each
    box that people drew, and its class map about their outlines; and its masks and tags stay what they are, where
    otherwise the box around them is a suggestion in any project.
    """

    reader: ImageReader
    predictor: Predictor
    label_of: Mapping[str, str]
    batch: int
    threshold: float | None = None
    origin: Provenance | None = None
    probes: bool = False

    @property
    def model(self) -> str:
        return self.predictor.name

    @property
    def key(self) -> list[Any]:
        return ["model", self.model, self.threshold, [[k, self.label_of[k]] for k in sorted(self.label_of)]]

    def provenance(self, model: str) -> Provenance | None:
        return self.origin if model == self.model else None

    def attach(self, records: Sequence[Record]) -> tuple[list[Record], list[Failure]]:
        done: list[Record] = []
        failures: list[Failure] = []
        for start in range(0, len(records), self.batch):
            images: list[npt.NDArray[np.uint8]] = []
            readable: list[Record] = []
            for record in records[start : start + self.batch]:
                try:
                    images.append(self.reader.read(record.item))
                    readable.append(record)
                except ImageError as error:
                    failures.append(Failure(f"{record.item.name} (item {record.item.id})", str(error)))
                    done.append(_unpredicted(record))
            for record, image, (found, chances) in zip(readable, images, self._look(images), strict=True):
                done.append(self._with(record, image, found, chances))
        order = {record.item.id: k for k, record in enumerate(records)}
        return sorted(done, key=lambda record: order[record.item.id]), failures

    def _look(self, images: Sequence[npt.NDArray[np.uint8]]) -> Sequence[tuple[Detections, ClassMap | None]]:
        dense = dense_predictor(self.predictor) if self.probes else None
        if dense is not None:
            return dense.predict_dense(images)
        return [(found, None) for found in self.predictor.predict(images)]

    def _with(
        self, record: Record, image: npt.NDArray[np.uint8], found: Detections, chances: ClassMap | None
    ) -> Record:
        record = replace(record, item=replace(record.item, height=image.shape[0], width=image.shape[1]))
        return replace(
            record,
            predictions=self._predictions(record, found),
            predicted_by=(self.predictor.name,),
            samples=(self._sample(record.item, image),),
            thumbnail=thumbnail(image).tobytes(),
            probes=self._probes(record, image),
            notes=self._notes(record, chances),
        )

    def _sample(self, item: Item, image: npt.NDArray[np.uint8]) -> Sample:
        return "unknown" if self.origin is None else self.origin.sample(self.reader.tool.target, item, image)

    def _probes(self, record: Record, image: npt.NDArray[np.uint8]) -> tuple[Probe, ...]:
        scorer = region_scorer(self.predictor) if self.probes else None
        if scorer is None:
            return ()
        boxes = boxes_to_ask(record, set(self.label_of.values()))
        return ask(scorer, image, boxes, self.label_of, self.predictor.classes)

    def _notes(self, record: Record, chances: ClassMap | None) -> tuple[MapNote, ...]:
        if chances is None or not is_outlined(record):
            return ()
        return note(record, chances, self.label_of, self.predictor.classes)

    def _predictions(self, record: Record, found: Detections) -> tuple[Prediction, ...]:
        names = [self.label_of.get(name) for name in self.predictor.classes]
        rows = zip(self._shapes(record, found), found.label.tolist(), found.confidence.tolist(), strict=True)
        return tuple(
            Prediction(label, shape, confidence, self.predictor.name)
            for shape, index, confidence in rows
            if (label := names[index]) is not None
        )

    def _shapes(self, record: Record, found: Detections) -> Sequence[Shape]:
        if self.probes and self.predictor.kind == "tag":
            return [Tag()] * len(found.xyxy)
        if self.probes and self.predictor.kind == "mask" and is_outlined(record):
            height, width = record.item.height or 0, record.item.width or 0
            return [encode_coco(mask.full(height, width)) for mask in found.masks]
        return [Box(*xyxy) for xyxy in found.xyxy.tolist()]


def _unpredicted(record: Record) -> Record:
    return replace(record, predictions=(), predicted_by=(), samples=())
