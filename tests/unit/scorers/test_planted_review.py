"""What the planted review learns, on scenes with known errors and on real data; and what it does with little."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.findings import REVIEWED_TYPES, ErrorType
from bridge.core.geometry import pair_iou
from bridge.core.objects import ObjectTable, Workload, build_workload
from bridge.core.probes import Probes
from bridge.scorers import ERROR_CODES, Suspects
from bridge.scorers import box_planting as planting
from bridge.scorers.object_review import ObjectReview
from bridge.scorers.planted_review import PlantedReview
from bridge.scorers.second_opinion import SecondOpinion

REPO = Path(__file__).resolve().parents[3]
DATA = REPO.parent / "shared" / "data" / "scoring"
LABELS = LabelSet(("cat", "dog"))


def scenes(images: int, seed: int = 1, ceiling: float = 0.6) -> tuple[list[Record], dict[str, ErrorType]]:
    """Six objects an image, a detector that is never surer than ``ceiling``, and one error of some kind in each image
    that is no multiple of five. The second value tells what is wrong with which object; a missing one by its image.
    """
    rng = np.random.default_rng(seed)
    records, wrong = [], {}
    for i in range(images):
        given, seen = [], []
        fault = (ErrorType.MISSING, ErrorType.WRONG_CLASS, ErrorType.IMPRECISE, ErrorType.EXTRA)[i % 5 - 1]
        for k in range(6):
            x, y = 20 + 100 * (k % 3) + rng.uniform(0, 20), 20 + 140 * (k // 3) + rng.uniform(0, 20)
            w, h = rng.uniform(45, 70), rng.uniform(60, 90)
            label, box = LABELS.names[int(rng.integers(2))], Box(x, y, x + w, y + h)
            jitter = rng.normal(0, 1.5, 4)
            around = Box(x + jitter[0], y + jitter[1], x + w + jitter[2], y + h + jitter[3])
            seen.append(Prediction(label, around, float(ceiling * rng.uniform(0.6, 1)), "m"))
            name = f"{i}-{k}"
            if k == 0 and i % 5:
                wrong[str(i) if fault is ErrorType.MISSING else name] = fault
                if fault is ErrorType.MISSING:
                    continue
                if fault is ErrorType.WRONG_CLASS:
                    label = LABELS.names[1 - LABELS.names.index(label)]
                elif fault is ErrorType.IMPRECISE:
                    box = Box(x + 0.3 * w, y, x + 1.3 * w, y + h)
                else:
                    seen.pop()
            given.append(Annotation(name, label, box))
        for _ in range(3):
            x, y = rng.uniform(0, 260), rng.uniform(0, 260)
            seen.append(Prediction("cat", Box(x, y, x + 50, y + 50), float(rng.uniform(0, 0.25)), "m"))
        records.append(
            Record(Item(str(i), f"{i}.jpg", "", 340, 320), (Submission(str(i), "", tuple(given)),), tuple(seen))
        )
    return records, wrong


def precision(workload: Workload, suspects: Suspects, wrong: dict[str, ErrorType]) -> float:
    """Of the first findings, as many as there are errors, the share that is right, kind included."""
    hits = []
    for row in np.argsort(-suspects.score, kind="stable")[: len(wrong)]:
        g, p = int(suspects.given[row]), int(suspects.predicted[row])
        name = workload.annotations[g].id if g >= 0 else workload.units[int(workload.predicted.unit[p])].item.id
        hits.append(wrong.get(name) is REVIEWED_TYPES[suspects.error[row]])
    return float(np.mean(hits))


def test_errors_are_found_although_the_model_is_never_sure() -> None:
    records, wrong = scenes(100)
    workload = build_workload("t", LABELS, records)
    learned, formula = PlantedReview().score(workload), ObjectReview().score(workload)
    assert precision(workload, learned, wrong) >= 0.9
    assert precision(workload, learned, wrong) >= precision(workload, formula, wrong)
    # And says so: what is really wrong has a probability to match.
    expected, shown = learned.score[learned.score >= 0.1].sum(), len(wrong)
    assert 0.4 * shown < expected < 1.5 * shown


def test_each_suspect_names_the_prediction_that_speaks_for_the_fix() -> None:
    records, wrong = scenes(60)
    workload = build_workload("t", LABELS, records)
    suspects = PlantedReview().score(workload)
    best = suspects.rows(np.argsort(-suspects.score, kind="stable")[: len(wrong)])
    for error, g, p in zip(best.error, best.given, best.predicted, strict=True):
        if p < 0:
            continue
        if REVIEWED_TYPES[error] is ErrorType.WRONG_CLASS:
            assert workload.predictions[p].label != workload.annotations[g].label
        if REVIEWED_TYPES[error] is ErrorType.IMPRECISE:
            assert workload.predictions[p].label == workload.annotations[g].label
        if REVIEWED_TYPES[error] is ErrorType.MISSING:
            assert g == -1


def test_with_few_labels_the_formulas_speak() -> None:
    records, _ = scenes(1)
    workload = build_workload("t", LABELS, records)
    few, formula = PlantedReview().score(workload), ObjectReview().score(workload)
    order = {
        (e, g, p): s for e, g, p, s in zip(formula.error, formula.given, formula.predicted, formula.score, strict=True)
    }
    missing = few.error == ERROR_CODES[ErrorType.MISSING]
    assert missing.any()
    for p, score in zip(few.predicted[missing], few.score[missing], strict=True):
        assert score <= order[(ERROR_CODES[ErrorType.MISSING], -1, p)] + 1e-9


@pytest.mark.parametrize("records", [[], [Record(Item("1", "1.jpg", ""), (Submission("1", "", ()),), ())]])
def test_nothing_to_judge_is_no_error(records: list[Record]) -> None:
    assert len(PlantedReview().score(build_workload("t", LABELS, records))) == 0


def test_images_without_a_size_are_judged() -> None:
    records, wrong = scenes(60)
    unsized = [replace(r, item=replace(r.item, width=None, height=None)) for r in records]
    workload = build_workload("t", LABELS, unsized)
    assert precision(workload, PlantedReview().score(workload), wrong) >= 0.85


def test_a_sample_is_enough_to_judge_all() -> None:
    records, wrong = scenes(150)
    workload = build_workload("t", LABELS, records)
    assert precision(workload, PlantedReview(sample=300).score(workload), wrong) >= 0.85


def test_the_second_opinion_knows_more_than_its_teacher() -> None:
    """A first opinion that is often wrong teaches probes that are seldom wrong; where nothing was asked, it stands."""
    rng = np.random.default_rng(0)
    n = 900
    extra = rng.random(n) < 0.2
    doubt = np.clip(rng.normal(np.where(extra, 0.4, 0.15), 0.2), 0.01, 0.9)
    first = np.column_stack([1 - doubt, doubt, np.zeros(n), np.zeros(n)])
    background = np.clip(rng.normal(np.where(extra, 0.7, 0.2), 0.15), 0.0, 1.0)
    boxes = np.tile([10.0, 10.0, 50.0, 40.0], (n, 1))
    given = ObjectTable(np.arange(n), np.zeros(n, np.int64), boxes, np.zeros(n), np.ones(n))
    probes = Probes(np.column_stack([background, 1 - background, np.zeros(n)]), boxes)
    probes.xyxy[::10] = np.nan
    fold = np.arange(n) % 3
    second = SecondOpinion.learn(given, probes, first, fold, 3, rng)
    both = second.combined(given, probes, first, fold)
    np.testing.assert_allclose(both.sum(axis=1), 1.0)
    np.testing.assert_array_equal(both[::10], first[::10])
    asked = np.arange(n) % 10 != 0

    def right(opinion: np.ndarray) -> float:
        best = np.argsort(-opinion[asked, 1])[: extra[asked].sum()]
        return float(extra[asked][best].mean())

    assert right(both) > right(first) + 0.15


def test_probes_that_are_missing_change_nothing() -> None:
    records, _ = scenes(40)
    workload = build_workload("t", LABELS, records)
    n = len(workload.annotations)
    blank = replace(workload, probes=Probes(np.full((n, 3), np.nan), np.full((n, 4), np.nan)))
    np.testing.assert_array_equal(PlantedReview().score(blank).score, PlantedReview().score(workload).score)


def test_planted_boxes_are_as_wrong_as_promised() -> None:
    records, _ = scenes(80)
    given: ObjectTable = build_workload("t", LABELS, records).given
    size, rng = np.tile([340.0, 320.0], (80, 1)), np.random.default_rng(0)
    every = np.arange(len(given))
    moved = planting.shifted(given, every, size, given, rng)
    own = pair_iou(moved.table.xyxy, given.xyxy[moved.source])
    assert len(moved.source) > 0.8 * len(given)
    assert ((own >= planting.IMPRECISE_IOU[0]) & (own <= planting.IMPRECISE_IOU[1] + 0.1)).all()
    assert np.ptp(own) > 0.3
    new = planting.added(given, size, given, rng)
    assert len(new.source) > 0.2 * len(given)
    for box, unit in zip(new.table.xyxy, new.table.unit, strict=True):
        there = given.xyxy[given.unit == unit]
        assert pair_iou(np.tile(box, (len(there), 1)), there).max() <= planting.EXTRA_IOU
        assert (box >= 0).all()
        assert (box <= [340, 320, 340, 320]).all()
    other = planting.swapped(given, every, np.array([[0.0, 1.0], [1.0, 0.0]]), rng)
    np.testing.assert_array_equal(other.table.label, 1 - given.label)
    assert len(planting.swapped(given, every, np.zeros((2, 2)), rng).source) == 0


@pytest.fixture(scope="module")
def benchmark_module() -> ModuleType:
    folder = str(REPO / "benchmarks" / "quality")
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location("detection", REPO / "benchmarks" / "quality" / "detection.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not DATA.exists(), reason="needs the data beside the project")
@pytest.mark.parametrize(
    ("folder", "regions", "any_", "typed"),
    [
        ("txlpbc", None, 0.91, 0.89),
        ("txlpbc", "roi_scores_frcnn.json", 0.92, 0.90),
        ("bccd_real", None, 0.86, 0.85),
    ],
)
def test_the_acceptance_figures(
    benchmark_module: ModuleType, folder: str, regions: str | None, any_: float, typed: float
) -> None:
    coco = json.loads((DATA / folder / "corrupted.json").read_text())
    workload = benchmark_module.read_workload(
        coco, DATA / folder / "predictions_frcnn.json", DATA / folder / regions if regions else None
    )
    findings = benchmark_module.scored(PlantedReview(), workload)
    figures = benchmark_module._evaluation(DATA / "evaluate.py").evaluate(str(DATA / folder), findings)
    assert figures["any"]["AP"] >= any_
    assert figures["any_typed"]["AP"] >= typed
