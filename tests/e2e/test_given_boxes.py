"""The embedded detector, asked by the real command about boxes with planted errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from world import Command

from bridge.core.findings import ErrorType
from bridge.core.objects import build_workload
from bridge.demo import dataset
from bridge.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_every_box_of_drawn_scenes_is_asked_about(tmp_path: Path) -> None:
    data = dataset.make(tmp_path / "images", 12, 0)
    dataset.write_coco(data.records, tmp_path / "annotations.json")
    command = Command(tmp_path / "home")
    target = f"coco:{tmp_path / 'annotations.json'}"
    done = command.run("score", target, "--images", str(tmp_path / "images"), "--detector", "embedded")
    assert done.status == 0, done.text
    boxes = sum(len(record.submissions[0].annotations) for record in data.records)
    assert f"The model was also asked about {boxes} of the boxes that people drew." in " ".join(done.output.split())

    with Store.open(f"sqlite:///{command.home}/labelbridge.db") as store:
        run = store.latest_run(target)
        assert run is not None
        workload = build_workload(target, run.labels, [record for chunk in store.chunks(run.id) for record in chunk])
    assert workload.probes is not None
    assert np.isfinite(workload.probes.probabilities).all()
    assert len(workload.given) == boxes
    own = workload.probes.probabilities[np.arange(boxes), 1 + workload.given.label]
    wrong = {error.annotation_id: error.error for error in data.planted}
    kind = np.array([str(wrong.get(annotation.id, "right")) for annotation in workload.annotations])
    for error in (ErrorType.EXTRA, ErrorType.WRONG_CLASS, ErrorType.IMPRECISE):
        assert own[kind == error].mean() < own[kind == "right"].mean() / 2, error
