"""Each kind of error on its own image, by hand; then what must not be taken for an error; then real data."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.findings import REVIEWED_TYPES, ErrorType
from bridge.core.metrics import average_precision
from bridge.core.objects import ObjectTable, Unit, Workload, build_workload
from bridge.scorers import Suspects
from bridge.scorers.object_review import ObjectReview

LABELS = LabelSet(("cat", "dog"))
OBJECT = Box(100, 100, 200, 200)
SHIFTED = Box(130, 100, 230, 200)  # IoU 70 / 130 with OBJECT
AWAY = Box(400, 100, 500, 200)


def record(name: str, given: list[tuple[str, Box]], seen: list[tuple[str, Box, float]]) -> Record:
    objects = tuple(Annotation(f"{name}-{k}", label, box) for k, (label, box) in enumerate(given))
    found = tuple(Prediction(label, box, confidence, "m") for label, box, confidence in seen)
    return Record(Item(name, name, "", 640, 480), (Submission(name, "", objects),), found)


#: Enough good work for the model's habits to be known: it backs each class with .9 at IoU 1.
GOOD = [
    record(f"good {k}", [("cat", OBJECT), ("dog", AWAY)], [("cat", OBJECT, 0.9), ("dog", AWAY, 0.9)]) for k in range(99)
]


def judge(*records: Record) -> tuple[Workload, Suspects]:
    workload = build_workload("t", LABELS, [*records, *GOOD])
    return workload, ObjectReview().score(workload)


def ranked(*records: Record) -> list[tuple[str, str, float]]:
    """(error, image, score) from the highest score down, of the images under test."""
    workload, suspects = judge(*records)
    rows = []
    for k in np.argsort(-suspects.score, kind="stable"):
        g, p = suspects.given[k], suspects.predicted[k]
        unit = workload.given.unit[g] if g >= 0 else workload.predicted.unit[p]
        name = workload.units[unit].item.name
        if not name.startswith("good"):
            rows.append((str(REVIEWED_TYPES[suspects.error[k]]), name, float(suspects.score[k])))
    return rows


def test_what_the_model_confirms_is_no_suspect() -> None:
    assert ranked(record("x", [("cat", OBJECT)], [("cat", OBJECT, 0.95)])) == []


def test_the_four_errors_by_hand() -> None:
    """The formulas of the module's text, with the usual values of the good images: backing .9 and IoU 1."""
    images = [
        record("missing", [("dog", AWAY)], [("dog", AWAY, 0.9), ("cat", OBJECT, 0.8)]),
        record("extra", [("cat", OBJECT)], []),
        record("swapped", [("dog", OBJECT)], [("cat", OBJECT, 0.95), ("dog", OBJECT, 0.03)]),
        record("loose", [("cat", SHIFTED)], [("cat", OBJECT, 0.9)]),
    ]
    rows = {(error, name): score for error, name, score in ranked(*images)}
    assert rows["missing", "missing"] == pytest.approx(0.8)
    # Medians are drawn towards perfection by ten labels among two hundred.
    assert rows["extra", "extra"] == pytest.approx(0.9**2, abs=0.03)
    assert rows["wrong_class", "swapped"] == pytest.approx(0.95 - 0.03)
    assert rows["imprecise", "loose"] == pytest.approx(0.9 * 2 * (1 - 70 / 130), abs=0.01)
    best = {}
    for error, name, _ in ranked(*images):
        best.setdefault(name, error)
    assert best == {"missing": "missing", "extra": "extra", "swapped": "wrong_class", "loose": "imprecise"}


def test_the_weaker_suspicions_about_a_label_are_lowered_by_the_strongest() -> None:
    """An IoU of .3: by the formulas alone imprecise .54, extra .13 and missing .36, all for one bad box."""
    drawn = Box(OBJECT.x1 + 700 / 13, OBJECT.y1, OBJECT.x2 + 700 / 13, OBJECT.y2)
    rows = {error: score for error, _, score in ranked(record("x", [("cat", drawn)], [("cat", OBJECT, 0.9)]))}
    assert rows["imprecise"] == pytest.approx(0.9 * 0.6, abs=0.01)
    assert rows["extra"] == pytest.approx((0.9 - 0.9 * 0.6) ** 2 * (1 - 0.9 * 0.6), abs=0.01)
    assert rows["missing"] == pytest.approx(0.9 * (1 - 0.6), abs=0.01)


