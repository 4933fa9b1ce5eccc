"""Class maps on their way to the score: noted page by page, beside the masks that the model found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.colour_detector import ColourDetector, DenseColours
from fakes.memory_tool import MemoryTool
from fakes.pictures import CAT, ELSEWHERE, TRUTH, draw
from flow_kit import Desk

from bridge.core.annotations import Annotation, Box, Item, Mask, Polygon, Record, Submission, Tag
from bridge.core.findings import ErrorType
from bridge.core.geometry import box_corners
from bridge.core.rle import decode_coco
from bridge.flows.noting import is_outlined, note
from bridge.flows.recall import recalled
from bridge.flows.sources import ImageReader, ModelPredictions
from bridge.scorers.map_evidence import LABEL_COLUMNS

BOTH = {"cat": "cat", "dog": "dog"}


def outlined(submission: Submission) -> Submission:
    """The same objects as polygons."""
    boxes = ((a, a.shape) for a in submission.annotations if isinstance(a.shape, Box))
    return replace(submission, annotations=tuple(replace(a, shape=Polygon(box_corners(box))) for a, box in boxes))


@pytest.fixture
def tool() -> MemoryTool:
    """Five items; in the last a cat is labelled where nothing is, and the dog is not."""
    tool = MemoryTool()
    for k in range(5):
        tool.add_item(draw(TRUTH, 160 + k, backdrop=k), TRUTH if k < 4 else (("cat", CAT), ("cat", ELSEWHERE)))
    tool.people = {k: [outlined(s) for s in submissions] for k, submissions in tool.people.items()}
    return tool


def source(tool: MemoryTool, batch: int = 2, *, probes: bool = True, **label_of: str) -> ModelPredictions:
    return ModelPredictions(ImageReader(tool, 10**6), DenseColours(), label_of or BOTH, batch, probes=probes)


def attached(source: ModelPredictions, tool: MemoryTool) -> list[Record]:
    return source.attach(list(tool.read_page(None, 100).records))[0]


def test_outlines_are_noted_and_met_by_masks(tool: MemoryTool) -> None:
    record = attached(source(tool), tool)[0]
    labels = [n for n in record.notes if n.kind == "label"]
    assert {n.about for n in labels} == {"1a:0", "1a:1"}
    assert all(n.numbers[LABEL_COLUMNS.index("fit")] == 1.0 for n in labels)
    assert [type(p.shape) for p in record.predictions] == [Mask, Mask]
    found = record.predictions[0].shape
    assert isinstance(found, Mask)
    assert decode_coco(found).sum() == (CAT.x2 - CAT.x1) * (CAT.y2 - CAT.y1)


def test_how_items_are_batched_does_not_matter(tool: MemoryTool) -> None:
    assert repr(attached(source(tool, 1), tool)) == repr(attached(source(tool, 5), tool))


def test_whoever_does_not_score_gets_boxes_and_no_notes(tool: MemoryTool) -> None:
    record = attached(source(tool, probes=False), tool)[0]
    assert record.notes == ()
    assert [p.shape for p in record.predictions] == [box for _, box in TRUTH]


def test_boxes_are_met_by_boxes() -> None:
    tool = MemoryTool()
    tool.add_item(draw(TRUTH), TRUTH)
    (record,) = attached(source(tool), tool)
    assert record.notes == ()
    assert [p.shape for p in record.predictions] == [box for _, box in TRUTH]


def test_tags_stay_tags(tool: MemoryTool) -> None:
    class Tagger(ColourDetector):
        kind = "tag"

    tagger = ModelPredictions(ImageReader(tool, 10**6), Tagger(), BOTH, 2, probes=True)
    assert {type(p.shape) for p in attached(tagger, tool)[0].predictions} == {Tag}


def test_classes_of_one_label_add_up_and_those_of_none_are_background(tool: MemoryTool) -> None:
    record = attached(source(tool, probes=False), tool)[4]
    ((_, chances),) = DenseColours().predict_dense([draw(TRUTH, 164)])

    def own(label_of: dict[str, str], name: str) -> dict[str, float]:
        notes = note(record, chances, label_of, ("cat", "dog"))
        column = LABEL_COLUMNS.index(name)
        return {n.about: round(n.numbers[column], 2) for n in notes if n.kind == "label"}

    assert own({"cat": "cat", "dog": "cat"}, "own") == {"5a:0": 0.97, "5a:1": 0.06}
    assert own({"cat": "cat"}, "background") == {"5a:0": 0.06, "5a:1": 0.97}
    assert own({"dog": "dog"}, "own") == {}, "the model does not know what a cat is"


def test_the_score_finds_what_is_wrong(desk: Desk, tool: MemoryTool) -> None:
    desk = replace(desk, tool=tool)
    result = desk.score(source(tool))
    assert result.counts.outlined == 10
    assert desk.store.run(result.run_id).counts["outlined"] == 10
    likely = {(f.finding.error, f.finding.item_id, f.finding.label) for f in desk.findings() if f.finding.score >= 0.5}
    known = recalled(desk.store, result.run_id, 0, tool.read_page(None, 2).records)
    assert [len(known[item].notes) > 0 for item in ("1", "2")] == [True, True], "a later run need not look again"
    assert likely == {(ErrorType.EXTRA, "5", "cat"), (ErrorType.MISSING, "5", "dog")}


def test_nothing_labelled_counts_as_outlined() -> None:
    empty = Submission("s", "ann", ())
    box = Submission("t", "ann", (Annotation("a", "cat", Box(0, 0, 1, 1)),))
    assert is_outlined(Record(Item("1", "1.png", ""), (empty,)))
    assert not is_outlined(Record(Item("1", "1.png", ""), (empty, box)))
