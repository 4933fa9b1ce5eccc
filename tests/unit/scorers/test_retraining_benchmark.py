"""The retraining benchmark keeps its books: errors, what a simulated reviewer does about them, and what is written."""

from __future__ import annotations

import importlib
import json
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.detection_ap import DetectionAP
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.core.objects import Unit, build_workload
from bridge.core.planting import PlantedError
from bridge.scenes import draw_scene
from bridge.scorers.explain import one_finding

REPO = Path(__file__).resolve().parents[3]
LABELS = LabelSet(("cat", "dog"))
OBJECTS = (Annotation("1", "cat", Box(10, 10, 50, 50)), Annotation("2", "dog", Box(60, 60, 90, 90)))
RECORD = Record(Item("7", "7.png", "7.png", 100, 100), (Submission("7", "", OBJECTS),))


@pytest.fixture(scope="module")
def modules() -> tuple[ModuleType, ModuleType, ModuleType]:
    folder = str(REPO / "benchmarks" / "quality")
    sys.path.insert(0, folder)
    try:
        names = ("retraining_data", "retraining_reviewer", "retraining")
        data, reviewer, whole = (importlib.import_module(name) for name in names)
    finally:
        sys.path.remove(folder)
    return data, reviewer, whole


@pytest.fixture(scope="module")
def data(modules: Any) -> ModuleType:
    return modules[0]


@pytest.fixture(scope="module")
def reviewer(modules: Any) -> ModuleType:
    return modules[1]


@pytest.fixture(scope="module")
def whole(modules: Any) -> ModuleType:
    return modules[2]


def content(record: Record) -> Counter[tuple[str, tuple[int, ...]]]:
    """What is labelled, to a tenth of a pixel."""
    objects = record.submissions[0].annotations
    return Counter((a.label, tuple(round(10 * v) for v in a.shape.xyxy)) for a in objects if isinstance(a.shape, Box))


def finding(error: ErrorType, annotation: Annotation | None, fix: Fix) -> Finding:
    unit = Unit(RECORD.item, RECORD.submissions[0])
    label = annotation.label if annotation else str(fix.label)
    return one_finding("t", unit, error, annotation, label, 0.5, "", fix, "test", {})


