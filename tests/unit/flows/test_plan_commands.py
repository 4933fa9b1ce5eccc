"""`labelbridge plan` and `push --dry-run`: what would be pushed is shown, and nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from fakes.colour_detector import ColourDetector
from fakes.memory_tool import MemoryTool
from fakes.pictures import CAT, DOG, ELSEWHERE, TRUTH, draw
from flow_kit import MemoryDurable
from typer.testing import CliRunner

from bridge import wiring
from bridge.cli import app
from bridge.errors import ConfigError, UsageError

TARGET = "ls:project/1"
FILE = """
defaults: {score: {at_latest: 2h}, sync: 90s}
projects:
  ls:project/1: {prelabel: on, push: {errors: [extra], min_score: 0.2, dry_run: on}}
  ls:project/2: {score: off, push: on}
  ls:project/3: {}
"""


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryTool:
    """Six pictures, each with an object too many and one of the wrong class; scored."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "LABEL_STUDIO_URL": "http://x.org",
        "LABEL_STUDIO_API_KEY": "k",
    }.items():
        monkeypatch.setenv(f"LABELBRIDGE_{name}", value)
    made = MemoryTool(TARGET)
    # The workflow engine would keep the stream to which this test's output goes.
    monkeypatch.setattr(wiring, "Durable", lambda folder, version: MemoryDurable())
    monkeypatch.setattr(wiring, "open_target", lambda *_, **__: made)
    monkeypatch.setattr(wiring, "plugin", {"predictor": lambda spec, **_: ColourDetector()}.__getitem__)
    for number in range(6):
        made.add_item(draw(backdrop=number), (("cat", CAT), ("cat", DOG), ("cat", ELSEWHERE)))
    made.add_item(draw(backdrop=7), TRUTH)
    Path("labelbridge.yaml").write_text(FILE)
    command("score", TARGET, "--detector", "colour")
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def command(*words: str) -> str:
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def value(*words: str) -> Any:
    return json.loads(command(*words, "--json"))


def test_a_dry_run_shows_what_a_push_then_sends(tool: MemoryTool) -> None:
    would_go = value("push", TARGET, "--min-score", "0.1", "--dry-run")
    assert {f["error"] for f in would_go} == {"extra", "wrong_class"}
    assert not tool.review_opened
    assert tool.cases == {}
    assert f"{len(would_go)} findings of run" in command("push", TARGET, "--min-score", "0.1", "--dry-run")
    assert command("push", TARGET, "--min-score", "0.1", "--dry-run", "--type", "missing").startswith(
        "0 findings of run"
    )
    command("push", TARGET, "--min-score", "0.1")
    assert [case.finding.id for case in tool.cases.values()] == [f["id"] for f in would_go]
    assert value("push", TARGET, "--min-score", "0.1", "--dry-run") == []


def test_a_dry_run_draws_no_sample(tool: MemoryTool) -> None:
    for option in (["--sample", "3"], ["--requeue"]):
        assert isinstance(run("push", TARGET, "--dry-run", *option).exception, UsageError)


def test_the_plan_is_shown(tool: MemoryTool) -> None:
    said = command("plan")
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in said.splitlines() if "ls:project" in line}
    extra = len(value("plan", TARGET))
    assert extra > 0
    assert lines == {
        "ls:project/1": f"on 20 items or 2h from 0.2, only noted every 90s {extra}",
        "ls:project/2": "off off from 0.5 every 90s -",
        "ls:project/3": "off 20 items or 2h off every 90s -",
    }
    first, *_ = value("plan")
    assert (first["target"], first["would_push"], first["policy"]["score"]["at_latest_s"]) == (TARGET, extra, 7200)


def test_the_findings_of_one_project_are_shown(tool: MemoryTool) -> None:
    assert {f["error"] for f in value("plan", TARGET)} == {"extra"}
    assert "ls:project/2 has not been scored yet" in command("plan", "ls:project/2")
    for target in ("ls:project/3", "ls:project/9"):
        assert isinstance(run("plan", target).exception, UsageError)


def test_a_file_without_projects(tool: MemoryTool) -> None:
    Path("labelbridge.yaml").unlink()
    assert "nothing is done by itself" in command("plan")


def test_a_file_that_is_wrong(tool: MemoryTool) -> None:
    Path("labelbridge.yaml").write_text(FILE + "  ls:project/4: {scor: on}\n")
    error = run("plan").exception
    assert isinstance(error, ConfigError)
    assert "projects > ls:project/4 > scor (labelbridge.yaml): there is no such key; did you mean score?" in error.found
    command("runs")  # needs no projects, so they do not stand in its way
