"""The journeys do what the plan says, and strike off what they dealt with, and no more."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.colour_detector import ColourDetector
from fakes.memory_tool import MemoryTool
from fakes.pictures import CAT, TRUTH, draw

from bridge import wiring
from bridge.core.changes import Change
from bridge.core.findings import State
from bridge.core.policy import Policy, PushPolicy, ScorePolicy
from bridge.errors import ConfigError
from bridge.logs import json_logger
from bridge.plan import Plan, ProjectPlan
from bridge.service.journeys import Journeys
from bridge.settings import Settings
from bridge.store import Store
from bridge.tools.cvat_review_plan import ReviewPlan

TARGET = "memory:1"
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ASKED = wiring.SourceOptions(detector="colour")
PROJECT = ProjectPlan(
    TARGET, Policy(prelabel=True, score=ScorePolicy(), push=PushPolicy(), sync_every_s=600), ASKED, ASKED, ReviewPlan()
)


class Desk:
    """Journeys over a tool in memory. ``project`` is what the plan says of it."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.tool = MemoryTool()
        self.project = PROJECT
        self.log = io.StringIO()

    def take(self, journey: str, before_step: Callable[[str], None] = lambda _name: None) -> str:
        def step(name: str, work: Callable[[], Any]) -> Any:
            before_step(name)
            return work()

        plan = Plan(self.settings, {TARGET: self.project})
        return Journeys(plan, self.store, now=lambda: NOW, log=json_logger(self.log)).take(journey, TARGET, step)

    def notice(self, kind: Any, *items: str) -> None:
        at = datetime.now(UTC).isoformat()
        self.store.put_poll(TARGET, [Change(i, kind, at) for i in items], "cursor", at, at)

    @property
    def left(self) -> dict[str, list[str]]:
        return {kind: [c.item_id for c in self.store.changes(TARGET, kind)] for kind in ("new", "work")}  # type: ignore[arg-type]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    settings = Settings.load(environ={"LABELBRIDGE_HOME": str(tmp_path)})
    with Store.open(settings.store_url) as store:
        desk = Desk(store, settings)
        monkeypatch.setattr(wiring, "open_target", lambda *_words, **_more: desk.tool)
        monkeypatch.setattr(wiring, "load_model", lambda *_words: ColourDetector())
        yield desk
        assert store.verify_events() == []


def test_from_suggestions_to_verified_fixes(desk: Desk) -> None:
    for number in range(3):
        desk.tool.add_item(draw(TRUTH, backdrop=number), *([] if number == 2 else [TRUTH[:1]]))
    desk.notice("new", "1", "2", "3")
    desk.notice("work", "1", "2")
    assert desk.take("prelabel") == "3 of 3 items pre-labelled: 6 suggestions"
    assert desk.left == {"new": [], "work": ["1", "2"]}
    assert "2 findings, 2 new" in desk.take("score")
    assert desk.left == {"new": [], "work": []}
    assert desk.store.waiting(TARGET).run_to_push
    assert desk.take("push") == "2 findings pushed for review"
    assert not desk.store.waiting(TARGET).run_to_push
    for finding in desk.store.findings(target=TARGET):
        desk.tool.answer(finding.finding.id, "accept", 1)
    desk.store.note_answers(TARGET, NOW.isoformat())
    assert desk.take("sync") == "2 verdicts, 2 fixes, 2 verified, 0 conflicts"
    waiting = desk.store.waiting(TARGET)
    assert (waiting.answers, waiting.synced_at) == (False, NOW)
    assert waiting.run_to_push  # what was learned may let others through
    assert {f.state for f in desk.store.findings(target=TARGET)} == {State.VERIFIED}
    assert [label for label, _ in desk.tool.objects("1")] == ["cat", "dog"]


def test_what_changes_while_it_is_scored_is_scored_again(desk: Desk) -> None:
    desk.tool.add_item(draw(TRUTH), TRUTH)
    desk.notice("work", "1")

    def somebody_draws(step: str) -> None:
        if step == "score":
            desk.notice("work", "1")

    desk.take("score", somebody_draws)
    assert desk.left["work"] == ["1"]


def test_only_what_changed_is_shown_to_the_model_again(desk: Desk) -> None:
    for number in range(3):
        desk.tool.add_item(draw(TRUTH, backdrop=number), TRUTH)
    desk.take("score")
    desk.tool.calls.clear()
    desk.tool.submit("2", desk.tool.people["2"][0].annotations[:1])
    desk.take("score")
    assert desk.tool.calls["read_image"] == 1


def test_what_was_submitted_before_its_suggestions_came_is_scored_again(desk: Desk) -> None:
    desk.tool.add_item(draw(TRUTH), TRUTH[:1])
    desk.tool.add_item(draw(TRUTH, backdrop=1))
    desk.notice("new", "1", "2")
    desk.take("prelabel")
    assert desk.left == {"new": [], "work": []}
    desk.tool.models.clear()
    desk.project = replace(PROJECT, source=wiring.SourceOptions())
    desk.take("prelabel")
    assert desk.left == {"new": [], "work": ["1"]}


def test_nothing_to_score_is_no_failure(desk: Desk) -> None:
    desk.tool.add_item(draw(TRUTH))
    desk.notice("work", "1")
    assert desk.take("score").startswith("not scored: nothing is submitted in memory:1")
    assert desk.left["work"] == []
    assert desk.take("push") == "nothing is scored yet"
    assert desk.take("sync") == "nothing is up for review"


def test_a_dry_run_pushes_nothing(desk: Desk) -> None:
    assert PROJECT.policy.push
    desk.project = replace(PROJECT, policy=replace(PROJECT.policy, push=replace(PROJECT.policy.push, dry_run=True)))
    desk.tool.add_item(draw(TRUTH), (("cat", CAT),))
    desk.take("score")
    assert desk.take("push") == "dry run: 1 findings would be pushed"
    assert desk.tool.cases == {}
    assert not desk.store.waiting(TARGET).run_to_push


def test_an_item_that_failed_is_told(desk: Desk) -> None:
    item = desk.tool.add_item(draw(TRUTH), TRUTH)
    desk.tool.add_item(draw(TRUTH, backdrop=1), TRUTH)
    desk.tool.images[item] = None
    desk.take("prelabel")
    assert '"event":"item_failed"' in desk.log.getvalue()
    assert f"item {item}" in desk.log.getvalue()


def test_a_target_that_left_the_plan_is_refused(desk: Desk) -> None:
    plan = Plan(desk.settings, {})
    with pytest.raises(ConfigError, match="memory:1 is not among the projects"):
        Journeys(plan, desk.store, now=lambda: NOW, log=json_logger(desk.log)).take("score", TARGET, lambda _, w: w())