def test_the_row_of_the_prediction_speaks_for_the_fix() -> None:
    swapped = record(
        "swapped",
        [("dog", OBJECT)],
        [("cat", AWAY, 0.9), ("dog", OBJECT, 0.05), ("cat", SHIFTED, 0.4), ("cat", OBJECT, 0.8)],
    )
    workload, suspects = judge(swapped)
    row = np.flatnonzero(suspects.error == REVIEWED_TYPES.index(ErrorType.WRONG_CLASS))
    assert len(row) == 1
    assert workload.predictions[suspects.predicted[row[0]]] == swapped.predictions[3]
    assert suspects.iou[row[0]] == 1
    missing = suspects.rows(suspects.given < 0)
    assert [workload.predictions[p] for p in missing.predicted] == [swapped.predictions[0]]
    assert missing.iou.tolist() == [0]


def test_an_extra_object_without_any_prediction_has_no_row_to_point_at() -> None:
    _, suspects = judge(record("x", [("cat", OBJECT)], [("cat", AWAY, 0.9)]))
    row = suspects.rows(suspects.given == 0)
    assert (row.predicted.tolist(), row.iou.tolist()) == ([-1], [0])


@pytest.mark.parametrize("shift", [35, 45, 50, 55])
def test_a_badly_drawn_box_is_no_pair_of_extra_and_missing(shift: float) -> None:
    drawn = Box(OBJECT.x1 + shift, OBJECT.y1, OBJECT.x2 + shift, OBJECT.y2)
    first, *rest = ranked(record("x", [("cat", drawn)], [("cat", OBJECT, 0.95)]))
    assert first[0] == "imprecise"
    assert all(score < 0.75 * first[2] for _, _, score in rest)


def test_a_box_that_hardly_touches_is_extra_and_the_object_is_missing() -> None:
    drawn = Box(180, 100, 280, 200)
    first, second, *rest = ranked(record("x", [("cat", drawn)], [("cat", OBJECT, 0.95)]))
    assert {first[0], second[0]} == {"extra", "missing"}
    assert all(score < 0.5 * second[2] for _, _, score in rest)


def test_a_neighbour_is_no_reason_to_suspect_a_good_box() -> None:
    """Two objects that overlap by a third, both labelled right and both seen: nothing to say."""
    near = Box(150, 100, 250, 200)
    rows = ranked(record("x", [("cat", OBJECT), ("dog", near)], [("cat", OBJECT, 0.95), ("dog", near, 0.92)]))
    assert [row for row in rows if row[2] > 0.02] == []


def test_a_box_beside_a_good_one_borrows_no_support_from_it() -> None:
    beside = Box(150, 100, 250, 200)
    rows = ranked(record("x", [("cat", OBJECT), ("cat", beside)], [("cat", OBJECT, 0.95)]))
    assert rows[0][0] == "extra"
    assert rows[0][2] > 0.6**2


def test_one_missing_object_is_one_suspect() -> None:
    """The detector says the same thing three times, once as another class."""
    seen = [("cat", OBJECT, 0.9), ("cat", Box(103, 100, 203, 200), 0.8), ("dog", Box(100, 105, 200, 205), 0.6)]
    assert [row[:2] for row in ranked(record("x", [], seen))] == [("missing", "x")]


def test_suppression_goes_from_the_most_confident_down() -> None:
    """A chain: the middle box overlaps both ends by more than half, the ends overlap by less."""
    chain = [Box(x, 100, x + 100, 200) for x in (100, 130, 160)]
    ends = ranked(record("x", [], [("cat", chain[0], 0.9), ("cat", chain[1], 0.8), ("cat", chain[2], 0.7)]))
    assert [round(score, 2) for _, _, score in ends] == [0.9, 0.7]
    middle = ranked(record("x", [], [("cat", chain[0], 0.8), ("cat", chain[1], 0.9), ("cat", chain[2], 0.7)]))
    assert [round(score, 2) for _, _, score in middle] == [0.9]


def test_a_class_the_model_cannot_find_does_not_flood_the_list() -> None:
    blind = [record(f"blind {k}", [("dog", OBJECT)], [("dog", OBJECT, 0.05)]) for k in range(150)]
    rows = ranked(record("cat without support", [("cat", OBJECT)], []), *blind)
    assert rows[0][:2] == ("extra", "cat without support")
    assert all(score < 0.15 for _, name, score in rows if name.startswith("blind"))


def test_with_a_single_image_the_formulas_are_those_of_a_perfect_model() -> None:
    workload = build_workload("t", LABELS, [record("x", [("cat", OBJECT)], [])])
    suspects = ObjectReview().score(workload)
    assert suspects.score[0] > 0.8**2


def test_turned_boxes_are_compared_as_they_lie() -> None:
    flat, turned = Box(100, 180, 300, 220), Box(100, 180, 300, 220, 90)
    same = Box(180, 100, 220, 300)
    assert ranked(record("x", [("cat", turned)], [("cat", same, 0.95)])) == []
    assert ranked(record("x", [("cat", turned)], [("cat", flat, 0.95)]))[0][0] in ("extra", "missing")


