"""What is due is begun, each target by itself; failures wait longer and longer, and keep nobody else waiting."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.core.policy import Journey, Policy, PushPolicy, ScorePolicy, Waiting
from bridge.errors import ToolUnreachable
from bridge.logs import json_logger
from bridge.service.dispatcher import Dispatcher
from bridge.store import Store
from bridge.store.rows import Turn

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
POLICY = Policy(prelabel=True, score=ScorePolicy(settle_s=0, at_least=1), push=PushPolicy(), sync_every_s=3600)
QUIET = Waiting(synced_at=NOW)
CHANGED = Waiting(changed=((NOW, NOW),), synced_at=NOW)


class Desk:
    """A dispatcher over a store whose targets wait for what a test says."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.waiting: dict[str, Waiting] = {"a": QUIET, "b": QUIET}
        self.after: dict[Journey, Waiting] = {}
        self.cut_off: dict[str, set[Journey]] = {"a": set(), "b": set()}
        self.done: list[tuple[Journey, str]] = []
        self.now = NOW
        self.log = io.StringIO()
        self.work: Callable[[Journey, str], None] = lambda _journey, _target: None
        monkeypatch.setattr(store, "waiting", lambda target: self.waiting[target], raising=False)

    def run(self, journey: Journey, target: str) -> str:
        self.work(journey, target)
        self.done.append((journey, target))
        self.waiting[target] = self.after.get(journey, QUIET)
        return "done"

    @contextmanager
    def serving(self, workers: int = 2) -> Iterator[Dispatcher]:
        dispatcher = Dispatcher(
            self.store,
            {"a": POLICY, "b": POLICY},
            self.run,
            self.cut_off.__getitem__,
            now=lambda: self.now,
            log=json_logger(self.log),
            workers=workers,
        )
        thread = threading.Thread(target=dispatcher.serve)
        thread.start()
        try:
            yield dispatcher
        finally:
            dispatcher.stop()
            thread.join(20)
            assert not thread.is_alive()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, self.log.getvalue()
            time.sleep(0.01)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with Store.open(f"sqlite:///{tmp_path / 'x.db'}") as store:
        yield Desk(store, monkeypatch)


def test_what_is_due_is_done_and_noted(desk: Desk) -> None:
    desk.waiting["a"] = CHANGED
    with desk.serving() as dispatcher:
        desk.until(lambda: len(desk.store.turns()) == 1)
        desk.waiting["b"] = Waiting(new_items=3, synced_at=NOW)
        dispatcher.wake()
        desk.until(lambda: len(desk.store.turns()) == 2)
    assert desk.done == [(Journey.SCORE, "a"), (Journey.PRELABEL, "b")]
    assert desk.store.turns("a") == [Turn("a", "score", NOW.isoformat(), "done")]


def test_journeys_of_one_target_follow_each_other_in_one_turn(desk: Desk) -> None:
    desk.waiting["a"] = Waiting(changed=((NOW, NOW),), run_to_push=True, synced_at=NOW)
    desk.after = {Journey.SCORE: Waiting(run_to_push=True, synced_at=NOW)}
    with desk.serving():
        desk.until(lambda: len(desk.store.turns()) == 2)
    assert desk.done == [(Journey.SCORE, "a"), (Journey.PUSH, "a")]


def test_what_was_cut_off_comes_first(desk: Desk) -> None:
    """Else a service that is restarted again and again would begin with the same journeys each time."""
    desk.waiting["a"] = Waiting(new_items=3, changed=((NOW, NOW),), synced_at=NOW)
    desk.cut_off["a"] = {Journey.SCORE, Journey.PUSH}
    desk.after = {Journey.SCORE: Waiting(new_items=3, synced_at=NOW)}
    with desk.serving():
        desk.until(lambda: len(desk.store.turns()) == 2)
    assert desk.done == [(Journey.SCORE, "a"), (Journey.PRELABEL, "a")]


def test_a_slow_target_keeps_no_other_waiting(desk: Desk) -> None:
    go_on = threading.Event()
    desk.work = lambda _journey, target: None if target == "b" else (go_on.wait(10), None)[1]
    desk.waiting = {"a": CHANGED, "b": CHANGED}
    with desk.serving():
        desk.until(lambda: (Journey.SCORE, "b") in desk.done)
        assert desk.done == [(Journey.SCORE, "b")]
        go_on.set()
        desk.until(lambda: len(desk.done) == 2)