def many(data: ModuleType, images: int, per_image: int) -> Any:
    """A set without errors: objects of both labels on a grid."""
    records = []
    for k in range(images):
        item = Item(str(k), f"{k}.png", f"{k}.png", 400, 400)
        objects = []
        for n in range(per_image):
            x, y = 100.0 * (n % 4) + 10, 100.0 * (n // 4) + 10
            objects.append(Annotation(f"{k}#{n}", LABELS.names[n % 2], Box(x, y, x + 50, y + 40)))
        records.append(Record(item, (Submission(item.id, "", tuple(objects)),)))
    return data.LabelledSet(LABELS, tuple(records), tuple(records), (), {})


def test_a_folder_is_read_as_it_came_and_as_it_should_be(data: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "images" / "a.png")
    boxes = {1: (1, [0, 0, 10, 10]), 2: (1, [20, 20, 10, 10]), 3: (2, [40, 40, 10, 10]), 4: (1, [60, 60, 10, 10])}
    coco = {
        "categories": [{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}],
        "images": [
            {"id": 5, "file_name": "x/a.png", "width": 100, "height": 80},
            {"id": 6, "file_name": "x/not-there.png", "width": 100, "height": 80},
        ],
        "annotations": [{"id": k, "image_id": 5, "category_id": c, "bbox": b} for k, (c, b) in boxes.items()],
    }
    errors = [
        {"type": "missing", "image_id": 5, "ann_id": None, "bbox": [80, 10, 10, 10], "category_id": 2},
        {"type": "spurious", "image_id": 5, "ann_id": 2, "bbox": None},
        {"type": "swap", "image_id": 5, "ann_id": 3, "bbox": [40, 40, 10, 10], "category_id": 1},
        {"type": "badloc", "image_id": 5, "ann_id": 4, "bbox": [62, 62, 10, 12], "category_id": 1},
        {"type": "missing", "image_id": 6, "ann_id": None, "bbox": [80, 10, 10, 10], "category_id": 2},
    ]
    (tmp_path / "corrupted.json").write_text(json.dumps(coco))
    (tmp_path / "truth.json").write_text(json.dumps({"errors": errors}))
    read = data.read_folder(tmp_path, tmp_path / "images")
    assert read.labels == LABELS
    assert [r.item.id for r in read.given] == [r.item.id for r in read.clean] == ["5"]
    assert len(read.given[0].submissions[0].annotations) == 4
    assert content(read.clean[0]) == {
        ("cat", (0, 0, 100, 100)): 1,
        ("cat", (400, 400, 500, 500)): 1,
        ("cat", (620, 620, 720, 740)): 1,
        ("dog", (800, 100, 900, 200)): 1,
    }
    assert Counter(e.error for e in read.errors) == dict.fromkeys(data.TYPES.values(), 1)
    assert next(e.box for e in read.errors if e.error is ErrorType.EXTRA) == Box(20, 20, 30, 30)
    with pytest.raises(SystemExit, match="none of the 2 images"):
        data.read_folder(tmp_path, tmp_path / "nowhere")


def test_planted_errors_are_known_and_can_be_undone(data: ModuleType) -> None:
    clean = many(data, 20, 10)
    set_ = clean.planted(0.1, np.random.default_rng(0))
    assert Counter(e.error for e in set_.errors) == dict.fromkeys(data.TYPES.values(), 20)
    assert set_.clean == clean.clean
    for given, record in zip(set_.given, set_.clean, strict=True):
        mine = [e for e in set_.errors if e.item_id == given.item.id]
        assert (content(given) != content(record)) == bool(mine)
        assert content(data.undone(given, mine)) == content(record)
    some = set_.rows([3, 5])
    assert [r.item.id for r in some.given] == ["3", "5"]
    assert {e.item_id for e in some.errors} <= {"3", "5"}
    again = clean.planted(0.1, np.random.default_rng(0))
    assert again.given == set_.given


def test_a_reviewer_who_is_always_right_mends_everything_in_whole_images(
    data: ModuleType, reviewer: ModuleType, whole: ModuleType
) -> None:
    set_ = many(data, 20, 10).planted(0.1, np.random.default_rng(1))
    workload = build_workload("t", LABELS, set_.given)
    shown = whole.METHODS["whole images"](set_)(workload, np.random.default_rng(0))
    person = reviewer.Reviewer(set_.errors, 1.0, np.random.default_rng(0))
    done = reviewer.review(set_.given, LABELS, shown, len(shown), person)
    assert [content(r) for r in done.records] == [content(r) for r in set_.clean]
    assert done.found == len(set_.errors) == done.accepted + done.edited
    # What is missing is shown where it is; all else has to be mended by hand.
    assert done.accepted == 20
    assert (done.missed, done.spoilt, done.conflicts) == (0, 0, 0)
    some = reviewer.Reviewer(set_.errors, 1.0, np.random.default_rng(0))
    less = reviewer.review(set_.given, LABELS, shown, 30, some)
    assert less.shown == 30
    assert less.found < done.found


def test_a_reviewer_who_is_always_wrong_rejects_errors_and_follows_false_findings(reviewer: ModuleType) -> None:
    error = PlantedError(ErrorType.WRONG_CLASS, "7", "1", Box(10, 10, 50, 50), "dog")
    listed = [
        finding(ErrorType.WRONG_CLASS, OBJECTS[0], Fix("relabel", "dog", OBJECTS[0].shape)),
        finding(ErrorType.EXTRA, OBJECTS[1], Fix("delete")),
        finding(ErrorType.IMPRECISE, OBJECTS[1], Fix("none")),
    ]
    done = reviewer.review((RECORD,), LABELS, listed, 3, reviewer.Reviewer([error], 0.0, np.random.default_rng(0)))
    assert content(done.records[0]) == {("cat", (100, 100, 500, 500)): 1}
    assert (done.found, done.missed, done.spoilt) == (1, 1, 1)


def test_the_reviewer_is_right_about_the_share_that_was_asked_for(reviewer: ModuleType) -> None:
    person = reviewer.Reviewer([], 0.95, np.random.default_rng(0))
    for _ in range(2000):
        person.answer(finding(ErrorType.EXTRA, OBJECTS[0], Fix("delete")))
    assert 0.035 < person.verdicts["spoilt"] / 2000 < 0.065


@pytest.mark.parametrize(
    ("suggested", "written"),
    [(Box(10, 10, 50, 45), Box(10, 10, 50, 45)), (Box(10, 10, 50, 32), Box(10, 10, 50, 50))],
    ids=["good enough", "edited"],
)
def test_a_poor_suggestion_is_edited_into_the_truth(reviewer: ModuleType, suggested: Box, written: Box) -> None:
    given = replace(RECORD, submissions=(replace(RECORD.submissions[0], annotations=OBJECTS[1:]),))
    error = PlantedError(ErrorType.MISSING, "7", None, Box(10, 10, 50, 50), "cat")
    listed = [finding(ErrorType.MISSING, None, Fix("add", "cat", suggested))] * 2
    done = reviewer.review((given,), LABELS, listed, 2, reviewer.Reviewer([error], 1.0, np.random.default_rng(0)))
    assert Annotation("", "cat", written).shape in [a.shape for a in done.records[0].submissions[0].annotations]
    # The second finding of the same object is rejected.
    assert (done.shown, done.found, done.accepted + done.edited) == (2, 1, 1)
    assert done.edited == (suggested != written)


def test_a_finding_of_another_kind_on_the_object_in_error_is_edited(reviewer: ModuleType) -> None:
    error = PlantedError(ErrorType.IMPRECISE, "7", "1", Box(10, 10, 80, 50), "cat")
    listed = [finding(ErrorType.EXTRA, OBJECTS[0], Fix("delete"))]
    done = reviewer.review((RECORD,), LABELS, listed, 1, reviewer.Reviewer([error], 1.0, np.random.default_rng(0)))
    assert content(done.records[0]) == {("cat", (100, 100, 800, 500)): 1, ("dog", (600, 600, 900, 900)): 1}


def test_a_fix_that_another_one_forestalled_is_refused(reviewer: ModuleType) -> None:
    listed = [
        finding(ErrorType.EXTRA, OBJECTS[0], Fix("delete")),
        finding(ErrorType.WRONG_CLASS, OBJECTS[0], Fix("relabel", "dog", OBJECTS[0].shape)),
    ]
    done = reviewer.review((RECORD,), LABELS, listed, 2, reviewer.Reviewer([], 0.0, np.random.default_rng(0)))
    assert content(done.records[0]) == {("dog", (600, 600, 900, 900)): 1}
    assert done.conflicts == 1


def test_a_peers_findings_keep_its_order_and_get_a_fix(whole: ModuleType) -> None:
    seen = Prediction("dog", Box(10, 10, 50, 50), 0.9, "m"), Prediction("cat", Box(0, 60, 30, 90), 0.8, "m")
    workload = build_workload("t", LABELS, [replace(RECORD, predictions=seen)])

    def peer(_: Any) -> list[Any]:
        return [("spurious", 1, -1, -3.0), ("swap", 0, 0, 2.0), ("missing", -1, 1, 0.1), ("badloc", 1, -1, -4.0)]

    found = whole.by_peer(peer)(workload, np.random.default_rng(0))
    assert [f.error for f in found] == [
        ErrorType.WRONG_CLASS,
        ErrorType.MISSING,
        ErrorType.EXTRA,
        ErrorType.IMPRECISE,
    ]
    assert [f.fix.action for f in found] == ["relabel", "add", "delete", "none"]
    assert found[0].fix.label == "dog"


def test_the_summary_says_how_much_of_the_gap_is_closed(whole: ModuleType) -> None:
    def ap(value: float) -> DetectionAP:
        return DetectionAP(value, value / 0.5, {})

    one = {"before": ap(0.2), "clean labels": ap(0.4), "planted review": ap(0.35)}
    two = {"before": ap(0.3), "clean labels": ap(0.4), "planted review": ap(0.36)}
    lines = whole.summary([one, two])
    assert len(lines) == 3
    assert "AP 0.355 +- 0.007  AP50 0.710 +- 0.014  gap closed  70%  70%  AP gained +0.150 +0.060" in lines[2]


@pytest.mark.slow
def test_the_whole_loop_on_a_few_drawn_scenes(data: ModuleType, whole: ModuleType, tmp_path: Path) -> None:
    records, paths = [], {}
    for seed in range(9):
        scene = draw_scene(seed, 200, 150)
        item = Item(str(seed), f"{seed}.png", f"{seed}.png", 200, 150)
        paths[item.id] = tmp_path / item.name
        Image.fromarray(scene.image).save(paths[item.id])
        objects = [
            Annotation(f"{seed}#{k}", label, Box(*map(float, xyxy)))
            for k, (label, xyxy) in enumerate(zip(scene.labels, scene.xyxy, strict=True))
        ]
        records.append(Record(item, (Submission(item.id, "", tuple(objects)),)))
    labels = LabelSet(tuple(sorted({a.label for r in records for a in r.submissions[0].annotations})))
    set_ = data.LabelledSet(labels, tuple(records), tuple(records), (), paths)
    options = Namespace(
        parts=3, train=2, rate=0.1, folds=2, right=0.95, work=tmp_path / "work", effort=0.01, device="cpu", good=0.7
    )
    options.detector, options.methods = "embedded", ["planted review"]
    first = whole.one_seed(set_, options, 0)
    assert list(first) == ["before", "clean labels", "planted review"]
    assert all(0 <= figures.ap <= 1 for figures in first.values())
    folders = {path.name for path in (tmp_path / "work").rglob("*") if path.is_dir()}
    assert folders >= {"before", "clean labels", "fold-1", "fold-2", "planted review"}
    assert whole.one_seed(set_, options, 0) == first
