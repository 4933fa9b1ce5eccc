"""A full disk or a locked database stops a journey with an error that says so; the same command then does the rest."""

from __future__ import annotations

import errno
import itertools
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from fakes.memory_tool import MemoryTool
from fakes.pictures import CAT, DOG, TRUTH
from flow_kit import Desk, MemoryDurable, labels

from bridge.errors import StoreError
from bridge.flows.durable import Durable, Step
from bridge.flows.score import Journal
from bridge.store import Store
from bridge.store.engine import explained

AT = "2026-11-20T10:00:00+00:00"
ITEMS = 4


@pytest.fixture
def desk_in() -> Iterator[Callable[..., Desk]]:
    """A desk whose store lies in a folder; by default its workflows do too, with the real workflow engine."""
    stores: list[Store] = []

    def make(home: Path, durable: Durable | None = None, busy_timeout_s: float = 30) -> Desk:
        store = Store.open(f"sqlite:///{home}/labelbridge.db", busy_timeout_s=busy_timeout_s)
        stores.append(store)
        runner, numbers = durable or Durable(home / "workflows", "1"), itertools.count()
        journal = Journal(store, runner, lambda: AT, lambda: f"run{next(numbers)}")
        return Desk(MemoryTool(), journal, MemoryDurable())

    yield make
    for store in stores:
        store.close()


def pictures(desk: Desk) -> None:
    for k in range(ITEMS):
        desk.picture((("cat", CAT),) if k % 2 else (("dog", CAT), ("dog", DOG)))


def fill(folder: Path, leave_kb: int) -> Path:
    """Take all space but so much."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free - leave_kb * 1024
    with filler.open("wb") as file:
        file.write(bytes(max(free, 0)))
    return filler


def journeys(desk: Desk) -> list[Callable[[], object]]:
    def answer() -> None:
        for k, found in enumerate(desk.findings(states=["pushed"])):
            desk.tool.answer(found.finding.id, "accept", minute=k)

    return [desk.score, desk.push, answer, desk.sync]


def check_done(desk: Desk) -> None:
    """Each error was found once, reviewed once, and is repaired."""
    assert desk.states() == ["verified"] * ITEMS
    assert len(desk.tool.cases) == ITEMS
    for item in desk.tool.images:
        assert labels(desk.tool.objects(item)) == labels(TRUTH)
    for found in desk.findings():
        done = [f.outcome for f in desk.store.fixes(found.finding.id) if f.outcome != "planned"]
        assert done in (["applied"], ["already"])
        assert len(desk.store.verdicts(found.finding.id)) == 1
    assert desk.store.verify_events() == []


@pytest.mark.parametrize("leave_kb", [0, 300])
def test_a_full_disk_stops_each_journey_cleanly(small_disk: Path, desk_in: Callable[..., Desk], leave_kb: int) -> None:
    desk = desk_in(small_disk)
    pictures(desk)
    errors: list[StoreError] = []
    for journey in journeys(desk):
        filler = fill(small_disk, leave_kb)
        try:
            journey()
        except StoreError as error:
            errors.append(error)
            assert desk.store.verify_events() == []
            filler.unlink()
            journey()
        filler.unlink(missing_ok=True)
    assert errors
    assert desk.journal.durable.unfinished() == []
    assert {(error.exit_status, "disk is full" in error.found, "space" in error.todo) for error in errors} == {
        (7, True, True)
    }
    check_done(desk)


def test_a_disk_that_fills_up_on_the_way(small_disk: Path, desk_in: Callable[..., Desk]) -> None:
    """The finished steps are not run again, as the workflow could not be marked as failed either."""
    durable, done = Durable(small_disk / "workflows", "1"), []
    fillers = []

    def journey(step: Step) -> int:
        for k in range(4):
            step(f"step {k}", lambda k=k: done.append(k))  # type: ignore[misc]
            if k == 1 and not fillers:
                fillers.append(fill(small_disk, 0))
        return len(done)

    with pytest.raises(StoreError, match="the disk is full"):
        durable.run("count", {}, journey)
    assert durable.unfinished()
    fillers[0].unlink()
    durable.run("count", {}, journey)
    assert sorted(set(done)) == [0, 1, 2, 3]
    assert [done.count(k) for k in (0, 1)] == [1, 1]
    assert durable.unfinished() == []


def test_a_locked_store_stops_each_journey_cleanly(tmp_path: Path, desk_in: Callable[..., Desk]) -> None:
    runner = MemoryDurable()
    desk = desk_in(tmp_path, cast(Durable, runner), busy_timeout_s=0.05)
    pictures(desk)
    for number, journey in enumerate(journeys(desk)):
        other = sqlite3.connect(tmp_path / "labelbridge.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        if number != 2:
            with pytest.raises(StoreError, match="is locked by another process") as caught:
                journey()
            assert "run the command again" in caught.value.todo
        other.close()
        journey()
    assert runner.left == {}
    check_done(desk)


def test_a_locked_workflow_file_is_waited_for(tmp_path: Path) -> None:
    """Only something that is not labelbridge can lock it: our own processes exclude each other before."""
    durable = Durable(tmp_path, "1")

    def journey(step: Step) -> int:
        (file,) = tmp_path.glob("*.db")
        other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN EXCLUSIVE")
        threading.Timer(0.3, other.close).start()
        return step("work", lambda: 7)

    assert durable.run("j", {}, journey) == 7


def test_the_words_of_the_system_are_understood() -> None:
    error = explained(sqlite3.OperationalError("database or disk is full"), "x")
    assert "disk is full" in error.found
    assert "Free some space" in explained(OSError(errno.ENOSPC, "No space left on device"), "x").todo