def test_a_failed_journey_is_tried_again_later_and_later(desk: Desk) -> None:
    attempts: list[datetime] = []

    def fail(_journey: Journey, _target: str) -> None:
        attempts.append(desk.now)
        if len(attempts) < 4:
            raise ToolUnreachable("Label Studio does not answer", todo="Start it")

    desk.work = fail
    desk.waiting["a"] = CHANGED
    with desk.serving() as dispatcher:
        for failures, pause in ((1, 30), (2, 60), (3, 120)):
            desk.until(lambda n=failures: [t.failures for t in desk.store.turns("a")] == [n])  # type: ignore[misc]
            assert desk.store.turns("a")[0].outcome == "Label Studio does not answer. Start it."
            desk.now += timedelta(seconds=pause - 1)
            dispatcher.wake()
            time.sleep(0.2)
            assert len(attempts) == failures
            desk.now += timedelta(seconds=1)
            dispatcher.wake()
        desk.until(lambda: desk.store.turns("a")[0].failures == 0)
    assert len(attempts) == 4


def test_a_new_process_tries_at_once_what_failed_under_the_old_one(desk: Desk) -> None:
    desk.waiting["a"] = CHANGED
    before, later = NOW - timedelta(minutes=1), NOW + timedelta(hours=1)
    desk.store.put_turn(Turn("a", "score", before.isoformat(), "no such model", 9, later.isoformat()))
    with desk.serving():
        desk.until(lambda: desk.done == [(Journey.SCORE, "a")])


def test_what_failed_under_the_old_process_does_not_count(desk: Desk) -> None:
    def fail(_journey: Journey, _target: str) -> None:
        raise ToolUnreachable("Label Studio does not answer", todo="Start it")

    desk.work = fail
    desk.waiting["a"] = CHANGED
    before, later = NOW - timedelta(minutes=1), NOW + timedelta(hours=1)
    desk.store.put_turn(Turn("a", "score", before.isoformat(), "no such model", 9, later.isoformat()))
    with desk.serving():
        desk.until(lambda: [t.failures for t in desk.store.turns("a")] == [1])
    (turn,) = desk.store.turns("a")
    assert turn.retry_at == (NOW + timedelta(seconds=30)).isoformat()


def test_a_journey_that_stays_due_keeps_no_other_from_its_turn(desk: Desk) -> None:
    desk.waiting["a"] = Waiting(changed=((NOW, NOW),), run_to_push=True, synced_at=NOW)

    def run(journey: Journey, target: str) -> str:
        desk.done.append((journey, target))
        return "done, and due again"

    desk.run = run  # type: ignore[method-assign]
    with desk.serving() as dispatcher:
        desk.until(lambda: len(desk.done) == 2)
        time.sleep(0.2)
        assert len(desk.done) == 2  # it rests
        desk.now += timedelta(seconds=1)
        dispatcher.wake()
        desk.until(lambda: len(desk.done) == 4)
    assert desk.done[:4] == [(Journey.SCORE, "a"), (Journey.PUSH, "a")] * 2


def test_a_target_that_somebody_holds_is_left_for_a_while(desk: Desk) -> None:
    desk.waiting["a"] = CHANGED
    with desk.store.exclusive("a"), desk.serving():
        time.sleep(0.3)
        assert desk.done == []
    desk.now += timedelta(seconds=6)
    with desk.serving():
        desk.until(lambda: desk.done == [(Journey.SCORE, "a")])


def test_an_error_of_our_own_is_told_with_its_place(desk: Desk) -> None:
    def fail(_journey: Journey, _target: str) -> None:
        raise ZeroDivisionError

    desk.work = fail
    desk.waiting["a"] = CHANGED
    with desk.serving():
        desk.until(lambda: bool(desk.store.turns("a")))
    assert desk.store.turns("a")[0].outcome == "unexpected ZeroDivisionError"
    assert "test_dispatcher.py" in desk.log.getvalue()


@pytest.mark.parametrize("times", [1, 2])
def test_an_error_of_our_own_keeps_nobody_from_working(desk: Desk, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Whether it strikes as turns are begun (the first question) or in a turn (the second)."""
    asked = []

    def waiting(target: str) -> Waiting:
        asked.append(target)
        if len(asked) == times:
            raise ZeroDivisionError
        return desk.waiting[target]

    monkeypatch.setattr(desk.store, "waiting", waiting)
    desk.waiting = {"a": CHANGED, "b": QUIET}
    with desk.serving(workers=1) as dispatcher:

        def done() -> bool:
            desk.now += timedelta(seconds=6)
            dispatcher.wake()
            return desk.done == [(Journey.SCORE, "a")]

        desk.until(done)
    assert "ZeroDivisionError" in desk.log.getvalue()
