"""The made-up input of the speed benchmark is what its text says it is. Nothing here is timed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bridge.core.objects import build_workload

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def benchmark_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scoring_speed", REPO / "benchmarks" / "scoring_speed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scoring_speed"] = module
    spec.loader.exec_module(module)
    return module


def test_the_input_has_the_promised_proportions_and_repeats(benchmark_module: ModuleType) -> None:
    data = benchmark_module.make_up(200, seed=3)
    assert len(data.predicted_box) == 200 * 20
    assert 0.9 * 1400 < len(data.label_box) < 1400
    for box in (data.label_box, data.predicted_box):
        assert (box[:, 2:] - box[:, :2] >= 0.99).all()
        assert (box >= 0).all()
        assert (box <= [640, 480, 640, 480]).all()
    assert (np.diff(data.label_image) >= 0).all()
    assert (np.diff(data.predicted_image) >= 0).all()
    assert ((data.confidence >= 0) & (data.confidence <= 1)).all()
    again, other = benchmark_module.make_up(200, seed=3), benchmark_module.make_up(200, seed=4)
    np.testing.assert_array_equal(data.predicted_box, again.predicted_box)
    assert not np.array_equal(data.predicted_box, other.predicted_box)


def test_records_and_coco_files_hold_the_same(benchmark_module: ModuleType, tmp_path: Path) -> None:
    data = benchmark_module.make_up(20, seed=0)
    labels, records = benchmark_module.as_records(data)
    workload = build_workload("t", labels, records)
    np.testing.assert_array_equal(workload.given.xyxy, data.label_box)
    np.testing.assert_array_equal(workload.predicted.confidence, data.confidence)
    benchmark_module.write_coco(data, tmp_path / "made" / "up")
    instances = json.loads((tmp_path / "made" / "up" / "instances.json").read_text())
    predictions = json.loads((tmp_path / "made" / "up" / "predictions.json").read_text())
    assert len(instances["images"]) == 20
    assert [a["image_id"] - 1 for a in instances["annotations"]] == data.label_image.tolist()
    xywh = np.array([a["bbox"] for a in instances["annotations"]])
    np.testing.assert_allclose(np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]), data.label_box, atol=0.006)
    names = {c["id"]: c["name"] for c in instances["categories"]}
    assert [names[p["category_id"]] for p in predictions] == [p.label for p in workload.predictions]
