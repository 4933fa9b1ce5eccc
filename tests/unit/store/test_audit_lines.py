"""The exported audit log: it can be checked by itself, and shows every kind of change."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from bridge.core.findings import Finding
from bridge.store import Mark, Run, Store
from bridge.store.audit_lines import to_line, verify_lines

AT = "2026-11-20T12:00:00Z"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Twelve events whose details hold what JSON finds hard."""
    with Store.open(f"sqlite:///{tmp_path_factory.mktemp('audit')}/labelbridge.db") as store:
        for k, value in enumerate([0.1 + 0.2, 1e300, float("nan"), -0.0, 'ä\u2028"\\', None, [], {"b": 1, "a": {}}]):
            assert store.note("test", f"s{k}", {"value": value, "f": 1.0}, AT, by="Zoë\n")
        for k in range(4):
            store.note("test", "many", {"k": k}, AT)
        return [to_line(row) for row in store.event_rows()]


def head(lines: list[str]) -> Mark:
    last = json.loads(lines[-1])
    return Mark(last["seq"], last["hash"])


def test_an_untouched_export_is_whole(lines: list[str]) -> None:
    checked = verify_lines(lines, None)
    assert (checked.problems, checked.events, checked.head) == ([], 12, head(lines))
    assert verify_lines(lines, head(lines)).problems == []
    assert verify_lines([], None).head is None


def test_a_part_is_tied_to_the_part_before(lines: list[str]) -> None:
    assert verify_lines(lines[5:], None).problems == []
    assert verify_lines(lines[5:], head(lines[:5])).problems == []
    assert verify_lines(lines[5:], Mark(5, "f" * 64)).problems != []
    assert verify_lines(lines[5:], head(lines[:3])).problems == [
        "event 3, which was noted elsewhere, is not among them"
    ]


@pytest.mark.parametrize("name", ["seq", "at", "actor", "kind", "subject", "detail", "prev_hash", "hash"])
def test_a_changed_field(lines: list[str], name: str) -> None:
    row = json.loads(lines[4])
    row[name] = {"seq": row["seq"] + 1, "detail": {**row["detail"], "f": 2.0}}.get(name, str(row[name])[::-1])
    assert verify_lines([*lines[:4], json.dumps(row), *lines[5:]], None).problems


def test_a_deleted_line(lines: list[str]) -> None:
    assert verify_lines([*lines[:4], *lines[5:]], None).problems == ["event 5 was removed"]


def test_swapped_lines(lines: list[str]) -> None:
    problems = verify_lines([*lines[:4], lines[5], lines[4], *lines[6:]], None).problems
    assert "event 5 stands behind event 6" in problems


def test_a_repeated_line(lines: list[str]) -> None:
    assert verify_lines([*lines[:5], lines[4], *lines[5:]], None).problems == ["event 5 stands behind event 5"]


def test_a_tail_cut_off(lines: list[str]) -> None:
    """Nothing in the file itself shows it: that is what the head is kept for."""
    assert verify_lines(lines[:9], None).problems == []
    told = ["events 10 to 12 were removed from the end: the log was longer once"]
    assert verify_lines(lines[:9], head(lines)).problems == told


def test_a_line_cut_off(lines: list[str]) -> None:
    cut = [*lines[:-1], lines[-1][:40]]
    assert verify_lines(cut, None).problems == ["line 12 is no event"]


@pytest.mark.parametrize("line", ["", "[]", "7", '{"seq": 13}', "[" * 100_000, '{"seq": "13"}', "\udcff"])
def test_lines_that_are_no_events(lines: list[str], line: str) -> None:
    assert verify_lines([*lines, line], None).problems == ["line 13 is no event"]


@pytest.mark.parametrize("seed", range(20))
def test_any_byte_changed(lines: list[str], seed: int) -> None:
    chance = random.Random(seed)
    row = chance.randrange(12)
    at = chance.randrange(len(lines[row]))
    other = chr((ord(lines[row][at]) + chance.randrange(1, 90) - 32) % 95 + 32)
    changed = lines[row][:at] + other + lines[row][at + 1 :]
    assert verify_lines([*lines[:row], changed, *lines[row + 1 :]], None).problems or changed == lines[row]


def test_a_detail_that_is_no_json_any_more(tmp_path: Path, begin: Callable[..., Run]) -> None:
    with Store.open(f"sqlite:///{tmp_path}/labelbridge.db") as store:
        begin(store, "r1")
        with store._write() as db:
            db.execute(text("DROP TRIGGER events_no_update"))
            db.execute(text("UPDATE events SET detail = '{'"))
        exported = [to_line(row) for row in store.event_rows()]
    assert verify_lines(exported, None).problems == ["event 1 (run.started of r1) was changed"]


def test_what_a_finding_tells(tmp_path: Path, begin: Callable[..., Run], make_finding: Callable[..., Finding]) -> None:
    """Which run flagged it, why, with which scorer, and what it suggested."""
    with Store.open(f"sqlite:///{tmp_path}/labelbridge.db") as store:
        begin(store, "r1")
        store.put_findings("r1", [make_finding(1)])
        (event,) = store.events(make_finding(1).id)
    assert event.detail == {"run": "r1", **make_finding(1).to_dict()}
