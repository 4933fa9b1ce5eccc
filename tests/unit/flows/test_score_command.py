"""`labelbridge score` and `report` about the people: what is printed, and what programs and the page are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.colour_detector import ColourDetector
from fakes.memory_tool import MemoryTool
from fakes.pictures import CAT, DOG, TRUTH, draw
from flow_kit import MemoryDurable
from typer.testing import CliRunner

from bridge import wiring
from bridge.cli import app

HASTY = (("cat", CAT),)
CONFUSED = (("cat", DOG), ("cat", CAT))


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryTool:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELBRIDGE_HOME", str(tmp_path / "home"))
    made = MemoryTool()
    # The workflow engine would keep the stream to which this test's output goes.
    monkeypatch.setattr(wiring, "Durable", lambda folder, version: MemoryDurable())
    monkeypatch.setattr(wiring, "open_target", lambda *_: made)
    monkeypatch.setattr(wiring, "plugin", {"predictor": lambda spec, **_: ColourDetector()}.__getitem__)
    return made


def command(*words: str) -> str:
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_several_people(tool: MemoryTool) -> None:
    for _ in range(6):
        tool.add_item(draw(), TRUTH, HASTY, CONFUSED)
    said = command("score", tool.target, "--detector", "colour")
    assert "6 items were labelled by several people: alpha 0." in said
    assert "Kappa below 0.75, look at the guideline of: dog (0.00)" in said
    assert [line.split()[:2] for line in said.splitlines() if line.strip().startswith("person")]
    team = json.loads(command("score", tool.target, "--detector", "colour", "--json"))["team"]
    assert (team["items"], [c["label"] for c in team["classes"]]) == (6, ["cat", "dog"])
    assert {p["name"]: p["objects"] for p in team["people"]} == {"person 0": 12, "person 1": 6, "person 2": 12}
    command("report", tool.target, "--out", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert "review guideline" in page
    assert "person 2" in page


def test_people_who_work_alone(tool: MemoryTool) -> None:
    for _ in range(6):
        tool.add_item(draw(), HASTY)
    said = command("score", tool.target, "--detector", "colour")
    assert "several people" not in said
    (row,) = [line.split() for line in said.splitlines() if line.strip().startswith("person 0")]
    assert row[2:] == ["6", "-", "100.00", "0.00", "0.00", "0.00"]
