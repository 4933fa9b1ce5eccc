"""The reconciler: what is asked when, what is kept, and that nothing gets lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.standing_world import World, broken, busy, down
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.changes import Change
from bridge.service.reconciler import Reconciler
from bridge.store import Hint, Store
from bridge.tools import Changes

TARGETS = [f"ls:project/{n}" for n in range(1, 13)]
FIRST, SECOND = TARGETS[:2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path}/labelbridge.db") as opened:
        yield opened


@pytest.fixture
def world(store: Store) -> World:
    return World(store, TARGETS)


def asked(world: World, since: float = 0.0, target: str | None = None) -> list[float]:
    return [at for at, whom in world.requests if at >= since and target in (None, whom)]


def test_a_quiet_project_is_asked_less_and_less(world: World) -> None:
    world.run(7200)
    pauses = [b - a for a, b in zip(*(asked(world, target=FIRST)[i:] for i in (0, 1)), strict=False)]
    assert pauses == sorted(pauses) or max(pauses) > 500
    assert all(540 <= pause <= 662 for pause in pauses[-3:])
    assert len(asked(world, since=3600)) <= len(TARGETS) * 8


def test_a_busy_project_is_asked_often(world: World) -> None:
    world.run(3600)
    for second in range(3600, 4200, 10):
        world.at(second, lambda: world.change(FIRST, 7))
    world.run(4300)
    assert not world.noticed.pending
    late = [seconds for target, seconds in world.noticed.latencies if target == FIRST]
    assert sorted(late)[len(late) // 2] < 20


def test_a_webhook_brings_it_forward_and_a_storm_of_them_does_not_hammer(world: World) -> None:
    world.run(1800)
    world.change(SECOND, 3, webhook=True)
    world.run(1802)
    assert world.noticed.latencies[-1] == (SECOND, pytest.approx(0.2, abs=0.1))
    for tenth in range(600):
        world.at(1900 + tenth / 10, lambda: world.hint(SECOND))
    world.run(2000)
    assert 20 <= len(asked(world, since=1900, target=SECOND)) <= 35
    assert world.store.waiting_hints(10) == []


def test_hints_from_anywhere_and_from_elsewhere(world: World) -> None:
    world.run(1800)
    world.hint("ls:project/999")
    world.run(1803)
    assert len(asked(world, since=1800)) <= 4
    world.hint()
    world.run(1830)
    assert len({whom for at, whom in world.requests if at > 1803}) == len(TARGETS), "it may have been anywhere"


def test_a_server_that_is_down_gets_one_probe_and_comes_back(world: World) -> None:
    world.run(1800)
    world.server_trouble = down()
    world.run(1800 + 1800)
    outage = asked(world, since=1900)
    assert len(outage) <= 1800 / 30 + 20, "and not two hundred at each turn"
    world.server_trouble = None
    world.change(FIRST, 1)
    back = world.seconds
    world.run(back + 700)
    assert not world.noticed.pending
    assert min(asked(world, since=back)) - back <= 61
    assert all(world.store.watch(target).failures == 0 for target in TARGETS[4:])  # type: ignore[union-attr]


def test_one_broken_project_is_asked_less_and_disturbs_nobody(world: World) -> None:
    world.run(1800)
    world.projects[FIRST].trouble = broken()
    world.run(1800 + 1800)
    assert len(asked(world, since=1800, target=FIRST)) < 25
    watch = world.store.watch(FIRST)
    assert watch is not None
    assert "500" in watch.error
    assert watch.failures > 5
    world.change(SECOND, 1, webhook=True)
    world.run(world.seconds + 2)
    assert not world.noticed.pending


def test_retry_after_is_obeyed_by_the_project_and_by_the_server(world: World) -> None:
    world.projects[FIRST].trouble = busy(900)
    world.run(890)
    assert len(asked(world, target=FIRST)) == 1
    assert len(asked(world, target=SECOND)) > 4, "the others go on"
    world.projects[FIRST].trouble = None
    world.server_trouble = busy(300)
    world.run(1500)
    refused = len(asked(world, since=890))
    assert refused <= 2 + 4 + 4, "two that ask, and those under way"


def test_a_slow_project_holds_a_thread_for_a_fifth_of_the_time(world: World) -> None:
    world.projects[FIRST].takes_s = 25.0
    world.run(3600)
    assert len(asked(world, target=FIRST)) * 25 <= 3600 / 5 + 50
    for second in range(3600, 3700, 2):
        world.at(second, lambda: world.change(FIRST, 1, webhook=True))
        world.at(second + 1, lambda: world.change(SECOND, 1, webhook=True))
    world.run(3800)
    late = [seconds for target, seconds in world.noticed.latencies if target == SECOND]
    assert max(late) < 5


def test_the_pace_is_kept_when_everything_is_due_at_once(world: World) -> None:
    world.run(60)
    seconds = [int(at) for at, _ in world.requests]
    assert max(seconds.count(s) for s in seconds) <= 5 + 10


def test_jumps_of_our_clock_stop_nothing(world: World) -> None:
    for jump in (-86_400.0, 86_400.0, -3600.0):
        world.run(world.seconds + 1200)
        world.clock_is_off += jump
        world.change(FIRST, 5)
        world.run(world.seconds + 700)
        assert not world.noticed.pending


def test_a_restart_asks_everybody_at_once_and_goes_on_where_it_stopped(world: World) -> None:
    world.run(1800)
    world.change(FIRST, 9)
    world.start()
    notes = world.noticed.notes.total()
    world.run(1815)
    assert {whom for at, whom in world.requests if at >= 1800} == set(TARGETS)
    assert not world.noticed.pending
    assert world.noticed.notes.total() == notes + 1


def test_reviews_are_watched_for_answers(store: Store) -> None:
    store.put_review(FIRST, "2", "http://ls/projects/2")
    world = World(store, [FIRST, SECOND])
    world.run(600)
    assert not store.waiting(FIRST).answers
    world.change(SECOND, 4, webhook=True)
    world.run(602)
    assert store.waiting(FIRST).answers
    assert not store.waiting(SECOND).answers


def test_issues_of_cvat_are_answers_in_the_target_itself(store: Store) -> None:
    store.put_review("cvat:task/12", "cvat:task/12", "http://cvat", "issues")
    world = World(store, ["cvat:task/12", "cvat:task/13"])
    world.run(1)
    places = ("cvat:job/5", "cvat:task/12", "cvat:project/3")
    store.put_hints([Hint("cvat", places, "create:comment", None, "a" * 64, world.now().isoformat())])
    assert world.reconciler.step() == {"cvat:task/12"}
    assert store.waiting("cvat:task/12").answers
    assert not store.waiting("cvat:task/13").answers


def test_an_error_of_our_own_ends_no_watch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(store, [FIRST])
    step, steps = world.reconciler.step, []

    def broken_once() -> set[str]:
        steps.append(1)
        if len(steps) == 1:
            raise ZeroDivisionError
        return step()

    monkeypatch.setattr(world.reconciler, "step", broken_once)
    stop, wake = threading.Event(), threading.Event()
    thread = threading.Thread(target=world.reconciler.run, args=(stop, wake, lambda _: None))
    thread.start()
    deadline = time.monotonic() + 10
    while len(steps) < 2 and thread.is_alive() and time.monotonic() < deadline:
        wake.set()
        time.sleep(0.01)
    stop.set()
    wake.set()
    thread.join(10)
    assert len(steps) > 1
    assert not thread.is_alive()


def test_threads_wait_for_a_wake_and_stop(store: Store) -> None:
    """With real threads and a real clock."""
    world = World(store, [FIRST])
    polls = []

    class Tool:
        def read_changes(self, cursor: str | None) -> Changes:
            polls.append(cursor)
            return Changes((Change("7", "work", "2026-11-20T12:00:00Z"),), f"c{len(polls)}")

    reconciler = Reconciler(store, lambda _: Tool(), [FIRST], world.now, world.reconciler._log)  # type: ignore[arg-type,return-value]
    assert reconciler.poll_due() == {FIRST}
    assert reconciler.poll_due() == set()
    stop, wake, changed = threading.Event(), threading.Event(), threading.Event()
    thread = threading.Thread(target=reconciler.run, args=(stop, wake, lambda _: changed.set()))
    thread.start()
    store.put_hints([Hint("label-studio", (FIRST,), "ANNOTATION_UPDATED", None, "b" * 64, world.now().isoformat())])
    wake.set()
    assert changed.wait(10)
    stop.set()
    wake.set()
    thread.join(10)
    assert not thread.is_alive()
    assert polls[:2] == [None, "c1"]


@pytest.fixture(scope="module")
def lasting_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path_factory.mktemp('store')}/labelbridge.db") as opened:
        yield opened


DEEDS = st.sampled_from(
    ["change", "told", "late", "add", "delete", "down", "up", "broken", "busy", "slow", "restart", "jump", "skew"]
)
STEPS = st.lists(st.tuples(st.floats(0.0, 200.0), DEEDS, st.integers(0, 1000)), max_size=40)
_worlds = iter(range(10_000, 10**9, 10))


@given(STEPS, st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_nothing_is_lost_whatever_fails(lasting_store: Store, steps: list[tuple[float, str, int]], seed: int) -> None:
    start = next(_worlds)
    targets = [f"ls:project/{start + n}" for n in range(3)]
    world = World(lasting_store, targets, seed, tasks=20)
    for pause, deed, chosen in steps:
        world.run(world.seconds + pause)
        target = targets[chosen % 3]
        there = sorted(world.projects[target].tasks.entries)
        number = there[chosen % len(there)]
        match deed:
            case "change" | "told" | "late":
                world.change(target, number, webhook=deed == "told", skew=-60.0 if deed == "late" else 0.0)
            case "add":
                world.add(target)
            case "delete" if len(there) > 1:
                world.delete(target, number)
            case "down" | "up":
                world.server_trouble = down() if deed == "down" else None
            case "broken" | "busy":
                world.projects[target].trouble = broken() if deed == "broken" else busy(60)
            case "slow":
                world.projects[target].takes_s = chosen % 40
            case "restart":
                world.start()
            case "jump":
                world.clock_is_off += chosen - 500
            case "skew":
                world.tool_is_off += chosen / 20
    world.server_trouble = None
    for project in world.projects.values():
        project.trouble, project.takes_s = None, 0.2
    world.run(world.seconds + 1900)
    assert not world.noticed.pending, "every change was noticed"
    for key, times in world.noticed.notes.items():
        assert times <= world.noticed.changes[key], "and none was noted again after it had been dealt with"
    watches = [lasting_store.watch(target) for target in targets]
    assert all(watch is not None and watch.failures == 0 for watch in watches)
