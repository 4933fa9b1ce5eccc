"""PlantedReview gives one answer, whatever the order and however the work is cut up, and never fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_object_review_laws import LABELS, piles

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.findings import Finding
from bridge.core.objects import build_workload
from bridge.scorers import explain
from bridge.scorers.planted_review import LEAST, PlantedReview

#: Each example fits models, so there are few of them; what is drawn is the same as for the object review.
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def crowd(images: int = 24, labels: LabelSet = LABELS) -> list[Record]:
    """Images with errors enough to learn from: dropped, moved and relabelled objects, and junk predictions."""
    rng = np.random.default_rng(5)
    records = []
    for i in range(images):
        given, seen = [], []
        for k, corner in enumerate(rng.permutation([(x, y) for x in (10, 110, 210) for y in (10, 110, 210)])[:5]):
            x, y = corner + rng.integers(0, 20, 2)
            box = Box(float(x), float(y), float(x + 60), float(y + 50))
            name = labels.names[int(rng.integers(len(labels.names)))]
            seen.append(Prediction(name, box, float(rng.uniform(0.5, 0.9)), "m"))
            fate = rng.random()
            if fate < 0.1:
                continue
            shifted = Box(box.x1 + 20, box.y1 + 10, box.x2 + 20, box.y2 + 10)
            drawn = labels.names[0] if fate < 0.2 else name
            given.append(Annotation(f"{i}-{k}", drawn, shifted if 0.2 < fate < 0.3 else box))
        seen.append(Prediction(labels.names[0], Box(250, 10, 300, 60), float(rng.uniform(0, 0.3)), "m"))
        submission = Submission(f"s{i}", "", tuple(given))
        records.append(Record(Item(str(i), f"{i}.jpg", "", 320, 320), (submission,), tuple(seen)))
    return records


def judge(records: list[Record], review: PlantedReview | None = None) -> dict[str, Finding]:
    workload = build_workload("coco:x", LABELS, records)
    found = explain.findings(workload, (review or PlantedReview()).score(workload), "planted-review-1")
    return {f.id: f for f in found}


@few
@given(piles())
def test_suspects_keep_the_contract(records: list[Record]) -> None:
    workload = build_workload("coco:x", LABELS, records)
    suspects = PlantedReview().score(workload)
    assert ((suspects.score >= LEAST) & (suspects.score <= 1)).all()
    assert ((suspects.iou >= 0) & (suspects.iou <= 1)).all()
    rows = list(zip(suspects.error.tolist(), suspects.given.tolist(), suspects.predicted.tolist(), strict=True))
    about = [(e, g) if g >= 0 else (e, -1 - p) for e, g, p in rows]
    assert len(set(about)) == len(about)
    for _, g, p in rows:
        assert -1 <= g < len(workload.given)
        assert -1 <= p < len(workload.predicted)
        assert max(g, p) >= 0
        if min(g, p) >= 0:
            assert workload.given.unit[g] == workload.predicted.unit[p]


@few
@given(piles(), st.randoms(use_true_random=False))
def test_the_order_of_images_annotations_and_predictions_does_not_matter(records: list[Record], random: object) -> None:
    def shuffled(values: tuple) -> tuple:
        values = list(values)
        random.shuffle(values)
        return tuple(values)

    records = [*crowd(), *(replace(r, item=replace(r.item, id=f"pile {r.item.id}")) for r in records)]
    mixed = [
        replace(
            record,
            submissions=shuffled(tuple(replace(s, annotations=shuffled(s.annotations)) for s in record.submissions)),
            predictions=shuffled(record.predictions),
        )
        for record in shuffled(tuple(records))
    ]
    assert judge(mixed) == judge(records)


@few
@given(st.integers(1, 400))
def test_the_chunk_does_not_matter(chunk: int) -> None:
    assert judge(crowd(), PlantedReview(chunk=chunk)) == judge(crowd())


@few
@given(piles(), st.lists(st.sampled_from((float("nan"), float("inf"), -1.0, 2.0)), min_size=1, max_size=4))
def test_odd_confidences_are_no_reason_to_fail(records: list[Record], odd: list[float]) -> None:
    workload = build_workload("coco:x", LABELS, [*crowd(), *records])
    table = workload.predicted
    some = np.where(np.arange(len(table)) % 3 == 0, np.resize(np.array(odd), len(table)), table.confidence)
    suspects = PlantedReview().score(replace(workload, predicted=replace(table, confidence=some)))
    assert ((suspects.score > 0) & (suspects.score <= 1)).all()