@pytest.mark.parametrize("records", [[], [record("x", [], [])], [record("x", [("cat", OBJECT)], [])]])
def test_next_to_nothing_to_score(records: list[Record]) -> None:
    suspects = ObjectReview().score(build_workload("t", LABELS, records))
    assert len(suspects) == sum(len(r.submissions[0].annotations) for r in records)


@pytest.mark.slow
def test_ten_thousand_boxes_in_one_image_stay_within_bounded_memory() -> None:
    """A hundred million pairs; all of them at once would take more than 3 GB."""
    side = np.arange(100.0)
    corner = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2) * 10
    boxes = np.hstack([corner, corner + 8])
    unit = np.zeros(len(boxes), dtype=np.int64)
    table = ObjectTable(unit, unit, boxes, np.zeros(len(boxes)), np.full(len(boxes), 0.9))
    moved = ObjectTable(unit, unit, boxes + np.array([0.5, 0, 0.5, 0]), table.rotation, table.confidence)
    crowd = Workload("t", LABELS, (Unit(Item("1", "", ""), Submission("1", "", ())),), (), (), table, moved)
    tracemalloc.start()
    suspects = ObjectReview().score(crowd)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not (suspects.given < 0).any()
    assert suspects.score.max() < 0.3
    assert peak < 200e6


@pytest.mark.parametrize(
    ("folder", "least"),
    [
        ("txlpbc", {"missing": 0.84, "extra": 0.82, "imprecise": 0.80, "wrong_class": 0.96}),
        ("bccd_real", {"missing": 0.89, "extra": 0.17, "imprecise": 0.24}),
    ],
)
def test_known_errors_are_found(shared: Path, folder: str, least: dict[str, float]) -> None:
    """Average precision per type on real detections: what was reached once must not be lost."""
    data = shared / "data" / "scoring"
    labels, records = _read(data / folder)
    workload = build_workload("t", labels, records)
    suspects = ObjectReview().score(workload)
    truth = json.loads((data / folder / "truth.json").read_text())["errors"]
    words = {"missing": "missing", "extra": "spurious", "imprecise": "badloc", "wrong_class": "swap"}
    for error, bound in least.items():
        wanted = [e for e in truth if e["type"] == words[error]]
        hits = _hits(workload, suspects.rows(suspects.error == REVIEWED_TYPES.index(ErrorType(error))), wanted)
        assert average_precision(hits, len(wanted)) >= bound, error


def _read(folder: Path) -> tuple[LabelSet, list[Record]]:
    coco = json.loads((folder / "corrupted.json").read_text())
    names = {c["id"]: c["name"] for c in coco["categories"]}
    given: dict[int, list[Annotation]] = {}
    seen: dict[int, list[Prediction]] = {}
    for a in coco["annotations"]:
        given.setdefault(a["image_id"], []).append(Annotation(str(a["id"]), names[a["category_id"]], _box(a["bbox"])))
    for p in json.loads((folder / "predictions_frcnn.json").read_text()):
        found = Prediction(names[p["category_id"]], _box(p["bbox"]), p["score"], "m")
        seen.setdefault(p["image_id"], []).append(found)
    return LabelSet(tuple(names.values())), [
        Record(Item(str(i), "", ""), (Submission(str(i), "", tuple(given.get(i, ()))),), tuple(seen.get(i, ())))
        for i in (image["id"] for image in coco["images"])
    ]


def _box(xywh: list[float]) -> Box:
    x, y, w, h = xywh
    return Box(x, y, x + w, y + h)


def _hits(workload: Workload, suspects: Suspects, wanted: list[dict]) -> np.ndarray:
    """Whether each suspect, best first, is one of the wanted errors that was not found before."""
    by_annotation = {str(e["ann_id"]) for e in wanted if e["ann_id"] is not None}
    by_image: dict[str, list[Box]] = {}
    for e in (e for e in wanted if e["bbox"] is not None):
        by_image.setdefault(str(e["image_id"]), []).append(_box(e["bbox"]))
    hits = []
    for k in np.argsort(-suspects.score, kind="stable"):
        if suspects.given[k] >= 0:
            hits.append(workload.annotations[suspects.given[k]].id in by_annotation)
            continue
        p = suspects.predicted[k]
        left = by_image.get(workload.units[workload.predicted.unit[p]].item.id, [])
        covers = [b for b in left if _iou(b.xyxy, workload.predicted.xyxy[p]) >= 0.5]
        hits.append(bool(covers))
        if covers:
            left.remove(max(covers, key=lambda b: _iou(b.xyxy, workload.predicted.xyxy[p])))
    return np.array(hits, dtype=np.bool_)


def _iou(a: tuple[float, ...], b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (both - width * height)
