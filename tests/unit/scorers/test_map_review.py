"""Class maps: each error heads the list, and its fix is what repairs it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from fakes.class_maps import LABELS, SIZE, class_map, clean, disc, noted, record, truth

from bridge.core.annotations import (
    Annotation,
    Box,
    LabelSet,
    MapNote,
    Mask,
    Polygon,
    Record,
    record_from_dict,
    record_to_dict,
)
from bridge.core.findings import ErrorType, Finding
from bridge.core.rle import decode_coco
from bridge.outlines import as_drawn
from bridge.scorers.instance_review import InstanceReview
from bridge.scorers.map_review import MapReview

SET = LabelSet(LABELS)


@pytest.fixture(scope="module")
def good() -> list[Record]:
    """Eight items without an error."""
    return clean(8)


def worst(records: list[Record], *, labels_only: bool = False) -> Finding:
    found = [f for f in MapReview().find("t", SET, records) if f.annotation_ids or not labels_only]
    return max(found, key=lambda finding: finding.score)


def other(label: str) -> str:
    return LABELS[1 - LABELS.index(label)]


def test_a_label_of_the_wrong_class_heads_the_list(good: list[Record]) -> None:
    objects = truth(1)
    finding = worst([*good, record(1, [(other(objects[0][0]), objects[0][1]), *objects[1:]])])
    assert (finding.error, finding.annotation_ids, finding.fix.label) == (
        ErrorType.WRONG_CLASS,
        ("1:0",),
        objects[0][0],
    )
    assert finding.score > 0.5


def test_a_label_on_nothing_is_extra(good: list[Record]) -> None:
    objects = truth(1)
    finding = worst([*good, record(1, objects, seen=objects[1:])])
    assert (finding.error, finding.annotation_ids, finding.fix.action) == (ErrorType.EXTRA, ("1:0",), "delete")


def test_an_object_without_a_label_is_missing_and_its_mask_is_suggested(good: list[Record]) -> None:
    objects = truth(1)
    finding = worst([*good, record(1, objects[1:])])
    assert (finding.error, finding.submission_id, finding.label) == (ErrorType.MISSING, "s1", objects[0][0])
    assert finding.fix.action == "add"
    assert isinstance(finding.fix.shape, Mask)
    found = decode_coco(finding.fix.shape)
    assert (found & objects[0][1]).sum() / (found | objects[0][1]).sum() > 0.8


@pytest.mark.parametrize(
    ("gone", "says"), [(disc(16, 16, 4), "it has a hole"), (disc(16, 12, 7), "outlines it otherwise")]
)
def test_a_bad_outline_is_imprecise_and_gets_the_models(good: list[Record], gone: np.ndarray, says: str) -> None:
    whole = disc(16, 16, 9)
    objects = [(truth(1)[0][0], whole), *truth(1)[1:]]
    drawn = [(objects[0][0], whole & ~gone), *objects[1:]]
    # What a label leaves out may well be an object of its own, too.
    finding = worst([*good, record(1, drawn, seen=objects)], labels_only=True)
    assert (finding.error, finding.annotation_ids) == (ErrorType.IMPRECISE, ("1:0",))
    assert says in finding.reason
    assert isinstance(finding.fix.shape, Mask)
    found = decode_coco(finding.fix.shape)
    assert (found & whole).sum() / (found | whole).sum() > 0.8


def test_nothing_stands_out_where_nothing_is_wrong(good: list[Record]) -> None:
    scores = [finding.score for finding in MapReview().find("t", SET, good)]
    assert max(scores, default=0.0) < 0.5


def test_few_labels_are_judged_by_the_formulas() -> None:
    """One item teaches nothing: what is planted in it and what is judged are one fold."""
    objects = truth(1)
    finding = worst([record(1, [(other(objects[0][0]), objects[0][1]), *objects[1:]])])
    assert (finding.error, finding.annotation_ids) == (ErrorType.WRONG_CLASS, ("1:0",))


def test_polygons_get_polygons(good: list[Record]) -> None:
    objects = truth(1)
    masks = record(1, objects[1:], notes=False)
    (submission,) = masks.submissions
    drawn = tuple(
        replace(a, shape=as_drawn(a.shape, [Annotation("x", "cat", Polygon(((0, 0), (1, 0), (1, 1))))]))
        for a in submission.annotations
        if isinstance(a.shape, Mask)
    )
    polygons = replace(masks, submissions=(replace(submission, annotations=drawn),))
    assert all(isinstance(a.shape, Polygon) for a in drawn)
    finding = worst([*good, replace(polygons, notes=noted(polygons, class_map(objects, 1)))])
    assert finding.error is ErrorType.MISSING
    assert isinstance(finding.fix.shape, Polygon)


def test_boxes_are_no_gaps_and_not_judged() -> None:
    objects = truth(1)
    made = record(1, objects[1:], notes=False)
    (submission,) = made.submissions
    box = Annotation("1:box", objects[0][0], Box(2, 2, 31, 31))
    mixed = replace(made, submissions=(replace(submission, annotations=(*submission.annotations, box)),))
    notes = noted(mixed, class_map(objects, 1))
    assert "1:box" not in {n.about for n in notes}
    assert not [n for n in notes if n.kind == "proposal" and n.numbers[0] > 0.5]
    boxes = replace(made, submissions=(replace(submission, annotations=(box,)),))
    assert noted(boxes, class_map(objects, 1)) == ()


def test_a_label_that_the_model_does_not_know_is_not_judged() -> None:
    objects = truth(1)
    notes = noted(record(1, [("owl", objects[0][1]), *objects[1:]], notes=False), class_map(objects, 1))
    assert "1:0" not in {n.about for n in notes}
    assert "1:1" in {n.about for n in notes}


def test_an_empty_submission_lacks_what_the_model_sees(good: list[Record]) -> None:
    findings = [f for f in MapReview().find("t", SET, [*good, record(1, [])]) if f.score > 0.4]
    assert {(f.item_id, f.error) for f in findings} == {("1", ErrorType.MISSING)}
    found = np.logical_or.reduce([decode_coco(f.fix.shape) for f in findings if isinstance(f.fix.shape, Mask)])
    assert all((found & mask).sum() > 0.8 * mask.sum() for _, mask in truth(1))


def test_what_is_kept_is_small_and_comes_back() -> None:
    made = record(1, truth(1)[1:])
    again = record_from_dict(json.loads(json.dumps(record_to_dict(made))))
    assert len(json.dumps(record_to_dict(made)["notes"])) < 3 * SIZE * SIZE * 4 / 5, "the map itself is 110 kB"
    assert [(n.kind, n.about, n.label, n.shape) for n in again.notes] == [
        (n.kind, n.about, n.label, n.shape) for n in made.notes
    ]
    numbers = [np.array([n.numbers for n in r.notes if n.kind == "label"]) for r in (made, again)]
    assert numbers[1] == pytest.approx(numbers[0], abs=6e-4, nan_ok=True)
    old = {k: v for k, v in record_to_dict(made).items() if k != "notes"}
    assert record_from_dict(old).notes == ()


def test_other_reviews_leave_noted_items_alone(good: list[Record]) -> None:
    assert InstanceReview().find("t", SET, good) == []
    assert MapReview().find("t", SET, [replace(r, notes=()) for r in good]) == []


def test_notes_name_their_object() -> None:
    notes = record(1, truth(1)[1:]).notes
    assert [n.about for n in notes if n.kind == "label"] != []
    assert {n.about for n in notes if n.kind == "proposal"} == {"s1"}
    planted = {n.kind for n in notes if not n.about}
    assert planted == {"extra", "wrong_class", "imprecise", "missing"}
    assert all(isinstance(n, MapNote) and n.shape is None for n in notes if not n.about)
