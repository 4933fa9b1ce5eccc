"""A store that any earlier version wrote is read by this one, with everything that was in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, delete, insert, select, update

from bridge.core.annotations import Box, Record
from bridge.core.findings import Event, Finding, Verdict
from bridge.core.tool_memory import Suggestion
from bridge.store import Run, SampledFinding, Store, engine
from bridge.store.rows import Turn
from bridge.store.tables import SCHEMA

TARGET, AT = "cvat:task/7", "2026-11-20T12:00:00Z"


def revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(Path(engine.__file__).parent / "migrations"))
    return sorted(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())


@pytest.fixture
def everything(
    tmp_path: Path,
    begin: Callable[..., Run],
    make_finding: Callable[..., Finding],
    make_records: Callable[..., list[Record]],
) -> str:
    """A store with something of each kind."""
    url = f"sqlite:///{tmp_path}/everything.db"
    with Store.open(url) as store:
        begin(store, "r1", target=TARGET)
        store.put_chunk("r1", 0, make_records(0, 3, confidence=0.5))
        found = [make_finding(k, target=TARGET) for k in range(4)]
        store.put_findings("r1", found)
        store.seal_snapshot("r1")
        store.finish_run("r1", AT, {"findings": 4})
        store.put_review(TARGET, "5", "http://cvat/tasks/5", "issues")
        store.record_push(found[0].id, "5", "9", "http://cvat/9", AT)
        store.transition(found[0].id, Event.PUSH, AT, "labelbridge")
        store.transition(found[0].id, Event.ACCEPT, AT, "ann")
        store.record_verdict(Verdict(found[0].id, "accept", "ann", AT, "issue/9", found[0].fix), AT)
        store.record_fix(found[0].id, "applied", "done", {"label": "bolt"}, found[0].fix.to_dict(), AT)
        store.put_sample("r1", [SampledFinding(found[1].id, 0, 4, AT)])
        store.put_turn(Turn(TARGET, "score", AT, "done"))
        store.note_run(TARGET, "r1")
        store.put_handover("http://cvat/jobs/1", "ben", AT)
        store.put_suggestions("http://cvat/jobs/1", [0], [Suggestion(0, "m", "nut", Box(1, 2, 3, 4), 0.5)], AT)
    return url


def told(store: Store) -> dict[str, Any]:
    """All that the store says, by the revision of the schema that first held it."""
    findings = store.findings()
    return {
        "0001": (
            store.runs(),
            list(store.chunks("r1")),
            findings,
            store.counts("r1"),
            store.reviews_of(TARGET),
            [store.verdicts(s.finding.id) for s in findings],
            [store.fixes(s.finding.id) for s in findings],
            store.precision(TARGET),
            store.judged(TARGET),
            store.events(),
            store.audit_head(),
        ),
        "0002": (store.handovers("http://cvat/"), store.suggestions("http://cvat/jobs/1")),
        "0003": store.sample("r1"),
        "0004": (store.turns(), store.watch(TARGET)),
    }


def copy(source: Engine, target: Engine) -> None:
    """All rows into the tables and columns that are there; numbers that the database gives, it gives itself."""
    theirs, ours = MetaData(), MetaData()
    theirs.reflect(source)
    ours.reflect(target)
    with source.connect() as read, target.begin() as write:
        for table in ours.sorted_tables:
            if table.name == "alembic_version":
                continue
            if table.name != "event_head":  # which has its one row already, and may only move on
                write.execute(delete(table))
            given = {"seq"} if table.c.get("seq") is not None and not table.name.startswith("event") else set()
            shared = [c for c in theirs.tables[table.name].c if c.name in table.c and c.name not in given]
            rows = [dict(row) for row in read.execute(select(*shared)).mappings()]
            if rows:
                one = table.name == "event_head"
                write.execute(update(table).values(rows[0]) if one else insert(table).values(rows))


@pytest.mark.parametrize("revision", revisions()[:-1])
def test_a_store_of_an_older_schema(
    everything: str, url: str, revision: str, monkeypatch: pytest.MonkeyPatch, begin: Callable[..., Run]
) -> None:
    with Store.open(everything) as written:
        expected = told(written)
        upgrade = engine.command.upgrade
        monkeypatch.setattr(engine.command, "upgrade", lambda config, _: upgrade(config, revision))
        monkeypatch.setattr(engine, "SCHEMA", revision)
        with Store.open(url) as old:
            copy(written._engine, old._engine)
    monkeypatch.undo()
    with Store.open(url) as store:
        assert {r: v for r, v in told(store).items() if r <= revision} == {
            r: v for r, v in expected.items() if r <= revision
        }
        assert store.verify_events() == []
        begin(store, "r2")
        assert store.verify_events() == []
        with store._read() as db:
            assert engine._revision(db) == SCHEMA
