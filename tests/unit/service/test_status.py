"""What `labelbridge status` tells, and that it tells it without a service or a tool."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.core.changes import Change
from bridge.store import Store
from bridge.store.rows import Turn

PLAN = """
label_studio_url: http://127.0.0.1:9
defaults: {prelabel: on, score: {settle: 1h}, push: on, sync: 10m}
projects: {"ls:project/7": , "ls:project/8": {sync: off}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABELBRIDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LABELBRIDGE_LABEL_STUDIO_API_KEY", "secret")
    path = tmp_path / "labelbridge.yaml"
    path.write_text(PLAN)
    return path


def test_it_tells_what_waits_and_what_fails(config: Path, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    before = (now - timedelta(minutes=5)).isoformat()
    with Store.open(f"sqlite:///{tmp_path}/home/labelbridge.db") as store:
        changes = [Change("1", "new", before), Change("2", "work", before), Change("3", "work", before)]
        store.put_poll("ls:project/7", changes, "cursor", before, now.isoformat())
        store.note_sync("ls:project/7", before)
        store.put_turn(Turn("ls:project/7", "score", before, "run a1: 3 findings, 3 new"))
        retry = (now + timedelta(minutes=1)).isoformat()
        store.put_turn(Turn("ls:project/7", "prelabel", before, "no such model.", 2, retry))
        store.put_failed_poll("ls:project/8", "Label Studio does not answer.", before, now.isoformat())
    shown = CliRunner().invoke(app, ["status", "--config", str(config)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    rows = [line.split() for line in shown.output.splitlines() if line.strip().startswith("ls:project/")][:2]
    assert rows[0][:9] == ["ls:project/7", "5", "min", "ago", "1", "2", "0", "0", "now"]
    assert rows[1][:8] == ["ls:project/8", "5", "min", "ago", "0", "0", "0", "0"]
    assert "score: run a1: 3 findings, 3 new" in shown.output
    assert "ls:project/7 prelabel fails: no such model." in shown.output
    assert "ls:project/8 cannot be read: Label Studio does not answer." in shown.output
    told = json.loads(CliRunner().invoke(app, ["status", "--config", str(config), "--json"]).stdout)
    assert [project["changed"] for project in told] == [2, 0]


def test_no_projects(config: Path) -> None:
    config.write_text("label_studio_url: http://127.0.0.1:9\n")
    assert "`labelbridge init` writes one" in CliRunner().invoke(app, ["status", "--config", str(config)]).output
