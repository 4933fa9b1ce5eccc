"""bridge.flows.sources: where a scoring run's predictions come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest
from fakes.colour_detector import CONFIDENCE, NAME, ColourDetector
from fakes.memory_tool import MemoryTool
from fakes.pictures import CAT, DOG, TRUTH, draw

from bridge.core.annotations import Item, Prediction, Record
from bridge.core.predictor import Detections
from bridge.core.provenance import Provenance, pixel_mark
from bridge.errors import ImageError
from bridge.flows.sources import FilePredictions, ImageReader, ModelPredictions, StoredPredictions

FOUND = (Prediction("cat", CAT, CONFIDENCE, NAME), Prediction("dog", DOG, CONFIDENCE, NAME))


@dataclass
class Counting(ColourDetector):
    """Notes how many images it is given at a time."""

    batches: list[int] = field(default_factory=list)

    def predict(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        self.batches.append(len(images))
        return super().predict(images)


@pytest.fixture
def tool() -> MemoryTool:
    """Five items; the second and the third cannot be read."""
    tool = MemoryTool()
    for k in range(5):
        tool.add_item(None if k in (1, 2) else draw(TRUTH, 160 + k), TRUTH)
    return tool


def records(tool: MemoryTool) -> list[Record]:
    return list(tool.read_page(None, 100).records)


def source(tool: MemoryTool, predictor: ColourDetector, batch: int = 2, **label_of: str) -> ModelPredictions:
    return ModelPredictions(ImageReader(tool, 10**6), predictor, label_of or {"cat": "cat", "dog": "dog"}, batch)


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_a_model_sees_every_item_once_and_in_order(tool: MemoryTool, batch: int) -> None:
    predictor = Counting()
    attached, failures = source(tool, predictor, batch).attach(records(tool))
    assert [r.item.id for r in attached] == ["1", "2", "3", "4", "5"]
    assert [r.predictions for r in attached] == [FOUND, (), (), FOUND, FOUND]
    assert [r.predicted_by for r in attached] == [(NAME,), (), (), (NAME,), (NAME,)]
    assert [f.item for f in failures] == ["2.png (item 2)", "3.png (item 3)"]
    assert max(predictor.batches) <= batch
    assert sum(predictor.batches) == 3


def test_a_model_tells_the_size_of_an_item(tool: MemoryTool) -> None:
    unsized = [replace(r, item=replace(r.item, width=None, height=None)) for r in records(tool)[3:]]
    attached, _ = source(tool, ColourDetector()).attach(unsized)
    assert [(r.item.width, r.item.height) for r in attached] == [(163, 120), (164, 120)]


def test_a_model_replaces_what_was_there(tool: MemoryTool) -> None:
    """A run is about one model: the opinion of another one does not stay beside it."""
    other = Prediction("dog", CAT, 0.4, "other-1")
    before = [replace(r, predictions=(other,), predicted_by=("other-1",)) for r in records(tool)]
    attached, _ = source(tool, ColourDetector()).attach(before)
    assert attached[0].predictions == FOUND
    assert attached[1].predicted_by == ()


def test_classes_become_labels_and_others_are_dropped(tool: MemoryTool) -> None:
    attached, _ = source(tool, ColourDetector(), cat="animal").attach(records(tool)[:1])
    assert [(p.label, p.shape) for p in attached[0].predictions] == [("animal", CAT)]
    assert attached[0].predicted_by == (NAME,)


def test_nothing_found_is_still_looked_at() -> None:
    tool = MemoryTool()
    tool.add_item(draw(()))
    ((record,), failures) = source(tool, ColourDetector()).attach(records(tool))
    assert (record.predictions, record.predicted_by, failures) == ((), (NAME,), [])


def test_no_records(tool: MemoryTool) -> None:
    assert source(tool, ColourDetector()).attach([]) == ([], [])


def test_a_file_knows_some_items(tool: MemoryTool) -> None:
    by_file = FilePredictions("file", {"1.png": FOUND[:1], "4.png": ()})
    attached, failures = by_file.attach(records(tool))
    assert [r.predictions for r in attached] == [FOUND[:1], (), (), (), ()]
    assert [r.predicted_by for r in attached] == [("file",), (), (), ("file",), ()]
    assert failures == []


def test_a_file_may_tell_what_its_model_has_seen(tool: MemoryTool) -> None:
    names = {f"{k}.png": () for k in range(1, 5)}
    told = FilePredictions("file", names, seen=frozenset({"1.png", "memory://2"}))
    attached, _ = told.attach(records(tool))
    assert [r.samples for r in attached] == [("in",), ("in",), ("out",), ("out",), ()]
    untold, _ = FilePredictions("file", names).attach(records(tool))
    assert [r.samples for r in untold] == [("unknown",)] * 4 + [()]


def test_a_model_tells_of_each_image_whether_it_was_trained_on_it(tool: MemoryTool) -> None:
    origin = Provenance(NAME, ("elsewhere",), seen=frozenset({pixel_mark(draw(TRUTH, 163))}))
    known = replace(source(tool, ColourDetector()), origin=origin)
    assert [r.samples for r in known.attach(records(tool))[0]] == [("out",), (), (), ("in",), ("out",)]
    assert (known.provenance(NAME), known.provenance("another")) == (origin, None)
    assert source(tool, ColourDetector()).attach(records(tool))[0][0].samples == ("unknown",)


def test_stored_predictions_stay_as_they_are(tool: MemoryTool) -> None:
    before = [replace(r, predictions=FOUND, predicted_by=(NAME,)) for r in records(tool)]
    assert StoredPredictions().attach(before) == (before, [])


def test_too_large_an_image_is_named(tool: MemoryTool) -> None:
    with pytest.raises(ImageError, match=r"1\.png \(item 1\) has 160 x 120 pixels"):
        ImageReader(tool, 19_199).read(Item("1", "1.png", ""))
    assert ImageReader(tool, 19_200).read(Item("1", "1.png", "")).shape == (120, 160, 3)


def test_the_key_differs_whenever_the_predictions_do(tool: MemoryTool) -> None:
    one = source(tool, ColourDetector())
    others = [
        source(tool, ColourDetector(), cat="animal"),
        replace(one, threshold=0.3),
        StoredPredictions(),
        StoredPredictions(NAME),
        FilePredictions(NAME, {}, "aa"),
        FilePredictions(NAME, {}, "bb"),
        FilePredictions("other", {}, "aa"),
    ]
    keys = [json.dumps(s.key) for s in (one, *others)]
    assert len(set(keys)) == len(keys)
    assert one.key == replace(one, batch=7).key == source(tool, ColourDetector(), dog="dog", cat="cat").key
