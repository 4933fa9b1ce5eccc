"""`labelbridge audit`, `backup` and `restore` as they are typed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.core.annotations import LabelSet
from bridge.core.findings import ErrorType, Event, Finding, Fix
from bridge.errors import LabelbridgeError, NotFound
from bridge.settings import sqlite_url
from bridge.store import Store

AT = "2026-11-20T12:00:00Z"
FINDING = Finding("ab12" * 4, "t", "7", "7.jpg", "s", ("a",), ErrorType.EXTRA, "bolt", 0.5, "why", Fix("delete"), "s")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELBRIDGE_HOME", str(tmp_path / "home"))
    with Store.open(sqlite_url(tmp_path / "home")) as store:
        store.start_run("run1", "t", "", "object", "m", "s", LabelSet(("bolt",)), AT, {})
        store.put_findings("run1", [FINDING])
        store.transition(FINDING.id, Event.PUSH, AT, "ann")
    return tmp_path / "home"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def ok(*words: str) -> str:
    done = run(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def tamper(home: Path, *statements: str) -> None:
    with sqlite3.connect(home / "labelbridge.db") as db:
        for trigger in ("events_no_update", "events_no_delete", "event_head_no_update"):
            db.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            db.execute(statement)
    db.close()


class TestVerify:
    def test_an_unbroken_log(self, home: Path) -> None:
        told = json.loads(ok("audit", "verify", "--json"))
        assert (told["events"], told["problems"]) == (3, [])
        assert told["head"] in ok("audit", "verify", "--head", told["head"])

    @pytest.mark.parametrize(
        ("statement", "told"),
        [
            ("UPDATE events SET actor = 'bob' WHERE seq = 2", "Event 2 (finding.new of ab12ab12ab12ab12) was changed."),
            ("DELETE FROM events WHERE seq = 2", "Event 2 was removed."),
            ("DELETE FROM events WHERE seq = 3", "Event 3 was removed from the end."),
            (
                "UPDATE events SET seq = 99 WHERE seq = 2; UPDATE events SET seq = 2 WHERE seq = 3;"
                "UPDATE events SET seq = 3 WHERE seq = 99",
                "Event 2 does not follow event 1: one of them was moved, replaced or changed.",
            ),
        ],
    )
    def test_a_broken_log(self, home: Path, statement: str, told: str) -> None:
        tamper(home, *statement.split(";"))
        done = run("audit", "verify")
        assert done.exit_code == 7
        assert told in done.stderr
        assert json.loads(run("audit", "verify", "--json").stdout)["problems"]

    def test_a_log_cut_off_with_its_end_mark(self, home: Path) -> None:
        head = json.loads(ok("audit", "verify", "--json"))["head"]
        end = "UPDATE event_head SET seq = 2, hash = (SELECT hash FROM events WHERE seq = 2)"
        tamper(home, "DELETE FROM events WHERE seq = 3", end)
        assert ok("audit", "verify")
        done = run("audit", "verify", "--head", head)
        assert done.exit_code == 7
        assert "Event 3 was removed from the end: the log was longer once." in done.stderr


class TestExport:
    def test_it_can_be_checked_without_the_database(self, home: Path) -> None:
        ok("audit", "export", "--out", "audit.jsonl")
        assert Path("audit.jsonl").stat().st_mode & 0o777 == 0o600
        head = json.loads(ok("audit", "verify", "--json"))["head"]
        assert json.loads(ok("audit", "verify", "--file", "audit.jsonl", "--head", head, "--json"))["head"] == head
        lines = Path("audit.jsonl").read_text().splitlines(keepends=True)
        assert json.loads(lines[1])["detail"]["reason"] == "why"
        Path("audit.jsonl").write_text("".join(lines[:1] + lines[2:]))
        done = run("audit", "verify", "--file", "audit.jsonl")
        assert (done.exit_code, done.stderr) == (7, "Event 2 was removed.\n")

    def test_a_part_to_standard_output(self, home: Path) -> None:
        assert [json.loads(line)["seq"] for line in ok("audit", "export", "--since", "2").splitlines()] == [2, 3]

    def test_a_file_that_cannot_be_written(self, home: Path) -> None:
        done = run("audit", "export", "--out", "no/such/folder.jsonl")
        assert isinstance(done.exception, LabelbridgeError)
        assert done.exception.exit_status == 4

    def test_a_file_that_cannot_be_read(self, home: Path) -> None:
        assert isinstance(run("audit", "verify", "--file", "none").exception, LabelbridgeError)


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("run1",), ["run.started"]),
        (("ab12",), ["finding.new", "finding.push"]),
        (("7", "t"), ["finding.new", "finding.push"]),
    ],
)
def test_show(home: Path, words: tuple[str, ...], kinds: list[str]) -> None:
    assert [e["kind"] for e in json.loads(ok("audit", "show", *words, "--json"))] == kinds
    assert all(kind in ok("audit", "show", *words) for kind in kinds)


@pytest.mark.parametrize("words", [("nothing",), ("8", "t"), ("7", "other")])
def test_show_of_what_is_not_there(home: Path, words: tuple[str, ...]) -> None:
    assert isinstance(run("audit", "show", *words).exception, NotFound)


def test_backup_and_restore(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = json.loads(ok("audit", "verify", "--json"))["head"]
    assert head in ok("backup", "b.tar")
    assert isinstance(run("restore", "b.tar").exception, LabelbridgeError)
    monkeypatch.setenv("LABELBRIDGE_HOME", str(home.with_name("new")))
    assert json.loads(ok("restore", "b.tar", "--json"))["manifest"]["head"] == head
    assert json.loads(ok("audit", "verify", "--head", head, "--json"))["problems"] == []
