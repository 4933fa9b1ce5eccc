"""The standing service: what it notes as it begins, and what a full disk does to it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bridge.core.policy import Policy, PushPolicy, QuietHours
from bridge.errors import StoreError
from bridge.flows.durable import Step
from bridge.plan import Plan, ProjectPlan
from bridge.service.engine import Engine
from bridge.service.parts import Part
from bridge.service.service import _note_policies, standing
from bridge.settings import Settings
from bridge.store import Store
from bridge.tools.cvat_review_plan import ReviewPlan
from bridge.wiring import SourceOptions

TARGET = "ls:project/7"


def test_the_policy_in_force_is_in_the_audit_log_when_it_changes(tmp_path: Path) -> None:
    quiet = QuietHours(time(22), time(7, 30), ZoneInfo("Europe/Berlin"))
    project = ProjectPlan(
        TARGET,
        Policy(push=PushPolicy(quiet=quiet)),
        SourceOptions(detector="yolox.json"),
        SourceOptions(),
        ReviewPlan(),
    )
    other = replace(project, policy=Policy(prelabel=True))
    with Store.open(f"sqlite:///{tmp_path}/labelbridge.db") as store:
        for now in (project, project, other, project):
            _note_policies(Plan(Settings.load(environ={"LABELBRIDGE_HOME": str(tmp_path)}), {TARGET: now}), store)
        events = store.events(TARGET)
    assert [e.kind for e in events] == ["policy"] * 3
    assert events[0].detail["model"] == "yolox.json"
    assert events[0].detail["policy"]["push"]["quiet"] == {
        "start": "22:00:00",
        "end": "07:30:00",
        "zone": "Europe/Berlin",
    }
    assert events[0].detail == events[2].detail != events[1].detail


def test_without_a_secret_the_log_says_that_webhooks_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = ProjectPlan(TARGET, Policy(), SourceOptions(), SourceOptions(), ReviewPlan())
    settings = Settings.load(environ={"LABELBRIDGE_HOME": str(tmp_path), "LABELBRIDGE_HOOKS_PORT": "0"})
    with standing(Plan(settings, {TARGET: project}), {Part.HOOKS}):
        pass
    assert "LABELBRIDGE_HOOKS_SECRET" in capsys.readouterr().err


def test_a_journey_goes_on_when_its_checkpoints_have_space_again(small_disk: Path) -> None:
    done: list[int] = []
    filler = small_disk / "filler"

    def work(_journey: str, _target: str, step: Step) -> str:
        for k in range(3):
            step(f"step {k}", lambda k=k: done.append(k))  # type: ignore[misc]
            if k == 1 and done.count(1) == 1 and not filler.exists() and len(done) == 2:
                filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
        return "done"

    engine = Engine(f"sqlite:///{small_disk}/journeys.db", "1", work)
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(StoreError, match="checkpoints cannot grow: the disk is full"):
        engine.start()
    engine.stop()
    filler.unlink()
    engine = Engine(f"sqlite:///{small_disk}/journeys.db", "1", work)
    engine.start()
    try:
        with pytest.raises(StoreError, match="checkpoints cannot grow: the disk is full"):
            engine.run("count", "t")
        filler.unlink()
        assert engine.run("count", "t") == "done"
    finally:
        engine.stop()
    assert sorted(set(done)) == [0, 1, 2]
