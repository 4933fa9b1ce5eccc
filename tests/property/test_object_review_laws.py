"""ObjectReview gives one answer, whatever the order and however the work is cut up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from ugly import confidences, good_boxes, ugly_boxes

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.findings import Finding
from bridge.core.objects import ObjectTable, build_workload
from bridge.scorers import explain
from bridge.scorers.object_review import ObjectReview

LABELS = LabelSet(("cat", "dog", "owl"))
kinds = st.sampled_from((*LABELS.names, "not in the set"))
shapes = st.one_of(good_boxes(), good_boxes(turned=False), ugly_boxes)
#: Mirror images of each other about the middle one: equal overlaps, so that only the order of content can decide.
mirrored = st.sampled_from([Box(x, y, x + 12, y + 12) for x, y in ((6, 6), (0, 6), (12, 6), (6, 0), (6, 12))])


@st.composite
def piles(draw: st.DrawFn) -> list[Record]:
    records = []
    boxes, sure = draw(st.sampled_from(((shapes, confidences), (mirrored, st.sampled_from((0.5, 0.9))))))
    for i in range(draw(st.integers(0, 3))):
        submissions = []
        for s in range(draw(st.integers(0, 2))):
            drawn = draw(st.lists(st.tuples(kinds, boxes), max_size=5))
            objects = tuple(Annotation(f"{i}.{s}.{k}", label, shape) for k, (label, shape) in enumerate(drawn))
            submissions.append(Submission(f"{i}.{s}", "", objects))
        seen = draw(st.lists(st.builds(Prediction, kinds, boxes, sure, st.just("m")), max_size=6))
        records.append(Record(Item(str(i), f"{i}.jpg", "", 640, 480), tuple(submissions), tuple(seen)))
    return records


def judge(records: list[Record], chunk: int = 1 << 18) -> dict[str, Finding]:
    workload = build_workload("coco:x", LABELS, records)
    found = explain.findings(workload, ObjectReview(chunk).score(workload), "object-review-1")
    assert len({f.id for f in found}) == len(found)
    return {f.id: f for f in found}


@given(piles())
def test_suspects_keep_the_contract(records: list[Record]) -> None:
    workload = build_workload("coco:x", LABELS, records)
    suspects = ObjectReview().score(workload)
    for share in (suspects.score, suspects.iou):
        assert ((share >= 0) & (share <= 1)).all()
    assert (suspects.score > 0).all()
    rows = list(zip(suspects.error.tolist(), suspects.given.tolist(), suspects.predicted.tolist(), strict=True))
    about_labels = [(e, g) for e, g, _ in rows if g >= 0]
    missing = [p for _, g, p in rows if g < 0]
    assert len(set(about_labels)) == len(about_labels)
    assert len(set(missing)) == len(missing)
    for _, g, p in rows:
        assert -1 <= g < len(workload.given)
        assert -1 <= p < len(workload.predicted)
        assert max(g, p) >= 0
        if min(g, p) >= 0:
            assert workload.given.unit[g] == workload.predicted.unit[p]


@given(piles(), st.randoms(use_true_random=False))
def test_the_order_of_images_annotations_and_predictions_does_not_matter(records: list[Record], random: object) -> None:
    def shuffled(values: tuple) -> tuple:
        values = list(values)
        random.shuffle(values)
        return tuple(values)

    mixed = shuffled(
        tuple(
            replace(
                record,
                submissions=shuffled(
                    tuple(replace(s, annotations=shuffled(s.annotations)) for s in record.submissions)
                ),
                predictions=shuffled(record.predictions),
            )
            for record in records
        )
    )
    assert judge(list(mixed)) == judge(records)


@given(piles(), st.integers(1, 7))
def test_the_chunk_does_not_matter(records: list[Record], chunk: int) -> None:
    assert judge(records, chunk) == judge(records)


@given(piles(), st.lists(st.sampled_from((float("nan"), float("inf"), -1.0, 2.0)), min_size=1, max_size=4))
def test_odd_confidences_are_no_reason_to_fail(records: list[Record], odd: list[float]) -> None:
    workload = build_workload("coco:x", LABELS, records)
    table: ObjectTable = workload.predicted
    broken = replace(workload, predicted=replace(table, confidence=np.resize(np.array(odd), len(table))))
    suspects = ObjectReview().score(broken)
    assert ((suspects.score > 0) & (suspects.score <= 1)).all()
