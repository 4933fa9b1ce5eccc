"""Planted errors: the right kinds, in the right number, within their ranges, and matched as they should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bridge.core.annotations import (
    Annotation,
    Box,
    Item,
    LabelSet,
    Polygon,
    Prediction,
    Problem,
    Record,
    Submission,
    Tag,
)
from bridge.core.findings import REVIEWED_TYPES, ErrorType, Finding, Fix
from bridge.core.geometry import iou_matrix
from bridge.core.planting import EXTRA_IOU, IMPRECISE_IOU, PlantedError, PlantedRow, match_planted, plant
from bridge.errors import DataError

LABELS = LabelSet(("bolt", "nut", "washer"))
MISSING, EXTRA, WRONG, IMPRECISE = REVIEWED_TYPES


def make_records(items: int, objects: int, seed: int = 1, size: int = 400) -> list[Record]:
    """Items whose boxes stand on a grid with gaps, so that there is room for more."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(items):
        cells = rng.permutation(36)[:objects]
        annotations = []
        for k, cell in enumerate(cells):
            x, y = (cell % 6) * size / 6 + 3, (cell // 6) * size / 6 + 3
            w, h = rng.uniform(20, 55, 2)
            label = LABELS.names[int(rng.integers(3))]
            annotations.append(Annotation(f"{i}-{k}", label, Box(float(x), float(y), float(x + w), float(y + h))))
        item = Item(str(i), f"{i}.jpg", f"{i}.jpg", size, size)
        prediction = Prediction("nut", Box(1.0, 1.0, 5.0, 5.0), 0.5, "m")
        problem = Problem("small_image", "small")
        records.append(Record(item, (Submission(f"s{i}", "ann", tuple(annotations)),), (prediction,), (problem,)))
    return records


def objects_of(records: list[Record]) -> dict[str, Annotation]:
    return {a.id: a for record in records for s in record.submissions for a in s.annotations}


def boxes(annotations: list[Annotation]) -> np.ndarray:
    return np.array([a.shape.xyxy for a in annotations if isinstance(a.shape, Box)], dtype=float).reshape(-1, 4)


def iou(a: object, b: object) -> float:
    assert isinstance(a, Box)
    assert isinstance(b, Box)
    return float(
        iou_matrix(np.array([a.xyxy]), np.array([b.xyxy]), np.array([a.rotation]), np.array([b.rotation]))[0, 0]
    )


@pytest.mark.parametrize("seed", range(8))
def test_each_kind_is_what_it_claims_to_be(seed: int) -> None:
    clean = make_records(40, 10, seed)
    dirty, planted = plant(clean, LABELS, np.random.default_rng(seed), 0.06)
    before, after = objects_of(clean), objects_of(dirty)
    counts = {error: sum(p.error is error for p in planted) for error in REVIEWED_TYPES}
    assert counts == dict.fromkeys(REVIEWED_TYPES, 24)

    touched = set()
    taken = set(before) - set(after)
    assert len(taken) == 24
    truths = {(before[i].label, before[i].shape) for i in taken}
    assert {(p.label, p.box) for p in planted if p.error is MISSING} == truths
    for one in planted:
        if one.error is MISSING:
            assert one.annotation_id is None
            continue
        assert one.annotation_id is not None
        now = after[one.annotation_id]
        assert one.annotation_id not in touched
        touched.add(one.annotation_id)
        if one.error is EXTRA:
            assert one.annotation_id not in before
            assert (now.label, now.shape) == (one.label, one.box)
            continue
        was = before[one.annotation_id]
        assert (was.label, was.shape) == (one.label, one.box)
        if one.error is WRONG:
            assert now.label in set(LABELS.names) - {was.label}
            assert now.shape == was.shape
        else:
            assert now.label == was.label
            assert IMPRECISE_IOU[0] <= iou(now.shape, was.shape) <= IMPRECISE_IOU[1]
    assert {i for i in after if after[i] != before.get(i)} == touched


def test_extra_boxes_are_clear_of_all_and_inside_the_image() -> None:
    clean = make_records(30, 12, 3)
    dirty, planted = plant(clean, LABELS, np.random.default_rng(5), {EXTRA: 0.3, MISSING: 0.2})
    assert sum(p.error is EXTRA for p in planted) == round(0.3 * 360)
    extra = {p.annotation_id for p in planted if p.error is EXTRA}
    for was, now in zip(clean, dirty, strict=True):
        annotations = list(now.submissions[0].annotations)
        added = [a for a in annotations if a.id in extra]
        others = [a for a in annotations if a.id not in extra] + list(was.submissions[0].annotations)
        if added:
            assert iou_matrix(boxes(added), boxes(others)).max() <= EXTRA_IOU
            own = iou_matrix(boxes(added), boxes(added))
            assert own[~np.eye(len(added), dtype=bool)].max(initial=0.0) <= EXTRA_IOU
            assert boxes(added).min() >= 0
            assert boxes(added).max() <= 400


def test_imprecise_boxes_stay_inside_and_nearest_to_their_object() -> None:
    clean = make_records(40, 20, 4)
    dirty, planted = plant(clean, LABELS, np.random.default_rng(6), {IMPRECISE: 0.5})
    after = objects_of(dirty)
    by_item = {r.item.id: boxes(list(r.submissions[0].annotations)) for r in clean}
    assert len(planted) == 400
    for one in planted:
        assert one.annotation_id is not None
        shape = after[one.annotation_id].shape
        assert isinstance(shape, Box)
        assert min(shape.xyxy) >= 0
        assert max(shape.xyxy) <= 400
        assert iou_matrix(np.array([shape.xyxy]), by_item[one.item_id]).max() <= iou(shape, one.box) + 1e-12


def test_an_imprecise_box_does_not_slide_onto_a_neighbour() -> None:
    left, right = Box(40.0, 40.0, 80.0, 80.0), Box(60.0, 40.0, 100.0, 80.0)
    pair = (Annotation("left", "bolt", left), Annotation("right", "bolt", right))
    record = Record(Item("1", "1.jpg", "1.jpg", 200, 200), (Submission("s", "ann", pair),))
    for seed in range(100):
        (dirty,), planted = plant([record], LABELS, np.random.default_rng(seed), {IMPRECISE: 1.0})
        assert len(planted) == 2
        now = {a.id: a.shape for a in dirty.submissions[0].annotations}
        assert iou(now["left"], left) >= iou(now["left"], right)
        assert iou(now["right"], right) >= iou(now["right"], left)


def test_the_rest_of_a_record_stays() -> None:
    clean = make_records(10, 6)
    dirty, _ = plant(clean, LABELS, np.random.default_rng(0), 0.2)
    for was, now in zip(clean, dirty, strict=True):
        assert (now.item, now.predictions, now.problems) == (was.item, was.predictions, was.problems)
        assert now.submissions[0].id == was.submissions[0].id


def test_the_same_seed_gives_the_same_errors_and_another_seed_others() -> None:
    clean = make_records(20, 8)
    first = plant(clean, LABELS, np.random.default_rng(7), 0.1)
    assert plant(clean, LABELS, np.random.default_rng(7), 0.1) == first
    assert plant(clean, LABELS, np.random.default_rng(8), 0.1) != first


def test_no_rate_changes_nothing() -> None:
    clean = make_records(5, 5)
    assert plant(clean, LABELS, np.random.default_rng(0), 0.0) == (clean, [])
    assert plant([], LABELS, np.random.default_rng(0), 0.3) == ([], [])


def test_every_object_may_be_spoilt_but_only_once() -> None:
    clean = make_records(10, 9)
    rates = {MISSING: 0.3, WRONG: 0.3, IMPRECISE: 0.4}
    dirty, planted = plant(clean, LABELS, np.random.default_rng(0), rates)
    assert len(planted) == 90
    assert not set(objects_of(clean).values()) & set(objects_of(dirty).values())


def test_one_label_cannot_be_confused() -> None:
    clean = [
        replace(r, submissions=(replace(s, annotations=tuple(replace(a, label="bolt") for a in s.annotations)),))
        for r in make_records(10, 5)
        for s in r.submissions
    ]
    _, planted = plant(clean, LabelSet(("bolt",)), np.random.default_rng(0), 0.2)
    assert {p.error for p in planted} == {MISSING, EXTRA, IMPRECISE}


def test_a_box_that_fills_the_image_can_still_be_made_imprecise() -> None:
    whole = Annotation("a", "bolt", Box(0.0, 0.0, 64.0, 48.0))
    record = Record(Item("1", "1.jpg", "1.jpg", 64, 48), (Submission("s", "ann", (whole,)),))
    for seed in range(20):
        (dirty,), (one,) = plant([record], LABELS, np.random.default_rng(seed), {IMPRECISE: 1.0})
        shape = dirty.submissions[0].annotations[0].shape
        assert 0.4 - 1e-9 <= iou(shape, one.box) <= 0.7 + 1e-9
        assert plant([record], LABELS, np.random.default_rng(seed), {EXTRA: 1.0}) == ([record], [])


def test_a_crowd_of_equal_boxes_and_turned_boxes() -> None:
    turned = Box(100.0, 100.0, 140.0, 130.0, 30.0)
    annotations = tuple(Annotation(str(k), "nut", turned) for k in range(4))
    record = Record(Item("1", "1.jpg", "1.jpg", 300, 300), (Submission("s", "ann", annotations),))
    (dirty,), planted = plant([record], LABELS, np.random.default_rng(1), {IMPRECISE: 1.0})
    assert len(planted) == 4
    for now in dirty.submissions[0].annotations:
        assert isinstance(now.shape, Box)
        assert now.shape.rotation == 30.0
        assert 0.4 - 1e-9 <= iou(now.shape, turned) <= 0.7 + 1e-9


def test_what_is_no_sound_box_is_left_alone() -> None:
    odd = (
        Annotation("p", "bolt", Polygon(((0.0, 0.0), (9.0, 0.0), (0.0, 9.0)))),
        Annotation("t", "bolt", Tag()),
        Annotation("d", "bolt", Box(5.0, 5.0, 5.0, 9.0)),
        Annotation("n", "bolt", Box(float("inf"), 5.0, 5.0, 9.0)),
        Annotation("u", "unknown", Box(1.0, 1.0, 9.0, 9.0)),
    )
    good = Annotation("g", "bolt", Box(20.0, 20.0, 40.0, 40.0))
    record = Record(Item("1", "1.jpg", "1.jpg", 100, 100), (Submission("s", "ann", (*odd, good)),))
    (dirty,), planted = plant([record], LABELS, np.random.default_rng(1), {WRONG: 1.0, EXTRA: 1.0})
    assert [p.error for p in planted] == [WRONG, EXTRA]
    assert dirty.submissions[0].annotations[:5] == odd


def test_two_submissions_of_one_item_get_ids_of_their_own() -> None:
    clean = make_records(6, 4)
    double = [
        replace(
            r,
            submissions=(
                *r.submissions,
                Submission("second", "b", tuple(replace(a, id=a.id + "b") for a in r.submissions[0].annotations)),
            ),
        )
        for r in clean
    ]
    dirty, planted = plant(double, LABELS, np.random.default_rng(3), {EXTRA: 0.8})
    ids = [a.id for r in dirty for s in r.submissions for a in s.annotations]
    assert len(planted) == round(0.8 * 48)
    assert len(ids) == len(set(ids)) == 48 + len(planted)


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (0.5, "more errors than there are objects"),
        (-0.1, "numbers in \\[0, 1\\]"),
        (float("nan"), "numbers in \\[0, 1\\]"),
        ({ErrorType.NO_IMAGE: 0.1}, "no_image"),
    ],
)
def test_rates_that_make_no_sense(rate: object, told: str) -> None:
    with pytest.raises(DataError, match=told):
        plant(make_records(2, 2), LABELS, np.random.default_rng(0), rate)  # type: ignore[arg-type]


def test_an_item_without_size_is_named() -> None:
    record = Record(Item("77", "x.jpg", "x.jpg"))
    with pytest.raises(DataError, match="item 77"):
        plant([record], LABELS, np.random.default_rng(0), 0.1)


def finding(
    number: int, error: ErrorType, item: str, ids: tuple[str, ...] = (), shape: Box | None = None, score: float = 0.9
) -> Finding:
    fix = Fix("add", "nut", shape) if error is MISSING else Fix("none")
    return Finding(f"{number:016x}", "t", item, item, "s", ids, error, "nut", score, "why", fix, "scorer")


def test_findings_are_matched_by_kind_item_and_object() -> None:
    box = Box(0.0, 0.0, 10.0, 10.0)
    planted = [
        PlantedError(MISSING, "1", None, box, "nut"),
        PlantedError(MISSING, "1", None, Box(50.0, 50.0, 60.0, 60.0), "nut"),
        PlantedError(WRONG, "1", "a", box, "nut"),
        PlantedError(WRONG, "2", "b", box, "nut"),
        PlantedError(EXTRA, "2", "c", box, "nut"),
    ]
    findings = [
        finding(1, MISSING, "1", shape=Box(0.0, 0.0, 10.0, 5.0)),  # IoU is 0.5 exactly: a hit
        finding(2, MISSING, "1", shape=Box(0.0, 0.0, 10.0, 9.0), score=0.2),  # the same object again
        finding(3, MISSING, "1", shape=Box(50.0, 50.0, 60.0, 54.9)),  # IoU 0.49
        finding(4, MISSING, "2", shape=box),  # another item
        finding(5, MISSING, "1"),  # names no place
        finding(6, WRONG, "1", ("a",)),
        finding(7, WRONG, "1", ("a",), score=0.1),
        finding(8, WRONG, "1", ("b",)),  # right object, wrong item
        finding(9, IMPRECISE, "2", ("c",)),  # right object, wrong kind
        finding(10, ErrorType.NO_IMAGE, "2"),
    ]
    for given in (findings, findings[::-1]):
        assert match_planted(given, planted) == [
            PlantedRow(MISSING, 2, 1, 5, 0.5, 0.2),
            PlantedRow(EXTRA, 1, 0, 0, 0.0, None),
            PlantedRow(WRONG, 2, 1, 3, 0.5, 1 / 3),
            PlantedRow(IMPRECISE, 0, 0, 1, None, 0.0),
        ]


def test_perfect_findings_find_everything() -> None:
    _, planted = plant(make_records(20, 10), LABELS, np.random.default_rng(2), 0.1)
    findings = [
        finding(k, p.error, p.item_id, () if p.annotation_id is None else (p.annotation_id,), p.box)
        for k, p in enumerate(planted)
    ]
    for row in match_planted(findings, planted):
        assert (row.planted, row.found, row.recall, row.precision) == (20, 20, 1.0, 1.0)
